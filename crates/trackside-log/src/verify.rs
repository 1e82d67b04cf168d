//! Looking a partition over without touching it: what is there, and whether every byte is what was written.
//!
//! [`Survey`] reads names, headers and the control page: quick, however long the log. [`Verified`] reads every live frame:
//! both checksums, the order of offsets and epochs, no hole. Both work beside the owner, in any process and without a
//! lock; nothing is repaired, copied or written here. What is damage and what a torn tail is decided as by recovery: a
//! hole below what had been durable is damage, one above it is the next start's business.

use std::path::{Path, PathBuf};

use crate::control::Control;
use crate::epochs::{EpochStart, Epochs};
use crate::error::{Error, Result};
use crate::frame::{FrameInfo, OwnedFrameInfo};
use crate::header::Header;
use crate::partition::CONTROL;
use crate::recovery::{MAX_DAMAGE, damage};
use crate::scan::{Check, Damage, Hole, Step, Walk};
use crate::segment::{Extent, Layout, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::vfs::{Access, Mode, Vfs, VfsFile};

/// How often the list of segments is read anew when it changes under our eyes.
const MAX_TRIES: usize = 64;

/// One segment of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The file.
    pub path: PathBuf,
    /// Its epoch.
    pub epoch: u32,
    /// Its first offset.
    pub first: u64,
    /// Where it ends; `None` for the newest, which is open.
    pub end: Option<u64>,
    /// Bytes that it takes on the disk.
    pub bytes: u64,
    /// The format that its header tells; `None` if the header is damaged.
    pub format: Option<u16>,
}

/// What a partition consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The first offset that is kept.
    pub first: u64,
    /// As the control page tells; after a power loss it tells the past until the owner has opened the log again.
    pub published: u64,
    /// See `published`.
    pub durable: u64,
    /// The reigns of what is kept, oldest first.
    pub epochs: Vec<EpochStart>,
    /// The segments that count, oldest first.
    pub segments: Vec<SegmentInfo>,
    /// Segments that later ones took over in full.
    pub superseded: usize,
    /// What is wrong with the list of epochs or the control page: both can be made anew.
    pub flaws: Vec<Flaw>,
    /// Copies of damaged bytes in `quarantine/`.
    pub quarantined: usize,
}

/// Something wrong beside the frames, which costs no offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

/// What a reading of every frame came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Sound frames.
    pub frames: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The offset behind the last sound frame.
    pub end: u64,
    /// Damage below what was durable; the first thousand places.
    pub damage: Vec<Damage>,
    /// All damage, listed or not.
    pub damaged: u64,
    /// Where sound frames end before the published end, above what was durable: the next start gives up what follows.
    pub torn: Option<Damage>,
    /// What is wrong beside the frames.
    pub flaws: Vec<Flaw>,
}

/// A partition's directory, looked at.
#[derive(Debug)]
pub(crate) struct Inspection<'v> {
    vfs: &'v dyn Vfs,
    dir: &'v Path,
    flaws: Vec<Flaw>,
    epochs: Epochs,
    layout: Layout,
    control: Option<Control>,
    /// The change of the layout that was last seen.
    seen: u64,
}

impl<'v> Inspection<'v> {
    pub(crate) fn open(vfs: &'v dyn Vfs, dir: &'v Path) -> Result<Self> {
        let mut flaws = Vec::new();
        let control = match vfs.control(&dir.join(CONTROL), Access::Share) {
            Ok(memory) => Some(Control::new(memory)),
            Err(error) => {
                flaws.push(Flaw { path: dir.join(CONTROL), what: error.to_string() });
                None
            }
        };
        let mut inspection =
            Self { vfs, dir, flaws, epochs: Epochs::default(), layout: Layout::default(), control, seen: 0 };
        inspection.list()?;
        Ok(inspection)
    }

    /// Lists epochs and segments, the same before and after.
    fn list(&mut self) -> Result<()> {
        for _ in 0..MAX_TRIES {
            self.seen = self.control.as_ref().map_or(0, Control::layout);
            let (epochs, flaw) = load_epochs(self.vfs, self.dir)?;
            self.epochs = epochs;
            self.layout = Layout::list(self.vfs, self.dir, &self.epochs)?;
            if !self.changed() {
                self.flaws.retain(|known| known.path != self.dir.join(crate::epochs::FILE));
                self.flaws.extend(flaw);
                return Ok(());
            }
        }
        Ok(()) // a writer that rolls faster than we list: what we have is a list that was true
    }

    fn changed(&self) -> bool {
        self.control.as_ref().is_some_and(|control| control.layout() != self.seen)
    }

    fn published(&self) -> u64 {
        self.control.as_ref().map_or(0, Control::published)
    }

