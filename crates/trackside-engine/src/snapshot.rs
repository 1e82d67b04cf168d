//! Snapshots: a stage's state with the position it belongs to, two generations a stage.
//!
//! A snapshot is only written once the output up to its position is durable, so a restart can always replay from it
//! up to what the output holds. A broken file is passed over for the older one. The name carries a hash of the
//! settings, so changed settings start from a replay instead of from a state that no longer fits.
//!
//! File: one line of JSON (version, position, length, CRC of the body), then the body.

use crate::catalog::Files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use trackside_core::error::Failure;
use trackside_core::position::Position;

/// Generations kept.
const GENERATIONS: usize = 2;
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    epoch: u32,
    offset: u64,
    length: u64,
    hash: String,
}

/// A stage's snapshots.
#[derive(Debug)]
pub(crate) struct Snapshots {
    files: Files,
    data: PathBuf,
    folder: PathBuf,
    settings: String,
    /// Whether the folder was made durable in this life.
    made: AtomicBool,
    /// Files that turned out to be damaged: they are no generation, and go with the next save.
    damaged: Mutex<BTreeSet<PathBuf>>,
}

/// A state and where in the input it stands: every row before was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) position: Position,
    pub(crate) state: Vec<u8>,
}

impl Snapshots {
    /// The snapshots of a stage's partition; `settings` is whatever must not change for a state to fit.
    pub(crate) fn new(files: &Files, data: &Path, stage: &str, partition: u32, settings: &str) -> Self {
        Self {
            files: files.clone(),
            data: data.to_path_buf(),
            folder: data.join("snapshots").join(stage).join(partition.to_string()),
            settings: format!("{:016x}", hash(settings.as_bytes())),
            made: AtomicBool::new(false),
            damaged: Mutex::default(),
        }
    }

    /// Writes one; it becomes the newest, the oldest goes.
    pub(crate) fn save(&self, snapshot: &Snapshot) -> Result<(), Failure> {
        // Retention relies on what lies in the folder, so its own entry must survive as well. That it is there does not
        // tell: an earlier life may have ended between making it and making it durable.
        if !self.made.load(Relaxed) {
            self.files.create_dir(&self.data, &self.folder)?;
            self.made.store(true, Relaxed);
        }
        let bytes = encode(snapshot).map_err(|error| Failure::stop(format!("a snapshot: {error}")))?;
        let name = self.name(snapshot.position);
        for broken in std::mem::take(&mut *self.damaged.lock().unwrap_or_else(PoisonError::into_inner)) {
            self.files.remove(&broken)?;
        }
        self.files.replace(&self.folder.join(name), &bytes)?;
        self.paths().into_iter().skip(GENERATIONS).try_for_each(|old| self.files.remove(&old))
    }

    /// The newest usable one at or before `limit`.
    pub(crate) fn load(&self, limit: Position) -> Option<Snapshot> {
        self.paths().iter().filter_map(|path| self.read(path)).find(|snapshot| snapshot.position <= limit)
    }

    /// The older generation, once there are two: retention keeps whatever it needs.
    pub(crate) fn oldest(&self) -> Option<Snapshot> {
        self.paths().get(GENERATIONS - 1).and_then(|path| self.read(path))
    }

    /// Files of these settings, newest first.
    fn paths(&self) -> Vec<PathBuf> {
        let ours = |name: &String| name.starts_with(&self.settings) && name.ends_with(".snap");
        let names = self.files.list(&self.folder).unwrap_or_default();
        names.iter().rev().filter(|name| ours(name)).map(|name| self.folder.join(name)).collect()
    }

    fn name(&self, position: Position) -> String {
        format!("{}-{:06}-{:020}.snap", self.settings, position.epoch, position.offset)
    }

    /// A snapshot, if the file can be read and is whole.
    fn read(&self, path: &Path) -> Option<Snapshot> {
        let bytes = self.files.read(path).ok().flatten()?;
        // The checksum is the state's; the name is the second witness of the position.
        let snapshot = parse(&bytes).filter(|s| path.file_name().is_some_and(|name| *name == *self.name(s.position)));
        if snapshot.is_none() {
            tracing::warn!(file = %path.display(), "a snapshot is damaged or of another version; the older one is used");
            self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_path_buf());
        }
        snapshot
    }
}

/// The file of a snapshot.
pub(crate) fn encode(snapshot: &Snapshot) -> serde_json::Result<Vec<u8>> {
    let head = Head {
        version: VERSION,
        epoch: snapshot.position.epoch,
        offset: snapshot.position.offset,
        length: snapshot.state.len() as u64,
        hash: format!("{:016x}", hash(&snapshot.state)),
    };
    let mut bytes = serde_json::to_vec(&head)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(&snapshot.state);
    Ok(bytes)
}

pub(crate) fn parse(bytes: &[u8]) -> Option<Snapshot> {
    let line = bytes.iter().position(|byte| *byte == b'\n')?;
    let head: Head = serde_json::from_slice(&bytes[..line]).ok()?;
    let state = &bytes[line + 1..];
    let whole = state.len() as u64 == head.length && format!("{:016x}", hash(state)) == head.hash;
    (head.version == VERSION && whole)
        .then(|| Snapshot { position: Position { epoch: head.epoch, offset: head.offset }, state: state.to_vec() })
}

fn hash(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Snapshot {
        Snapshot { position: Position { epoch: 1, offset }, state: vec![offset as u8; 100] }
    }

    #[test]
    fn the_newest_that_fits_is_used_and_a_damaged_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::default();
        let snapshots = Snapshots::new(&files, folder.path(), "clean", 0, "{}");
        let limit = Position { epoch: 1, offset: 100 };
        assert_eq!(snapshots.load(limit), None);
        for offset in [10, 20, 30] {
            snapshots.save(&at(offset)).unwrap();
        }
        assert_eq!(snapshots.load(limit), Some(at(30)));
        assert_eq!(snapshots.load(Position { epoch: 1, offset: 25 }), Some(at(20)));
        assert_eq!(snapshots.oldest(), Some(at(20)));
        let newest = snapshots.paths()[0].clone();
        let mut bytes = std::fs::read(&newest).unwrap();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&newest, &bytes).unwrap();
            let loaded = snapshots.load(limit);
            assert!(loaded == Some(at(20)) || loaded == Some(at(30)), "bit {bit}: {loaded:?}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&newest, bytes).unwrap();
        assert_eq!(snapshots.load(limit), Some(at(20)));
        snapshots.save(&at(40)).unwrap();
        assert_eq!(snapshots.oldest(), Some(at(20)), "a damaged one does not take a sound one's place");
        assert_eq!(Snapshots::new(&files, folder.path(), "clean", 0, "other settings").load(limit), None);
    }
}
