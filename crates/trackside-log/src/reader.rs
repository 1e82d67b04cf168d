//! Reading a partition, in the owner's process or any other, without a lock.
//!
//! Guarantee: whole frames in order of their offsets, each verified, none beyond `published` (or `durable`). Damage below
//! `durable` is stepped over, listed by [`Reader::damage`], and never given out. A reader follows the writer from segment
//! to segment without a race: the writer counts each change of the list of segments in the control page before it publishes
//! a frame that lies behind the change, and the reader looks at the count after it has looked at `published`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::bytes::AlignedBytes;
use crate::control::Control;
use crate::epochs::{EpochStart, Epochs};
use crate::error::{Error, Result};
use crate::frame::{Frame, Location};
use crate::header::Header;
use crate::partition::CONTROL;
use crate::recovery::{MAX_DAMAGE, damage, quarantine};
use crate::scan::{Check, Damage, Hole, Step, Walk};
use crate::segment::Layout;
use crate::vfs::{Access, Mode, RealVfs, Vfs};

/// How often a reader lists anew when the list changes under its eyes.
const MAX_TRIES: usize = 16;

/// A reader of one partition. Cheap; make one for each place that reads.
#[derive(Debug)]
pub struct Reader {
    vfs: Arc<dyn Vfs>,
    dir: Arc<Path>,
    control: Control,
    epochs: Epochs,
    layout: Layout,
    /// The change of the layout that was last seen; `None` to list anew.
    seen: Option<u64>,
    /// In the segment where the last read ended, behind what it gave out.
    walk: Option<Walk>,
    damage: Vec<Damage>,
    damaged_bytes: u64,
    /// Whether damage is copied aside.
    quarantine: bool,
}

/// What the next look found.
enum Next {
    Frame(Box<Frame>),
    /// The next frame would not fit.
    Full,
    /// Nothing to give out; go on from this offset.
    On(u64),
    /// The list of segments has changed.
    Again,
}

impl Reader {
    pub(crate) fn open(vfs: Arc<dyn Vfs>, dir: &Path, quarantine: bool) -> Result<Self> {
        Self::with(vfs, dir, Access::Share, quarantine)
    }

    /// Opens the partition that lies in this directory for a process that must not be able to harm it: nothing is mapped
    /// for writing. Its waits end by a wake-up when the owner's process has called [`Reader::lend`] before each.
    pub fn guest(dir: &Path) -> Result<Self> {
        Self::with(Arc::new(RealVfs), dir, Access::Guest, false)
    }

    fn with(vfs: Arc<dyn Vfs>, dir: &Path, access: Access, quarantine: bool) -> Result<Self> {
        let page = dir.join(CONTROL);
        let control = Control::new(vfs.control(&page, access).map_err(|e| Error::io("map", &page, e))?);
        let mut reader = Self {
            vfs,
            dir: dir.into(),
            control,
            epochs: Epochs::default(),
            layout: Layout::default(),
            seen: None,
            walk: None,
            damage: Vec::new(),
            damaged_bytes: 0,
            quarantine,
        };
        reader.refresh()?;
        Ok(reader)
    }

    /// Whole frames in order, from the one that holds `from` or follows it, up to `published`. At most `max_frames` and
    /// `max_bytes`, but at least one if there is one. Empty when there is nothing new.
    pub fn read(&mut self, from: u64, max_bytes: u64, max_frames: usize) -> Result<Vec<Frame>> {
        let end = self.control.published();
        self.read_until(end, from, max_bytes, max_frames)
    }

    /// Like [`Reader::read`], up to `durable`.
    pub fn read_durable(&mut self, from: u64, max_bytes: u64, max_frames: usize) -> Result<Vec<Frame>> {
        let end = self.control.durable();
        self.read_until(end, from, max_bytes, max_frames)
    }

    /// The newest published frame.
    pub fn newest(&mut self) -> Result<Option<Frame>> {
        let end = self.control.published();
        if let Some(frame) = self.read_until(end, end.saturating_sub(1), 0, 1)?.pop() {
            return Ok(Some(frame));
        }
        // Damage at the very end: look for the last sound frame before it.
        for extent in self.layout.live.clone().into_iter().rev() {
            let file = self.vfs.open(&extent.path, Mode::Read).map_err(|e| Error::io("open", &extent.path, e))?;
            let mut walk = Walk::new(file.into(), extent)?;
            if let Some((at, header)) = last_frame(&mut walk, end)? {
                return Ok(load(&walk, at, &header)?.ok());
            }
        }
        Ok(None)
    }

