//! Walking a segment frame by frame, and over what is not a frame.
//!
//! [`Walk`] gives the frames of one segment in order, and says so where the expected frame is missing or damaged. What
//! that means is not decided here: at the log's end it is a torn tail, below it is damage.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::header::{HEADER_BYTES, Header, MAGIC};
use crate::segment::{Extent, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::vfs::VfsFile;

/// The search for the next whole frame reads pieces of this size.
const SEARCH_BYTES: usize = 256 << 10;

/// How much of a frame is checked on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Its header only; whoever reads the body checks that.
    Header,
    /// All of it.
    Whole,
}

/// Where no frame is though one should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) at: u64,
    /// The bytes up to the next whole frame, or those that are not zero.
    pub(crate) length: u64,
    pub(crate) first: u64,
    /// The offset of the next frame; `None` when none follows that would tell.
    pub(crate) end: Option<u64>,
    pub(crate) what: &'static str,
}

/// What comes next in a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Frame {
        at: u64,
        header: Header,
    },
    /// Not the frame that should be here: why. [`Walk::hole`] goes on behind it.
    Gap(&'static str),
    /// The live part of the segment ends.
    End,
}

/// Damage in the log: bytes that are not what was written. Never given out as data; the offsets keep their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub path: PathBuf,
    /// Where in it the damage begins, and how many bytes it spans.
    pub at: u64,
    /// See `at`.
    pub length: u64,
    /// The offsets that were lost.
    pub offsets: Range<u64>,
    /// What is wrong.
    pub what: String,
    /// The copy of the bytes, if one could be made.
    pub quarantined: Option<PathBuf>,
}

/// A walk over the live part of one segment.
#[derive(Debug)]
pub(crate) struct Walk {
    pub(crate) extent: Extent,
    pub(crate) file: Arc<dyn VfsFile>,
    bytes: u64,
    tag: Option<u64>,
    at: u64,
    offset: u64,
    buffer: Vec<u8>,
}

impl Walk {
    pub(crate) fn new(file: Arc<dyn VfsFile>, extent: Extent) -> Result<Self> {
        let bytes = file.len().map_err(|e| Error::io("read", &extent.path, e))?;
        let tag = SegmentHeader::read(&*file, &extent.path, extent.name)?.map(|header| header.tag);
        let (at, offset) = (SEGMENT_HEADER_BYTES, extent.name.first);
        Ok(Self { extent, file, bytes, tag, at, offset, buffer: Vec::new() })
    }