    /// What the control page says was durable, if it speaks of the newest epoch; never above the truth.
    fn page_durable(&self) -> u64 {
        let remembered = self.control.as_ref().map(Control::remembered).unwrap_or_default();
        let newest = self.epochs.list.last().map_or(0, |last| last.epoch);
        if remembered.epoch == newest { remembered.durable } else { 0 }
    }

    pub(crate) fn survey(self) -> Result<Survey> {
        let segments = self.layout.live.iter().filter_map(|extent| self.segment(extent).transpose());
        let segments: Vec<SegmentInfo> = segments.collect::<Result<_>>()?;
        let quarantined = self.vfs.list(&self.dir.join("quarantine")).map_or(0, |names| names.len());
        Ok(Survey {
            first: self.first(),
            published: self.published(),
            durable: self.control.as_ref().map_or(0, Control::durable),
            superseded: self.layout.dead.len(),
            epochs: self.epochs.list,
            segments,
            flaws: self.flaws,
            quarantined,
        })
    }

    fn first(&self) -> u64 {
        self.layout.live.first().map_or(self.epochs.first, |extent| extent.name.first.max(self.epochs.first))
    }

    /// `None` if the file was given up since it was listed.
    fn segment(&self, extent: &Extent) -> Result<Option<SegmentInfo>> {
        let Some(file) = self.open_segment(extent)? else { return Ok(None) };
        let bytes = file.len().map_err(|e| Error::io("read", &extent.path, e))?;
        let format = format_of(&*file, extent)?;
        let end = (extent.limit != u64::MAX).then_some(extent.limit);
        let path = extent.path.to_path_buf();
        Ok(Some(SegmentInfo { path, epoch: extent.name.epoch, first: extent.name.first, end, bytes, format }))
    }

    fn open_segment(&self, extent: &Extent) -> Result<Option<Box<dyn VfsFile>>> {
        match self.vfs.open(&extent.path, Mode::Read) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", &extent.path, error)),
        }
    }

    /// Reads every live frame and shows each sound one; `progress` is told the bytes read.
    pub(crate) fn verify(mut self, each: &mut Each<'_>, progress: &mut dyn FnMut(u64)) -> Result<Verified> {
        let mut found = Found { end: self.epochs.first, ..Found::default() };
        for _ in 0..MAX_TRIES {
            // What has been read is not read again when the list changes: a segment's live part only ever shrinks.
            let mut again = false;
            let read = found.end;
            for extent in self.layout.live.clone().into_iter().filter(|extent| extent.limit > read) {
                if !self.walk(&extent, &mut found, each, progress)? {
                    again = true;
                    break;
                }
            }
            if !again && !self.changed() {
                break;
            }
            self.list()?;
            found.end = found.end.max(self.first());
        }
        Ok(self.judge(found))
    }

    /// Notes a segment that is not there although it was not given up: where the last one ended, this one does not begin.
    fn missing_before(&self, extent: &Extent, found: &mut Found) -> Result<()> {
        let (first, end) = (found.end, extent.name.first);
        if first < end {
            found.end = end;
            // The owner says so in the list before it gives a file up, so a list read now knows of it.
            if load_epochs(self.vfs, self.dir)?.0.first < end {
                let what = "a segment before this one is missing";
                found.holes.push((extent.clone(), Hole { at: 0, length: 0, first, end: Some(end), what }));
            }
        }
        Ok(())
    }

    /// Walks one segment; false when the list must be read anew first.
    fn walk(
        &mut self,
        extent: &Extent,
        found: &mut Found,
        each: &mut Each<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<bool> {
        let Some(file) = self.open_segment(extent)? else { return Ok(false) };
        self.missing_before(extent, found)?;
        if let Some(header) = SegmentHeader::read(&*file, &extent.path, extent.name)? {
            found.durable = found.durable.max(header.durable);
        }
        let mut walk = Walk::new(file.into(), extent.clone())?;
        let whole = self.frames(&mut walk, found, each, progress)?;
        // A segment that is being made has no header yet, and no frames either.
        let headless = found.end > extent.name.first && format_of(&*walk.file, extent)?.is_none();
        if headless && !self.flaws.iter().any(|flaw| *flaw.path == *extent.path) {
            let what = "the segment's header does not match its checksum; its frames tell the same".to_owned();
            self.flaws.push(Flaw { path: extent.path.to_path_buf(), what });
        }
        Ok(whole)
    }

    /// The frames of a segment; false when the list must be read anew first.
    fn frames(
        &self,
        walk: &mut Walk,
        found: &mut Found,
        each: &mut Each<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<bool> {
        loop {
            let published = self.control.as_ref().map(Control::published);
            match walk.step(Check::Whole)? {
                Step::End => return Ok(true),
                Step::Frame { header, .. } if header.end() <= found.end => {}
                Step::Frame { at, header } => {
                    let meta = walk.body(header.meta_range());
                    let info = OwnedFrameInfo::new(&header, meta);
                    each(&info.borrow(), &walk.extent.path, at);
                    found.take(at, &header);
                    progress(u64::from(header.length));
                }
                Step::Gap(what) => {
                    if self.changed() {
                        return Ok(false);
                    }
                    // Not published when we looked: beside a running owner it may be half written.
                    let (_, first) = walk.place();
                    if published.is_some_and(|end| first >= end) && first >= found.durable {
                        return Ok(true);
                    }
                    let Some(hole) = walk.hole(what)? else { return Ok(true) };
                    if self.changed() {
                        return Ok(false);
                    }
                    progress(hole.length);
                    let over = hole.end.is_none();
                    if hole.first >= found.end {
                        found.end = hole.end.unwrap_or(hole.first);
                        found.holes.push((walk.extent.clone(), hole));
                    }
                    if over {
                        return Ok(true);
                    }
                }
            }
        }
    }

    /// Tells damage from a torn tail.
    fn judge(self, found: Found) -> Verified {
        let durable = found.durable.max(self.page_durable());
        let published = self.published();
        let Found { frames, rows, bytes, end, mut holes, .. } = found;
        let mut verified = Verified { frames, rows, bytes, end, flaws: self.flaws, ..Verified::default() };
        let open = holes.last().is_some_and(|(_, hole)| hole.end.is_none());
        if end < durable && !open {
            let what = "frames are missing at the end of the log";
            let last = self.layout.live.last().cloned();
            let extent = last.unwrap_or_else(|| Extent {
                name: crate::segment::SegmentName { epoch: 0, number: 0, first: end },
                path: self.dir.into(),
                limit: u64::MAX,
            });
            holes.push((extent, Hole { at: found.at, length: 0, first: end, end: Some(durable), what }));
        }
        for (extent, hole) in holes {
            if hole.first < durable {
                verified.damaged += 1;
                if verified.damage.len() < MAX_DAMAGE {
                    verified.damage.push(damage(&extent, &hole, durable));
                }
            } else if verified.torn.is_none() && hole.first < published {
                verified.torn = Some(damage(&extent, &hole, published));
            }
        }
        verified
    }
}

/// What is shown of each sound frame: the frame, its segment, its place in it.
pub type Each<'e> = dyn FnMut(&FrameInfo<'_>, &Path, u64) + 'e;

