//! The two ends of a partition as this process knows them, and the frames that its owner here appended last.
//!
//! The owner tells readers of its own process at once, and readers elsewhere by a short message that nothing keeps.
//! Who misses one finds out by asking the stream, once a second.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use trackside_core::log::End;
use trackside_log::Frame;

/// Bytes of appended frames that stay in memory for readers of this process.
const MAX_RECENT_BYTES: u64 = 16 << 20;

/// A frame with the sequence of its (last) message.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) frame: Arc<Frame>,
    pub(super) sequence: u64,
}

#[derive(Debug, Default)]
struct State {
    published: u64,
    durable: u64,
    /// No durable end beyond this; none while nobody has set it.
    limit: Option<u64>,
    recent: VecDeque<Placed>,
    recent_bytes: u64,
    /// Whether this process has the owner.
    owned: bool,
    /// Whether somebody listens for news of an owner elsewhere.
    watched: bool,
}

/// Shared between the owner, its readers and whoever listens for news.
#[derive(Debug, Default)]
pub(super) struct Ends {
    state: Mutex<State>,
    changed: Condvar,
}

impl Ends {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An owner starts here, or ends.
    pub(super) fn own(&self, owned: bool, end: u64) {
        let mut state = self.lock();
        *state = State { published: end, durable: end, owned, watched: state.watched, ..State::default() };
        self.changed.notify_all();
    }

    pub(super) fn owned(&self) -> bool {
        self.lock().owned
    }

    /// True for the first who asks: it is the one to listen.
    pub(super) fn watch(&self) -> bool {
        !std::mem::replace(&mut self.lock().watched, true)
    }

    /// The owner here has appended.
    pub(super) fn append(&self, placed: Placed) {
        let mut state = self.lock();
        state.published = placed.frame.info.end;
        state.durable = state.limit.map_or(state.published, |limit| limit.min(state.published)).max(state.durable);
        state.recent_bytes += placed.frame.location.length;
        state.recent.push_back(placed);
        while state.recent_bytes > MAX_RECENT_BYTES
            && let Some(old) = state.recent.pop_front()
        {
            state.recent_bytes -= old.frame.location.length;
        }
        self.changed.notify_all();
    }

    /// Frames before this offset are no longer kept.
    pub(super) fn forget(&self, before: u64) {
        let mut state = self.lock();
        while state.recent.front().is_some_and(|placed| placed.frame.info.end <= before)
            && let Some(old) = state.recent.pop_front()
        {
            state.recent_bytes -= old.frame.location.length;
        }
    }

    /// News of an owner elsewhere: what it has published is acknowledged and so is durable. The end may have come back,
    /// for a new owner gave frames up.
    pub(super) fn learn(&self, end: u64) {
        let mut state = self.lock();
        if !state.owned && state.published != end {
            (state.published, state.durable) = (end, end);
            self.changed.notify_all();
        }
    }

    /// A frame of an owner elsewhere was seen: it ends there at least, whatever news have told.
    pub(super) fn reach(&self, end: u64) {
        let mut state = self.lock();
        if !state.owned && state.published < end {
            (state.published, state.durable) = (end, end);
            self.changed.notify_all();
        }
    }

    /// From now on `durable` may rise to `limit`.
    pub(super) fn allow(&self, limit: u64) {
        self.lock().limit = Some(limit);
    }

    /// All that was published was acknowledged; what is allowed of it becomes durable.
    pub(super) fn sync(&self) -> u64 {
        let mut state = self.lock();
        state.durable = state.limit.map_or(state.published, |limit| limit.min(state.published)).max(state.durable);
        self.changed.notify_all();
        state.durable
    }

    pub(super) fn at(&self, end: End) -> u64 {
        let state = self.lock();
        match end {
            End::Published => state.published,
            End::Durable => state.durable,
        }
    }

    pub(super) fn wait(&self, offset: u64, end: End, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            let there = if end == End::Published { state.published } else { state.durable };
            if there > offset {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Frames from the one that holds `from` on, if memory still has that one.
    pub(super) fn recent(&self, from: u64) -> Vec<Placed> {
        let state = self.lock();
        let start = state.recent.partition_point(|placed| placed.frame.info.end <= from);
        if state.recent.get(start).is_none_or(|placed| placed.frame.info.first > from) {
            return Vec::new();
        }
        state.recent.range(start..).cloned().collect()
    }
}
