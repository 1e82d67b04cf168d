//! The list of epochs of a partition: which owner's reign began at which offset.
//!
//! Guarantee: on disk before the first frame of a new epoch is published, replaced as a whole (written aside, fsynced,
//! renamed, directory fsynced). It decides where an older epoch ended, so that an offset that came back after a loss
//! is not taken for the one that was lost. A small text file:
//!
//! ```text
//! trackside epochs 1
//! first 0
//! epoch 1 0
//! epoch 2 1500
//! crc b46b6d2a
//! ```
//!
//! `first` is the first offset that is kept; what lies before it was given up, even if its file came back after a power
//! loss. `crc` is the CRC32C of all lines above it.

use std::fmt::Write as _;
use std::path::Path;

use crate::error::{Error, Result};
use crate::vfs::{Mode, Vfs};

pub(crate) const FILE: &str = "epochs";
const ASIDE: &str = "epochs.tmp";
const TITLE: &str = "trackside epochs 1";
/// The list never grows beyond this: older epochs are forgotten first.
const MAX_EPOCHS: usize = 1000;
/// A longer file is not ours.
const MAX_BYTES: u64 = 1 << 20;

/// The beginning of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch, from 1.
    pub epoch: u32,
    /// Its first offset.
    pub first_offset: u64,
}

/// A partition's epochs, oldest first, and the first offset it still keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    pub(crate) first: u64,
    pub(crate) list: Vec<EpochStart>,
}

impl Epochs {
    /// Reads the list: `None` if there is none, an error if it is damaged.
    pub(crate) fn load(vfs: &dyn Vfs, dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        let io = |op| move |error| (op, error);
        let read = || {
            let file = vfs.open(&path, Mode::Read).map_err(io("open"))?;
            let mut bytes = vec![0; file.len().map_err(io("read"))?.min(MAX_BYTES) as usize];
            file.read_at(&mut bytes, 0).map_err(io("read"))?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => match Self::parse(&String::from_utf8_lossy(&bytes)) {
                Some(epochs) => Ok(Some(epochs)),
                None => {
                    Err(Error::Damaged { path, at: 0, what: "the list of epochs does not match its checksum".into() })
                }
            },
            Err((_, error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err((op, error)) => Err(Error::io(op, &path, error)),
        }
    }

    /// Makes the list durable in place of the old one.
    pub(crate) fn save(&self, vfs: &dyn Vfs, dir: &Path) -> Result<()> {
        let (aside, path) = (dir.join(ASIDE), dir.join(FILE));
        remove_if_there(vfs, &aside)?;
        let file = vfs.open(&aside, Mode::CreateNew).map_err(|e| Error::io("create", &aside, e))?;
        file.write_at(self.text().as_bytes(), 0).map_err(|e| Error::io("write", &aside, e))?;
        file.sync_data().map_err(|e| Error::io("sync", &aside, e))?;
        vfs.rename(&aside, &path).map_err(|e| Error::io("rename", &path, e))?;
        vfs.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))
    }

    /// Adds an epoch; the oldest are forgotten beyond the limit.
    pub(crate) fn begin(&mut self, epoch: u32, first_offset: u64) {
        self.list.push(EpochStart { epoch, first_offset });
        self.list.drain(..self.list.len().saturating_sub(MAX_EPOCHS));
    }

    /// Gives up all before `first`: epochs that ended there are forgotten.
    pub(crate) fn give_up(&mut self, first: u64) {
        self.first = self.first.max(first);
        let over: Vec<u32> =
            self.list.iter().map(|e| e.epoch).filter(|epoch| self.end_of(*epoch) <= self.first).collect();
        self.list.retain(|start| !over.contains(&start.epoch));
    }

    /// The offset at which an epoch ended: where the next one begins that is on the list. `u64::MAX` for the last one.
    pub(crate) fn end_of(&self, epoch: u32) -> u64 {
        self.list.iter().filter(|e| e.epoch > epoch).map(|e| e.first_offset).min().unwrap_or(u64::MAX)
    }

    fn text(&self) -> String {
        let mut text = format!("{TITLE}\nfirst {}\n", self.first);
        for EpochStart { epoch, first_offset } in &self.list {
            let _ = writeln!(text, "epoch {epoch} {first_offset}"); // writing to a String cannot fail
        }
        let crc = crc32c::crc32c(text.as_bytes());
        let _ = writeln!(text, "crc {crc:08x}");
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let (body, crc) = text.strip_suffix('\n')?.rsplit_once("\ncrc ")?;
        let body = text.get(..body.len() + 1)?;
        if u32::from_str_radix(crc, 16).ok()? != crc32c::crc32c(body.as_bytes()) {
            return None;
        }
        let mut lines = body.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let first = lines.next()?.strip_prefix("first ")?.parse().ok()?;
        let list = lines.map(parse_line).collect::<Option<_>>()?;
        Some(Self { first, list })
    }
}

fn parse_line(line: &str) -> Option<EpochStart> {
    let (epoch, first_offset) = line.strip_prefix("epoch ")?.split_once(' ')?;
    Some(EpochStart { epoch: epoch.parse().ok()?, first_offset: first_offset.parse().ok()? })
}

pub(crate) fn remove_if_there(vfs: &dyn Vfs, path: &Path) -> Result<()> {
    match vfs.remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::RealVfs;

    fn three() -> Epochs {
        let mut epochs = Epochs::default();
        for (epoch, first) in [(1, 0), (2, 1500), (3, 1200)] {
            epochs.begin(epoch, first);
        }
        epochs
    }

    #[test]
    fn what_is_saved_is_loaded_and_a_flipped_bit_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Epochs::load(&RealVfs, dir.path()).unwrap(), None);
        three().save(&RealVfs, dir.path()).unwrap();
        assert_eq!(Epochs::load(&RealVfs, dir.path()).unwrap(), Some(three()));

        let text = three().text().into_bytes();
        for bit in 0..text.len() * 8 {
            let mut bad = text.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let read = Epochs::parse(&String::from_utf8_lossy(&bad));
            assert!(read.is_none() || read == Some(three()), "bit {bit}"); // `9F` for `9f` says the same
        }
    }

    #[test]
    fn the_example_of_the_format_is_read() {
        let text = "trackside epochs 1\nfirst 0\nepoch 1 0\nepoch 2 1500\ncrc b46b6d2a\n";
        assert_eq!(Epochs::parse(text).map(|epochs| epochs.list.len()), Some(2));
    }

    #[test]
    fn an_epoch_ends_where_a_later_one_begins_even_if_lower() {
        let mut epochs = three();
        assert_eq!((epochs.end_of(1), epochs.end_of(2), epochs.end_of(3)), (1200, 1200, u64::MAX));
        epochs.give_up(1300);
        assert_eq!(epochs.list, [EpochStart { epoch: 3, first_offset: 1200 }]);
    }
}
