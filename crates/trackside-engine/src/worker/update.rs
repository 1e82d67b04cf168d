//! The question that a worker is asked most often, as bytes: which rows come next.
//!
//! All other messages have a JSON header; this one is on the way of every row, and a small frame's way to the model is
//! mostly the message. Numbers are little-endian:
//!
//! ```text
//! u32 flags (1 = replay)   u32 frames   u32 skipped rows   u32 0
//! each frame:  u64 section at   u64 section length   u64 base   u32 from   u32 to   u32 path length   path
//! each skipped row:  u64 offset
//! ```
//!
//! A section is an Arrow IPC stream at that place of the file; `base` is the offset of its first row, of which rows
//! `from..to` are asked about. Skipped rows are left out.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use trackside_core::model::ModelRequest;

const REPLAY: u32 = 1;

/// An update as the worker reads it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// Nobody reads the answer: the model only gets its state back.
    pub replay: bool,
    /// Where the rows lie.
    pub places: Vec<Place>,
    /// Offsets that are left out.
    pub skip: Vec<u64>,
}

/// Rows `from..to` of the section that lies at this place of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The segment.
    pub path: PathBuf,
    /// Where the rows section begins, and its length in bytes.
    pub section_at: u64,
    /// Length of the section.
    pub section_length: u64,
    /// Offset of the section's first row.
    pub base: u64,
    /// First row taken.
    pub from: u32,
    /// First row not taken.
    pub to: u32,
}

/// The request as bytes.
pub fn encode(request: &ModelRequest) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + request.frames.len() * 192);
    let flags = if request.replay { REPLAY } else { 0 };
    for number in [flags, request.frames.len() as u32, request.skip.len() as u32, 0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for frame in &request.frames {
        let path = frame.location.path.as_os_str().as_bytes();
        for number in [frame.location.rows_at, frame.location.rows_length, frame.base] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [frame.from as u32, frame.to as u32, path.len() as u32] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(path);
    }
    request.skip.iter().for_each(|offset| out.extend_from_slice(&offset.to_le_bytes()));
    out
}

impl Update {
    /// Reads what [`encode`] wrote; none when it is something else.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        let (flags, frames, skipped, zero) = (u32(rest)?, u32(rest)?, u32(rest)?, u32(rest)?);
        if flags > REPLAY || zero != 0 {
            return None;
        }
        let places = (0..frames).map(|_| place(rest)).collect::<Option<Vec<_>>>()?;
        let skip = (0..skipped).map(|_| u64(rest)).collect::<Option<Vec<_>>>()?;
        rest.is_empty().then_some(Self { replay: flags == REPLAY, places, skip })
    }
}

fn place(rest: &mut &[u8]) -> Option<Place> {
    let (section_at, section_length, base) = (u64(rest)?, u64(rest)?, u64(rest)?);
    let (from, to, length) = (u32(rest)?, u32(rest)?, u32(rest)?);
    let path = rest.split_off(..length as usize)?;
    Some(Place { path: Path::new(OsStr::from_bytes(path)).into(), section_at, section_length, base, from, to })
}

fn u32(rest: &mut &[u8]) -> Option<u32> {
    rest.split_off(..4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64(rest: &mut &[u8]) -> Option<u64> {
    rest.split_off(..8)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use trackside_core::log::FileLocation;
    use trackside_core::model::FrameSlice;

    #[test]
    fn what_was_asked_is_what_is_read_and_no_cut_of_it_is() {
        let path = Arc::new(PathBuf::from("/data/log/clean/0/ü.seg"));
        let location = FileLocation { path, at: 0, length: 900, rows_at: 128, rows_length: 700 };
        let frames = vec![FrameSlice { location, base: 10, from: 2, to: 7 }; 3];
        let bytes = encode(&ModelRequest { frames, skip: vec![13, u64::MAX], replay: true });
        let update = Update::decode(&bytes).unwrap();
        assert_eq!((update.replay, update.places.len(), &update.skip[..]), (true, 3, &[13, u64::MAX][..]));
        let place = &update.places[1];
        assert_eq!((place.section_at, place.section_length, place.base, place.from, place.to), (128, 700, 10, 2, 7));
        assert_eq!(place.path, Path::new("/data/log/clean/0/ü.seg"));
        for end in 0..bytes.len() {
            assert_eq!(Update::decode(&bytes[..end]), None, "{end}");
        }
        assert_eq!(Update::decode(&[&bytes[..], b"x"].concat()), None);
        assert_eq!(Update::decode(&[0xFF; 64]), None);
        assert_eq!(Update::decode(&encode(&ModelRequest::default())), Some(Update::default()));
    }
}
