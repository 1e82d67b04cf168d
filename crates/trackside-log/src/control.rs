//! The control page: one small mapped page per partition that tells all processes how far the log has come.
//!
//! It is a signal, not a record. `durable` in it is never above the truth (it moves after the fsync, and a page on disk
//! is at most older), but after a restart the writer computes both ends anew from the frames and asks the page only one
//! thing: whether damage that whole frames follow lies in what had been durable (see [`crate::recovery`]).
//!
//! Layout, little-endian, offsets in bytes; the rest of the 4096 is zero:
//!
//! ```text
//!   0 magic u64 | 8 version u32 | 12 epoch u32 | 16 layout u64 | 24 suspect u32
//!  64 published u64 | 72 wake sequence u32 | 76 wake waiting u32
//! 128 durable u64   | 136 wake sequence u32 | 140 wake waiting u32 | 144 durable, inverted u64
//! ```

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use memmap2::{Mmap, MmapMut};

use crate::vfs::Access;
use crate::wake::{Waiter, Wake};

/// The length of the file.
pub const CONTROL_BYTES: usize = 4096;
const MAGIC: u64 = u64::from_le_bytes(*b"TSCTRL\0\0");
const VERSION: u32 = 1;

/// The words of the page. All of them are atomic and any bits are a value of theirs, so that a page another process
/// writes to, or has damaged, can be looked at safely.
#[derive(Debug, Default)]
#[repr(C)]
pub struct ControlWords {
    start: Start,
    published: End,
    durable: End,
}

#[derive(Debug, Default)]
#[repr(C, align(64))] // one cache line each: who polls one end does not slow the writer of the other
struct Start {
    magic: AtomicU64,
    version: AtomicU32,
    epoch: AtomicU32,
    layout: AtomicU64,
    suspect: AtomicU32,
}

#[derive(Debug, Default)]
#[repr(C, align(64))]
struct End {
    offset: AtomicU64,
    wake: Wake,
    inverted: AtomicU64,
}

impl ControlWords {
    /// What is on the page now: what a disk would keep of it.
    pub(crate) fn copy(&self) -> Self {
        let end = |end: &End| End {
            offset: end.offset.load(Ordering::Acquire).into(),
            wake: Wake::default(),
            inverted: end.inverted.load(Ordering::Acquire).into(),
        };
        let Start { magic, version, epoch, layout, suspect } = &self.start;
        let start = Start {
            magic: magic.load(Ordering::Acquire).into(),
            version: version.load(Ordering::Acquire).into(),
            epoch: epoch.load(Ordering::Acquire).into(),
            layout: layout.load(Ordering::Acquire).into(),
            suspect: suspect.load(Ordering::Acquire).into(),
        };
        Self { start, published: end(&self.published), durable: end(&self.durable) }
    }
}

/// Where the words of a control page live.
pub trait ControlMemory: Send + Sync + Debug {
    /// The words.
    fn words(&self) -> &ControlWords;
    /// How this process waits for them to change.
    fn waiter(&self) -> Waiter {
        Waiter::Own
    }
}

/// A page in plain memory, for file systems that live in a test.
impl ControlMemory for ControlWords {
    fn words(&self) -> &ControlWords {
        self
    }
}

/// A page in a mapped file.
#[derive(Debug)]
pub struct MappedControl {
    map: Mapping,
    waiter: Waiter,
}

#[derive(Debug)]
enum Mapping {
    Writable(MmapMut),
    ReadOnly(Mmap),
}

