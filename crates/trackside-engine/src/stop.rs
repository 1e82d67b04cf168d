//! The stop signal: every loop looks at it and every wait is woken by it.
//!
//! A stop asks a stage to work through what it was given and end; past the stop's deadline it ends where it is. That
//! is safe: the next start goes on from the position that the output names.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shared by all threads that end together.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<(Mutex<Option<Instant>>, Condvar)>);

impl Stop {
    /// Asks everyone to end, by `deadline` at the latest.
    pub fn set(&self, deadline: Instant) {
        self.lock().get_or_insert(deadline);
        self.0.1.notify_all();
    }

    /// Whether the end was asked for.
    pub fn is_set(&self) -> bool {
        self.lock().is_some()
    }

    /// Whether the deadline is past: end now, whatever is left.
    pub fn is_overdue(&self) -> bool {
        self.lock().is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Waits at most that long; true when the end was asked for.
    pub fn wait(&self, timeout: Duration) -> bool {
        let (stop, _) = self
            .0
            .1
            .wait_timeout_while(self.lock(), timeout, |stop| stop.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        stop.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
