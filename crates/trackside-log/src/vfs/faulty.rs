//! A file system that fails on command: every operation asks a plan first.
//!
//! Guarantee: an operation that the plan lets pass reaches the file system below it unchanged; one that it fails leaves
//! behind just what the [`Fault`] says. After [`Fault::Stop`] nothing passes any more, as if the process had been killed.
//!
//! ```
//! use std::sync::Arc;
//! use trackside_log::{Fault, FaultyVfs, OpKind, RealVfs};
//!
//! // The third write finds a full disk.
//! let vfs = FaultyVfs::new(Arc::new(RealVfs), |op| {
//!     (op.kind == OpKind::Write && op.nth == 3).then_some(Fault::Error(28))
//! });
//! # let _ = vfs;
//! ```

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Access, Mode, Vfs, VfsFile};
use crate::control::ControlMemory;

/// The kinds of operations, counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// [`Vfs::create_dir_all`]
    CreateDir,
    /// [`Vfs::list`]
    List,
    /// [`Vfs::open`] of a file that exists.
    Open,
    /// [`Vfs::open`] of a new file.
    Create,
    /// [`Vfs::rename`]
    Rename,
    /// [`Vfs::remove`]
    Remove,
    /// [`Vfs::sync_dir`]
    SyncDir,
    /// [`VfsFile::allocate`]
    Allocate,
    /// [`VfsFile::read_at`]
    Read,
    /// [`VfsFile::write_at`]
    Write,
    /// [`VfsFile::sync_data`]
    SyncData,
}

pub(super) const KINDS: usize = OpKind::SyncData as usize + 1;

/// One operation, as the plan sees it.
#[derive(Clone, Debug)]
pub struct Op {
    /// What is tried.
    pub kind: OpKind,
    /// On which file or directory.
    pub path: PathBuf,
    /// The how-manieth of its kind, from 1.
    pub nth: u64,
    /// The how-manieth of all that change something (neither `List` nor `Open` nor `Read`), from 1; 0 for the others.
    pub nth_change: u64,
    /// How many bytes a read, write or allocation is about.
    pub bytes: u64,
}

/// What to do instead of the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fail with this error number of the operating system; nothing happens.
    Error(i32),
    /// Write so many bytes, then fail with the error number. For other operations as `Error`.
    Short(u64, i32),
    /// Write so many bytes, then fail this and every later operation: the process is as good as killed.
    Stop(u64),
}

type Plan = dyn Fn(&Op) -> Option<Fault> + Send + Sync;

struct State {
    below: Arc<dyn Vfs>,
    plan: Box<Plan>,
    counts: [AtomicU64; KINDS],
    changes: AtomicU64,
    stopped: AtomicBool,
}

/// A [`Vfs`] over another one that fails what its plan says. Clones share counts and plan.
#[derive(Clone)]
pub struct FaultyVfs(Arc<State>);

impl fmt::Debug for FaultyVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyVfs").field("below", &self.0.below).field("counts", &self.0.counts).finish()
    }
}

impl FaultyVfs {
    /// Wraps `below`; `plan` is asked before each operation.
    pub fn new(below: Arc<dyn Vfs>, plan: impl Fn(&Op) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self(Arc::new(State {
            below,
            plan: Box::new(plan),
            counts: Default::default(),
            changes: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }))
    }

    /// How many operations of a kind were tried so far.
    pub fn count(&self, kind: OpKind) -> u64 {
        self.0.counts[kind as usize].load(Ordering::Relaxed)
    }