#[allow(unsafe_code)]
impl MappedControl {
    /// Maps an existing page, writable when the file's permissions allow and we are no guest.
    pub fn open(path: &Path, access: Access) -> io::Result<Self> {
        if access == Access::Guest {
            return Self::read_only(&File::open(path)?, Waiter::Guest);
        }
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => Self::writable(&file),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) =>
            {
                Self::read_only(&File::open(path)?, Waiter::Onlooker)
            }
            Err(error) => Err(error),
        }
    }

    /// Maps an open file for reading and writing.
    pub fn writable(file: &File) -> io::Result<Self> {
        check_length(file)?;
        // SAFETY: the file has the whole page, is never shortened by us, and is used as atomics only.
        let map = unsafe { memmap2::MmapOptions::new().len(CONTROL_BYTES).map_mut(file)? };
        Ok(Self { map: Mapping::Writable(map), waiter: Waiter::Own })
    }

    fn read_only(file: &File, waiter: Waiter) -> io::Result<Self> {
        check_length(file)?;
        // SAFETY: as above; loads of aligned atomics of at most 8 bytes are allowed on read-only memory.
        let map = unsafe { memmap2::MmapOptions::new().len(CONTROL_BYTES).map(file)? };
        Ok(Self { map: Mapping::ReadOnly(map), waiter })
    }
}

#[allow(unsafe_code)]
impl ControlMemory for MappedControl {
    fn words(&self) -> &ControlWords {
        let start = match &self.map {
            Mapping::Writable(map) => map.as_ptr(),
            Mapping::ReadOnly(map) => map.as_ptr(),
        };
        const { assert!(size_of::<ControlWords>() <= CONTROL_BYTES) };
        // SAFETY: the mapping is page-aligned, as long as CONTROL_BYTES, lives as long as `self`, and every bit pattern
        // is a valid ControlWords, which has only atomics inside. Nobody writes through a read-only mapping: the
        // methods of `Control` that store ask for the `waiter` first or belong to the writer, who made the page.
        unsafe { &*start.cast::<ControlWords>() }
    }

    fn waiter(&self) -> Waiter {
        self.waiter
    }
}

fn check_length(file: &File) -> io::Result<()> {
    if file.metadata()?.len() >= CONTROL_BYTES as u64 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the control page is cut off; start the engine, which makes it anew",
    ))
}

/// What the page of an earlier life said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) epoch: u32,
    pub(crate) durable: u64,
    /// A sync had failed and could not be repaired: what lies past `durable` may be in memory only.
    pub(crate) suspect: bool,
}

/// A handle on a partition's control page.
#[derive(Clone, Debug)]
pub(crate) struct Control(Arc<dyn ControlMemory>);

impl Control {
    pub(crate) fn new(memory: Arc<dyn ControlMemory>) -> Self {
        Self(memory)
    }

    /// What an earlier owner left behind; nothing, if the page is new or is not ours.
    pub(crate) fn remembered(&self) -> Remembered {
        let ControlWords { start, durable, .. } = self.0.words();
        if start.magic.load(Ordering::Acquire) != MAGIC || start.version.load(Ordering::Acquire) != VERSION {
            return Remembered::default();
        }
        // A crash between the two stores leaves an older copy, a flipped bit one that is off: the lower one is safe
        // unless the flip lowered it, and too low is safe as well.
        let copy = !durable.inverted.load(Ordering::Acquire);
        Remembered {
            epoch: start.epoch.load(Ordering::Acquire),
            durable: durable.offset.load(Ordering::Acquire).min(copy),
            suspect: start.suspect.load(Ordering::Acquire) != 0,
        }
    }

    /// Starts an epoch at `end`. `durable` sinks before the epoch rises, so that no mixture claims too much.
    pub(crate) fn begin(&self, epoch: u32, end: u64) {
        let ControlWords { start, published, durable } = self.0.words();
        durable.inverted.store(!end, Ordering::Release);
        durable.offset.store(end, Ordering::Release);
        published.offset.store(end, Ordering::Release);
        start.suspect.store(0, Ordering::Release);
        start.epoch.store(epoch, Ordering::Release);
        start.version.store(VERSION, Ordering::Release);
        start.magic.store(MAGIC, Ordering::Release);
        self.change_layout();
        published.wake.notify();
        durable.wake.notify();
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.0.words().start.epoch.load(Ordering::Acquire)
    }

