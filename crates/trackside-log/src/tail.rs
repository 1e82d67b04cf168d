//! The growing end of a partition: the active segment, and what has been written but is not durable yet.
//!
//! Held under one lock by the writer (to append) and the syncer (to note what is durable, or to write it anew). The
//! bytes of frames that are not durable yet stay in memory: should their fsync fail, they are the only copy that can
//! be trusted. Their number is bounded by `Options::max_undurable_bytes`.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use crate::control::Control;
use crate::epochs::Epochs;
use crate::error::{Error, Result};
use crate::frame::Location;
use crate::header::Header;
use crate::log::Options;
use crate::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentHeader, SegmentName};
use crate::vfs::Vfs;

/// Buffers are kept for the next frames up to so many bytes: new memory costs more than writing the frame into it.
const MAX_SPARE_BYTES: usize = 1 << 20;

/// What does not change while an owner reigns.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) dir: Arc<Path>,
    pub(crate) options: Options,
    pub(crate) control: Control,
    pub(crate) epoch: u32,
    pub(crate) tag: u64,
}

/// A frame that is written but not durable.
#[derive(Debug)]
pub(crate) struct Unsynced {
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) bytes: Vec<u8>,
}

/// The segment that is written to, and where its next frame goes.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) segment: Segment,
    pub(crate) at: u64,
}

/// The growing end. See the module's text.
#[derive(Debug)]
pub(crate) struct Tail {
    /// `None` after a failed write: the next frame starts a new segment.
    pub(crate) active: Option<Active>,
    /// All segments on disk, with their lengths.
    pub(crate) segments: Vec<(SegmentName, u64)>,
    pub(crate) epochs: Epochs,
    /// The offset of the next frame.
    pub(crate) end: u64,
    pub(crate) unsynced: VecDeque<Unsynced>,
    pub(crate) unsynced_bytes: u64,
    /// Segments with frames that are not durable, oldest first.
    pub(crate) dirty: Vec<Segment>,
    /// Whether a segment was made since the directory was last synced.
    pub(crate) dir_dirty: bool,
    /// Why nothing more is written.
    pub(crate) poisoned: Option<String>,
    /// How often a failed fsync was made good.
    pub(crate) repairs: u64,
    /// The offset before which all is fsynced; `durable` is this, but for the limit.
    pub(crate) synced: u64,
    /// Where the owner holds `durable` back, because what the frames were derived from is not durable itself.
    pub(crate) limit: u64,
    number: u32,
    size: u64,
    spare: Vec<Vec<u8>>,
    spare_bytes: usize,
}

impl Tail {
    pub(crate) fn new(
        first: Segment,
        mut segments: Vec<(SegmentName, u64)>,
        epochs: Epochs,
        options: &Options,
    ) -> Self {
        segments.push((first.name, first.bytes));
        Self {
            segments,
            epochs,
            end: first.name.first,
            synced: first.name.first,
            limit: u64::MAX,
            number: first.name.number + 1,
            size: options.first_segment_bytes.saturating_mul(2).min(options.segment_bytes),
            active: Some(Active { segment: first, at: SEGMENT_HEADER_BYTES }),
            unsynced: VecDeque::new(),
            unsynced_bytes: 0,
            dirty: Vec::new(),
            dir_dirty: false,
            poisoned: None,
            repairs: 0,
            spare: Vec::new(),
            spare_bytes: 0,
        }
    }

    pub(crate) fn check(&self, place: &Place) -> Result<()> {
        match &self.poisoned {
            None => Ok(()),
            Some(why) => Err(Error::Poisoned { path: place.dir.to_path_buf(), why: why.clone() }),
        }
    }

