//! A frame: the unit that is written and read. Header, `meta` (opaque bytes), sections (opaque bytes, each on a 64-byte
//! boundary).
//!
//! [`Draft`] is what the caller hands in, [`Frame`] what a reader gets: its bytes are one aligned, shareable allocation,
//! and its checksum has been verified.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::bytes::{AlignedBytes, padded};
use crate::error::{Error, Result};
use crate::header::{Entry, HEADER_BYTES, Header, MAX_SECTIONS, frame_length};

/// What is to be appended.
///
/// ```
/// use trackside_log::Draft;
///
/// let draft = Draft { rows: 2, event_time: Some((5, 9)), ingest_time: 10, meta: b"{}", sections: &[(1, b"rows")] };
/// assert_eq!(draft.length(), 128 + 64 + 64);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Draft<'a> {
    /// How many offsets it takes; a frame without rows takes one.
    pub rows: u64,
    /// The first and the last event time in it, in nanoseconds since 1970.
    pub event_time: Option<(i64, i64)>,
    /// When it came in, in nanoseconds since 1970.
    pub ingest_time: i64,
    /// The caller's own words about the frame.
    pub meta: &'a [u8],
    /// Kind and bytes of each section; at most [`MAX_SECTIONS`].
    pub sections: &'a [(u16, &'a [u8])],
}

impl Draft<'_> {
    /// The length of the frame on disk: what [`crate::Writer::reserve`] wants to know.
    pub fn length(&self) -> u64 {
        frame_length(self.meta.len(), self.sections.iter().map(|(_, bytes)| bytes.len()))
    }

    /// Where the section of a kind will lie: position after the frame's start, and length.
    pub fn section(&self, kind: u16) -> Option<(u64, u64)> {
        let mut at = HEADER_BYTES + padded(self.meta.len());
        for (own, bytes) in self.sections {
            if *own == kind {
                return Some((at as u64, bytes.len() as u64));
            }
            at += padded(bytes.len());
        }
        None
    }

    /// Writes the frame into `out`, whose old content goes; returns its header.
    pub(crate) fn encode(&self, stamp: Stamp, limit: u64, out: &mut Vec<u8>) -> Result<Header> {
        let length = self.length();
        let fits = |length: &u64| *length <= limit;
        let total = u32::try_from(length).ok().filter(|_| fits(&length));
        let length = total.ok_or(Error::TooLarge { bytes: length, limit })?;
        let mut header = self.header(stamp, length)?;
        out.clear();
        out.reserve(length as usize);
        out.resize(HEADER_BYTES, 0);
        push(out, self.meta);
        for (k, (kind, bytes)) in self.sections.iter().enumerate() {
            header.sections[k] = Entry { kind: *kind, length: bytes.len() as u32 }; // below `length`, which fits
            push(out, bytes);
        }
        header.seal(out);
        Ok(header)
    }

    fn header(&self, stamp: Stamp, length: u32) -> Result<Header> {
        if self.sections.len() > MAX_SECTIONS {
            let what = format!("a frame has room for {MAX_SECTIONS} sections, not {}; join some", self.sections.len());
            return Err(Error::Invalid { what });
        }
        Ok(Header {
            length,
            meta: self.meta.len() as u32,
            epoch: stamp.epoch,
            first: stamp.first,
            rows: self.rows,
            event_time: self.event_time,
            ingest_time: self.ingest_time,
            durable: stamp.durable,
            tag: stamp.tag,
            section_count: self.sections.len() as u16,
            ..Header::default()
        })
    }
}

fn push(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    out.resize(padded(out.len()), 0);
}

/// What the log itself adds to a draft.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) epoch: u32,
    pub(crate) first: u64,
    pub(crate) durable: u64,
    pub(crate) tag: u64,
}

/// What a header and its meta say about a frame, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct FrameInfo<'a> {
    /// The epoch that it was written in.
    pub epoch: u32,
    /// Its first offset.
    pub first: u64,
    /// The offset after its last: `first + max(rows, 1)`.
    pub end: u64,
    /// How many rows it has.
    pub rows: u64,
    /// The first and the last event time in it, in nanoseconds since 1970.
    pub event_time: Option<(i64, i64)>,
    /// When it came in, in nanoseconds since 1970.
    pub ingest_time: i64,
    /// The caller's own words about the frame.
    pub meta: &'a [u8],
}

/// [`FrameInfo`] with its own copy of the meta.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedFrameInfo {
    /// The epoch that it was written in.
    pub epoch: u32,
    /// Its first offset.
    pub first: u64,
    /// The offset after its last: `first + max(rows, 1)`.
    pub end: u64,
    /// How many rows it has.
    pub rows: u64,
    /// The first and the last event time in it, in nanoseconds since 1970.
    pub event_time: Option<(i64, i64)>,
    /// When it came in, in nanoseconds since 1970.
    pub ingest_time: i64,
    /// The caller's own words about the frame.
    pub meta: Vec<u8>,
}

