//! A disk in memory with a page cache, on which everything that can go wrong goes wrong by a seed.
//!
//! Guarantee: one seed and the same calls are one exact replay. A power loss ([`SimulatedVfs::lose_power`]) leaves what
//! was fsynced, and of the rest a random part in any order: each 512-byte sector is lost, kept or torn, each change of a
//! directory (a rename as a whole) is lost or kept, a control page is as it was at some moment, or gone. A failed
//! fsync drops what it was to write, as kernels do, so that a second one "succeeds". A plan fails any operation
//! ([`SimulatedVfs::plan`]), [`SimulatedVfs::set_room`] fills the disk, [`SimulatedVfs::rough`] makes calls short.
//!
//! ```
//! use std::path::Path;
//! use trackside_log::{Mode, Random, SimulatedVfs, Vfs};
//!
//! let disk = SimulatedVfs::new(7);
//! disk.create_dir_all(Path::new("/sim"))?;
//! disk.open(Path::new("/sim/a"), Mode::CreateNew)?.write_at(b"never synced", 0)?;
//! let found = disk.lose_power(&mut Random(1)); // perhaps the file, perhaps its bytes, perhaps neither
//! # let _ = found;
//! # Ok::<(), std::io::Error>(())
//! ```

mod content;
mod random;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use self::content::Content;
pub use self::random::Random;
use super::faulty::KINDS;
use super::{Access, Fault, Mode, Op, OpKind, Vfs, VfsFile, read_whole, write_whole};
use crate::control::{ControlMemory, ControlWords};
use crate::sync::lock;

/// What a name stands for.
#[derive(Clone, Debug)]
enum Node {
    Dir,
    File(usize),
    Page(usize),
}

/// A change of a directory: a name removed, then a name given.
#[derive(Clone, Debug)]
struct Change {
    dir: PathBuf,
    gone: Option<PathBuf>,
    new: Option<(PathBuf, Node)>,
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        if let Some(gone) = &self.gone {
            names.remove(gone);
        }
        if let Some((path, node)) = &self.new {
            names.insert(path.clone(), node.clone());
        }
    }
}

/// A mapped page: as processes see it, and as the kernel last wrote it back.
#[derive(Debug, Default)]
struct Page {
    now: Arc<ControlWords>,
    written: Arc<ControlWords>,
    /// As it was when everything stopped: a dead process writes no memory, and its code runs on here.
    stopped: Option<Arc<ControlWords>>,
}

type Plan = dyn FnMut(&Op) -> Option<Fault> + Send;
type Meanwhile = dyn FnMut(&Path) + Send;

struct Disk {
    random: Random,
    files: Vec<Content>,
    pages: Vec<Page>,
    names: BTreeMap<PathBuf, Node>,
    synced_names: BTreeMap<PathBuf, Node>,
    changes: Vec<Change>,
    counts: [u64; KINDS],
    nth_change: u64,
    plan: Option<Box<Plan>>,
    meanwhile: Option<Box<Meanwhile>>,
    stopped: bool,
    rough: bool,
    room: u64,
    /// What readers saw, by file: bytes that must never change.
    seen: BTreeMap<usize, Vec<Range<usize>>>,
    changed: Vec<String>,
}

/// The disk. Clones share it.
#[derive(Clone)]
pub struct SimulatedVfs(Arc<Mutex<Disk>>);

impl fmt::Debug for SimulatedVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedVfs").field("names", &self.disk().names).finish()
    }
}

impl SimulatedVfs {
    /// An empty disk without a bound.
    pub fn new(seed: u64) -> Self {
        Self::of(Disk {
            random: Random(seed),
            files: Vec::new(),
            pages: Vec::new(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            changes: Vec::new(),
            counts: [0; KINDS],
            nth_change: 0,
            plan: None,
            meanwhile: None,
            stopped: false,
            rough: false,
            room: u64::MAX,
            seen: BTreeMap::new(),
            changed: Vec::new(),
        })
    }

    fn of(disk: Disk) -> Self {
        Self(Arc::new(Mutex::new(disk)))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.0)
    }

