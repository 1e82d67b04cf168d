//! What the disk holds: as processes see it, and as it was last made durable.
//!
//! Guarantee: [`Store::power_on`] keeps what was fsynced. Of the rest it keeps nothing, a random part, or all: each
//! sector and each change of a directory by itself, so in any order; a rename is one change. An fsync of a file does not
//! keep its name; that takes an fsync of the directory. It shares no code with the simulated disk of the log's tests: what one
//! of them understands wrongly, the other may show.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use fuser::Errno;
use serde::Serialize;
use trackside_log::Random;

pub(super) const ROOT: u64 = 1;
pub(super) const SECTOR: u64 = 512;
const PAGE: usize = 4096;

type Answer<T> = Result<T, Errno>;
type Names = BTreeMap<OsString, u64>;

/// Bytes of a file; pages that were never written are zero.
#[derive(Clone, Debug, Default)]
struct Image {
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
    len: u64,
}

impl Image {
    fn page(&mut self, number: u64) -> &mut [u8; PAGE] {
        Arc::make_mut(self.pages.entry(number).or_insert_with(|| Arc::new([0; PAGE])))
    }

    /// What is cut off reads as zero, should the file grow again.
    fn cut(&mut self, len: u64) {
        let (whole, rest) = (len / PAGE as u64, (len % PAGE as u64) as usize);
        let behind = self.pages.split_off(&whole);
        if let Some(page) = behind.get(&whole).filter(|_| rest > 0) {
            self.page(whole)[..rest].copy_from_slice(&page[..rest]);
        }
        self.len = len;
    }
}

#[derive(Clone, Debug, Default)]
struct File {
    now: Image,
    synced: Image,
    dirty: BTreeSet<u64>,
}

impl File {
    fn sync(&mut self) {
        for number in std::mem::take(&mut self.dirty) {
            match self.now.pages.get(&number) {
                Some(page) => self.synced.pages.insert(number, page.clone()),
                None => self.synced.pages.remove(&number),
            };
        }
        self.synced.len = self.now.len;
    }

    fn survive(&mut self, chance: Chance, random: &mut Random, lost: &mut Lost) {
        for number in std::mem::take(&mut self.dirty) {
            let now = self.now.pages.get(&number).map_or([0; PAGE], |page| **page);
            let page = self.synced.page(number);
            for at in (0..PAGE).step_by(SECTOR as usize) {
                let sector = at..at + SECTOR as usize;
                if page[sector.clone()] == now[sector.clone()] {
                    continue;
                }
                if chance.keeps(random) {
                    page[sector.clone()].copy_from_slice(&now[sector]);
                } else {
                    lost.sectors += 1;
                }
            }
        }
        if self.synced.len != self.now.len && chance.keeps(random) {
            self.synced.len = self.now.len;
        }
        let len = self.synced.len;
        self.synced.cut(len);
        self.now = self.synced.clone();
    }
}

#[derive(Clone, Debug)]
enum Content {
    File(File),
    Dir { now: Names, synced: Names },
}

impl Content {
    fn now(&mut self) -> Option<&mut Names> {
        if let Self::Dir { now, .. } = self { Some(now) } else { None }
    }

    fn synced(&mut self) -> Option<&mut Names> {
        if let Self::Dir { synced, .. } = self { Some(synced) } else { None }
    }
}

#[derive(Clone, Debug)]
struct Node {
    mode: u16,
    content: Content,
}

/// A name removed, then a name given.
#[derive(Clone, Debug)]
struct Change {
    gone: Option<(u64, OsString)>,
    new: Option<(u64, OsString, u64)>,
}

impl Change {
    /// The directories and names that it is about.
    fn names(&self) -> impl Iterator<Item = (u64, OsString)> {
        let new = self.new.as_ref().map(|(dir, name, _)| (*dir, name.clone()));
        self.gone.clone().into_iter().chain(new)
    }

    fn touches(&self, dir: u64) -> bool {
        self.names().any(|(of, _)| of == dir)
    }
}

/// How much of what nobody synced survives this time.
#[derive(Clone, Copy)]
enum Chance {
    Nothing,
    Some,
    All,
}