impl OwnedFrameInfo {
    /// The same, borrowed.
    pub fn borrow(&self) -> FrameInfo<'_> {
        let Self { epoch, first, end, rows, event_time, ingest_time, ref meta } = *self;
        FrameInfo { epoch, first, end, rows, event_time, ingest_time, meta }
    }

    /// Takes over another frame's, without a new allocation where the meta fits.
    pub(crate) fn set(&mut self, header: &Header, meta: &[u8]) {
        let Header { epoch, first, rows, event_time, ingest_time, .. } = *header;
        let mut own = std::mem::take(&mut self.meta);
        own.clear();
        own.extend_from_slice(meta);
        *self = Self { epoch, first, end: header.end(), rows, event_time, ingest_time, meta: own };
    }

    pub(crate) fn new(header: &Header, meta: &[u8]) -> Self {
        let mut info = Self::default();
        info.set(header, meta);
        info
    }
}

/// Where a frame lies: enough for another process to map it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The segment.
    pub path: Arc<Path>,
    /// The position of the frame's header in it, a multiple of 64.
    pub at: u64,
    /// The frame's length, a multiple of 64.
    pub length: u64,
}

/// A section within a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The caller's number for what is in it.
    pub kind: u16,
    /// Where it lies in the frame's bytes; starts on a multiple of 64.
    pub range: Range<usize>,
}

/// A frame that was read, with its checksum verified.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What header and meta say.
    pub info: OwnedFrameInfo,
    /// Where it lies on disk.
    pub location: Location,
    /// Its sections, in order.
    pub sections: Vec<Section>,
    bytes: Arc<AlignedBytes>,
}

impl Frame {
    /// Takes bytes that hold a whole frame; `Err` says what is wrong with them.
    pub(crate) fn new(bytes: AlignedBytes, location: Location) -> std::result::Result<Self, &'static str> {
        let header = Header::parse(&bytes)?;
        header.check(&bytes)?;
        let info = OwnedFrameInfo::new(&header, &bytes[header.meta_range()]);
        let sections = header.sections().map(|(kind, range)| Section { kind, range }).collect();
        Ok(Self { info, location, sections, bytes: Arc::new(bytes) })
    }

    /// The bytes of the first section of a kind.
    pub fn section(&self, kind: u16) -> Option<&[u8]> {
        self.range(kind).map(|range| &self.bytes[range])
    }

    /// Where the first section of a kind lies in [`Frame::shared`].
    pub fn range(&self, kind: u16) -> Option<Range<usize>> {
        self.sections.iter().find(|section| section.kind == kind).map(|section| section.range.clone())
    }

    /// Where the first section of a kind lies in the file: position and length.
    pub fn section_location(&self, kind: u16) -> Option<(u64, u64)> {
        self.range(kind).map(|range| (self.location.at + range.start as u64, range.len() as u64))
    }

    /// The whole frame's bytes, to be pointed into without a copy.
    pub fn shared(&self) -> Arc<AlignedBytes> {
        Arc::clone(&self.bytes)
    }

    /// The whole frame's bytes, as they lie on disk.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { epoch: 4, first: 100, durable: 90, tag: 5 };

    fn draft() -> Draft<'static> {
        Draft { rows: 7, event_time: None, ingest_time: 3, meta: b"{\"a\":1}", sections: &[(1, b"rows"), (2, b"dead")] }
    }

    fn frame_of(bytes: &[u8]) -> std::result::Result<Frame, &'static str> {
        let mut aligned = AlignedBytes::zeroed(bytes.len());
        aligned.as_mut_slice().copy_from_slice(bytes);
        Frame::new(aligned, Location { path: Path::new("x").into(), at: 64, length: bytes.len() as u64 })
    }

    #[test]
    fn a_draft_becomes_a_frame_with_the_same_parts() {
        let mut bytes = Vec::new();
        draft().encode(STAMP, 1 << 20, &mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, draft().length());
        let frame = frame_of(&bytes).unwrap();
        assert_eq!((frame.info.first, frame.info.end, frame.info.epoch, frame.info.event_time), (100, 107, 4, None));
        assert_eq!(
            (&frame.info.meta[..], frame.section(1), frame.section(2)),
            (draft().meta, Some(&b"rows"[..]), Some(&b"dead"[..]))
        );
        assert_eq!(frame.section(3), None);
        let (at, length) = draft().section(2).unwrap();
        assert_eq!(frame.section_location(2), Some((64 + at, length)));
        assert_eq!(frame.section(2).unwrap().as_ptr() as usize % 64, 0);
    }

    #[test]
    fn too_large_and_too_many_are_refused() {
        let error = draft().encode(STAMP, 100, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, Error::TooLarge { bytes: 320, limit: 100 }), "{error}");
        let crowd = Draft { sections: &[(1, &b""[..]); 6], ..draft() };
        assert!(matches!(crowd.encode(STAMP, 1 << 20, &mut Vec::new()), Err(Error::Invalid { .. })));
    }
}
