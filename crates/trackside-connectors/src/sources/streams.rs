//! The streams of files: how they are named, which of them a file goes on with, and which may be forgotten.
//!
//! A stream is named `<path or inode>#<bytes hashed>-<hash>`, and where files are followed `/<generation>` behind it. A
//! generation is never given twice by a source: whatever is truncated, rewritten, or comes to an old file's inode gets
//! the next one, so that its first rows are not taken for rows that are held. To find that out after a restart, each
//! position is kept with a hash of the bytes before it. What cannot be known: a file that was rewritten while nobody
//! looked, and is again as long and the same in its beginning and in the [`LOOK_BACK`] bytes before the position.
//!
//! A followed file that left the pattern is remembered, for it may come back: the newest [`REMEMBERED`] of them. Those
//! that were deleted or rewritten are forgotten as soon as all of them is durable. The highest generation is always
//! kept, because the next one is counted from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use trackside_core::position::Resume;
use trackside_core::source::Door;
use xxhash_rust::xxh3::xxh3_64;

/// So many bytes before a position are hashed into its check.
pub(super) const LOOK_BACK: usize = 1024;
/// Positions that are kept of followed files which are no longer there.
const REMEMBERED: usize = 64;
/// Positions that are kept of files which were read once and are no longer there.
const REMEMBERED_ONCE: usize = 1000;
/// What the names of followed files begin with.
const INODE: &str = "inode ";

/// The hash of the bytes before a position.
pub(super) fn check(before: &[u8]) -> u32 {
    xxh3_64(&before[before.len().saturating_sub(LOOK_BACK)..]) as u32
}

/// What tells a file's beginning from others: bytes hashed, and their hash.
pub(super) fn fingerprint(head: &[u8]) -> (u64, u64) {
    (head.len() as u64, xxh3_64(head))
}

/// How a file is named among the positions.
#[derive(Debug, Clone)]
pub(super) enum Label {
    /// By its path, as the pipeline file leads to it.
    Path(String),
    /// By its inode, among the streams of its source.
    Inode(u64),
}

/// A stream's name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// Path or inode.
    label: String,
    /// Bytes of the file's beginning, and their hash.
    pub(super) fingerprint: (u64, u64),
    /// 0 for files that are read once, and for followed ones before generations were counted.
    generation: u64,
}

impl Name {
    fn parse(stream: &str) -> Option<Self> {
        let (label, rest) = stream.rsplit_once('#')?;
        let (rest, generation) = rest.split_once('/').unwrap_or((rest, "0"));
        let (length, hash) = rest.split_once('-')?;
        let fingerprint = (length.parse().ok()?, u64::from_str_radix(hash, 16).ok()?);
        Some(Self { label: label.to_owned(), fingerprint, generation: generation.parse().ok()? })
    }

    fn begins(&self, head: &[u8]) -> bool {
        let (length, hash) = self.fingerprint;
        usize::try_from(length).ok().and_then(|length| head.get(..length)).is_some_and(|head| xxh3_64(head) == hash)
    }

    fn followed(&self) -> bool {
        self.label.starts_with(INODE)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (length, hash) = self.fingerprint;
        write!(f, "{}#{length}-{hash:016x}", self.label)?;
        if self.generation > 0 { write!(f, "/{}", self.generation) } else { Ok(()) }
    }
}

/// All streams that a source knows of, while it runs.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// The highest generation that was given.
    highest: u64,
    /// No file goes on with these: they were rewritten or deleted.
    over: BTreeSet<String>,
    /// Files that this run reads once.
    read: BTreeSet<String>,
}

impl Streams {
    /// The stream of a file that begins with `head`: one that is known, or a new one. `file` is looked into where it may
    /// have been rewritten.
    pub(super) fn name(&mut self, resume: &Resume, label: &Label, head: &[u8], file: Option<&File>) -> Name {
        let known = |label: &str| -> Vec<(Name, &String)> {
            let names = resume.stands.keys().filter_map(|stream| Some((Name::parse(stream)?, stream)));
            names.filter(|(name, _)| name.label == label).collect()
        };
        let fresh = fingerprint(head);
        match label {
            Label::Path(path) => {
                let begins_so = known(path).into_iter().map(|(name, _)| name).filter(|name| name.begins(head));
                let longest = begins_so.max_by_key(|name| name.fingerprint.0);
                let name = longest.unwrap_or_else(|| Name { label: path.clone(), fingerprint: fresh, generation: 0 });
                self.read.insert(name.to_string());
                name
            }
            Label::Inode(inode) => {
                let label = format!("{INODE}{inode}");
                let known = known(&label);
                let newest = known.iter().map(|(name, _)| name.generation).max();
                let candidates = known.into_iter().filter(|(name, stream)| {
                    Some(name.generation) == newest && name.begins(head) && !self.over.contains(*stream)
                });
                let longest = candidates.max_by_key(|(name, _)| name.fingerprint.0);
                match longest.filter(|(_, stream)| file.is_none_or(|file| holds(file, resume, stream))) {
                    Some((name, _)) => name,
                    None => Name { label, fingerprint: fresh, generation: self.next_generation(resume) },
                }
            }
        }
    }