/// What a walk has come across so far.
#[derive(Debug, Default)]
struct Found {
    frames: u64,
    rows: u64,
    bytes: u64,
    end: u64,
    /// Behind the last sound frame, in its file.
    at: u64,
    /// What the frames and segments themselves say was durable.
    durable: u64,
    holes: Vec<(Extent, Hole)>,
}

impl Found {
    fn take(&mut self, at: u64, header: &Header) {
        self.frames += 1;
        self.rows += header.rows;
        self.bytes += u64::from(header.length);
        (self.end, self.at) = (header.end(), at + u64::from(header.length));
        self.durable = self.durable.max(header.durable);
    }
}

/// The list of epochs; if it is damaged or missing, what the segments' names say, and the flaw.
fn load_epochs(vfs: &dyn Vfs, dir: &Path) -> Result<(Epochs, Option<Flaw>)> {
    let path = dir.join(crate::epochs::FILE);
    let what = match Epochs::load(vfs, dir) {
        Ok(Some(epochs)) => return Ok((epochs, None)),
        Ok(None) => "the list of epochs is missing".to_owned(),
        Err(Error::Damaged { what, .. }) => what,
        Err(error) => return Err(error),
    };
    Ok((crate::recovery::load_epochs(vfs, dir)?, Some(Flaw { path, what })))
}

/// The format that a segment's header tells; `None` if the header is damaged.
fn format_of(file: &dyn VfsFile, extent: &Extent) -> Result<Option<u16>> {
    let header = SegmentHeader::read(file, &extent.path, extent.name)?;
    let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
    file.read_at(&mut bytes, 0).map_err(|e| Error::io("read", &extent.path, e))?;
    Ok(header.map(|_| u16::from_le_bytes([bytes[8], bytes[9]])))
}

/// See [`crate::Store::restore_epochs`].
pub(crate) fn restore_epochs(vfs: &dyn Vfs, dir: &Path) -> Result<Option<PathBuf>> {
    let (epochs, Some(_)) = load_epochs(vfs, dir)? else { return Ok(None) };
    let (path, folder) = (dir.join(crate::epochs::FILE), dir.join("quarantine"));
    let kept = folder.join(crate::epochs::FILE);
    if vfs.exists(&path).map_err(|e| Error::io("look at", &path, e))? {
        vfs.create_dir_all(&folder).map_err(|e| Error::io("create", &folder, e))?;
        vfs.rename(&path, &kept).map_err(|e| Error::io("rename", &kept, e))?;
    }
    epochs.save(vfs, dir)?;
    Ok(Some(path))
}
