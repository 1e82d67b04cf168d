//! Frames of a broker laid into files of this machine, so that a worker maps them as it maps segments.
//!
//! Guarantee: a frame lies where it was said to for as long as somebody holds its location, and until its reader has read
//! [`KEPT`] files more. Nothing here is durable, and nothing needs to be: the log is the broker's.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use trackside_core::log::{FileLocation, LogError, SectionKind};

/// Size of a file; a frame that is larger has one of its own.
const FILE_BYTES: u64 = 16 << 20;
/// Files that stay, the one that is written included. A read takes less than one.
pub(super) const KEPT: usize = 3;

/// Tells the readers of a process apart.
static READERS: AtomicU64 = AtomicU64::new(0);

/// The files of one reader; they go with it.
pub(super) struct Spool {
    folder: PathBuf,
    name: String,
    files: VecDeque<Arc<PathBuf>>,
    number: u64,
    file: Option<File>,
    at: u64,
    room: u64,
}

impl Spool {
    pub(super) fn new(folder: &Path, stream: &str) -> Self {
        let name = format!("{stream}-{}-{}", std::process::id(), READERS.fetch_add(1, Relaxed));
        Self { folder: folder.to_path_buf(), name, files: VecDeque::new(), number: 0, file: None, at: 0, room: 0 }
    }

    /// Lays a frame down; says where.
    pub(super) fn put(&mut self, frame: &trackside_log::Frame) -> Result<FileLocation, LogError> {
        let length = frame.location.length;
        if self.room < length {
            self.roll(length).map_err(|error| self.cannot(&error))?;
        }
        let (Some(file), Some(path)) = (&self.file, self.files.back()) else {
            return Err(LogError::Other("the spool has no file".into()));
        };
        file.write_all_at(frame.bytes(), self.at).map_err(|error| self.cannot(&error))?;
        let rows = |kind: SectionKind| frame.range(kind as u16);
        let rows = rows(SectionKind::Rows).or_else(|| rows(SectionKind::Retried));
        let (rows_at, rows_length) = rows.map_or((0, 0), |range| (self.at + range.start as u64, range.len() as u64));
        let location = FileLocation { path: path.clone(), at: self.at, length, rows_at, rows_length };
        (self.at, self.room) = (self.at + length, self.room - length);
        Ok(location)
    }

    fn roll(&mut self, least: u64) -> std::io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        self.number += 1;
        let path = self.folder.join(format!("{}-{:06}", self.name, self.number));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        let size = FILE_BYTES.max(least);
        file.set_len(size)?;
        self.files.push_back(Arc::new(path));
        (self.file, self.at, self.room) = (Some(file), 0, size);
        // A model's batch may be asked about again after a replay that has read many files more.
        let mut surplus = self.files.len().saturating_sub(KEPT);
        let mut gone = Vec::new();
        self.files.retain(|file| {
            let stays = surplus == 0 || Arc::strong_count(file) > 1;
            if !stays {
                surplus -= 1;
                gone.push(file.clone());
            }
            stays
        });
        gone.iter().try_for_each(|file| fs::remove_file(&**file))
    }

    fn cannot(&self, error: &std::io::Error) -> LogError {
        let text = format!(
            "frames cannot be laid into `{}` for the model's worker: {error}; make room, or give access",
            self.folder.display()
        );
        LogError::Full(text)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        for file in &self.files {
            _ = fs::remove_file(&**file); // what stays is removed at the next start
        }
    }
}

/// Removes what processes that are gone have left behind.
pub(super) fn clear(folder: &Path) {
    if folder.exists()
        && let Err(error) = fs::remove_dir_all(folder)
    {
        tracing::warn!(folder = %folder.display(), %error, "the spool of the last start could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::ipc;
    use crate::logs::mapped::MappedReader;
    use trackside_core::testing::events;
    use trackside_log::{Draft, message};

    #[test]
    fn a_row_that_is_sent_back_lies_where_rows_do() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path(), "clean");
        let row = events(&[(1, "pump", 0.5)]);
        let mut section = Vec::new();
        ipc::encode(&row, &mut section).unwrap();
        let sections = [(SectionKind::Retried as u16, section.as_slice())];
        let draft = Draft { meta: b"{}", sections: &sections, ..Draft::default() };
        let mut bytes = Vec::new();
        message::seal(&draft, message::Seal { epoch: 1, first: 0, tag: 0, limit: 1 << 30 }, &mut bytes).unwrap();
        let place = spool.put(&message::open(&bytes, "test").unwrap()).unwrap();
        assert_eq!(MappedReader::default().read(&place.path, place.rows_at, place.rows_length).unwrap(), row);
    }

    #[test]
    fn frames_are_mapped_where_they_lie_and_old_files_go() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path(), "clean");
        let rows = events(&vec![(1, "pump", 0.5); 100_000]);
        let mut section = Vec::new();
        ipc::encode(&rows, &mut section).unwrap();
        let draft = Draft { rows: 100_000, meta: b"{}", sections: &[(1, &section)], ..Draft::default() };
        let mut bytes = Vec::new();
        message::seal(&draft, message::Seal { epoch: 1, first: 0, tag: 0, limit: 1 << 30 }, &mut bytes).unwrap();
        let frame = message::open(&bytes, "test").unwrap();
        let mut reader = MappedReader::default();
        for _ in 0..100 {
            let place = spool.put(&frame).unwrap();
            assert_eq!((place.at % 64, place.rows_at % 64), (0, 0));
            assert_eq!(reader.read(&place.path, place.rows_at, place.rows_length).unwrap(), rows);
        }
        assert!(spool.number > KEPT as u64);
        let held = spool.put(&frame).unwrap();
        for _ in 0..100 {
            spool.put(&frame).unwrap();
        }
        assert_eq!(reader.read(&held.path, held.rows_at, held.rows_length).unwrap(), rows);
        assert!(held.path.exists(), "somebody holds its location");
        drop(held);
        spool.roll(1).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), KEPT);
        drop(spool);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
