//! Room on the disk: below a reserve sources wait, so that what is under way can end; it heals by itself.
//!
//! The door closes first, while cleaning and models still work off what was taken; at half the reserve they wait, too, and
//! what is left is for tables, snapshots and retention, which give room back. A disk that is full all the same (others
//! write to it as well, or there is a quota) refuses the append itself, before anything is stored.

use crate::crew::spawn;
use crate::data_dir::StartError;
use crate::stop::Stop;
use crate::wall::now;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The reserve when the file does not say: so many bytes, or this part of a small disk.
const RESERVE: u64 = 256 << 20;
const PART: u64 = 20;
/// How often the disk is asked.
const INTERVAL: Duration = Duration::from_millis(200);
/// So long after the log last said that there is no room, the disk still counts as full, ns.
const LINGER: i64 = 2_000_000_000;
/// How often who waits for room tries again.
pub(crate) const STEP: Duration = Duration::from_millis(250);

/// Watches the disk of a data directory.
#[derive(Debug, Default)]
pub(crate) struct Space {
    data: Option<PathBuf>,
    /// Bytes that the pipeline file wants to be kept; [`u64::MAX`] when it does not say.
    wanted: AtomicU64,
    closed: AtomicBool,
    scarce: AtomicBool,
    free: AtomicU64,
    kept: AtomicU64,
    refused_at: AtomicI64,
}

impl Space {
    /// Watches from now on, until the stop.
    pub(crate) fn watch(data: PathBuf, reserve_mib: Option<u64>, stop: Stop) -> Result<Arc<Self>, StartError> {
        let space = Arc::new(Self { data: Some(data), ..Self::default() });
        space.keep(reserve_mib);
        let watched = space.clone();
        let run = move || {
            while !stop.wait(INTERVAL) {
                watched.look();
            }
        };
        spawn("space".into(), run)?;
        Ok(space)
    }

    /// Changes the reserve.
    pub(crate) fn keep(&self, reserve_mib: Option<u64>) {
        self.wanted.store(reserve_mib.map_or(u64::MAX, |mib| mib << 20), Relaxed);
        self.look();
    }

    fn look(&self) {
        // What cannot be asked is not guessed: the log itself says when it has no room.
        let Some(disk) = self.data.as_ref().and_then(|data| rustix::fs::statvfs(data).ok()) else { return };
        let (free, size) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
        let kept = match self.wanted.load(Relaxed) {
            u64::MAX => RESERVE.min(size / PART),
            wanted => wanted,
        };
        self.free.store(free, Relaxed);
        self.kept.store(kept, Relaxed);
        self.closed.store(free < kept, Relaxed);
        self.scarce.store(free < kept / 2, Relaxed);
    }

    /// Why sources must wait, if they must.
    pub(crate) fn closed(&self) -> Option<String> {
        self.closed.load(Relaxed).then(|| self.words())
    }

    /// Why derived topics must wait as well.
    pub(crate) fn scarce(&self) -> Option<String> {
        self.scarce.load(Relaxed).then(|| self.words())
    }

    /// The log had no room.
    pub(crate) fn refused(&self) {
        self.refused_at.store(now(), Relaxed);
    }

    /// Whether the disk is full, in words.
    pub(crate) fn full(&self) -> Option<String> {
        let refused = now().saturating_sub(self.refused_at.load(Relaxed)) < LINGER;
        if refused { Some(self.words()) } else { self.closed() }
    }

    fn words(&self) -> String {
        let mib = |bytes: &AtomicU64| bytes.load(Relaxed) as f64 / f64::from(1 << 20);
        format!(
            "the disk is full: {:.0} MiB are free, and {:.0} MiB are kept for what is under way",
            mib(&self.free),
            mib(&self.kept)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_that_the_disk_does_not_have_closes_the_door() {
        let folder = tempfile::tempdir().unwrap();
        let stop = Stop::default();
        let space = Space::watch(folder.path().into(), Some(1 << 40), stop.clone()).unwrap();
        assert!(space.closed().unwrap().contains("the disk is full") && space.scarce().is_some());
        space.keep(Some(0));
        assert_eq!((space.closed(), space.full()), (None, None));
        space.refused();
        assert!(space.full().is_some() && space.closed().is_none());
        stop.set(std::time::Instant::now());
        assert!(Space::default().closed().is_none(), "where nothing is watched there is room");
    }
}