    /// Waits until something beyond this offset is published; false when `timeout` has passed first.
    pub fn wait(&self, beyond: u64, timeout: Duration) -> bool {
        self.control.wait_published(beyond, timeout)
    }

    /// Sees to it that what is published next wakes a [`Reader::guest`], and says where the guest finds the partition. `None`
    /// where this process may not ask for wake-ups: the guest would sleep through.
    pub fn lend(&self) -> Option<&Path> {
        self.control.arm().then_some(&*self.dir)
    }

    /// Waits until something beyond this offset is durable; false when `timeout` has passed first.
    pub fn wait_durable(&self, beyond: u64, timeout: Duration) -> bool {
        self.control.wait_durable(beyond, timeout)
    }

    /// The offset before which all is published.
    pub fn published(&self) -> u64 {
        self.control.published()
    }

    /// The offset before which all is durable. After a crash it tells the past until the owner has opened the log again.
    pub fn durable(&self) -> u64 {
        self.control.durable()
    }

    /// The epoch of the owner.
    pub fn epoch(&self) -> u32 {
        self.control.epoch()
    }

    /// The first offset that is kept.
    pub fn first_offset(&mut self) -> Result<u64> {
        self.refresh()?;
        Ok(self.first())
    }

    /// The epochs of what is kept, oldest first.
    pub fn epochs(&mut self) -> Result<Vec<EpochStart>> {
        self.refresh()?;
        Ok(self.epochs.list.clone())
    }

    /// The damage that this reader has stepped over; the first thousand places.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// The bytes of all damage that this reader has stepped over.
    pub fn damaged_bytes(&self) -> u64 {
        self.damaged_bytes
    }

    fn first(&self) -> u64 {
        self.layout.live.first().map_or(self.epochs.first, |extent| extent.name.first.max(self.epochs.first))
    }

    /// Lists the segments anew if the writer has changed them.
    fn refresh(&mut self) -> Result<()> {
        for _ in 0..MAX_TRIES {
            let now = self.control.layout();
            if self.seen == Some(now) {
                return Ok(());
            }
            self.epochs = Epochs::load(&*self.vfs, &self.dir)?.unwrap_or_default();
            self.layout = Layout::list(&*self.vfs, &self.dir, &self.epochs)?;
            self.seen = Some(now);
            self.walk = None;
        }
        Ok(()) // changed once more meanwhile: the next read sees to that
    }

    fn read_until(&mut self, end: u64, from: u64, max_bytes: u64, max_frames: usize) -> Result<Vec<Frame>> {
        self.refresh()?;
        let (mut frames, mut room, mut tries) = (Vec::new(), max_bytes, 0);
        let mut offset = from.max(self.first());
        while offset < end && frames.len() < max_frames {
            let budget = if frames.is_empty() { u64::MAX } else { room };
            match self.next(offset, end, budget)? {
                Next::Frame(frame) => {
                    offset = frame.info.end;
                    room = room.saturating_sub(frame.location.length);
                    frames.push(*frame);
                }
                Next::Full => break,
                Next::On(to) => offset = to,
                Next::Again if tries == MAX_TRIES => break,
                Next::Again => {
                    tries += 1;
                    self.refresh()?;
                    offset = offset.max(self.first());
                }
            }
        }
        Ok(frames)
    }

    /// One step towards the frame that holds `offset`, or over what stands in its place.
    fn next(&mut self, offset: u64, end: u64, budget: u64) -> Result<Next> {
        let mut walk = match self.walk_to(offset)? {
            Ok(walk) => walk,
            Err(next) => return Ok(next),
        };
        let place = walk.place();
        let next = match walk.step(Check::Header)? {
            Step::End => Next::On(walk.extent.limit),
            Step::Gap(what) => self.gap(&mut walk, what, end)?,
            Step::Frame { header, .. } if header.end() <= offset => Next::On(offset),
            Step::Frame { header, .. } if header.end() > end => {
                walk.rewind(place);
                Next::On(end)
            }
            Step::Frame { header, .. } if u64::from(header.length) > budget => {
                walk.rewind(place);
                Next::Full
            }
            Step::Frame { at, header } => match load(&walk, at, &header)? {
                Ok(frame) => Next::Frame(Box::new(frame)),
                Err(what) => {
                    // Sound lengths, unsound bytes: exactly this frame is lost.
                    let length = u64::from(header.length);
                    let hole = Hole { at, length, first: header.first, end: Some(header.end()), what };
                    self.step_over(&walk, &hole, end)?
                }
            },
        };
        self.walk = Some(walk);
        Ok(next)
    }

