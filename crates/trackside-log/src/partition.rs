//! The writer of a partition: its one owner's hand on the log.
//!
//! Guarantee: an append is published whole or not at all, costs one `pwrite` and no fsync, and what a reader has seen is
//! never overwritten. Opening recovers (see [`crate::recovery`]) and starts a new epoch in a new segment; both are
//! durable before the first frame is published.

use std::path::Path;
use std::sync::Arc;

use crate::control::Control;
use crate::epochs::EpochStart;
use crate::error::{Error, Result};
use crate::frame::{Draft, FrameInfo, Location, OwnedFrameInfo, Stamp};
use crate::log::{Options, Ownership};
use crate::recovery::{Recovered, Recovery, recover, tidy};
use crate::segment::{Layout, Segment, SegmentHeader, SegmentName};
use crate::sync::{Shared, Syncer};
use crate::tail::{Place, Tail};
use crate::vfs::{Access, Mode, Vfs};

/// The name of the control page in a partition's directory.
pub(crate) const CONTROL: &str = "control";

/// What became of an append.
#[derive(Clone, Debug)]
pub struct Appended {
    /// The epoch of the writer.
    pub epoch: u32,
    /// The frame's first offset.
    pub first: u64,
    /// The offset after its last: `first + max(rows, 1)`.
    pub end: u64,
    /// Where it lies.
    pub location: Location,
}

/// The one writer of a partition. See the module's text.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    newest: Option<OwnedFrameInfo>,
    recovery: Recovery,
}

impl Writer {
    pub(crate) fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        options: Options,
        ownership: Ownership,
        keep: &mut dyn FnMut(&FrameInfo<'_>) -> bool,
    ) -> Result<Self> {
        make_dirs(&*vfs, dir)?;
        let page = dir.join(CONTROL);
        let control = Control::new(vfs.control(&page, Access::Make).map_err(|e| Error::io("map", &page, e))?);
        let remembered = control.remembered();
        let Recovered { report, mut epochs, newest } = recover(&*vfs, dir, remembered, keep)?;

        let epoch = epochs.list.last().map_or(0, |last| last.epoch).max(remembered.epoch) + 1;
        epochs.begin(epoch, report.end);
        epochs.save(&*vfs, dir)?;
        let layout = Layout::list(&*vfs, dir, &epochs)?;
        tidy(&*vfs, dir, &layout)?;

        let segments = lengths(&*vfs, dir, &epochs)?;
        let tag = vfs.unique();
        let name = SegmentName { epoch, number: 0, first: report.end };
        let header = SegmentHeader { name, durable: report.end, tag };
        let segment = Segment::create(&*vfs, dir, header, options.first_segment_bytes, false)?;
        segment.sync()?;
        vfs.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
        control.begin(epoch, report.end);

        let tail = Tail::new(segment, segments, epochs, &options);
        let place = Place { vfs, dir: dir.into(), options, control, epoch, tag };
        Ok(Self { shared: Arc::new(Shared::new(place, tail, ownership)), newest, recovery: report })
    }

    /// Appends a frame and publishes it. It is not durable before a [`Syncer::sync`] that starts later has returned.
    ///
    /// After [`Error::Full`] or [`Error::Io`] nothing was published, and the same append may be tried again.
    pub fn append(&mut self, draft: &Draft<'_>) -> Result<Appended> {
        let place = &self.shared.place;
        self.bound_undurable(draft.length())?;
        let mut tail = self.shared.tail();
        tail.check(place)?;
        let stamp = Stamp { epoch: place.epoch, first: tail.end, durable: place.control.durable(), tag: place.tag };
        let mut frame = tail.buffer();
        let header = draft.encode(stamp, place.options.max_frame_bytes, &mut frame)?;
        let location = tail.write(place, &header, frame)?;
        drop(tail);
        self.newest.get_or_insert_default().set(&header, draft.meta);
        Ok(Appended { epoch: header.epoch, first: header.first, end: header.end(), location })
    }

