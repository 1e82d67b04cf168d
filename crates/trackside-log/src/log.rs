//! The log of a data directory: topics, each with its partitions, each a directory of segments.
//!
//! ```
//! use std::sync::Arc;
//! use trackside_log::{Draft, Options, RealVfs, Store};
//!
//! # fn main() -> trackside_log::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! let store = Store::open(Arc::new(RealVfs), &dir.path().join("log"), Options::default())?;
//! let mut writer = store.writer("received", 0, &mut |_| true)?;
//! let appended = writer.append(&Draft { rows: 3, meta: b"{}", sections: &[(1, b"rows")], ..Draft::default() })?;
//! assert_eq!((appended.first, appended.end), (0, 3));
//! assert_eq!(writer.syncer().sync()?, 3);
//!
//! let frames = store.reader("received", 0)?.read(0, 1 << 20, 100)?;
//! assert_eq!(frames[0].section(1), Some(&b"rows"[..]));
//! # Ok(())
//! # }
//! ```

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::error::{Error, Result};
use crate::frame::FrameInfo;
use crate::partition::{CONTROL, Writer};
use crate::reader::Reader;
use crate::scan::Damage;
use crate::sync::lock;
use crate::verify::{Each, Inspection, Survey, Verified};
use crate::vfs::Vfs;

/// A topic's name is at most so long.
const MAX_TOPIC_BYTES: usize = 200;
/// The smallest segment that makes sense.
const MIN_SEGMENT_BYTES: u64 = 4096;

/// The bounds of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Segments grow to this size.
    pub segment_bytes: u64,
    /// An epoch's first segment is this small; each next one is twice as large.
    pub first_segment_bytes: u64,
    /// A larger frame is refused.
    pub max_frame_bytes: u64,
    /// So much is kept in memory until it is durable, in case an fsync fails; beyond it an append syncs first.
    pub max_undurable_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            first_segment_bytes: 1 << 20,
            max_frame_bytes: 32 << 20,
            max_undurable_bytes: 16 << 20,
        }
    }
}

/// The log of one data directory. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    vfs: Arc<dyn Vfs>,
    root: PathBuf,
    options: Options,
    owned: Arc<Mutex<HashSet<(String, u32)>>>,
}

impl Store {
    /// Opens the log below `root` (`<data>/log`), which need not exist yet. That this is the only process that writes is the
    /// caller's to ensure: see [`crate::DirLock`].
    pub fn open(vfs: Arc<dyn Vfs>, root: &Path, options: Options) -> Result<Self> {
        let Options { segment_bytes, first_segment_bytes, max_frame_bytes, .. } = options;
        if first_segment_bytes < MIN_SEGMENT_BYTES || segment_bytes < first_segment_bytes {
            let what = format!(
                "segments of {first_segment_bytes} up to {segment_bytes} bytes make no sense; the first must be at least \
                 {MIN_SEGMENT_BYTES} and at most the largest"
            );
            return Err(Error::Invalid { what });
        }
        if max_frame_bytes > u64::from(u32::MAX) {
            return Err(Error::Invalid {
                what: format!("frames of {max_frame_bytes} bytes do not fit the format; at most 4 GiB do"),
            });
        }
        Ok(Self { vfs, root: root.to_path_buf(), options, owned: Arc::default() })
    }

