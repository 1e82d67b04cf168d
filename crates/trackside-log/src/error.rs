//! What can go wrong in the log, said so that the reader knows what to do next.
//!
//! One enum for the crate. A full disk has a variant of its own, because the caller waits and tries again; a damaged
//! frame has one, because it is reported and never returned as data.

use std::io;
use std::path::{Path, PathBuf};

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the log refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {op} `{}`: {source}; check the disk and the permissions of the data directory", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried, as a verb: `write`, `open`.
        op: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// No room on the disk, or the quota is used up. Nothing was stored.
    #[error("no room on the disk for `{}`; free some space or keep less history: the next append then works again", path.display())]
    Full {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// Bytes that are not what was written.
    #[error("`{}` is damaged at byte {at}: {what}; restore the file from a backup, or start the engine, which sets it aside", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        at: u64,
        /// What is wrong.
        what: String,
    },
    /// A file of a later format.
    #[error("`{}` was written by a newer Trackside (format {found}, this one reads up to {known}); use that one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u16,
        /// The newest format that this build reads.
        known: u16,
    },
    /// Another process owns the data directory.
    #[error("`{}` is in use by process {pid}; stop that one, or choose another data directory", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Its owner; 0 when it could not be read.
        pid: u32,
    },
    /// This process already has a writer on the partition.
    #[error("partition {partition} of `{topic}` already has its writer in this process; drop that one first")]
    Owned {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
    },
    /// A frame above the limit.
    #[error("a frame of {bytes} bytes is above the limit of {limit}; cut the batch into smaller ones")]
    TooLarge {
        /// Its length.
        bytes: u64,
        /// The limit (`Options::max_frame_bytes`).
        limit: u64,
    },
    /// The caller asked for something that no log can hold.
    #[error("{what}")]
    Invalid {
        /// What, and what would be right.
        what: String,
    },
    /// No such partition (yet).
    #[error("there is no log at `{}`; start the pipeline once, or check the topic and the partition", path.display())]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The partition is read-only, because what was written could not be made durable.
    #[error("`{}` is read-only: {why}; nothing more is acknowledged: check the disk, then restart the pipeline", path.display())]
    Poisoned {
        /// The partition.
        path: PathBuf,
        /// The failure that led here.
        why: String,
    },
    /// The data directory is on a network file system.
    #[error("`{}` is on a network file system ({kind}), whose locks and fsync cannot be relied on; use a local disk", path.display())]
    NetworkFs {
        /// The directory.
        path: PathBuf,
        /// The file system's name.
        kind: String,
    },
}

impl Error {
    /// Wraps what the operating system said; a full disk becomes [`Error::Full`], a missing file [`Error::NotFound`].
    pub(crate) fn io(op: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            io::ErrorKind::NotFound => Self::NotFound { path },
            _ => Self::Io { path, op, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let full = Error::io("write", Path::new("a.seg"), io::Error::from_raw_os_error(libc::ENOSPC));
        assert!(matches!(full, Error::Full { .. }));
        let broken = Error::io("write", Path::new("a.seg"), io::Error::from_raw_os_error(libc::EIO));
        assert!(broken.to_string().starts_with("cannot write `a.seg`"), "{broken}");
    }
}
