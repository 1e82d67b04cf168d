//! Segments: the files that frames lie in, and which part of which file is the log.
//!
//! A segment's name tells its first offset, its epoch and its number within the epoch. It is allocated in full when it
//! is made, never shortened, and never overwritten where something was published.
//!
//! One rule decides what counts: **a later segment (by epoch, then number) ends all earlier ones at its first offset.**
//! So rolling on, starting an epoch lower than the last one ended, and superseding a file whose fsync failed are all
//! the same act: make a segment with a later name. [`Layout`] applies the rule to a listing.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::epochs::Epochs;
use crate::error::{Error, Result};
use crate::header::FORMAT;
use crate::vfs::{Mode, Vfs, VfsFile};

/// Where a segment's first frame lies: after the segment's own header.
pub const SEGMENT_HEADER_BYTES: u64 = 64;
const MAGIC: [u8; 8] = *b"TSSEGMNT";
/// A segment under way is invisible to readers until it is renamed.
pub(crate) const ASIDE: &str = ".tmp";
/// Files are whole pages, so that the last one can be mapped in full.
const PAGE: u64 = 4096;

/// What a segment's name says. Orders by age: epoch, then number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SegmentName {
    pub(crate) epoch: u32,
    pub(crate) number: u32,
    pub(crate) first: u64,
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{:06}-{:06}.seg", self.first, self.epoch, self.number)
    }
}

impl SegmentName {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".seg")?.split('-');
        let (first, epoch, number) = (parts.next()?, parts.next()?, parts.next()?);
        let parsed = Self { first: first.parse().ok()?, epoch: epoch.parse().ok()?, number: number.parse().ok()? };
        (parsed.to_string() == name).then_some(parsed)
    }
}

/// The 64 bytes at a segment's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) name: SegmentName,
    /// Everything below this offset was durable when the segment was made: recovery need not look further back.
    pub(crate) durable: u64,
    /// The epoch's random mark, which each of its frames repeats.
    pub(crate) tag: u64,
}

impl SegmentHeader {
    fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES as usize] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[10..12].copy_from_slice(&(SEGMENT_HEADER_BYTES as u16).to_le_bytes());
        bytes[12..16].copy_from_slice(&self.name.epoch.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.name.first.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.name.number.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.durable.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.tag.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a segment's header: `None` when it is damaged or does not fit the name (the name decides then).
    pub(crate) fn read(file: &dyn VfsFile, path: &Path, name: SegmentName) -> Result<Option<Self>> {
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        file.read_at(&mut bytes, 0).map_err(|e| Error::io("read", path, e))?;
        let crc = u32::from_le_bytes([bytes[60], bytes[61], bytes[62], bytes[63]]);
        if bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..60]) != crc {
            return Ok(None);
        }
        let found = u16::from_le_bytes([bytes[8], bytes[9]]);
        if found > FORMAT {
            return Err(Error::Newer { path: path.to_path_buf(), found, known: FORMAT });
        }
        let word = |at: usize| bytes[at..at + 8].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let header = Self { name, durable: word(32), tag: word(40) };
        Ok((header.encode() == bytes).then_some(header))
    }
}

/// An open segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) name: SegmentName,
    pub(crate) path: Arc<Path>,
    pub(crate) file: Arc<dyn VfsFile>,
    /// Its allocated length.
    pub(crate) bytes: u64,
}

impl Segment {
    /// Makes a segment of at least `bytes`, allocated for real. With `aside` its name ends in `.tmp` until
    /// [`Segment::reveal`]. What could not be finished is removed again.
    pub(crate) fn create(vfs: &dyn Vfs, dir: &Path, header: SegmentHeader, bytes: u64, aside: bool) -> Result<Self> {
        let suffix = if aside { ASIDE } else { "" };
        let path = dir.join(format!("{}{suffix}", header.name));
        let bytes = bytes.next_multiple_of(PAGE);
        let file = vfs.open(&path, Mode::CreateNew).map_err(|e| Error::io("create", &path, e))?;
        let done = file.allocate(bytes).map_err(|e| Error::io("allocate", &path, e));
        let done = done.and_then(|()| file.write_at(&header.encode(), 0).map_err(|e| Error::io("write", &path, e)));
        if let Err(error) = done {
            let _ = vfs.remove(&path); // a leftover holds no frame: its name is not used again and recovery removes it
            return Err(error);
        }
        Ok(Self { name: header.name, path: path.into(), file: file.into(), bytes })
    }

