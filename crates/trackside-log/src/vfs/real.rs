//! The machine's own file system.
//!
//! Guarantee: [`RealVfs`] allocates blocks for real: by `fallocate` where the file system has it, else by writing zeros.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::{Access, Mode, Vfs, VfsFile, read_whole, write_whole};
use crate::control::{CONTROL_BYTES, ControlMemory, MappedControl};

/// Zeros are written in pieces of this size where a file system cannot allocate.
const ZEROS_AT_ONCE: usize = 1 << 20;

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealVfs;

impl Vfs for RealVfs {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        // A name that is not UTF-8 is none of ours.
        fs::read_dir(dir)?.filter_map(|entry| entry.map(|e| e.file_name().into_string().ok()).transpose()).collect()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn VfsFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(mode != Mode::Read).create_new(mode == Mode::CreateNew);
        Ok(Box::new(RealFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn control(&self, path: &Path, access: Access) -> io::Result<Arc<dyn ControlMemory>> {
        if access != Access::Make {
            return Ok(Arc::new(MappedControl::open(path, access)?));
        }
        // Never truncated: a reader in another process may have it mapped.
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() < CONTROL_BYTES as u64 {
            file.write_all_at(&[0; CONTROL_BYTES], 0)?;
        }
        Ok(Arc::new(MappedControl::writable(&file)?))
    }
}

#[derive(Debug)]
struct RealFile(File);

impl VfsFile for RealFile {
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match fallocate(&self.0, bytes) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => write_zeros(&self.0, bytes),
            done => done,
        }
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        read_whole(buffer, at, |rest, at| self.0.read_at(rest, at))
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        write_whole(bytes, at, |rest, at| self.0.write_at(rest, at))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// The C library's `posix_fallocate` is no help here: its own fallback leaves holes behind on some file systems.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn fallocate(file: &File, bytes: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let length = libc::off_t::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    loop {
        // SAFETY: a plain system call on a descriptor that `file` keeps open; no memory is handed over.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn fallocate(_file: &File, _bytes: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn write_zeros(file: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_AT_ONCE.min(usize::try_from(bytes).unwrap_or(ZEROS_AT_ONCE))];
    let mut at = file.metadata()?.len();
    while at < bytes {
        let piece = usize::try_from(bytes - at).map_or(zeros.len(), |left| left.min(zeros.len()));
        file.write_all_at(&zeros[..piece], at)?;
        at += piece as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn allocated_files_have_no_holes_either_way() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealVfs.open(&dir.path().join("a"), Mode::CreateNew).unwrap();
        file.allocate(100_000).unwrap();
        assert_eq!(file.len().unwrap(), 100_000);

        let by_hand = File::create_new(dir.path().join("b")).unwrap();
        write_zeros(&by_hand, 3_000_001).unwrap();
        assert_eq!(by_hand.metadata().unwrap().len(), 3_000_001);
        by_hand.sync_all().unwrap();
        assert!(by_hand.metadata().unwrap().blocks() * 512 >= 3_000_001);
    }

    #[test]
    fn a_second_creation_is_refused_and_reads_stop_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        RealVfs.open(&path, Mode::CreateNew).unwrap().write_at(b"abc", 2).unwrap();
        assert!(RealVfs.open(&path, Mode::CreateNew).is_err());
        let mut buffer = [9; 8];
        assert_eq!(RealVfs.open(&path, Mode::Read).unwrap().read_at(&mut buffer, 1).unwrap(), 4);
        assert_eq!(&buffer, b"\0abc\x09\x09\x09\x09");
    }
}
