//! Finding out, at the start of an owner's reign, what the log holds and where it ends.
//!
//! - The log ends at the first hole that was not durable yet: a *torn tail*. What follows such a hole was not durable
//!   either, for a file's writes may reach the disk in any order; it is cut, so that the log stays a prefix.
//! - A hole below what had been durable, with whole frames after it, is *damage*: reported, copied aside, kept as a gap
//!   in the offsets. What was durable is told by the frames themselves (each carries how far the log was durable when
//!   it was written), by the segment headers, and by the control page, which is never above the truth.
//! - Then the owner may drop frames from the end (`keep`), newest first.
//!
//! Only the segments are scanned that were not durable in full when the newest one was made: mostly one, however long
//! the log. Nothing is changed here; cut and dropped frames stay where they are and are outlived by the next epoch.

use std::path::Path;

use crate::control::Remembered;
use crate::epochs::{EpochStart, Epochs};
use crate::error::{Error, Result};
use crate::frame::{FrameInfo, OwnedFrameInfo};
use crate::header::{HEADER_BYTES, Header};
use crate::scan::{Check, Damage, Hole, Step, Walk};
use crate::segment::{ASIDE, Extent, Layout, SegmentHeader, list_names};
use crate::vfs::{Mode, Vfs, VfsFile};

/// Damage is listed up to this many places; all are counted.
pub(crate) const MAX_DAMAGE: usize = 1000;

/// What an owner found when it opened its partition.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Where the log ended: the first offset of the new epoch.
    pub end: u64,
    /// Bytes after the last whole frame that were given up; 0 after a clean stop.
    pub cut_bytes: u64,
    /// Whole frames given up because a hole came before them.
    pub cut_frames: u64,
    /// Offsets that had been durable and are lost at the end of the log; `None` on an honest disk.
    pub lost: Option<std::ops::Range<u64>>,
    /// Frames that the owner did not keep.
    pub dropped_frames: u64,
    /// Damage below the end.
    pub damage: Vec<Damage>,
}

/// [`Recovery`], and what the writer needs besides.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) report: Recovery,
    pub(crate) epochs: Epochs,
    pub(crate) newest: Option<OwnedFrameInfo>,
}

type Keep<'k> = dyn FnMut(&FrameInfo<'_>) -> bool + 'k;

/// Recovers a partition. See the module's text.
pub(crate) fn recover(vfs: &dyn Vfs, dir: &Path, remembered: Remembered, keep: &mut Keep<'_>) -> Result<Recovered> {
    let epochs = load_epochs(vfs, dir)?;
    let layout = Layout::list(vfs, dir, &epochs)?;
    let last = epochs.list.last().copied().unwrap_or(EpochStart { epoch: 0, first_offset: epochs.first });
    let mut scan = Scan { vfs, dir, layout: &layout, found: Vec::new(), report: Recovery::default() };
    let sure = scan.surely_durable(last)?.max(epochs.first);
    let start = layout.find(sure).min(layout.live.len().saturating_sub(1));
    for k in start..layout.live.len() {
        scan.found.extend(scan.segment(k, Check::Whole)?);
    }
    // A page of another epoch has nothing to say about this one.
    let page = if remembered.epoch == last.epoch { remembered } else { Remembered::default() };
    scan.find_end(sure, &page);
    let newest = scan.keep(start, keep)?;
    scan.settle(start)?;
    scan.set_damage_aside();
    Ok(Recovered { report: scan.report, epochs, newest })
}

/// A frame or a hole, and the live segment it is in.
#[derive(Clone, Copy, Debug)]
enum Found {
    Frame { segment: usize, at: u64, length: u64, first: u64, end: u64, durable: u64 },
    Hole { segment: usize, hole: Hole },
}

struct Scan<'a> {
    vfs: &'a dyn Vfs,
    dir: &'a Path,
    layout: &'a Layout,
    found: Vec<Found>,
    report: Recovery,
}