    /// Asks this before each operation from now on; counts begin anew.
    pub fn plan(&self, plan: impl FnMut(&Op) -> Option<Fault> + Send + 'static) {
        let mut disk = self.disk();
        disk.plan = Some(Box::new(plan));
        (disk.counts, disk.nth_change) = ([0; KINDS], 0);
    }

    /// Ends the plan, also one that has stopped everything: the process is started again, or the disk works again.
    pub fn heal(&self) {
        let mut disk = self.disk();
        (disk.plan, disk.stopped, disk.meanwhile) = (None, false, None);
        for page in &mut disk.pages {
            if let Some(stopped) = page.stopped.take() {
                page.now = stopped;
            }
        }
    }

    /// Whether a [`Fault::Stop`] was played.
    pub fn stopped(&self) -> bool {
        self.disk().stopped
    }

    /// How many operations of a kind were tried under this plan.
    pub fn count(&self, kind: OpKind) -> u64 {
        self.disk().counts[kind as usize]
    }

    /// How many operations that change something were tried under this plan.
    pub fn changes(&self) -> u64 {
        self.disk().nth_change
    }

    /// From now on calls read and write less than they were asked to, and are interrupted.
    pub fn rough(&self, rough: bool) {
        self.disk().rough = rough;
    }

    /// Bytes that are free.
    pub fn set_room(&self, bytes: u64) {
        self.disk().room = bytes;
    }

    /// Called while a file is fsynced, after it is settled what that fsync makes durable: work goes on meanwhile.
    pub fn meanwhile(&self, act: impl FnMut(&Path) + Send + 'static) {
        self.disk().meanwhile = Some(Box::new(act));
    }

    /// These bytes have been given to a reader, who may still look at them.
    pub fn note_read(&self, path: &Path, bytes: Range<u64>) {
        let mut disk = self.disk();
        if let Some(Node::File(file)) = disk.names.get(path).cloned() {
            disk.seen.entry(file).or_default().push(bytes.start as usize..bytes.end as usize);
        }
    }

    /// Where bytes were changed that a reader had seen.
    pub fn changed(&self) -> Vec<String> {
        self.disk().changed.clone()
    }

    /// Flips one bit of a file, synced or not: what ages on a disk.
    pub fn rot(&self, path: &Path, bit: u64) {
        let mut disk = self.disk();
        if let Some(Node::File(file)) = disk.names.get(path).cloned() {
            disk.files[file].rot(bit);
        }
    }

    /// The disk as it is found after the power came back.
    pub fn lose_power(&self, random: &mut Random) -> Self {
        let disk = self.disk();
        let after = Self::new(random.next());
        {
            let mut new = after.disk();
            new.synced_names = disk.synced_names.clone();
            for change in &disk.changes {
                if random.once_in(2) {
                    change.apply(&mut new.synced_names);
                }
            }
            drop_orphans(&mut new.synced_names);
            new.names = new.synced_names.clone();
            new.files = disk.files.iter().map(|content| content.survive(random)).collect();
            new.pages = disk.pages.iter().map(|page| page.survive(random)).collect();
            new.rough = disk.rough;
            new.changed = disk.changed.clone();
        }
        after
    }

    fn change(disk: &mut Disk, path: &Path, gone: Option<&Path>, new: Option<Node>) {
        let dir = path.parent().unwrap_or(path).to_path_buf();
        let new = new.map(|node| (path.to_path_buf(), node));
        let change = Change { dir, gone: gone.map(Path::to_path_buf), new };
        change.apply(&mut disk.names);
        disk.changes.push(change);
    }

    fn ask(&self, kind: OpKind, path: &Path, bytes: u64) -> Option<Fault> {
        let mut disk = self.disk();
        disk.counts[kind as usize] += 1;
        let changes = !matches!(kind, OpKind::List | OpKind::Open | OpKind::Read);
        disk.nth_change += u64::from(changes);
        if disk.stopped {
            return Some(Fault::Error(libc::EIO));
        }
        let nth_change = if changes { disk.nth_change } else { 0 };
        let op = Op { kind, path: path.to_path_buf(), nth: disk.counts[kind as usize], nth_change, bytes };
        let mut plan = disk.plan.take()?;
        let fault = plan(&op);
        disk.plan = Some(plan);
        disk.stopped = matches!(fault, Some(Fault::Stop(_)));
        if disk.stopped {
            disk.pages.iter_mut().for_each(|page| page.stopped = Some(Arc::new(page.now.copy())));
        }
        fault
    }

