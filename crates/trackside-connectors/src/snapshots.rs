//! Snapshots: a stage's state with the position it belongs to, two generations a stage.
//!
//! A snapshot is only written once the output up to its position is durable, so a restart can always replay from it
//! up to what the output holds. A broken one is passed over for the older one. The name carries a hash of the
//! settings, so changed settings start from a replay instead of from a state that no longer fits.
//!
//! What is kept: one line of JSON (version, position, length, CRC of the body), then the body; the same bytes wherever
//! they lie. Where that is, a [`Store`] knows: files beside the embedded log ([`files`]), a stream beside the log on NATS.

pub mod files;
pub mod testing;

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use trackside_core::error::Failure;
use trackside_core::position::Position;

/// Generations kept.
const GENERATIONS: usize = 2;
const VERSION: u32 = 1;

/// Where the snapshots of a pipeline lie, by stage, partition and name.
///
/// What is being written is not seen before all of it is there. What was damaged since is told by its checksum.
pub trait Store: Debug + Send + Sync {
    /// Names of what was written whole, sorted.
    fn list(&self, shelf: &Shelf) -> Result<Vec<String>, Failure>;
    /// What lies there; none if nothing can be read.
    fn read(&self, shelf: &Shelf, name: &str) -> Result<Option<Vec<u8>>, Failure>;
    /// Puts it there, durably, in place of what was there before.
    fn write(&self, shelf: &Shelf, name: &str, bytes: &[u8]) -> Result<(), Failure>;
    /// Takes it away; fine if it is gone already.
    fn remove(&self, shelf: &Shelf, name: &str) -> Result<(), Failure>;
}

/// The place of one stage's partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shelf {
    /// `clean`, or the topic that a model writes.
    pub stage: String,
    /// Its partition.
    pub partition: u32,
}

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
pub struct Snapshots {
    store: Arc<dyn Store>,
    shelf: Shelf,
    settings: String,
    /// Those that turned out to be damaged: they are no generation, and go with the next save.
    damaged: Mutex<BTreeSet<String>>,
}

/// A state and where in the input it stands: every row before was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Where it stands.
    pub position: Position,
    /// What the stage knew there.
    pub state: Vec<u8>,
}

impl Snapshots {
    /// The snapshots of a stage's partition; `settings` is whatever must not change for a state to fit.
    pub fn new(store: &Arc<dyn Store>, stage: &str, partition: u32, settings: &str) -> Self {
        Self {
            store: store.clone(),
            shelf: Shelf { stage: stage.to_owned(), partition },
            settings: format!("{:016x}", hash(settings.as_bytes())),
            damaged: Mutex::default(),
        }
    }

    /// Writes one; it becomes the newest, the oldest goes.
    pub fn save(&self, snapshot: &Snapshot) -> Result<(), Failure> {
        let bytes = encode(snapshot).map_err(|error| Failure::stop(format!("a snapshot: {error}")))?;
        let name = self.name(snapshot.position);
        for broken in std::mem::take(&mut *self.damaged.lock().unwrap_or_else(PoisonError::into_inner)) {
            self.store.remove(&self.shelf, &broken)?;
        }
        self.store.write(&self.shelf, &name, &bytes)?;
        self.names()?.iter().skip(GENERATIONS).try_for_each(|old| self.store.remove(&self.shelf, old))
    }

    /// The newest usable one at or before `limit`. An error leaves open whether there is one.
    pub fn load(&self, limit: Position) -> Result<Option<Snapshot>, Failure> {
        for name in self.names()? {
            if let Some(snapshot) = self.read(&name)?.filter(|snapshot| snapshot.position <= limit) {
                return Ok(Some(snapshot));
            }
        }
        Ok(None)
    }

    /// The newest one.
    pub fn newest(&self) -> Result<Option<Snapshot>, Failure> {
        self.load(Position { epoch: u32::MAX, offset: u64::MAX })
    }

    /// The older generation, once there are two: retention keeps whatever it needs.
    pub fn oldest(&self) -> Option<Snapshot> {
        self.names().ok()?.get(GENERATIONS - 1).and_then(|name| self.read(name).ok().flatten())
    }

    /// Those of these settings, newest first.
    fn names(&self) -> Result<Vec<String>, Failure> {
        let mut names = self.store.list(&self.shelf)?;
        names.retain(|name| name.starts_with(&self.settings) && name.ends_with(".snap"));
        names.reverse();
        Ok(names)
    }

    fn name(&self, position: Position) -> String {
        format!("{}-{:06}-{:020}.snap", self.settings, position.epoch, position.offset)
    }

    /// A snapshot, if it can be read and is whole.
    fn read(&self, name: &str) -> Result<Option<Snapshot>, Failure> {
        let Some(bytes) = self.store.read(&self.shelf, name)? else { return Ok(None) };
        // The checksum is the state's; the name is the second witness of the position.
        let snapshot = parse(&bytes).filter(|snapshot| *name == self.name(snapshot.position));
        if snapshot.is_none() {
            let Shelf { stage, partition } = &self.shelf;
            tracing::warn!(
                stage,
                partition,
                snapshot = name,
                "a snapshot is damaged or of another version; the older one is used"
            );
            self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        }
        Ok(snapshot)
    }
}

/// What is kept of a snapshot.
pub fn encode(snapshot: &Snapshot) -> serde_json::Result<Vec<u8>> {
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

/// The snapshot in what was kept, if it is whole.
pub fn parse(bytes: &[u8]) -> Option<Snapshot> {
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

    #[test]
    fn a_flipped_bit_is_found_wherever_it_is() {
        let snapshot = Snapshot { position: Position { epoch: 1, offset: 20 }, state: vec![20; 100] };
        let mut bytes = encode(&snapshot).unwrap();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            // Another position is told by the name.
            let found = parse(&bytes);
            assert!(found.is_none_or(|found| found.state == snapshot.state), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(parse(&bytes), Some(snapshot));
    }
}