impl Scan<'_> {
    fn open(&self, extent: &Extent) -> Result<Box<dyn VfsFile>> {
        self.vfs.open(&extent.path, Mode::ReadWrite).map_err(|e| Error::io("open", &extent.path, e))
    }

    /// What was durable for certain: the start of the last epoch, or what the newest sound segment header says.
    fn surely_durable(&self, last: EpochStart) -> Result<u64> {
        for extent in self.layout.live.iter().rev().take_while(|extent| extent.name.epoch == last.epoch) {
            if let Some(header) = SegmentHeader::read(&*self.open(extent)?, &extent.path, extent.name)? {
                return Ok(header.durable.max(last.first_offset));
            }
        }
        Ok(last.first_offset)
    }

    fn segment(&self, segment: usize, check: Check) -> Result<Vec<Found>> {
        let extent = &self.layout.live[segment];
        let mut walk = Walk::new(self.open(extent)?.into(), extent.clone())?;
        let mut found = Vec::new();
        loop {
            match walk.step(check)? {
                Step::End => return Ok(found),
                Step::Gap(what) => match walk.hole(what)? {
                    Some(hole) => found.push(Found::Hole { segment, hole }),
                    None => return Ok(found),
                },
                Step::Frame { at, header } => {
                    let (length, first, end) = (u64::from(header.length), header.first, header.end());
                    found.push(Found::Frame { segment, at, length, first, end, durable: header.durable });
                }
            }
        }
    }

    /// Decides where the log ends and cuts what lies beyond.
    fn find_end(&mut self, sure: u64, page: &Remembered) {
        let claim = |found: &Found| if let Found::Frame { durable, .. } = found { *durable } else { 0 };
        let durable = self.found.iter().map(claim).fold(sure.max(page.durable), u64::max);
        // After a failed sync, what was read back past `durable` may be in the kernel's memory only.
        let ceiling = if page.suspect { page.durable } else { u64::MAX };
        let beyond = |found: &Found| match found {
            Found::Frame { end, .. } => *end > ceiling,
            Found::Hole { hole, .. } => hole.end.is_none() || hole.first >= durable.min(ceiling),
        };
        // A hole at the very end is damage only if the frames that were there are known to have been durable.
        let solid = |found: &Found| match found {
            Found::Frame { .. } => true,
            Found::Hole { hole, .. } => hole.end.is_some_and(|end| end <= sure),
        };
        let whole = self.found.iter().rposition(solid).map_or(0, |k| k + 1);
        let cut = self.found.iter().position(beyond).unwrap_or(usize::MAX).min(whole);
        for found in self.found.drain(cut..) {
            match found {
                Found::Frame { length, .. } => {
                    self.report.cut_frames += 1;
                    self.report.cut_bytes += length;
                }
                Found::Hole { hole, .. } => self.report.cut_bytes += hole.length,
            }
        }
        let end = self.found.last().map_or(sure, |found| match found {
            Found::Frame { end, .. } => *end,
            Found::Hole { hole, .. } => hole.end.unwrap_or(hole.first),
        });
        self.report.end = end.max(sure);
        // If more had been durable than is there, the disk lied or was damaged: that must be heard.
        self.report.lost = (page.durable > self.report.end).then_some(self.report.end..page.durable);
    }

    /// Asks the owner about the newest frames until it keeps one; goes back beyond what was scanned if need be.
    fn keep(&mut self, start: usize, keep: &mut Keep<'_>) -> Result<Option<OwnedFrameInfo>> {
        let mut start = start;
        let mut holes = Vec::new(); // between the end and the frame that is asked about
        loop {
            while let Some(found) = self.found.pop() {
                let Found::Frame { segment, at, length, first, end, .. } = found else {
                    holes.push(found);
                    continue;
                };
                let info = match self.info(segment, at, length)? {
                    Ok(info) => info,
                    Err(what) => {
                        holes.push(Found::Hole { segment, hole: Hole { at, length, first, end: Some(end), what } });
                        continue;
                    }
                };
                if keep(&info.borrow()) {
                    self.found.extend(holes.drain(..).rev());
                    self.note_damage();
                    return Ok(Some(info));
                }
                self.report.dropped_frames += 1;
                self.report.end = first;
                holes.clear();
            }
            if start == 0 {
                self.found.extend(holes.drain(..).rev());
                self.note_damage();
                return Ok(None);
            }
            start -= 1;
            self.found = self.segment(start, Check::Header)?; // long durable: only the frames that are asked about are read
        }
    }

    /// Reads a frame that was found; the inner `Err` says what is wrong with it.
    fn info(&self, segment: usize, at: u64, length: u64) -> Result<Result<OwnedFrameInfo, &'static str>> {
        let extent = &self.layout.live[segment];
        let mut frame = vec![0; usize::try_from(length).unwrap_or(0)]; // it came from 32 bits
        let read = self.open(extent)?.read_at(&mut frame, at);
        read.map_err(|e| Error::io("read", &extent.path, e))?;
        let header = Header::parse(&frame).and_then(|header| header.check(&frame).map(|()| header));
        Ok(header.map(|header| OwnedFrameInfo::new(&header, &frame[header.meta_range()])))
    }

    fn note_damage(&mut self) {
        for found in &self.found {
            if let Found::Hole { segment, hole } = found
                && self.report.damage.len() < MAX_DAMAGE
            {
                self.report.damage.push(damage(&self.layout.live[*segment], hole, hole.first));
            }
        }
    }

    /// Makes what is kept durable before anyone calls it so.
    fn settle(&self, start: usize) -> Result<()> {
        for extent in self.layout.live.iter().skip(start).filter(|extent| extent.name.first < self.report.end) {
            self.open(extent)?.sync_data().map_err(|e| Error::io("sync", &extent.path, e))?;
        }
        self.vfs.sync_dir(self.dir).map_err(|e| Error::io("sync", self.dir, e))
    }

    fn set_damage_aside(&mut self) {
        for damage in &mut self.report.damage {
            damage.quarantined = quarantine(self.vfs, self.dir, damage);
        }
    }
}