    /// The topics with their partitions, both in order.
    pub fn topics(&self) -> Result<Vec<(String, Vec<u32>)>> {
        let mut topics = Vec::new();
        for topic in self.list(&self.root)? {
            if check_topic(&topic).is_err() {
                continue;
            }
            let mut partitions = Vec::new();
            for partition in self.list(&self.root.join(&topic))?.iter().filter_map(|name| name.parse().ok()) {
                let page = self.dir(&topic, partition).join(CONTROL);
                if self.vfs.exists(&page).map_err(|e| Error::io("look at", &page, e))? {
                    partitions.push(partition);
                }
            }
            partitions.sort_unstable();
            if !partitions.is_empty() {
                topics.push((topic, partitions));
            }
        }
        topics.sort_unstable();
        Ok(topics)
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        match self.vfs.list(dir) {
            Ok(names) => Ok(names),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                Ok(Vec::new())
            }
            Err(error) => Err(Error::io("list", dir, error)),
        }
    }

    /// Opens a partition for its one owner: recovers it, asks `keep` about its newest frames until it keeps one (a frame
    /// for which it says false is given up), and starts a new epoch. The partition is made if there is none.
    pub fn writer(&self, topic: &str, partition: u32, keep: &mut dyn FnMut(&FrameInfo<'_>) -> bool) -> Result<Writer> {
        check_topic(topic)?;
        let ownership = Ownership::take(&self.owned, topic, partition)?;
        Writer::open(Arc::clone(&self.vfs), &self.dir(topic, partition), self.options, ownership, keep)
    }

    /// Opens a partition to read, in the owner's process or any other. [`Error::NotFound`] if it was never written.
    pub fn reader(&self, topic: &str, partition: u32) -> Result<Reader> {
        check_topic(topic)?;
        // Only the owner's process writes below the data directory, copies of damage included.
        let ours = lock(&self.owned).contains(&(topic.to_owned(), partition));
        Reader::open(Arc::clone(&self.vfs), &self.dir(topic, partition), ours)
    }

    /// What a partition consists of, beside its owner and without a lock.
    pub fn survey(&self, topic: &str, partition: u32) -> Result<Survey> {
        check_topic(topic)?;
        Inspection::open(&*self.vfs, &self.dir(topic, partition))?.survey()
    }

    /// Reads every frame of a partition, beside its owner and without a lock: `each` is shown the sound ones in order,
    /// `progress` is told the bytes read.
    pub fn verify(
        &self,
        topic: &str,
        partition: u32,
        each: &mut Each<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Verified> {
        check_topic(topic)?;
        Inspection::open(&*self.vfs, &self.dir(topic, partition))?.verify(each, progress)
    }

    /// Copies damaged bytes to `quarantine/` beside their segment; `None` if no copy could be made. Nothing else is
    /// touched. For whoever holds the data directory's lock.
    pub fn set_aside(&self, topic: &str, partition: u32, damage: &Damage) -> Option<PathBuf> {
        crate::recovery::quarantine(&*self.vfs, &self.dir(topic, partition), damage)
    }

    /// Writes the list of epochs anew from the segments' names, where it is damaged or missing; what was there is kept
    /// beside it. `None`: it is sound. For whoever holds the data directory's lock.
    pub fn restore_epochs(&self, topic: &str, partition: u32) -> Result<Option<PathBuf>> {
        crate::verify::restore_epochs(&*self.vfs, &self.dir(topic, partition))
    }

    fn dir(&self, topic: &str, partition: u32) -> PathBuf {
        self.root.join(topic).join(partition.to_string())
    }
}

fn check_topic(topic: &str) -> Result<()> {
    let fine = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    let first = topic.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if first && topic.len() <= MAX_TOPIC_BYTES && topic.bytes().all(fine) {
        return Ok(());
    }
    let what = format!(
        "`{topic}` is no name for a topic; use up to {MAX_TOPIC_BYTES} letters, digits, `-`, `_` and `.`, a letter or digit first"
    );
    Err(Error::Invalid { what })
}

/// The right to write a partition, within this process. Given back when the writer and all its handles are gone.
#[derive(Debug)]
pub(crate) struct Ownership {
    owned: Arc<Mutex<HashSet<(String, u32)>>>,
    key: (String, u32),
}

impl Ownership {
    fn take(owned: &Arc<Mutex<HashSet<(String, u32)>>>, topic: &str, partition: u32) -> Result<Self> {
        let key = (topic.to_owned(), partition);
        if !lock(owned).insert(key.clone()) {
            return Err(Error::Owned { topic: key.0, partition });
        }
        Ok(Self { owned: Arc::clone(owned), key })
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        lock(&self.owned).remove(&self.key);
    }
}
