//! Giving up history: whole segments, oldest first.
//!
//! Guarantee: never a segment with an offset from `keep_from` on, never one that is not durable, never the newest durable frame's.
//! That the history is given up is durable (in the list of epochs) before the first file goes, so a power loss that
//! brings back some of the files does not bring back some of the history.

use crate::epochs::remove_if_there;
use crate::error::{Error, Result};
use crate::segment::{Extent, Layout};
use crate::sync::{Shared, lock};
use crate::tail::Tail;

impl Shared {
    /// Deletes whole segments that end at or before `keep_from`; returns the bytes freed.
    pub(crate) fn retain(&self, keep_from: u64) -> Result<u64> {
        let _alone = lock(&self.retaining);
        let place = &self.place;
        let (victims, epochs) = {
            let mut tail = self.tail();
            tail.check(place)?;
            let victims = victims(&tail, &place.dir, keep_from, place.control.durable());
            let first = victims.iter().filter(|victim| victim.live()).map(|victim| victim.limit).max();
            tail.epochs.give_up(first.unwrap_or(0));
            (victims, tail.epochs.clone())
        };
        if victims.is_empty() {
            return Ok(0);
        }
        epochs.save(&*place.vfs, &place.dir)?;
        let freed = victims.iter().map(|victim| self.remove(victim)).sum::<Result<u64>>();
        place.control.change_layout();
        place.vfs.sync_dir(&place.dir).map_err(|e| Error::io("sync", &place.dir, e))?;
        freed
    }

    fn remove(&self, victim: &Extent) -> Result<u64> {
        remove_if_there(&*self.place.vfs, &victim.path)?;
        let mut tail = self.tail();
        let Some(k) = tail.segments.iter().position(|(name, _)| *name == victim.name) else { return Ok(0) };
        Ok(tail.segments.remove(k).1)
    }
}

/// The segments that may go, oldest first.
fn victims(tail: &Tail, dir: &std::path::Path, keep_from: u64, durable: u64) -> Vec<Extent> {
    let keep_from = keep_from.min(durable);
    let names = tail.segments.iter().map(|(name, _)| *name).collect();
    let Layout { mut live, mut dead } = Layout::of(dir, names, &tail.epochs);
    // The one that holds offset `durable - 1`. A later frame may be the newest and not survive a power loss, and then
    // nothing would tell how far the owner had come.
    let newest = live.partition_point(|extent| extent.limit < durable);
    live.truncate(newest);
    live.retain(|extent| extent.limit <= keep_from);
    dead.retain(|extent| extent.limit <= keep_from);
    live.extend(dead);
    live.sort_unstable_by_key(|extent| extent.name);
    live
}
