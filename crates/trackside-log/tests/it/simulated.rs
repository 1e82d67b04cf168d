//! A disk in memory that can lose its power: what was not synced is lost in part and in any order.
//!
//! Each 512-byte sector that was written since its file's last sync stays or goes by itself, and so does each change of
//! a directory since its last sync (a rename as a whole). A control page is lost, or as it was last.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use trackside_log::{ControlMemory, Mode, RealVfs, Vfs, VfsFile};

const SECTOR: usize = 512;

/// A small generator of numbers that follow from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
}

/// A change of a directory: names removed, then a name given to a file.
#[derive(Clone, Debug)]
struct Change {
    dir: PathBuf,
    gone: Option<PathBuf>,
    new: Option<(PathBuf, usize)>,
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        if let Some(gone) = &self.gone {
            names.remove(gone);
        }
        if let Some((path, file)) = &self.new {
            names.insert(path.clone(), *file);
        }
    }
}

#[derive(Debug, Default)]
struct Disk {
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    changes: Vec<Change>,
    /// Where the control pages are real files.
    pages: Option<tempfile::TempDir>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct SimulatedDisk(Arc<Mutex<Disk>>);

impl SimulatedDisk {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    /// The disk as it is found after the power came back.
    pub(crate) fn lose_power(&self, random: &mut Random) -> Self {
        let disk = self.disk();
        let mut after = Disk { synced_names: disk.synced_names.clone(), ..Disk::default() };
        for change in &disk.changes {
            if random.below(2) == 0 {
                change.apply(&mut after.synced_names);
            }
        }
        after.names = after.synced_names.clone();
        after.pages = Some(crate::support::tempdir());
        if let (Some(old), Some(new)) = (&disk.pages, &after.pages)
            && random.below(2) == 0
        {
            crate::support::copy(old.path(), new.path());
        }
        after.files = disk.files.iter().map(|content| survive(content, random)).collect();
        Self(Arc::new(Mutex::new(after)))
    }

    fn change(&self, change: Change) {
        let mut disk = self.disk();
        change.apply(&mut disk.names);
        disk.changes.push(change);
    }
}

/// Keeps what was synced, and of each other sector the one or the other.
fn survive(content: &Content, random: &mut Random) -> Content {
    let mut bytes = content.synced.clone();
    let all_or_some = random.below(4);
    if content.now.len() > bytes.len() && random.below(2) == 0 {
        bytes.resize(content.now.len(), 0);
    }
    let length = bytes.len().min(content.now.len());
    for start in (0..length).step_by(SECTOR) {
        let sector = start..length.min(start + SECTOR);
        if all_or_some == 0 || (all_or_some > 1 && random.below(2) == 0) {
            bytes[sector.clone()].copy_from_slice(&content.now[sector]);
        }
    }
    Content { now: bytes.clone(), synced: bytes }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap().to_path_buf()
}

impl Vfs for SimulatedDisk {
    fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        let names = disk.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.disk().names.contains_key(path))
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn VfsFile>> {
        let known = self.disk().names.get(path).copied();
        let file = match (known, mode) {
            (Some(_), Mode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, Mode::Read | Mode::ReadWrite) => return Err(io::ErrorKind::NotFound.into()),
            (Some(file), _) => file,
            (None, Mode::CreateNew) => {
                let mut disk = self.disk();
                disk.files.push(Content::default());
                let file = disk.files.len() - 1;
                drop(disk);
                self.change(Change { dir: parent(path), gone: None, new: Some((path.to_path_buf(), file)) });
                file
            }
        };
        Ok(Box::new(SimulatedFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.disk().names.get(from).copied().ok_or(io::ErrorKind::NotFound)?;
        self.change(Change { dir: parent(to), gone: Some(from.to_path_buf()), new: Some((to.to_path_buf(), file)) });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if !self.exists(path)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.change(Change { dir: parent(path), gone: Some(path.to_path_buf()), new: None });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let (done, left) = std::mem::take(&mut disk.changes).into_iter().partition(|change: &Change| change.dir == dir);
        disk.changes = left;
        for change in done {
            change.apply(&mut disk.synced_names);
        }
        Ok(())
    }

    fn control(&self, path: &Path, create: bool) -> io::Result<Arc<dyn ControlMemory>> {
        let mut disk = self.disk();
        let pages = disk.pages.get_or_insert_with(crate::support::tempdir);
        let name = path.to_str().unwrap().replace('/', "_");
        RealVfs.control(&pages.path().join(name), create)
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    file: usize,
}

impl SimulatedFile {
    fn with<T>(&self, act: impl FnOnce(&mut Content) -> T) -> io::Result<T> {
        Ok(act(&mut self.disk.disk().files[self.file]))
    }
}

impl VfsFile for SimulatedFile {
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.with(|content| content.now.resize(content.now.len().max(bytes as usize), 0))
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.with(|content| {
            let from = content.now.get(at as usize..).unwrap_or_default();
            let read = from.len().min(buffer.len());
            buffer[..read].copy_from_slice(&from[..read]);
            read
        })
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.with(|content| {
            let end = at as usize + bytes.len();
            content.now.resize(content.now.len().max(end), 0);
            content.now[at as usize..end].copy_from_slice(bytes);
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|content| content.synced = content.now.clone())
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|content| content.now.len() as u64)
    }
}