    /// Syncs first when too much would lie in memory for the case that an fsync fails.
    fn bound_undurable(&self, bytes: u64) -> Result<()> {
        let tail = self.shared.tail();
        if tail.unsynced.is_empty() || tail.unsynced_bytes + bytes <= self.shared.place.options.max_undurable_bytes {
            return Ok(());
        }
        drop(tail);
        self.shared.sync().map(drop)
    }

    /// A handle that makes what was appended durable.
    pub fn syncer(&self) -> Syncer {
        Syncer(Arc::clone(&self.shared))
    }

    /// The offset before which all is published.
    pub fn published(&self) -> u64 {
        self.shared.place.control.published()
    }

    /// The offset before which all is durable.
    pub fn durable(&self) -> u64 {
        self.shared.place.control.durable()
    }

    /// The writer's epoch.
    pub fn epoch(&self) -> u32 {
        self.shared.place.epoch
    }

    /// The epochs of what is kept, oldest first, this one last.
    pub fn epochs(&self) -> Vec<EpochStart> {
        self.shared.tail().epochs.list.clone()
    }

    /// The first offset that is kept.
    pub fn first_offset(&self) -> u64 {
        self.shared.tail().epochs.first
    }

    /// What the newest frame says of itself.
    pub fn newest(&self) -> Option<&OwnedFrameInfo> {
        self.newest.as_ref()
    }

    /// What was found when the partition was opened.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// How often a failed fsync was made good by writing the frames anew: a reason to look at the disk.
    pub fn repairs(&self) -> u64 {
        self.shared.tail().repairs
    }

    /// Allocates room for so many bytes of frames (see [`Draft::length`]), so that appending them cannot meet a full
    /// disk. [`Error::Full`] if there is none.
    pub fn reserve(&mut self, bytes: u64) -> Result<()> {
        let Options { segment_bytes, max_frame_bytes, .. } = self.shared.place.options;
        let limit = segment_bytes.max(max_frame_bytes);
        if bytes > limit {
            return Err(Error::TooLarge { bytes, limit });
        }
        let mut tail = self.shared.tail();
        tail.check(&self.shared.place)?;
        tail.make_room(&self.shared.place, bytes)
    }

    /// Deletes whole segments that end at or before `keep_from`; returns the bytes freed. What is not durable and the
    /// newest frame stay, whatever `keep_from` says.
    pub fn retain(&mut self, keep_from: u64) -> Result<u64> {
        self.shared.retain(keep_from)
    }

    /// The bytes that the partition's segments take on disk.
    pub fn bytes(&self) -> u64 {
        self.shared.tail().segments.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Makes `<root>/<topic>/<partition>` and makes the new entries durable up to the directory that holds the root. A list of
/// epochs shows that an earlier owner has done so.
fn make_dirs(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    let epochs = dir.join(crate::epochs::FILE);
    if vfs.exists(&epochs).map_err(|e| Error::io("look at", &epochs, e))? {
        return Ok(());
    }
    vfs.create_dir_all(dir).map_err(|e| Error::io("make", dir, e))?;
    for above in dir.ancestors().skip(1).take(3).filter(|above| !above.as_os_str().is_empty()) {
        vfs.sync_dir(above).map_err(|e| Error::io("sync", above, e))?;
    }
    Ok(())
}

fn lengths(vfs: &dyn Vfs, dir: &Path, epochs: &crate::epochs::Epochs) -> Result<Vec<(SegmentName, u64)>> {
    let Layout { live, dead } = Layout::list(vfs, dir, epochs)?;
    let length = |extent: &crate::segment::Extent| {
        let bytes = vfs.open(&extent.path, Mode::Read).and_then(|file| file.len());
        bytes.map(|bytes| (extent.name, bytes)).map_err(|e| Error::io("read", &extent.path, e))
    };
    live.iter().chain(&dead).map(length).collect()
}
