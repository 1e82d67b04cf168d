//! Reading a segment in place, from any process: for workers and notebooks that point Arrow buffers at the log's own
//! bytes.
//!
//! Guarantee: [`Map::frame`] gives out a frame only after its checksum was verified (once per frame and map). The bytes stay
//! valid as long as the map does: a segment is never shortened, and never overwritten where something was published.
//!
//! ```no_run
//! use std::path::Path;
//! use trackside_log::mapped::Map;
//!
//! # fn main() -> trackside_log::Result<()> {
//! let map = Map::open(Path::new("data/log/clean/0/00000000000000000000-000001-000000.seg"))?;
//! let frame = map.frame(64, 4096)?; // position and length as `Location` tells them
//! let rows = frame.section(1).map(|range| &map.as_slice()[range]);
//! # let _ = rows;
//! # Ok(())
//! # }
//! ```

use std::collections::HashSet;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use memmap2::Mmap;

use crate::error::{Error, Result};
use crate::frame::{OwnedFrameInfo, Section};
use crate::header::Header;
use crate::sync::lock;

/// A segment, mapped read-only.
#[derive(Debug)]
pub struct Map {
    path: PathBuf,
    map: Mmap,
    /// The positions of the frames that were verified; at most as many as the segment holds.
    verified: Mutex<HashSet<u64>>,
}

/// A verified frame in a map.
#[derive(Clone, Debug)]
pub struct MappedFrame {
    /// What header and meta say.
    pub info: OwnedFrameInfo,
    /// Its sections; the ranges are positions in [`Map::as_slice`], that is, in the file.
    pub sections: Vec<Section>,
}

impl MappedFrame {
    /// Where the first section of a kind lies in the file.
    pub fn section(&self, kind: u16) -> Option<Range<usize>> {
        self.sections.iter().find(|section| section.kind == kind).map(|section| section.range.clone())
    }
}

#[allow(unsafe_code)]
impl Map {
    /// Maps a segment: its whole allocated length.
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        // SAFETY: we only hand out published frames (after a checksum), and those are never written again; the file is
        // never shortened and has no holes, so a read cannot fault. Bytes that are being written lie behind the frames
        // that anyone was told of.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io("map", path, e))?;
        Ok(Arc::new(Self { path: path.to_path_buf(), map, verified: Mutex::default() }))
    }
}

impl Map {
    /// The whole file. Only look where a verified frame lies: the rest may be changing.
    pub fn as_slice(&self) -> &[u8] {
        &self.map
    }

    /// The segment.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks the frame at a position against its checksum; quick when it was done before.
    pub fn verify(&self, at: u64, length: u64) -> Result<()> {
        if lock(&self.verified).contains(&at) {
            return Ok(());
        }
        let frame = self.bytes(at, length)?;
        let verdict = Header::parse(frame).and_then(|header| header.check(frame));
        verdict.map_err(|what| self.damaged(at, what))?;
        lock(&self.verified).insert(at);
        Ok(())
    }

    /// The frame at a position, verified.
    pub fn frame(&self, at: u64, length: u64) -> Result<MappedFrame> {
        self.verify(at, length)?;
        let frame = self.bytes(at, length)?;
        let header = Header::parse(frame).map_err(|what| self.damaged(at, what))?;
        if u64::from(header.length) != length {
            return Err(self.damaged(at, "the frame has another length"));
        }
        let base = at as usize; // `bytes` has seen that it fits
        let place = |range: Range<usize>| base + range.start..base + range.end;
        let sections = header.sections().map(|(kind, range)| Section { kind, range: place(range) }).collect();
        Ok(MappedFrame { info: OwnedFrameInfo::new(&header, &frame[header.meta_range()]), sections })
    }

    fn bytes(&self, at: u64, length: u64) -> Result<&[u8]> {
        let start = usize::try_from(at).ok();
        let end = at.checked_add(length).and_then(|end| usize::try_from(end).ok());
        let frame = start.zip(end).and_then(|(start, end)| self.map.get(start..end));
        frame.ok_or_else(|| self.damaged(at, "the frame would reach beyond the end of the file"))
    }

    fn damaged(&self, at: u64, what: &str) -> Error {
        Error::Damaged { path: self.path.clone(), at, what: what.to_owned() }
    }
}
