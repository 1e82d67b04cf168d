//! Durability of derived topics, lazily: `clean`, then each model's, always after the input that they came from.
//!
//! A topic's durable end is what its readers (tables, alerts, snapshots) may rely on, so it must never run ahead of
//! the input's: after a power loss the rows would stand on nothing.

use crate::metrics::{Meter, StageState};
use crate::run::clean::from_log;
use crate::space::{self, Space};
use crate::stop::Stop;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use trackside_core::error::Failure;
use trackside_core::log::{Appended, FrameDraft, LogError, LogSync, LogWriter};

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

    /// Whether it is this writer's.
    pub(crate) fn is_of(&self, writer: &SharedWriter) -> bool {
        Arc::ptr_eq(&self.writer, writer)
    }

    /// How far it has come, and how much of its input that stands on.
    fn mark(&self) -> Mark {
        let writer = lock(&self.writer);
        let needs = writer.newest().and_then(|head| head.meta.input).map_or(0, |input| input.to);
        Mark { end: writer.published(), needs }
    }

    /// Makes durable what lies before the mark.
    fn sync(&self, mark: &Mark) -> Result<(), LogError> {
        if self.sync.durable() >= mark.end {
            return Ok(());
        }
        if self.input.durable() < mark.needs && self.input.sync()? < mark.needs {
            return Ok(()); // the input could not be made durable in this round; the next one tries again
        }
        self.sync.allow(mark.end);
        self.sync.sync().map(|_| ())
    }
}

/// An end of a derived partition, and the input offset before which all must be durable first.
struct Mark {
    end: u64,
    needs: u64,
}

/// Makes all durable, upstream first; the list is in that order.
///
/// The marks are taken from downstream to upstream: meanwhile work goes on, and a mark taken later upstream covers
/// whatever one taken earlier downstream stands on.
pub(crate) fn sync_all(derived: &[Derived]) {
    let mut marks: Vec<Mark> = derived.iter().rev().map(Derived::mark).collect();
    marks.reverse();
    for (partition, mark) in derived.iter().zip(&marks) {
        if let Err(error) = partition.sync(mark) {
            tracing::error!(%error, "a derived topic could not be made durable; tables and snapshots wait");
        }
    }
}

/// Appends; without room it waits for some, and the lag that grows meanwhile slows the sources (law 8).
pub(crate) fn append(
    writer: &SharedWriter,
    draft: &FrameDraft,
    space: &Space,
    stop: &Stop,
    meter: &Meter,
) -> Result<Appended, Failure> {
    loop {
        let why = match space.scarce() {
            Some(why) => why,
            None => match lock(writer).append(draft) {
                Ok(appended) => return Ok(appended),
                Err(LogError::Full(why)) => why,
                Err(error) => return Err(from_log(error)),
            },
        };
        meter.state(StageState::BackingOff, Some(why));
        if stop.wait(space::STEP) {
            return Err(Failure::retry("stopped while the disk was full"));
        }
    }
}

/// Runs until the stop is set; the last round comes after it.
pub(crate) fn run(derived: &Mutex<Vec<Derived>>, stop: &Stop) {
    while !stop.wait(INTERVAL) {
        sync_all(&lock(derived));
    }
    sync_all(&lock(derived));
}

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
