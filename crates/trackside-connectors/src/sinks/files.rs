//! How sinks put files in place: written aside, fsynced, renamed. A name that is seen is a file that is whole.
//!
//! Guarantee: after [`Files::reveal`] and [`Files::sync_dir`] the file is there after a power loss, with all its bytes.
//! What is under way has a name that no glob for the finished ones matches. Every step goes through the log's `Vfs`, so
//! that a test can fail any one of them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trackside_core::error::Failure;
use trackside_log::{Mode, RealVfs, Vfs};

/// Ending of what is under way.
const ASIDE: &str = ".tmp";

/// The file system as sinks use it.
#[derive(Debug, Clone)]
pub struct Files(Arc<dyn Vfs>);

impl Default for Files {
    fn default() -> Self {
        Self::new(Arc::new(RealVfs))
    }
}

impl Files {
    /// Over a file system of the caller's choice.
    pub fn new(vfs: Arc<dyn Vfs>) -> Self {
        Self(vfs)
    }

    /// Writes a file aside and fsyncs it; [`Files::reveal`] gives it its name.
    pub fn write_aside(&self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        let aside = aside(path);
        let write = || {
            // Left over from a try that failed.
            if self.0.exists(&aside)? {
                self.0.remove(&aside)?;
            }
            let file = self.0.open(&aside, Mode::CreateNew)?;
            file.write_at(bytes, 0)?;
            file.sync_data()
        };
        write().map_err(|error| failure("write", &aside, &error))
    }

    /// Gives a file written aside its name; durable after the directory is synced.
    pub fn reveal(&self, path: &Path) -> Result<(), Failure> {
        self.0.rename(&aside(path), path).map_err(|error| failure("rename a file to", path, &error))
    }

    /// Puts a file in place of another, durably: readers see the old one or the new one.
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        self.write_aside(path, bytes)?;
        self.reveal(path)?;
        path.parent().map_or(Ok(()), |dir| self.sync_dir(dir))
    }

    /// Makes a directory below `root`, durably with those in between.
    pub fn create_dir(&self, root: &Path, dir: &Path) -> Result<(), Failure> {
        self.0.create_dir_all(dir).map_err(|error| failure("create", dir, &error))?;
        let between = dir.ancestors().skip(1).take_while(|above| above.starts_with(root));
        between.into_iter().try_for_each(|above| self.sync_dir(above))
    }

    /// Makes a directory's entries durable.
    pub fn sync_dir(&self, dir: &Path) -> Result<(), Failure> {
        self.0.sync_dir(dir).map_err(|error| failure("sync", dir, &error))
    }

    /// Whether something is there.
    pub fn exists(&self, path: &Path) -> Result<bool, Failure> {
        self.0.exists(path).map_err(|error| failure("look at", path, &error))
    }

    /// The whole of a file; none if it is not there.
    pub fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, Failure> {
        let read = || {
            let file = self.0.open(path, Mode::Read)?;
            let mut bytes = vec![0; file.len()? as usize];
            let length = file.read_at(&mut bytes, 0)?;
            bytes.truncate(length);
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failure("read", path, &error)),
        }
    }

    /// Names in a directory, sorted; none if it is not there.
    pub fn list(&self, dir: &Path) -> Result<Vec<String>, Failure> {
        match self.0.list(dir) {
            Ok(mut names) => {
                names.sort_unstable();
                Ok(names)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(Vec::new())
            }
            Err(error) => Err(failure("list", dir, &error)),
        }
    }

    /// Removes a file; fine if it is gone already.
    pub fn remove(&self, path: &Path) -> Result<(), Failure> {
        match self.0.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failure("remove", path, &error)),
            _ => Ok(()),
        }
    }
}

/// The finished name behind a name that is under way.
pub fn finished_name(name: &str) -> &str {
    name.strip_prefix('.').and_then(|name| name.strip_suffix(ASIDE)).unwrap_or(name)
}

/// `.name.tmp` beside `name`: matched neither by `*.parquet` nor by `*.json`, and hidden from listings.
fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}{ASIDE}"))
}

fn failure(op: &str, path: &Path, error: &io::Error) -> Failure {
    let what = format!("cannot {op} `{}`: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Failure::retry(format!("{what}; free some space: what waits to be written is kept in the log"))
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Failure::retry(format!("{what}; make the folder writable for the user that runs the pipeline"))
        }
        _ => Failure::retry(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackside_log::{Fault, FaultyVfs, OpKind};

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::default();
        let path = dir.path().join("a/b/state.json");
        files.create_dir(dir.path(), path.parent().unwrap()).unwrap();
        assert_eq!(files.read(&path).unwrap(), None);
        files.write_aside(&path, b"lost").unwrap();
        assert_eq!(files.list(path.parent().unwrap()).unwrap(), [".state.json.tmp"]);
        files.replace(&path, b"one").unwrap();
        assert_eq!(files.read(&path).unwrap().unwrap(), b"one");
        assert_eq!(files.list(path.parent().unwrap()).unwrap(), ["state.json"]);
        assert_eq!(finished_name(".state.json.tmp"), "state.json");
        files.remove(&path).unwrap();
        files.remove(&path).unwrap();
        assert!(files.list(&dir.path().join("nowhere")).unwrap().is_empty());
    }

    #[test]
    fn a_full_disk_is_said_so() {
        let dir = tempfile::tempdir().unwrap();
        let full = FaultyVfs::new(Arc::new(RealVfs), |op| (op.kind == OpKind::Write).then_some(Fault::Error(28)));
        let error = Files::new(Arc::new(full)).replace(&dir.path().join("x"), b"1").unwrap_err();
        assert!(error.message.contains("free some space"), "{error}");
    }
}