impl Chance {
    fn draw(random: &mut Random) -> Self {
        [Self::Nothing, Self::Some, Self::Some, Self::All][random.below(4) as usize]
    }

    fn keeps(self, random: &mut Random) -> bool {
        match self {
            Self::Nothing => false,
            Self::Some => random.once_in(2),
            Self::All => true,
        }
    }
}

/// What a power loss took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Lost {
    /// 512-byte sectors that read as they did before.
    pub sectors: u64,
    /// Changes of directories that did not happen.
    pub names: u64,
}

/// What somebody asks about a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub node: u64,
    pub directory: bool,
    pub mode: u16,
    pub len: u64,
}

/// The disk. Nodes are numbered; a number is never used twice.
#[derive(Debug)]
pub(super) struct Store {
    nodes: BTreeMap<u64, Node>,
    changes: Vec<Change>,
    next: u64,
}

impl Default for Store {
    fn default() -> Self {
        let mut store = Self { nodes: BTreeMap::new(), changes: Vec::new(), next: ROOT };
        store.add(0o755, Content::Dir { now: Names::new(), synced: Names::new() });
        store
    }
}

impl Store {
    fn add(&mut self, mode: u16, content: Content) -> u64 {
        let node = self.next;
        self.nodes.insert(node, Node { mode, content });
        self.next += 1;
        node
    }

    fn file(&mut self, node: u64) -> Answer<&mut File> {
        match self.nodes.get_mut(&node).map(|node| &mut node.content) {
            Some(Content::File(file)) => Ok(file),
            Some(Content::Dir { .. }) => Err(Errno::EISDIR),
            None => Err(Errno::ENOENT),
        }
    }

    fn names(&self, dir: u64) -> Answer<&Names> {
        match self.nodes.get(&dir).map(|node| &node.content) {
            Some(Content::Dir { now, .. }) => Ok(now),
            Some(Content::File(_)) => Err(Errno::ENOTDIR),
            None => Err(Errno::ENOENT),
        }
    }

    fn change(&mut self, change: Change) {
        self.apply(&change, Content::now);
        self.changes.push(change);
    }

    fn apply(&mut self, change: &Change, side: fn(&mut Content) -> Option<&mut Names>) {
        let nodes = &mut self.nodes;
        if let Some((dir, name)) = &change.gone
            && let Some(names) = nodes.get_mut(dir).and_then(|node| side(&mut node.content))
        {
            names.remove(name);
        }
        if let Some((dir, name, node)) = &change.new
            && let Some(names) = nodes.get_mut(dir).and_then(|node| side(&mut node.content))
        {
            names.insert(name.clone(), *node);
        }
    }

    /// Makes a change durable.
    fn keep(&mut self, change: &Change) {
        self.apply(change, Content::synced);
    }

    pub(super) fn find(&self, dir: u64, name: &OsStr) -> Answer<u64> {
        self.names(dir)?.get(name).copied().ok_or(Errno::ENOENT)
    }

    pub(super) fn facts(&self, node: u64) -> Answer<Facts> {
        let found = self.nodes.get(&node).ok_or(Errno::ENOENT)?;
        let (directory, len) = match &found.content {
            Content::File(file) => (false, file.now.len),
            Content::Dir { .. } => (true, 0),
        };
        Ok(Facts { node, directory, mode: found.mode, len })
    }

    pub(super) fn list(&self, dir: u64) -> Answer<Vec<(OsString, u64)>> {
        Ok(self.names(dir)?.iter().map(|(name, node)| (name.clone(), *node)).collect())
    }

    /// Makes a file or a directory.
    pub(super) fn make(&mut self, dir: u64, name: &OsStr, mode: u16, directory: bool) -> Answer<u64> {
        if self.names(dir)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let empty = match directory {
            true => Content::Dir { now: Names::new(), synced: Names::new() },
            false => Content::File(File::default()),
        };
        let node = self.add(mode, empty);
        self.change(Change { gone: None, new: Some((dir, name.to_owned(), node)) });
        Ok(node)
    }