    /// Gives a segment that was made aside its name; durable after the directory is synced.
    pub(crate) fn reveal(mut self, vfs: &dyn Vfs, dir: &Path) -> Result<Self> {
        let path = dir.join(self.name.to_string());
        vfs.rename(&self.path, &path).map_err(|e| Error::io("rename", &path, e))?;
        self.path = path.into();
        Ok(self)
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io("sync", &self.path, e))
    }
}

/// The part of a segment that is the log: offsets `name.first..limit`. Empty when later segments took over all of it.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    pub(crate) name: SegmentName,
    pub(crate) path: Arc<Path>,
    pub(crate) limit: u64,
}

impl Extent {
    pub(crate) fn live(&self) -> bool {
        self.name.first < self.limit
    }
}

/// All segments of a partition, oldest first, and what of each is the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    pub(crate) live: Vec<Extent>,
    pub(crate) dead: Vec<Extent>,
}

impl Layout {
    /// Lists a partition's segments and applies the rule, with the epochs' list as a second witness.
    pub(crate) fn list(vfs: &dyn Vfs, dir: &Path, epochs: &Epochs) -> Result<Self> {
        Ok(Self::of(dir, list_names(vfs, dir)?, epochs))
    }

    pub(crate) fn of(dir: &Path, mut names: Vec<SegmentName>, epochs: &Epochs) -> Self {
        names.sort_unstable();
        let mut extents = Vec::with_capacity(names.len());
        let mut limit = u64::MAX;
        for name in names.into_iter().rev() {
            let end = limit.min(epochs.end_of(name.epoch));
            // What was given up is dead, even if its file came back.
            let end = if end <= epochs.first { name.first } else { end };
            extents.push(Extent { name, path: dir.join(name.to_string()).into(), limit: end.max(name.first) });
            limit = limit.min(name.first);
        }
        let (live, dead) = extents.into_iter().rev().partition(Extent::live);
        Self { live, dead }
    }

    /// The live segment that holds an offset, or the next one after it.
    pub(crate) fn find(&self, offset: u64) -> usize {
        self.live.partition_point(|extent| extent.limit <= offset)
    }
}

pub(crate) fn list_names(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<SegmentName>> {
    let names = vfs.list(dir).map_err(|e| Error::io("list", dir, e))?;
    Ok(names.iter().filter_map(|name| SegmentName::parse(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::RealVfs;

    fn name(first: u64, epoch: u32, number: u32) -> SegmentName {
        SegmentName { epoch, number, first }
    }

    fn parts(layout: &Layout) -> Vec<(u64, u64)> {
        layout.live.iter().map(|extent| (extent.name.first, extent.limit)).collect()
    }

    #[test]
    fn names_are_parsed_and_strangers_are_not() {
        let seg = name(1500, 2, 7);
        assert_eq!(SegmentName::parse(&seg.to_string()), Some(seg));
        for stranger in ["epochs", "1-2-3.seg", "control", "00000000000000001500-000002-000007.seg.tmp"] {
            assert_eq!(SegmentName::parse(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn a_later_segment_ends_the_earlier_ones() {
        // A roll at 100, a repair from 90 on, an epoch from 95 on.
        let names = vec![name(0, 1, 0), name(100, 1, 1), name(90, 1, 2), name(95, 2, 0)];
        let layout = Layout::of(Path::new("p"), names, &Epochs::default());
        assert_eq!(parts(&layout), [(0, 90), (90, 95), (95, u64::MAX)]);
        assert_eq!(layout.dead.len(), 1);
        assert_eq!((layout.find(0), layout.find(90), layout.find(94), layout.find(1_000)), (0, 1, 1, 2));
    }

    #[test]
    fn an_epoch_without_a_segment_counts_and_what_was_given_up_does_not() {
        let mut epochs = Epochs::default();
        epochs.begin(1, 0);
        epochs.begin(2, 40);
        epochs.give_up(10);
        let layout = Layout::of(Path::new("p"), vec![name(0, 1, 0), name(10, 1, 1)], &epochs);
        assert_eq!(parts(&layout), [(10, 40)]);
    }

    #[test]
    fn a_header_is_read_back_and_a_failed_creation_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let header = SegmentHeader { name: name(5, 1, 0), durable: 5, tag: 9 };
        let segment = Segment::create(&RealVfs, dir.path(), header, 5000, false).unwrap();
        assert_eq!(segment.bytes, 8192);
        assert_eq!(SegmentHeader::read(&*segment.file, &segment.path, segment.name).unwrap(), Some(header));
        assert_eq!(SegmentHeader::read(&*segment.file, &segment.path, name(6, 1, 0)).unwrap(), None);
        assert!(Segment::create(&RealVfs, dir.path(), header, 1 << 62, true).is_err());
        assert_eq!(list_names(&RealVfs, dir.path()).unwrap(), [header.name]);
    }
}