    /// Where the next frame is expected: position and offset.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.at, self.offset)
    }

    /// Goes back to a place where it has been.
    pub(crate) fn rewind(&mut self, place: (u64, u64)) {
        (self.at, self.offset) = place;
    }

    /// The next frame, and moves behind it; stays where it is at a gap.
    pub(crate) fn step(&mut self, check: Check) -> Result<Step> {
        if self.offset >= self.extent.limit {
            return Ok(Step::End);
        }
        Ok(match self.frame_at(self.at, check)? {
            Ok(header) if header.first == self.offset => {
                let at = self.at;
                self.tag = Some(header.tag);
                (self.at, self.offset) = (at + u64::from(header.length), header.end());
                Step::Frame { at, header }
            }
            Ok(_) => Step::Gap("a frame with other offsets is in its place"),
            Err(what) => Step::Gap(what),
        })
    }

    /// A part of the frame that the last [`Walk::step`] gave, if all of it was checked.
    pub(crate) fn body(&self, range: Range<usize>) -> &[u8] {
        self.buffer.get(range).unwrap_or_default()
    }

    /// Reads the frame at a position, whatever its offset: the inner `Err` says why there is none.
    fn frame_at(&mut self, at: u64, check: Check) -> Result<Result<Header, &'static str>> {
        let mut head = [0; HEADER_BYTES];
        if self.read(&mut head, at)? < HEADER_BYTES {
            return Ok(Err("the segment ends here"));
        }
        let header = match Header::parse(&head) {
            Ok(header) => header,
            Err(what) => return Ok(Err(what)),
        };
        let ours = header.epoch == self.extent.name.epoch && self.tag.is_none_or(|tag| tag == header.tag);
        if !ours || header.end() > self.extent.limit || at + u64::from(header.length) > self.bytes {
            return Ok(Err("a frame is here that does not belong here"));
        }
        if check == Check::Header {
            return Ok(Ok(header));
        }
        let mut body = std::mem::take(&mut self.buffer);
        body.resize(header.length as usize, 0);
        let read = self.read(&mut body, at)?;
        let verdict = header.check(&body[..read]).map(|()| header);
        self.buffer = body;
        Ok(verdict)
    }

    fn read(&self, buffer: &mut [u8], at: u64) -> Result<usize> {
        self.file.read_at(buffer, at).map_err(|e| Error::io("read", &self.extent.path, e))
    }

    /// Steps over a gap, to the next whole frame in this segment or to its end. `None`: only zeros follow, up to the
    /// end of the newest segment.
    pub(crate) fn hole(&mut self, what: &'static str) -> Result<Option<Hole>> {
        let (at, first) = (self.at, self.offset);
        let (next, dirty) = self.search(at)?;
        let (to, end) = match next {
            Some((to, header)) => (to, Some(header.first)),
            None => (dirty, (self.extent.limit != u64::MAX).then_some(self.extent.limit)),
        };
        let blank = next.is_none() && dirty == at;
        if blank && end.is_none() {
            return Ok(None);
        }
        (self.at, self.offset) = (to, end.unwrap_or(self.extent.limit));
        let what = if blank { "frames are missing" } else { what };
        Ok(Some(Hole { at, length: to - at, first, end, what }))
    }

    /// Looks for the next whole frame with a higher offset on any boundary after `from`; tells also where the last byte
    /// that is not zero ends.
    fn search(&mut self, from: u64) -> Result<(Option<(u64, Header)>, u64)> {
        let (mut at, mut dirty) = (from, from);
        let mut piece = vec![0; SEARCH_BYTES];
        loop {
            let read = self.read(&mut piece, at)?;
            for start in (0..read).step_by(64) {
                let block = &piece[start..read.min(start + 64)];
                let Some(last) = block.iter().rposition(|byte| *byte != 0) else { continue };
                let here = at + start as u64;
                if here > from
                    && block.starts_with(&MAGIC)
                    && let Some(header) = self.candidate(here)?
                {
                    return Ok((Some((here, header)), dirty));
                }
                dirty = here + last as u64 + 1;
            }
            if read < piece.len() {
                return Ok((None, dirty));
            }
            at += read as u64;
        }
    }

    fn candidate(&mut self, at: u64) -> Result<Option<Header>> {
        Ok(self.frame_at(at, Check::Whole)?.ok().filter(|header| header.first > self.offset))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::frame::{Draft, Stamp};
    use crate::segment::{Segment, SegmentName};
    use crate::vfs::{RealVfs, Vfs};

    const NAME: SegmentName = SegmentName { epoch: 1, number: 0, first: 0 };

    /// A segment with five frames of two rows and 256 bytes each.
    fn segment(dir: &tempfile::TempDir) -> Segment {
        let header = SegmentHeader { name: NAME, durable: 0, tag: 6 };
        let segment = Segment::create(&RealVfs, dir.path(), header, 4096, false).unwrap();
        let (mut bytes, mut at) = (Vec::new(), SEGMENT_HEADER_BYTES);
        for k in 0..5 {
            let draft = Draft { rows: 2, meta: b"m", sections: &[(1, b"data")], ..Draft::default() };
            draft.encode(Stamp { epoch: 1, first: 2 * k, durable: 0, tag: 6 }, 4096, &mut bytes).unwrap();
            segment.file.write_at(&bytes, at).unwrap();
            at += bytes.len() as u64;
        }
        segment
    }

    fn walk(segment: &Segment, limit: u64) -> Vec<(u64, Option<u64>, &'static str)> {
        let extent = Extent { name: NAME, path: Arc::clone(&segment.path), limit };
        let file = RealVfs.open(&segment.path, crate::vfs::Mode::Read).unwrap();
        let mut walk = Walk::new(file.into(), extent).unwrap();
        let mut seen = Vec::new();
        loop {
            match walk.step(Check::Whole).unwrap() {
                Step::Frame { header, .. } => seen.push((header.first, Some(header.end()), "")),
                Step::Gap(what) => match walk.hole(what).unwrap() {
                    Some(hole) => seen.push((hole.first, hole.end, hole.what)),
                    None => return seen,
                },
                Step::End => return seen,
            }
        }
    }

    #[test]
    fn frames_come_in_order_and_end_at_the_limit_or_at_the_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let segment = segment(&dir);
        assert_eq!(walk(&segment, u64::MAX).iter().map(|f| f.0).collect::<Vec<_>>(), [0, 2, 4, 6, 8]);
        assert_eq!(walk(&segment, 4).len(), 2);
        assert_eq!(walk(&segment, 14).last(), Some(&(10, Some(14), "frames are missing")));
    }

    #[test]
    fn damage_is_confined_to_the_frame_it_hit() {
        let dir = tempfile::tempdir().unwrap();
        let segment = segment(&dir);
        segment.file.write_at(&[1], 64 + 256 + 200).unwrap(); // the second frame's body
        segment.file.write_at(&[1], 64 + 3 * 256 + 30).unwrap(); // the fourth frame's header
        let holes: Vec<_> = walk(&segment, u64::MAX).into_iter().filter(|f| !f.2.is_empty()).collect();
        assert_eq!(holes.iter().map(|h| (h.0, h.1)).collect::<Vec<_>>(), [(2, Some(4)), (6, Some(8))]);
    }

    #[test]
    fn a_torn_last_frame_is_a_hole_without_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let segment = segment(&dir);
        segment.file.write_at(&[0; 100], 64 + 5 * 256 - 100).unwrap();
        segment.file.write_at(&[0; 64], 64 + 4 * 256).unwrap();
        let steps = walk(&segment, u64::MAX);
        assert_eq!((steps.len(), steps[4].0, steps[4].1), (5, 8, None));
    }
}