    /// How many operations that change something were tried so far.
    pub fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Relaxed)
    }

    /// Whether a [`Fault::Stop`] was played.
    pub fn stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Relaxed)
    }

    fn ask(&self, kind: OpKind, path: &Path, bytes: u64) -> Option<Fault> {
        let nth = self.0.counts[kind as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let nth_change = match kind {
            OpKind::List | OpKind::Open | OpKind::Read => 0,
            _ => self.0.changes.fetch_add(1, Ordering::Relaxed) + 1,
        };
        if self.stopped() {
            return Some(Fault::Error(libc::EIO));
        }
        let fault = (self.0.plan)(&Op { kind, path: path.to_path_buf(), nth, nth_change, bytes });
        if matches!(fault, Some(Fault::Stop(_))) {
            self.0.stopped.store(true, Ordering::Relaxed);
        }
        fault
    }

    fn gate(&self, kind: OpKind, path: &Path, bytes: u64) -> io::Result<()> {
        self.ask(kind, path, bytes).map_or(Ok(()), |fault| Err(fault.error()))
    }
}

impl Fault {
    pub(super) fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::Error(number) | Self::Short(_, number) => number,
            Self::Stop(_) => libc::EIO,
        })
    }
}

impl Vfs for FaultyVfs {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.gate(OpKind::CreateDir, path, 0)?;
        self.0.below.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.gate(OpKind::List, dir, 0)?;
        self.0.below.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.below.exists(path)
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn VfsFile>> {
        self.gate(if mode == Mode::CreateNew { OpKind::Create } else { OpKind::Open }, path, 0)?;
        let file = self.0.below.open(path, mode)?;
        Ok(Box::new(FaultyFile { file, path: path.to_path_buf(), vfs: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.gate(OpKind::Rename, to, 0)?;
        self.0.below.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.gate(OpKind::Remove, path, 0)?;
        self.0.below.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.gate(OpKind::SyncDir, dir, 0)?;
        self.0.below.sync_dir(dir)
    }

    fn control(&self, path: &Path, access: Access) -> io::Result<Arc<dyn ControlMemory>> {
        self.gate(if access == Access::Make { OpKind::Create } else { OpKind::Open }, path, 0)?;
        self.0.below.control(path, access)
    }

    fn unique(&self) -> u64 {
        self.0.below.unique()
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Box<dyn VfsFile>,
    path: PathBuf,
    vfs: FaultyVfs,
}

impl VfsFile for FaultyFile {
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.vfs.gate(OpKind::Allocate, &self.path, bytes)?;
        self.file.allocate(bytes)
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.vfs.gate(OpKind::Read, &self.path, buffer.len() as u64)?;
        self.file.read_at(buffer, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let Some(fault) = self.vfs.ask(OpKind::Write, &self.path, bytes.len() as u64) else {
            return self.file.write_at(bytes, at);
        };
        if let Fault::Short(part, _) | Fault::Stop(part) = fault {
            let part = usize::try_from(part).map_or(bytes.len(), |part| part.min(bytes.len()));
            self.file.write_at(&bytes[..part], at)?;
        }
        Err(fault.error())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.vfs.gate(OpKind::SyncData, &self.path, 0)?;
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::RealVfs;

    #[test]
    fn the_second_write_is_short_and_the_rest_passes() {
        let dir = tempfile::tempdir().unwrap();
        let vfs = FaultyVfs::new(Arc::new(RealVfs), |op| {
            (op.kind == OpKind::Write && op.nth == 2).then_some(Fault::Short(3, libc::ENOSPC))
        });
        let file = vfs.open(&dir.path().join("a"), Mode::CreateNew).unwrap();
        file.write_at(b"one", 0).unwrap();
        assert_eq!(file.write_at(b"two-two", 3).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(file.len().unwrap(), 6);
        file.write_at(b"three", 3).unwrap();
        assert_eq!((vfs.count(OpKind::Write), vfs.changes()), (3, 4));
    }

    #[test]
    fn nothing_passes_after_a_stop() {
        let dir = tempfile::tempdir().unwrap();
        let vfs = FaultyVfs::new(Arc::new(RealVfs), |op| (op.nth_change == 2).then_some(Fault::Stop(0)));
        let file = vfs.open(&dir.path().join("a"), Mode::CreateNew).unwrap();
        assert!(file.write_at(b"x", 0).is_err());
        assert!(file.write_at(b"x", 0).is_err());
        assert!(vfs.list(dir.path()).is_err());
        assert_eq!(file.len().unwrap(), 0);
    }
}