    /// A buffer for the next frame.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        let buffer = self.spare.pop().unwrap_or_default();
        self.spare_bytes -= buffer.capacity();
        buffer
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare_bytes + buffer.capacity() <= MAX_SPARE_BYTES {
            self.spare_bytes += buffer.capacity();
            self.spare.push(buffer);
        }
    }

    /// Writes and publishes a frame. After an error nothing was published, and the next try goes to another place.
    pub(crate) fn write(&mut self, place: &Place, header: &Header, frame: Vec<u8>) -> Result<Location> {
        let written = self.put(place, &frame);
        let Ok(location) = written else {
            self.recycle(frame);
            return written;
        };
        self.end = header.end();
        self.unsynced_bytes += frame.len() as u64;
        self.unsynced.push_back(Unsynced { first: header.first, end: self.end, bytes: frame });
        place.control.publish(self.end);
        Ok(location)
    }

    fn put(&mut self, place: &Place, frame: &[u8]) -> Result<Location> {
        let length = frame.len() as u64;
        self.make_room(place, length)?;
        let Some(Active { segment, at }) = &mut self.active else {
            return Err(Error::Invalid { what: "no active segment after room was made".into() }); // make_room sets it
        };
        if let Err(error) = segment.file.write_at(frame, *at) {
            let error = Error::io("write", &segment.path, error);
            self.abandon(place);
            return Err(error);
        }
        let location = Location { path: Arc::clone(&segment.path), at: *at, length };
        *at += length;
        if self.dirty.last().is_none_or(|dirty| dirty.name != segment.name) {
            self.dirty.push(segment.clone());
        }
        Ok(location)
    }

    /// Sees to it that so many bytes fit into the active segment, by making a new one if need be.
    pub(crate) fn make_room(&mut self, place: &Place, bytes: u64) -> Result<()> {
        if self.active.as_ref().is_some_and(|active| active.at + bytes <= active.segment.bytes) {
            return Ok(());
        }
        let least = bytes + SEGMENT_HEADER_BYTES;
        let segment = match self.create(place, self.end, least.max(self.size), false) {
            // A disk that is nearly full may still have room for a small one.
            Err(Error::Full { .. }) => {
                self.create(place, self.end, least.max(place.options.first_segment_bytes), false)?
            }
            other => other?,
        };
        self.size = self.size.saturating_mul(2).min(place.options.segment_bytes);
        if self.active.as_ref().is_some_and(|active| active.at == SEGMENT_HEADER_BYTES) {
            self.abandon(place);
        }
        self.install(place, segment, SEGMENT_HEADER_BYTES);
        self.dir_dirty = true;
        Ok(())
    }

    /// Makes the epoch's next segment, from `first` on. A number is never used twice, whatever comes of it.
    pub(crate) fn create(&mut self, place: &Place, first: u64, bytes: u64, aside: bool) -> Result<Segment> {
        let name = SegmentName { epoch: place.epoch, number: self.number, first };
        self.number += 1;
        let header = SegmentHeader { name, durable: place.control.durable(), tag: place.tag };
        Segment::create(&*place.vfs, &place.dir, header, bytes, aside)
    }

    /// Goes on in another segment; readers list anew before they see a frame in it.
    pub(crate) fn install(&mut self, place: &Place, segment: Segment, at: u64) {
        self.segments.push((segment.name, segment.bytes));
        self.active = Some(Active { segment, at });
        place.control.change_layout();
    }

    /// Leaves the active segment, whose next bytes may be anything. One without a frame is removed.
    fn abandon(&mut self, place: &Place) {
        let Some(Active { segment, at }) = self.active.take() else { return };
        if at == SEGMENT_HEADER_BYTES && place.vfs.remove(&segment.path).is_ok() {
            self.segments.retain(|(name, _)| *name != segment.name);
            place.control.change_layout();
        }
    }

    /// Notes that all before `end` is fsynced.
    pub(crate) fn settle(&mut self, place: &Place, end: u64) {
        self.synced = self.synced.max(end);
        while let Some(frame) = self.unsynced.pop_front_if(|frame| frame.end <= end) {
            self.unsynced_bytes -= frame.bytes.len() as u64;
            self.recycle(frame.bytes);
        }
        place.control.settle(self.synced.min(self.limit));
    }

    /// Lets `durable` rise up to `limit`.
    pub(crate) fn allow(&mut self, place: &Place, limit: u64) {
        self.limit = limit;
        place.control.settle(self.synced.min(limit).max(place.control.durable()));
    }
}