/// `end`: where the hole's offsets end if no frame behind it tells.
pub(crate) fn damage(extent: &Extent, hole: &Hole, end: u64) -> Damage {
    Damage {
        path: extent.path.to_path_buf(),
        at: hole.at,
        length: hole.length,
        offsets: hole.first..hole.end.unwrap_or(end),
        what: hole.what.to_owned(),
        quarantined: None,
    }
}

/// Copies damaged bytes to `quarantine/` beside the segments. The copy helps a human, so a failure to make it is not one of
/// the log; the name tells the place, so that a second report of it makes no second copy.
pub(crate) fn quarantine(vfs: &dyn Vfs, dir: &Path, damage: &Damage) -> Option<std::path::PathBuf> {
    let folder = dir.join("quarantine");
    let segment = damage.path.file_name()?.to_str()?;
    let copy = folder.join(format!("{segment}@{}", damage.at));
    if vfs.exists(&copy).ok()? {
        return Some(copy);
    }
    let mut bytes = vec![0; usize::try_from(damage.length).ok()?];
    let read = vfs.open(&damage.path, Mode::Read).ok()?.read_at(&mut bytes, damage.at).ok()?;
    vfs.create_dir_all(&folder).ok()?;
    let file = vfs.open(&copy, Mode::CreateNew).ok()?;
    file.write_at(&bytes[..read], 0).ok()?;
    file.sync_data().ok()?;
    Some(copy)
}

/// The epochs, or what the segments' names say of them if the list is missing or damaged.
pub(crate) fn load_epochs(vfs: &dyn Vfs, dir: &Path) -> Result<Epochs> {
    match Epochs::load(vfs, dir) {
        Ok(Some(epochs)) => return Ok(epochs),
        Ok(None) | Err(Error::Damaged { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut names = list_names(vfs, dir)?;
    names.sort_unstable();
    let mut epochs = Epochs { first: names.iter().map(|name| name.first).min().unwrap_or(0), list: Vec::new() };
    for name in names {
        if epochs.list.last().is_none_or(|last| last.epoch != name.epoch) {
            epochs.begin(name.epoch, name.first);
        }
    }
    Ok(epochs)
}

/// Removes what a crash left half made: files aside, and segments that no reader will ever look into because they are
/// outlived and hold nothing.
pub(crate) fn tidy(vfs: &dyn Vfs, dir: &Path, layout: &Layout) -> Result<()> {
    for name in vfs.list(dir).map_err(|e| Error::io("list", dir, e))? {
        if name.ends_with(ASIDE) {
            crate::epochs::remove_if_there(vfs, &dir.join(name))?;
        }
    }
    for extent in &layout.dead {
        let file = vfs.open(&extent.path, Mode::Read).map_err(|e| Error::io("open", &extent.path, e))?;
        let mut head = [0; HEADER_BYTES];
        let read = file.read_at(&mut head, crate::segment::SEGMENT_HEADER_BYTES);
        read.map_err(|e| Error::io("read", &extent.path, e))?;
        if head.iter().all(|byte| *byte == 0) {
            crate::epochs::remove_if_there(vfs, &extent.path)?;
        }
    }
    Ok(())
}
