//! Durability of derived topics, lazily: `clean`, then each model's, always after the input that they came from.
//!
//! A topic's durable end is what its readers (tables, alerts, snapshots) may rely on, so it must never run ahead of
//! the input's: after a power loss the rows would stand on nothing.

use crate::stop::Stop;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use trackside_core::log::{LogError, LogSync, LogWriter};

/// How often derived topics are made durable.
const INTERVAL: Duration = Duration::from_millis(100);

/// The writer of a derived partition, shared between its stage and whoever syncs or trims it.
pub(crate) type SharedWriter = Arc<Mutex<Box<dyn LogWriter>>>;

/// A derived partition and the input that it came from.
pub(crate) struct Derived {
    writer: SharedWriter,
    sync: Arc<dyn LogSync>,
    input: Arc<dyn LogSync>,
}

impl Derived {
    /// From now on its durable end waits for the input's.
    pub(crate) fn new(writer: SharedWriter, input: Arc<dyn LogSync>) -> Self {
        let sync = lock(&writer).syncer();
        sync.allow(sync.published());
        Self { writer, sync, input }
    }

    /// Makes durable what is published now.
    fn sync(&self) -> Result<(), LogError> {
        let (end, needs) = {
            let writer = lock(&self.writer);
            let needs = writer.newest().and_then(|head| head.meta.input).map_or(0, |input| input.to);
            (writer.published(), needs)
        };
        if self.sync.durable() >= end {
            return Ok(());
        }
        while self.input.durable() < needs {
            self.input.sync()?;
        }
        self.sync.allow(end);
        self.sync.sync().map(|_| ())
    }
}

/// Makes all durable, upstream first; the list is in that order.
pub(crate) fn sync_all(derived: &[Derived]) {
    for partition in derived {
        if let Err(error) = partition.sync() {
            tracing::error!(%error, "a derived topic could not be made durable; tables and snapshots wait");
        }
    }
}

/// Runs until the stop is set; the last round comes after it.
pub(crate) fn run(derived: &[Derived], stop: &Stop) {
    while !stop.wait(INTERVAL) {
        sync_all(derived);
    }
    sync_all(derived);
}

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
