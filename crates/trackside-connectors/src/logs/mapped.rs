//! Sections read in place: a worker or a notebook maps the segment and looks at the log's own bytes.
//!
//! Guarantee: nothing is copied; a batch keeps its map alive for as long as it lives. At most [`MAX_MAPS`] maps are kept
//! open for later calls, the least recently used one goes first. The engine hands out places of frames that it has
//! verified, so bytes are not checked against their checksum here.
//!
//! ```no_run
//! use trackside_connectors::logs::mapped::MappedReader;
//!
//! let mut reader = MappedReader::default();
//! let path = std::path::Path::new("data/log/clean/0/00000000000000000000-000001-000000.seg");
//! let rows = reader.read(path, 256, 70_000)?;
//! # Ok::<(), trackside_core::log::LogError>(())
//! ```

use super::embedded::in_words;
use super::ipc::{self, Encoded};
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use bytes::Bytes;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use trackside_core::log::LogError;
use trackside_log::mapped::Map;

/// Maps kept open: a reader stands in one segment, seldom in two.
pub const MAX_MAPS: usize = 8;

/// Reads sections of mapped segments.
#[derive(Debug, Default)]
pub struct MappedReader {
    /// The most recently used last.
    maps: VecDeque<Arc<Map>>,
    decoder: ipc::Decoder,
}

impl MappedReader {
    /// The batch of the section that lies at this position of the segment.
    pub fn read(&mut self, path: &Path, section_at: u64, section_length: u64) -> Result<RecordBatch, LogError> {
        self.open(path, section_at, section_length)?.batch()
    }

    /// The same section with its columns still to be decoded.
    pub fn open(&mut self, path: &Path, section_at: u64, section_length: u64) -> Result<Encoded, LogError> {
        let map = self.map(path)?;
        section(&self.decoder, map, section_at, section_length)
    }

    fn map(&mut self, path: &Path) -> Result<Arc<Map>, LogError> {
        let map = match self.maps.iter().position(|map| map.path() == path).and_then(|at| self.maps.remove(at)) {
            Some(map) => map,
            None => Map::open(path).map_err(in_words)?,
        };
        if self.maps.len() == MAX_MAPS {
            self.maps.pop_front();
        }
        self.maps.push_back(map.clone());
        Ok(map)
    }
}

/// The same for a single look.
pub fn read_mapped(path: &Path, section_at: u64, section_length: u64) -> Result<RecordBatch, LogError> {
    section(&ipc::Decoder::default(), Map::open(path).map_err(in_words)?, section_at, section_length)?.batch()
}

fn section(decoder: &ipc::Decoder, map: Arc<Map>, at: u64, length: u64) -> Result<Encoded, LogError> {
    let end = at.checked_add(length).filter(|end| *end <= map.as_slice().len() as u64).ok_or_else(|| {
        LogError::Damaged(format!(
            "a section of {length} bytes at {at} would reach beyond the end of `{}`",
            map.path().display()
        ))
    })?;
    // The range lies in the map, whose length is a usize.
    let bytes = Buffer::from(Bytes::from_owner(Mapped(map)));
    decoder.open(bytes.slice_with_length(at as usize, (end - at) as usize))
}

/// A map as the owner of the buffers that point into it.
struct Mapped(Arc<Map>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::embedded::Embedded;
    use crate::logs::ipc::tests::{all_types, assert_inside};
    use trackside_core::log::{Budget, End, FrameDraft, Log, SectionKind};

    #[test]
    fn rows_are_read_in_place_and_outlive_the_reader() {
        let dir = tempfile::tempdir().unwrap();
        let log = Embedded::open(dir.path(), Default::default()).unwrap();
        let sections = vec![(SectionKind::DeadLetters, all_types().slice(0, 1)), (SectionKind::Rows, all_types())];
        log.writer("clean", 0, &mut |_| true)
            .unwrap()
            .append(&FrameDraft { sections, ..FrameDraft::default() })
            .unwrap();
        let frame = log
            .reader("clean", 0)
            .unwrap()
            .read(0, Budget { bytes: u64::MAX, frames: 1 }, End::Published)
            .unwrap()
            .remove(0);
        let place = frame.location.unwrap();

        let mut reader = MappedReader::default();
        let batch = reader.read(&place.path, place.rows_at, place.rows_length).unwrap();
        assert_inside(&batch, reader.maps[0].as_slice().as_ptr_range());
        assert_eq!(reader.read(&place.path, place.rows_at, place.rows_length).unwrap(), batch);
        assert_eq!(reader.maps.len(), 1);
        drop(reader);
        assert_eq!(batch, all_types());
        assert_eq!(read_mapped(&place.path, place.rows_at, place.rows_length).unwrap(), batch);
        assert!(matches!(read_mapped(&place.path, place.rows_at, u64::MAX), Err(LogError::Damaged(_))));
        assert!(matches!(read_mapped(&place.path, 0, 64), Err(LogError::Damaged(_))));
    }
}