    fn next_generation(&mut self, resume: &Resume) -> u64 {
        let known = resume.stands.keys().filter_map(|stream| Some(Name::parse(stream)?.generation));
        self.highest = known.max().unwrap_or(0).max(self.highest) + 1;
        self.highest
    }

    /// No file goes on with the stream any more.
    pub(super) fn end(&mut self, stream: &str) {
        self.over.insert(stream.to_owned());
    }

    /// Lets the door forget what followed files need no more; `open` are being read. True when nothing is left to forget.
    pub(super) fn forget_followed(&mut self, door: &dyn Door, open: &[&str]) -> bool {
        let resume = door.resume();
        self.over.retain(|stream| resume.stands.contains_key(stream) || open.contains(&stream.as_str()));
        let names = resume.stands.keys().filter_map(|stream| Some((Name::parse(stream)?, stream)));
        let mut names: Vec<(Name, &String)> = names.filter(|(name, _)| name.followed()).collect();
        names.sort_by_key(|(name, _)| name.generation);
        let newest: BTreeMap<&str, u64> =
            names.iter().map(|(name, _)| (name.label.as_str(), name.generation)).collect();
        let highest = names.last().map_or(0, |(name, _)| name.generation);
        let (mut forgotten, mut kept) = (Vec::new(), Vec::new());
        for (name, stream) in &names {
            if open.contains(&stream.as_str()) || name.generation == highest {
                continue;
            }
            let superseded = newest.get(name.label.as_str()).is_some_and(|newest| *newest > name.generation);
            let list = if superseded || self.over.contains(*stream) { &mut forgotten } else { &mut kept };
            list.push((*stream).clone());
        }
        forgotten.extend(kept.drain(..kept.len().saturating_sub(REMEMBERED)));
        if !forgotten.is_empty() {
            door.forget(&forgotten);
        }
        forgotten.is_empty()
    }

    /// Lets the door forget files that were read once, are no longer there, and are too many: the first by name.
    pub(super) fn forget_read(&self, door: &dyn Door) {
        let resume = door.resume();
        let read = |stream: &&String| Name::parse(stream).is_some_and(|name| !name.followed());
        let absent = resume.stands.keys().filter(read).filter(|stream| !self.read.contains(*stream));
        let mut absent: Vec<String> = absent.cloned().collect();
        absent.truncate(absent.len().saturating_sub(REMEMBERED_ONCE));
        if !absent.is_empty() {
            door.forget(&absent);
        }
    }
}

/// Whether the file still holds what was read of it: it is as long, and before each position lies what lay there.
fn holds(file: &File, resume: &Resume, stream: &str) -> bool {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let long = resume.stands.get(stream).and_then(|stands| stands.last()).is_none_or(|last| *last <= length);
    let checks = resume.checks.get(stream).map_or(&[][..], Vec::as_slice);
    long && checks.iter().all(|(at, hash)| before(file, *at).is_none_or(|bytes| check(&bytes) == *hash))
}

/// The bytes before a place, read beside the place where the file is being read. None where that cannot be done: a
/// rewritten file is then only noticed by its length and its beginning.
#[cfg(unix)]
fn before(file: &File, at: u64) -> Option<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; usize::try_from(at).unwrap_or(usize::MAX).min(LOOK_BACK)];
    // What cannot be read is not what was there.
    let from = at - bytes.len() as u64;
    if file.read_exact_at(&mut bytes, from).is_err() {
        bytes.clear();
    }
    Some(bytes)
}

#[cfg(not(unix))]
fn before(_: &File, _: u64) -> Option<Vec<u8>> {
    None
}

/// Whether the file begins as it did, and `last` lies where it did, before byte `at`.
#[cfg(unix)]
pub(super) fn unchanged(file: &File, (length, hash): (u64, u64), at: u64, last: &[u8]) -> bool {
    use std::os::unix::fs::FileExt;
    let mut head = vec![0; length as usize];
    let last = &last[last.len().saturating_sub(LOOK_BACK)..];
    file.read_exact_at(&mut head, 0).is_ok()
        && xxh3_64(&head) == hash
        && before(file, at).is_some_and(|bytes| bytes.ends_with(last))
}

/// Elsewhere a rewritten file is only noticed between two reads, by its length.
#[cfg(not(unix))]
pub(super) fn unchanged(_: &File, _: (u64, u64), _: u64, _: &[u8]) -> bool {
    true
}

/// Whether an open file has no name any more, so that it can never come back.
#[cfg(unix)]
pub(super) fn deleted(file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
}

/// Elsewhere an open file cannot be deleted, or it cannot be seen.
#[cfg(not(unix))]
pub(super) fn deleted(_: &File) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_also_those_before_generations() {
        for text in
            ["inode 7#12-00000000000000ff/3", "logs/a#b.csv#4096-0123456789abcdef", "inode 7#12-00000000000000ff"]
        {
            assert_eq!(Name::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Name::parse("fleet 7"), None);
        assert_eq!(Name::parse("a#b-c"), None);
    }
}