    pub(crate) fn published(&self) -> u64 {
        self.0.words().published.offset.load(Ordering::Acquire)
    }

    pub(crate) fn publish(&self, end: u64) {
        let published = &self.0.words().published;
        published.offset.store(end, Ordering::Release);
        published.wake.notify();
    }

    pub(crate) fn durable(&self) -> u64 {
        self.0.words().durable.offset.load(Ordering::Acquire)
    }

    pub(crate) fn settle(&self, end: u64) {
        let durable = &self.0.words().durable;
        durable.offset.store(end, Ordering::Release);
        durable.inverted.store(!end, Ordering::Release);
        durable.wake.notify();
    }

    /// Counts the changes in the list of segments; a reader that sees a new number lists again.
    pub(crate) fn layout(&self) -> u64 {
        self.0.words().start.layout.load(Ordering::Acquire)
    }

    pub(crate) fn change_layout(&self) {
        self.0.words().start.layout.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn suspect(&self) {
        self.0.words().start.suspect.store(1, Ordering::Release);
    }

    /// Asks for a guest to be woken by what is published next; false where this process may not.
    pub(crate) fn arm(&self) -> bool {
        let ours = self.0.waiter() == Waiter::Own;
        if ours {
            self.0.words().published.wake.arm();
        }
        ours
    }

    pub(crate) fn wait_published(&self, beyond: u64, timeout: Duration) -> bool {
        self.0.words().published.wake.wait(self.0.waiter(), timeout, || self.published() > beyond)
    }

    pub(crate) fn wait_durable(&self, beyond: u64, timeout: Duration) -> bool {
        self.0.words().durable.wake.wait(self.0.waiter(), timeout, || self.durable() > beyond)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::{RealVfs, Vfs};

    #[test]
    fn the_words_lie_where_the_format_says() {
        assert_eq!(std::mem::offset_of!(ControlWords, published), 64);
        assert_eq!(std::mem::offset_of!(ControlWords, durable), 128);
        assert_eq!((std::mem::offset_of!(Start, layout), std::mem::offset_of!(Start, suspect)), (16, 24));
        assert_eq!((std::mem::offset_of!(End, wake), std::mem::offset_of!(End, inverted)), (8, 16));
    }

    #[test]
    fn two_mappings_of_one_page_agree_and_what_was_durable_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        assert!(RealVfs.control(&path, Access::Share).is_err());
        let ours = Control::new(RealVfs.control(&path, Access::Make).unwrap());
        assert_eq!(ours.remembered(), Remembered::default());
        ours.begin(3, 100);
        ours.publish(150);
        ours.settle(120);

        let theirs = Control::new(RealVfs.control(&path, Access::Share).unwrap());
        assert_eq!((theirs.epoch(), theirs.published(), theirs.durable(), theirs.layout()), (3, 150, 120, 1));
        assert_eq!(theirs.remembered(), Remembered { epoch: 3, durable: 120, suspect: false });
        assert!(theirs.wait_published(149, Duration::ZERO) && !theirs.wait_durable(120, Duration::from_millis(1)));
    }

    #[test]
    fn a_guest_who_may_only_read_the_page_is_woken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let ours = Control::new(RealVfs.control(&path, Access::Make).unwrap());
        let guest = Control::new(RealVfs.control(&path, Access::Guest).unwrap());
        assert!(ours.arm() && !guest.arm());
        let start = std::time::Instant::now();
        let waiting = std::thread::spawn(move || guest.wait_published(0, Duration::from_secs(60)));
        std::thread::yield_now();
        ours.publish(1);
        assert!(waiting.join().unwrap());
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }

    #[test]
    fn a_flipped_bit_never_makes_more_durable() {
        let words = Arc::new(ControlWords::default());
        let control = Control::new(words.clone());
        control.begin(1, 0);
        control.settle(1000);
        words.durable.offset.store(1000 | 1 << 40, Ordering::Release);
        assert_eq!(control.remembered().durable, 1000);
    }
}
