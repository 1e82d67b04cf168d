//! Making the log durable, by group commit, and what happens when the disk refuses.
//!
//! One fsync at a time; whoever asks while it runs shares the next one. A file whose fsync failed is never synced again:
//! the kernel may have dropped the very pages, and a second try would succeed without them. Instead the frames that are
//! not durable yet are written anew from memory, same epoch and offsets, to a segment that supersedes the old file from there
//! on. If that fails too, the partition is *poisoned*: readable, but nothing more is appended or called durable.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::log::Ownership;
use crate::planted::{Bug, planted};
use crate::segment::{SEGMENT_HEADER_BYTES, Segment};
use crate::tail::{Place, Tail};

/// What writer and syncers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) place: Place,
    pub(crate) retaining: Mutex<()>,
    tail: Mutex<Tail>,
    running: Mutex<bool>,
    finished: Condvar,
    _ownership: Ownership,
}

/// A handle that makes what was appended durable. Cheap to clone; use it from any thread.
#[derive(Clone, Debug)]
pub struct Syncer(pub(crate) Arc<Shared>);

impl Syncer {
    /// Fsyncs everything that was appended before the call; returns the offset before which all is durable, which
    /// [`Syncer::allow`] may hold back.
    ///
    /// A failed fsync that could be made good is no error: the frames are durable, in another file.
    pub fn sync(&self) -> Result<u64> {
        self.0.sync()
    }

    /// Lets `durable` rise up to `limit`, and no further, from now on; without a call there is no limit.
    ///
    /// Frames derived from another partition may be fsynced before their input is. They count as durable only once
    /// the input does: after a power loss they would stand on nothing.
    pub fn allow(&self, limit: u64) {
        self.0.tail().allow(&self.0.place, limit);
    }

    /// The offset before which all is durable.
    pub fn durable(&self) -> u64 {
        self.0.place.control.durable()
    }

    /// The offset before which all is published.
    pub fn published(&self) -> u64 {
        self.0.place.control.published()
    }

    /// How often a failed fsync was made good by writing the frames anew: a reason to look at the disk.
    pub fn repairs(&self) -> u64 {
        self.0.tail().repairs
    }

    /// Why the partition is read-only, if it is.
    pub fn poisoned(&self) -> Option<String> {
        self.0.tail().poisoned.clone()
    }

    /// Deletes whole segments; see [`crate::Writer::retain`].
    pub fn retain(&self, keep_from: u64) -> Result<u64> {
        self.0.retain(keep_from)
    }
}

impl Shared {
    pub(crate) fn new(place: Place, tail: Tail, ownership: Ownership) -> Self {
        Self {
            place,
            tail: Mutex::new(tail),
            retaining: Mutex::new(()),
            running: Mutex::new(false),
            finished: Condvar::new(),
            _ownership: ownership,
        }
    }

    pub(crate) fn tail(&self) -> MutexGuard<'_, Tail> {
        lock(&self.tail)
    }

    pub(crate) fn sync(&self) -> Result<u64> {
        let target = self.place.control.published();
        let mut running = lock(&self.running);
        loop {
            {
                let tail = self.tail();
                if tail.synced >= target {
                    return Ok(self.place.control.durable());
                }
                tail.check(&self.place)?;
            }
            if *running {
                running = self.finished.wait(running).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            *running = true;
            drop(running);
            let done = self.sync_once();
            running = lock(&self.running);
            *running = false;
            self.finished.notify_all();
            done?;
        }
    }

    fn sync_once(&self) -> Result<()> {
        let (dirty, dir_dirty, target) = {
            let mut tail = self.tail();
            tail.check(&self.place)?;
            (std::mem::take(&mut tail.dirty), std::mem::take(&mut tail.dir_dirty), tail.end)
        };
        // Without the lock: appends go on meanwhile.
        let files = dirty.iter().try_for_each(Segment::sync);
        let files = if planted(Bug::SwallowEio) { Ok(()) } else { files };
        let dir = if dir_dirty && files.is_ok() { self.sync_dir() } else { Ok(()) };
        let mut tail = self.tail();
        match (files, dir) {
            (Ok(()), Ok(())) => tail.settle(&self.place, target),
            (Err(error), _) => self.repair(&mut tail, &error)?,
            // Another file in the same directory would need the same fsync: there is nothing to turn to.
            (Ok(()), Err(error)) => return Err(self.poison(&mut tail, error.to_string())),
        }
        Ok(())
    }

    fn sync_dir(&self) -> Result<()> {
        let Place { vfs, dir, .. } = &self.place;
        if planted(Bug::SkipDirFsync) {
            return Ok(());
        }
        vfs.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))
    }

    fn repair(&self, tail: &mut Tail, failed: &Error) -> Result<()> {
        match self.write_anew(tail) {
            Ok((segment, at)) => {
                tail.repairs += 1;
                tail.dirty.clear();
                tail.dir_dirty = false;
                tail.install(&self.place, segment, at);
                let end = tail.end;
                tail.settle(&self.place, end);
                Ok(())
            }
            Err(again) => {
                Err(self.poison(tail, format!("{failed}; then, writing the frames to another file: {again}")))
            }
        }
    }

    /// Writes all frames that are not durable to a new segment and makes it durable before any reader can see it.
    fn write_anew(&self, tail: &mut Tail) -> Result<(Segment, u64)> {
        let first = tail.unsynced.front().map_or(tail.end, |frame| frame.first);
        let bytes = (tail.unsynced_bytes + SEGMENT_HEADER_BYTES).max(self.place.options.first_segment_bytes);
        let segment = tail.create(&self.place, first, bytes, true)?;
        let mut at = SEGMENT_HEADER_BYTES;
        for frame in &tail.unsynced {
            segment.file.write_at(&frame.bytes, at).map_err(|e| Error::io("write", &segment.path, e))?;
            at += frame.bytes.len() as u64;
        }
        segment.sync()?;
        let segment = segment.reveal(&*self.place.vfs, &self.place.dir)?;
        self.sync_dir()?;
        Ok((segment, at))
    }

    /// Ends all writing. The page remembers it, so that the next start does not trust what it reads back.
    fn poison(&self, tail: &mut Tail, why: String) -> Error {
        self.place.control.suspect();
        tail.poisoned = Some(why.clone());
        Error::Poisoned { path: self.place.dir.to_path_buf(), why }
    }
}

/// A thread that panicked while holding one of our locks left nothing half done that a lock could protect.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
