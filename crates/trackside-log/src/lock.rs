//! One engine process a data directory.
//!
//! Guarantee: the second one is refused at once, and told by whom. The lock is the operating system's and ends with its process,
//! however that ended: a `LOCK` file left behind by a killed process is no obstacle. Network file systems are refused,
//! because neither their locks nor their fsync can be relied on.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::{Error, Result};

const FILE: &str = "LOCK";

/// File systems whose files another machine keeps, as Linux names them.
const NETWORK: [&str; 14] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "afs",
    "ceph",
    "9p",
    "lustre",
    "ncpfs",
    "fuse.sshfs",
    "fuse.s3fs",
    "fuse.rclone",
    "fuse.glusterfs",
];

/// The lock on a data directory; given back when dropped.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Locks a data directory, which must exist.
    pub fn acquire(data: &Path) -> Result<Self> {
        refuse_network(data)?;
        let path = data.join(FILE);
        let io = |op| move |error| (op, error);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(io("open")).map_err(|(op, e)| Error::io(op, &path, e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path, pid: read_pid(&mut file) }),
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path, error)),
        }
        write_pid(&mut file).map_err(|e| Error::io("write", &path, e))?;
        Ok(Self { _file: file })
    }
}

/// Always the same length, so that nobody can read half of it or nothing while it is replaced.
fn write_pid(file: &mut File) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(format!("{:<10}\n", std::process::id()).as_bytes())?;
    file.set_len(11)
}

fn read_pid(file: &mut File) -> u32 {
    let mut text = String::new();
    let read = file.read_to_string(&mut text);
    read.ok().and_then(|_| text.trim().parse().ok()).unwrap_or(0)
}

/// Asks the list of mounts; where there is none (not Linux), nothing is refused.
fn refuse_network(data: &Path) -> Result<()> {
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return Ok(()) };
    let path = data.canonicalize().map_err(|e| Error::io("open", data, e))?;
    match file_system(&mounts, &path) {
        Some(kind) if NETWORK.contains(&kind) => Err(Error::NetworkFs { path, kind: kind.to_owned() }),
        _ => Ok(()),
    }
}

/// The kind of file system that a path lies on: that of the longest mount point above it, the last one if mounted over.
fn file_system<'m>(mounts: &'m str, path: &Path) -> Option<&'m str> {
    let mounts = mounts.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let point = unescape(place.split(' ').nth(4)?);
        path.starts_with(&point).then_some((point.len(), kind.split(' ').next()?))
    });
    mounts.max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

/// Blanks in mount points are written as octal numbers.
fn unescape(point: &str) -> String {
    point.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_with_the_firsts_pid_until_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "999999999\n").unwrap(); // left behind by a killed process
        let first = DirLock::acquire(dir.path()).unwrap();
        match DirLock::acquire(dir.path()) {
            Err(Error::Locked { pid, .. }) => assert_eq!(pid, std::process::id()),
            other => panic!("{other:?}"),
        }
        drop(first);
        DirLock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn the_longest_mount_point_tells_the_file_system() {
        let mounts = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      30 21 0:40 / /mnt/far\\040away rw shared:1 - nfs4 server:/x rw\n\
                      31 21 0:41 / /mnt/ssh rw - fuse.sshfs me@host: rw\n";
        assert_eq!(file_system(mounts, Path::new("/srv/x")), Some("ext4"));
        assert_eq!(file_system(mounts, Path::new("/mnt/far away/data")), Some("nfs4"));
        assert_eq!(file_system(mounts, Path::new("/mnt/sshd")), Some("ext4"));
        assert_eq!(file_system(mounts, Path::new("/mnt/ssh/data")), Some("fuse.sshfs"));
    }
}