    fn gate(&self, kind: OpKind, path: &Path, bytes: u64) -> io::Result<()> {
        self.ask(kind, path, bytes).map_or(Ok(()), |fault| Err(fault.error()))
    }
}

/// A name is found only below directories that are there.
fn drop_orphans(names: &mut BTreeMap<PathBuf, Node>) {
    let known = names.clone();
    let there = |path: &Path| {
        path.ancestors().skip(1).all(|above| above.parent().is_none() || matches!(known.get(above), Some(Node::Dir)))
    };
    names.retain(|path, _| there(path));
}

impl Page {
    fn survive(&self, random: &mut Random) -> Self {
        let kept = match random.below(3) {
            0 => ControlWords::default(),
            1 => self.written.copy(),
            _ => self.stopped.as_ref().unwrap_or(&self.now).copy(),
        };
        Self { written: Arc::new(kept.copy()), now: Arc::new(kept), stopped: None }
    }
}

impl Vfs for SimulatedVfs {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.gate(OpKind::CreateDir, path, 0)?;
        let mut disk = self.disk();
        let above: Vec<&Path> = path.ancestors().filter(|above| above.parent().is_some()).collect();
        for dir in above.into_iter().rev() {
            match disk.names.get(dir) {
                Some(Node::Dir) => {}
                Some(_) => return Err(io::ErrorKind::NotADirectory.into()),
                None => Self::change(&mut disk, dir, None, Some(Node::Dir)),
            }
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.gate(OpKind::List, dir, 0)?;
        let disk = self.disk();
        if !matches!(disk.names.get(dir), Some(Node::Dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let below =
            disk.names.range(dir.to_path_buf()..).map(|(path, _)| path).take_while(|path| path.starts_with(dir));
        let names = below.filter(|path| path.parent() == Some(dir)).filter_map(|path| path.file_name()?.to_str());
        Ok(names.map(str::to_owned).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.disk().names.contains_key(path))
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn VfsFile>> {
        self.gate(if mode == Mode::CreateNew { OpKind::Create } else { OpKind::Open }, path, 0)?;
        let mut disk = self.disk();
        let file = match (disk.names.get(path), mode) {
            (Some(_), Mode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(Node::File(file)), _) => *file,
            (Some(_), _) | (None, Mode::Read | Mode::ReadWrite) => return Err(io::ErrorKind::NotFound.into()),
            (None, Mode::CreateNew) => {
                if !path.parent().is_some_and(|dir| matches!(disk.names.get(dir), Some(Node::Dir))) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                disk.files.push(Content::default());
                let file = disk.files.len() - 1;
                Self::change(&mut disk, path, None, Some(Node::File(file)));
                file
            }
        };
        Ok(Box::new(SimulatedFile { vfs: self.clone(), path: path.to_path_buf(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.gate(OpKind::Rename, to, 0)?;
        let mut disk = self.disk();
        let node = disk.names.get(from).cloned().ok_or(io::ErrorKind::NotFound)?;
        if let Some(Node::File(replaced)) = disk.names.get(to).cloned() {
            disk.room = disk.room.saturating_add(disk.files[replaced].len() as u64);
        }
        Self::change(&mut disk, to, Some(from), Some(node));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.gate(OpKind::Remove, path, 0)?;
        let mut disk = self.disk();
        let Some(Node::File(file)) = disk.names.get(path).cloned() else { return Err(io::ErrorKind::NotFound.into()) };
        let freed = disk.files[file].len() as u64;
        disk.room = disk.room.saturating_add(freed);
        Self::change(&mut disk, path, Some(path), None);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let fault = self.ask(OpKind::SyncDir, dir, 0);
        let mut disk = self.disk();
        if let Some(fault) = fault.filter(|_| disk.stopped) {
            return Err(fault.error()); // nobody asked: the process is dead
        }
        let (done, left) = std::mem::take(&mut disk.changes).into_iter().partition(|change: &Change| change.dir == dir);
        disk.changes = left;
        let done: Vec<Change> = done;
        for change in done {
            // Of a failed one some may be written; names stay in the journal, so the next one tries the others again.
            if fault.is_none() || disk.random.once_in(2) {
                change.apply(&mut disk.synced_names);
            } else {
                disk.changes.push(change);
            }
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn control(&self, path: &Path, access: Access) -> io::Result<Arc<dyn ControlMemory>> {
        let known = self.disk().names.get(path).cloned();
        let page = match known {
            Some(Node::Page(page)) => page,
            Some(_) => return Err(io::ErrorKind::InvalidData.into()),
            None if access != Access::Make => return Err(io::ErrorKind::NotFound.into()),
            None => {
                self.gate(OpKind::Create, path, 0)?;
                let mut disk = self.disk();
                disk.pages.push(Page::default());
                let page = disk.pages.len() - 1;
                Self::change(&mut disk, path, None, Some(Node::Page(page)));
                page
            }
        };
        Ok(self.disk().pages[page].now.clone())
    }

    fn unique(&self) -> u64 {
        self.disk().random.next()
    }
}

struct SimulatedFile {
    vfs: SimulatedVfs,
    path: PathBuf,
    file: usize,
}

impl fmt::Debug for SimulatedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SimulatedFile {
    /// As the operating system's call: it may write less than all.
    fn write_some(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let mut disk = self.vfs.disk();
        let rough = disk.rough;
        if rough && disk.random.once_in(4) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = if rough { 1 + disk.random.below(bytes.len() as u64) as usize } else { bytes.len() };
        let bytes = &bytes[..count];
        let (at, growth) = (at as usize, (at as usize + count).saturating_sub(disk.files[self.file].len()) as u64);
        if growth > disk.room {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        disk.room -= growth;
        let range = at..at + count;
        let touched = disk.seen.get(&self.file).into_iter().flatten();
        let touched: Vec<Range<usize>> =
            touched.filter(|seen| seen.start < range.end && range.start < seen.end).cloned().collect();
        let before = disk.files[self.file].bytes(range.clone()).to_vec();
        disk.files[self.file].write(bytes, at);
        for seen in touched {
            let overlap = seen.start.max(at) - at..seen.end.min(range.end) - at;
            if before.get(overlap.clone()) != bytes.get(overlap) {
                disk.changed.push(format!("{} at {}", self.path.display(), seen.start));
            }
        }
        if disk.random.once_in(8) {
            // The kernel writes back what it likes, when it likes.
            let mut random = Random(disk.random.next());
            disk.files[self.file].write_back(|| random.once_in(2));
        }
        Ok(count)
    }
}

impl VfsFile for SimulatedFile {
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.vfs.gate(OpKind::Allocate, &self.path, bytes)?;
        let mut disk = self.vfs.disk();
        let growth = bytes.saturating_sub(disk.files[self.file].len() as u64);
        if growth > disk.room {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        disk.room -= growth;
        disk.files[self.file].allocate(bytes as usize);
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.vfs.gate(OpKind::Read, &self.path, buffer.len() as u64)?;
        read_whole(buffer, at, |rest, at| {
            let mut disk = self.vfs.disk();
            let mut most = rest.len();
            if disk.rough {
                if disk.random.once_in(4) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                most = 1 + disk.random.below(most as u64) as usize;
            }
            let from = disk.files[self.file].bytes(at as usize..at as usize + most);
            rest[..from.len()].copy_from_slice(from);
            Ok(from.len())
        })
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let Some(fault) = self.vfs.ask(OpKind::Write, &self.path, bytes.len() as u64) else {
            return write_whole(bytes, at, |rest, at| self.write_some(rest, at));
        };
        if let Fault::Short(part, _) | Fault::Stop(part) = fault {
            let part = usize::try_from(part).map_or(bytes.len(), |part| part.min(bytes.len()));
            write_whole(&bytes[..part], at, |rest, at| self.write_some(rest, at))?;
        }
        Err(fault.error())
    }

    fn sync_data(&self) -> io::Result<()> {
        let fault = self.vfs.ask(OpKind::SyncData, &self.path, 0);
        let meanwhile = {
            let mut disk = self.vfs.disk();
            match fault {
                None => disk.files[self.file].sync(),
                Some(fault) if disk.stopped => return Err(fault.error()), // nobody asked: the process is dead
                Some(_) => {
                    let mut random = Random(disk.random.next());
                    disk.files[self.file].fail_sync(|| random.once_in(2));
                }
            }
            if disk.random.once_in(4) {
                disk.pages.iter_mut().for_each(|page| page.written = Arc::new(page.now.copy()));
            }
            disk.meanwhile.take()
        };
        if let Some(mut act) = meanwhile {
            act(&self.path);
            self.vfs.disk().meanwhile.get_or_insert(act);
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.vfs.disk().files[self.file].len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> SimulatedVfs {
        let disk = SimulatedVfs::new(1);
        disk.create_dir_all(Path::new("/s/d")).unwrap();
        for dir in ["/", "/s"] {
            disk.sync_dir(Path::new(dir)).unwrap();
        }
        disk
    }

    #[test]
    fn what_was_synced_with_its_name_survives_and_the_rest_may_not() {
        let (mut lost, mut kept) = (0, 0);
        for seed in 0..64 {
            let disk = disk();
            for name in ["/s/d/a", "/s/d/b"] {
                let file = disk.open(Path::new(name), Mode::CreateNew).unwrap();
                file.write_at(&[7; 2000], 0).unwrap();
                file.sync_data().unwrap();
                if name == "/s/d/a" {
                    disk.sync_dir(Path::new("/s/d")).unwrap();
                    file.write_at(&[9; 2000], 0).unwrap();
                }
            }
            let found = disk.lose_power(&mut Random(seed));
            let mut bytes = [0; 2000];
            found.open(Path::new("/s/d/a"), Mode::Read).unwrap().read_at(&mut bytes, 0).unwrap();
            assert!(bytes.iter().all(|byte| [7, 9].contains(byte)));
            kept += usize::from(bytes.contains(&9));
            lost += usize::from(!found.exists(Path::new("/s/d/b")).unwrap());
        }
        assert!(lost > 16 && kept > 16, "{lost} {kept}");
    }

    #[test]
    fn a_second_fsync_after_a_failed_one_succeeds_without_the_bytes() {
        let mut lost = 0;
        for seed in 0..32 {
            let disk = disk();
            let file = disk.open(Path::new("/s/d/a"), Mode::CreateNew).unwrap();
            disk.sync_dir(Path::new("/s/d")).unwrap();
            file.write_at(&[7; 5000], 0).unwrap();
            disk.plan(|op| (op.kind == OpKind::SyncData && op.nth == 1).then_some(Fault::Error(libc::EIO)));
            assert!(file.sync_data().is_err() && file.sync_data().is_ok());
            let found = disk.lose_power(&mut Random(seed)).open(Path::new("/s/d/a"), Mode::Read).unwrap();
            let mut bytes = vec![0; 5000];
            found.read_at(&mut bytes, 0).unwrap();
            lost += usize::from(bytes != [7; 5000]);
        }
        assert!(lost > 24, "{lost}");
    }

    #[test]
    fn a_full_disk_refuses_short_calls_are_finished_and_a_changed_byte_is_seen() {
        let disk = disk();
        disk.rough(true);
        let file = disk.open(Path::new("/s/d/a"), Mode::CreateNew).unwrap();
        let bytes: Vec<u8> = (0..3000u32).map(|k| k as u8).collect();
        file.write_at(&bytes, 0).unwrap();
        let mut read = vec![0; 3000];
        assert_eq!(file.read_at(&mut read, 0).unwrap(), 3000);
        assert_eq!(read, bytes);
        disk.set_room(10);
        assert_eq!(file.allocate(4000).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        disk.note_read(Path::new("/s/d/a"), 100..200);
        file.write_at(&bytes[150..250], 150).unwrap();
        assert!(disk.changed().is_empty());
        file.write_at(&[255], 150).unwrap();
        assert_eq!(disk.changed().len(), 1);
    }
}
