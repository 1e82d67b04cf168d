//! The narrow door to the disk: all that the log ever asks of a file system.
//!
//! Everything that can fail or be lost goes through here, so that a test can fail the n-th operation ([`FaultyVfs`])
//! or play a power loss. Not here: mapping a segment to read it ([`crate::mapped`]), which has no effect to fault.

mod faulty;
mod real;
mod simulated;

use std::fmt::Debug;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::control::ControlMemory;

pub use faulty::{Fault, FaultyVfs, Op, OpKind};
pub use real::RealVfs;
pub use simulated::{Random, SimulatedVfs};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To read.
    Read,
    /// To read and write; the file exists.
    ReadWrite,
    /// To read and write; the file must not exist yet.
    CreateNew,
}

/// What somebody wants of a control page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To write it; it is made (4096 zero bytes) when missing.
    Make,
    /// To read it, and to ask for wake-ups where permissions allow.
    Share,
    /// To read it and nothing else: whoever holds it runs code that is not ours, and must not be able to harm it.
    Guest,
}

/// A file system, as far as the log needs one. Paths are absolute or relative to the process, as given to
/// [`crate::Store::open`].
pub trait Vfs: Send + Sync + Debug {
    /// Makes a directory and those above it; fine if it exists.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Whether something is there.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Opens a file.
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn VfsFile>>;
    /// Renames a file, replacing what is there; durable after [`Vfs::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; durable after [`Vfs::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory's entries durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Maps a control page.
    fn control(&self, path: &Path, access: Access) -> io::Result<Arc<dyn ControlMemory>>;
    /// A number that no other reign has drawn; from the system's randomness, but where a seed decides everything.
    fn unique(&self) -> u64 {
        RandomState::new().build_hasher().finish()
    }
}

/// An open file. All calls take a position: there is no cursor to share.
pub trait VfsFile: Send + Sync + Debug {
    /// Makes the file `bytes` long with real blocks below it, so that a later write cannot run out of room and a
    /// mapped reader cannot hit a hole. What was not written reads as zero.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Reads until `buffer` is full or the file ends; returns how much.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all of `bytes`. After an error any part of them may be there.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Makes what was written durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Writes all of `bytes` by a call that may write less or be interrupted.
pub(crate) fn write_whole(
    bytes: &[u8],
    at: u64,
    mut write: impl FnMut(&[u8], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match write(&bytes[done..], at + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => done += written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until `buffer` is full or the file ends, by a call that may read less or be interrupted; returns how much.
pub(crate) fn read_whole(
    buffer: &mut [u8],
    at: u64,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