    pub(super) fn remove(&mut self, dir: u64, name: &OsStr) -> Answer<()> {
        let node = self.find(dir, name)?;
        if self.names(node).is_ok_and(|names| !names.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        self.change(Change { gone: Some((dir, name.to_owned())), new: None });
        Ok(())
    }

    /// Renames, replacing what is there.
    pub(super) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Answer<()> {
        let node = self.find(from.0, from.1)?;
        let replaced = self.find(to.0, to.1).ok();
        if replaced.and_then(|node| self.names(node).ok()).is_some_and(|names| !names.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        self.change(Change { gone: Some((from.0, from.1.to_owned())), new: Some((to.0, to.1.to_owned(), node)) });
        Ok(())
    }

    pub(super) fn read(&mut self, node: u64, at: u64, count: usize) -> Answer<Vec<u8>> {
        let image = &self.file(node)?.now;
        let end = image.len.min(at.saturating_add(count as u64));
        let mut bytes = Vec::with_capacity(count);
        let mut at = at;
        while at < end {
            let (number, from) = (at / PAGE as u64, (at % PAGE as u64) as usize);
            let piece = (PAGE - from).min((end - at) as usize);
            match image.pages.get(&number) {
                Some(page) => bytes.extend_from_slice(&page[from..from + piece]),
                None => bytes.resize(bytes.len() + piece, 0),
            }
            at += piece as u64;
        }
        Ok(bytes)
    }

    pub(super) fn write(&mut self, node: u64, at: u64, bytes: &[u8]) -> Answer<()> {
        let file = self.file(node)?;
        let (mut at, mut left) = (at, bytes);
        while !left.is_empty() {
            let (number, from) = (at / PAGE as u64, (at % PAGE as u64) as usize);
            let piece = (PAGE - from).min(left.len());
            file.now.page(number)[from..from + piece].copy_from_slice(&left[..piece]);
            file.dirty.insert(number);
            at += piece as u64;
            left = &left[piece..];
        }
        file.now.len = file.now.len.max(at);
        Ok(())
    }

    /// Makes a file so long; what it gains is zero.
    pub(super) fn resize(&mut self, node: u64, len: u64) -> Answer<()> {
        let file = self.file(node)?;
        if len < file.now.len {
            let cut = len / PAGE as u64..=file.now.len / PAGE as u64;
            file.dirty.extend(cut.filter(|number| file.now.pages.contains_key(number)));
            file.now.cut(len);
        }
        file.now.len = len;
        Ok(())
    }

    pub(super) fn chmod(&mut self, node: u64, mode: u16) -> Answer<()> {
        self.nodes.get_mut(&node).ok_or(Errno::ENOENT)?.mode = mode;
        Ok(())
    }

    pub(super) fn sync_file(&mut self, node: u64) -> Answer<()> {
        self.file(node)?.sync();
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: u64) -> Answer<()> {
        self.names(dir)?;
        // With a change goes every earlier one of the same name: a journal does not write them the other way round.
        let (mut done, mut left, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
        for change in std::mem::take(&mut self.changes).into_iter().rev() {
            if change.touches(dir) || change.names().any(|name| names.contains(&name)) {
                names.extend(change.names());
                done.push(change);
            } else {
                left.push(change);
            }
        }
        self.changes = left.into_iter().rev().collect();
        done.iter().rev().for_each(|change| self.keep(change));
        Ok(())
    }

    /// The power came back: what is there now is what there is.
    pub(super) fn power_on(&mut self, random: &mut Random) -> Lost {
        let mut lost = Lost::default();
        let chance = Chance::draw(random);
        for change in std::mem::take(&mut self.changes) {
            if chance.keeps(random) {
                self.keep(&change);
            } else {
                lost.names += 1;
            }
        }
        let chance = Chance::draw(random);
        for node in self.nodes.values_mut() {
            match &mut node.content {
                Content::File(file) => file.survive(chance, random, &mut lost),
                Content::Dir { now, synced } => now.clone_from(synced),
            }
        }
        self.forget_nameless();
        lost
    }

    fn forget_nameless(&mut self) {
        let (mut named, mut look) = (BTreeSet::new(), vec![ROOT]);
        while let Some(node) = look.pop() {
            if named.insert(node) {
                look.extend(self.names(node).into_iter().flat_map(Names::values));
            }
        }
        self.nodes.retain(|node, _| named.contains(node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    #[test]
    fn only_what_was_synced_with_its_name_is_sure_to_survive() {
        let (mut nameless, mut kept, mut torn) = (0, 0, 0);
        for seed in 0..64 {
            let mut disk = Store::default();
            let dir = disk.make(ROOT, name("d"), 0o755, true).unwrap();
            disk.sync_dir(ROOT).unwrap();
            let sure = disk.make(dir, name("sure"), 0o600, false).unwrap();
            disk.write(sure, 0, &[7; 10_000]).unwrap();
            disk.sync_file(sure).unwrap();
            disk.sync_dir(dir).unwrap();
            let other = disk.make(dir, name("other"), 0o600, false).unwrap();
            disk.sync_file(other).unwrap();
            disk.write(sure, 4000, &[9; 8000]).unwrap();

            disk.power_on(&mut Random(seed));
            let found = disk.find(dir, name("sure")).unwrap();
            let bytes = disk.read(found, 0, 20_000).unwrap();
            assert!([10_000, 12_000].contains(&bytes.len()));
            assert!(bytes[..4000].iter().all(|byte| *byte == 7));
            assert!(bytes[4000..10_000].iter().all(|byte| [7, 9].contains(byte)));
            let new = bytes.iter().filter(|byte| **byte == 9).count();
            nameless += usize::from(disk.find(dir, name("other")).is_err());
            kept += usize::from(new >= 6000);
            torn += usize::from((1..6000).contains(&new));
        }
        assert!(nameless > 16 && kept > 4 && torn > 8, "{nameless} {kept} {torn}");
    }

    #[test]
    fn a_rename_happens_or_does_not_and_a_file_without_a_name_is_gone() {
        let (mut before, mut after) = (0, 0);
        for seed in 0..64 {
            let mut disk = Store::default();
            for (text, byte) in [("a", 1), ("b", 2)] {
                let node = disk.make(ROOT, name(text), 0o600, false).unwrap();
                disk.write(node, 0, &[byte]).unwrap();
                disk.sync_file(node).unwrap();
            }
            disk.sync_dir(ROOT).unwrap();
            disk.rename((ROOT, name("b")), (ROOT, name("a"))).unwrap();
            disk.power_on(&mut Random(seed));
            let names: Vec<OsString> = disk.list(ROOT).unwrap().into_iter().map(|(name, _)| name).collect();
            let a = disk.find(ROOT, name("a")).unwrap();
            let byte = disk.read(a, 0, 9).unwrap();
            match (names.len(), byte[..] == [2]) {
                (2, false) => before += 1,
                (1, true) => after += 1,
                found => panic!("{found:?}"),
            }
            assert_eq!(disk.nodes.len(), names.len() + 1);
        }
        assert!(before > 8 && after > 8, "{before} {after}");
    }

    #[test]
    fn a_name_that_moved_away_does_not_come_back_with_a_later_sync() {
        for seed in 0..16 {
            let mut disk = Store::default();
            let (a, b) =
                (disk.make(ROOT, name("a"), 0o755, true).unwrap(), disk.make(ROOT, name("b"), 0o755, true).unwrap());
            disk.sync_dir(ROOT).unwrap();
            disk.make(a, name("x"), 0o600, false).unwrap();
            disk.rename((a, name("x")), (b, name("x"))).unwrap();
            disk.sync_dir(b).unwrap();
            disk.sync_dir(a).unwrap();
            disk.power_on(&mut Random(seed));
            assert!(disk.find(a, name("x")).is_err() && disk.find(b, name("x")).is_ok());
        }
    }

    #[test]
    fn a_file_that_is_cut_and_grows_again_is_zero_behind_the_cut() {
        let mut disk = Store::default();
        let node = disk.make(ROOT, name("a"), 0o600, false).unwrap();
        disk.write(node, 0, &[5; 9000]).unwrap();
        disk.resize(node, 4100).unwrap();
        disk.resize(node, 9000).unwrap();
        let bytes = disk.read(node, 0, 10_000).unwrap();
        assert_eq!(bytes.len(), 9000);
        assert!(bytes[..4100].iter().all(|byte| *byte == 5) && bytes[4100..].iter().all(|byte| *byte == 0));
    }
}
