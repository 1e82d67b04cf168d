//! Snapshots: a stage's state with the position it belongs to, two generations a stage.
//!
//! A snapshot is only written once the output up to its position is durable, so a restart can always replay from it
//! up to what the output holds. A broken file is passed over for the older one. The name carries a hash of the
//! settings, so changed settings start from a replay instead of from a state that no longer fits.
//!
//! File: one line of JSON (version, position, length, CRC of the body), then the body.

use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
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
    folder: PathBuf,
    settings: String,
}

/// A state and where in the input it stands: every row before was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) position: Position,
    pub(crate) state: Vec<u8>,
}

impl Snapshots {
    /// The snapshots of a stage's partition; `settings` is whatever must not change for a state to fit.
    pub(crate) fn new(data: &Path, stage: &str, partition: u32, settings: &str) -> Self {
        let folder = data.join("snapshots").join(stage).join(partition.to_string());
        Self { folder, settings: format!("{:016x}", hash(settings.as_bytes())) }
    }

    /// Writes one; it becomes the newest, the oldest goes.
    pub(crate) fn save(&self, snapshot: &Snapshot) -> io::Result<()> {
        self.make_folder()?;
        let head = Head {
            version: VERSION,
            epoch: snapshot.position.epoch,
            offset: snapshot.position.offset,
            length: snapshot.state.len() as u64,
            hash: format!("{:016x}", hash(&snapshot.state)),
        };
        let name = format!("{}-{:06}-{:020}", self.settings, head.epoch, head.offset);
        let aside = self.folder.join(format!(".{name}.new"));
        let mut file = File::create(&aside)?;
        file.write_all(serde_json::to_string(&head)?.as_bytes())?;
        file.write_all(b"\n")?;
        file.write_all(&snapshot.state)?;
        file.sync_all()?;
        fs::rename(&aside, self.folder.join(name + ".snap"))?;
        File::open(&self.folder)?.sync_all()?;
        for old in self.files().into_iter().skip(GENERATIONS) {
            fs::remove_file(old)?;
        }
        Ok(())
    }

    /// A folder's own entry must survive as well: retention relies on what lies in it.
    fn make_folder(&self) -> io::Result<()> {
        if self.folder.exists() {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)?;
        // <data>/snapshots/<stage>/<partition>: the three folders above it may be new as well.
        self.folder.ancestors().skip(1).take(3).try_for_each(|above| File::open(above)?.sync_all())
    }

    /// The newest usable one at or before `limit`.
    pub(crate) fn load(&self, limit: Position) -> Option<Snapshot> {
        self.files().iter().filter_map(|path| read(path).ok()).find(|snapshot| snapshot.position <= limit)
    }

    /// The older generation, once there are two: retention keeps whatever it needs.
    pub(crate) fn oldest(&self) -> Option<Snapshot> {
        self.files().get(GENERATIONS - 1).and_then(|path| read(path).ok())
    }

    /// Files of these settings, newest first.
    fn files(&self) -> Vec<PathBuf> {
        let ours = |name: &str| name.starts_with(&self.settings) && name.ends_with(".snap");
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> =
            entries.filter(|e| e.file_name().to_str().is_some_and(ours)).map(|e| e.path()).collect();
        files.sort();
        files.reverse();
        files
    }
}

fn read(path: &Path) -> io::Result<Snapshot> {
    let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
    let bytes = fs::read(path)?;
    let line = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| broken("no head"))?;
    let head: Head = serde_json::from_slice(&bytes[..line])?;
    let state = &bytes[line + 1..];
    if head.version != VERSION || state.len() as u64 != head.length || format!("{:016x}", hash(state)) != head.hash {
        tracing::warn!(file = %path.display(), "a snapshot is damaged or of another version; the older one is used");
        return Err(broken("damaged"));
    }
    Ok(Snapshot { position: Position { epoch: head.epoch, offset: head.offset }, state: state.to_vec() })
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
        let snapshots = Snapshots::new(folder.path(), "clean", 0, "{}");
        let limit = Position { epoch: 1, offset: 100 };
        assert_eq!(snapshots.load(limit), None);
        for offset in [10, 20, 30] {
            snapshots.save(&at(offset)).unwrap();
        }
        assert_eq!(snapshots.load(limit), Some(at(30)));
        assert_eq!(snapshots.load(Position { epoch: 1, offset: 25 }), Some(at(20)));
        assert_eq!(snapshots.oldest(), Some(at(20)));
        let newest = snapshots.files()[0].clone();
        let mut bytes = fs::read(&newest).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&newest, bytes).unwrap();
        assert_eq!(snapshots.load(limit), Some(at(20)));
        assert_eq!(Snapshots::new(folder.path(), "clean", 0, "other settings").load(limit), None);
    }
}