    /// The walk in the segment that holds `offset`, at or before it.
    fn walk_to(&mut self, offset: u64) -> Result<Result<Walk, Next>> {
        let fits = |walk: &Walk| walk.place().1 <= offset && offset < walk.extent.limit;
        if let Some(walk) = self.walk.take().filter(fits) {
            return Ok(Ok(walk));
        }
        let Some(extent) = self.layout.live.get(self.layout.find(offset)).cloned() else {
            return Ok(Err(Next::On(u64::MAX)));
        };
        if offset < extent.name.first {
            return Ok(Err(Next::On(extent.name.first)));
        }
        match self.vfs.open(&extent.path, Mode::Read) {
            Ok(file) => Walk::new(file.into(), extent).map(Ok),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.seen = None; // given up since we listed
                Ok(Err(Next::Again))
            }
            Err(error) => Err(Error::io("open", &extent.path, error)),
        }
    }

    fn gap(&mut self, walk: &mut Walk, what: &'static str, end: u64) -> Result<Next> {
        let (at, first) = walk.place();
        let nothing = Hole { at, length: 0, first, end: None, what: "frames are missing" };
        if let Some(next) = self.excuse(walk, &nothing, what)? {
            return Ok(next);
        }
        let hole = walk.hole(what)?.unwrap_or(nothing);
        self.step_over(walk, &hole, end)
    }

    /// Notes damage below `durable` and goes on behind it.
    fn step_over(&mut self, walk: &Walk, hole: &Hole, end: u64) -> Result<Next> {
        if let Some(next) = self.excuse(walk, hole, hole.what)? {
            return Ok(next);
        }
        let mut damage = damage(&walk.extent, hole, end);
        let next = Next::On(damage.offsets.end);
        let known = self.damage.iter().any(|known| (&known.path, known.at) == (&damage.path, damage.at));
        if !known {
            self.damaged_bytes += damage.length;
            if self.damage.len() < MAX_DAMAGE {
                damage.quarantined = self.quarantine.then(|| quarantine(&*self.vfs, &self.dir, &damage)).flatten();
                self.damage.push(damage);
            }
        }
        Ok(next)
    }

    /// What is not there as it should be is no damage if the writer went on in another file meanwhile. And what is not
    /// durable may not be stepped over: the owner will say what becomes of it.
    fn excuse(&self, walk: &Walk, hole: &Hole, what: &str) -> Result<Option<Next>> {
        if self.seen != Some(self.control.layout()) {
            return Ok(Some(Next::Again));
        }
        if hole.first < self.control.durable() {
            return Ok(None);
        }
        let what = format!("{what}, and offset {} was not durable yet", hole.first);
        Err(Error::Damaged { path: walk.extent.path.to_path_buf(), at: hole.at, what })
    }
}

/// Reads a frame whose header is sound; the inner `Err` says what is wrong with its bytes.
fn load(walk: &Walk, at: u64, header: &Header) -> Result<std::result::Result<Frame, &'static str>> {
    let mut bytes = AlignedBytes::zeroed(header.length as usize);
    let read = walk.file.read_at(bytes.as_mut_slice(), at);
    read.map_err(|e| Error::io("read", &walk.extent.path, e))?;
    let path = Arc::clone(&walk.extent.path);
    Ok(Frame::new(bytes, Location { path, at, length: u64::from(header.length) }))
}

/// The last sound frame of a segment that ends at or before `end`.
fn last_frame(walk: &mut Walk, end: u64) -> Result<Option<(u64, Header)>> {
    let mut last = None;
    loop {
        match walk.step(Check::Whole)? {
            Step::Frame { at, header } if header.end() <= end => last = Some((at, header)),
            Step::Gap(what) if walk.hole(what)?.is_some() => {}
            _ => return Ok(last),
        }
    }
}
