//! Snapshots in files: `<data>/snapshots/<stage>/<partition>/<name>`, each put in place as a whole.

use super::{Shelf, Store};
use crate::sinks::files::{Files, finished_name};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use trackside_core::error::Failure;

/// The files of a data directory.
#[derive(Debug)]
pub struct FileStore {
    files: Files,
    data: PathBuf,
    /// Folders that were made durable in this life.
    made: Mutex<BTreeSet<Shelf>>,
}

impl FileStore {
    /// Below a data directory.
    pub fn new(files: &Files, data: &Path) -> Self {
        Self { files: files.clone(), data: data.to_path_buf(), made: Mutex::default() }
    }

    fn folder(&self, shelf: &Shelf) -> PathBuf {
        self.data.join("snapshots").join(&shelf.stage).join(shelf.partition.to_string())
    }
}

impl Store for FileStore {
    fn list(&self, shelf: &Shelf) -> Result<Vec<String>, Failure> {
        // A folder that cannot be read is as one that is not there: the state is replayed from what the log holds.
        let mut names = self.files.list(&self.folder(shelf)).unwrap_or_default();
        names.retain(|name| finished_name(name) == name);
        Ok(names)
    }

    fn read(&self, shelf: &Shelf, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.files.read(&self.folder(shelf).join(name)).ok().flatten())
    }

    fn write(&self, shelf: &Shelf, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let folder = self.folder(shelf);
        // Retention relies on what lies in the folder, so its own entry must survive as well. That it is there does not
        // tell: an earlier life may have ended between making it and making it durable.
        let made = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if !made().contains(shelf) {
            self.files.create_dir(&self.data, &folder)?;
            made().insert(shelf.clone());
        }
        self.files.replace(&folder.join(name), bytes)
    }

    fn remove(&self, shelf: &Shelf, name: &str) -> Result<(), Failure> {
        self.files.remove(&self.folder(shelf).join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::testing::{Candidate, sit};
    use std::sync::Arc;

    struct Folder(tempfile::TempDir);

    impl Candidate for Folder {
        fn open(&self) -> Arc<dyn Store> {
            Arc::new(FileStore::new(&Files::default(), self.0.path()))
        }

        fn spoil(&self, shelf: &Shelf, name: &str, bytes: &[u8]) {
            let store = FileStore::new(&Files::default(), self.0.path());
            std::fs::write(store.folder(shelf).join(name), bytes).unwrap();
        }

        fn half(&self, shelf: &Shelf, name: &str, bytes: &[u8]) {
            let store = FileStore::new(&Files::default(), self.0.path());
            store.files.write_aside(&store.folder(shelf).join(name), bytes).unwrap();
        }
    }

    #[test]
    fn the_exam() {
        sit(&Folder(tempfile::tempdir().unwrap()));
    }
}
