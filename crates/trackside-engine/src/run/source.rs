//! A source's thread: runs it, and after a failure runs it again from where its deliveries are durable.

use crate::metrics::{Meter, StageState};
use crate::policy::Backoff;
use crate::run::ingest::SourceDoor;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use trackside_core::error::Action;
use trackside_core::source::{Door, Source};

/// How a source's run came to its end.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// It runs no more.
    pub(crate) ended: AtomicBool,
    /// It came to the end of its stream, not to a stop or a failure: only that is the end of the input.
    pub(crate) complete: AtomicBool,
}

/// Runs until the stream ends, the pipeline stops, or a human is needed.
pub(crate) fn run(mut source: Box<dyn Source>, door: SourceDoor, meter: &Meter, ending: &Ending) {
    let door = Arc::new(door);
    let mut backoff = Backoff::default();
    loop {
        meter.state(StageState::Running, None);
        let rows = meter.rows.load(Ordering::Relaxed);
        match source.run(door.clone()) {
            Ok(()) => {
                ending.complete.store(!door.stopping(), Ordering::Release);
                meter.state(StageState::Finished, None);
                break;
            }
            Err(failure) if failure.action == Action::Retry => {
                if meter.rows.load(Ordering::Relaxed) > rows {
                    backoff.reset(); // it worked for a while
                }
                let wait = backoff.next();
                tracing::warn!(source = door.name, error = %failure, wait_ms = wait.as_millis(), "a source waits");
                meter.errors.fetch_add(1, Ordering::Relaxed);
                meter.state(StageState::BackingOff, Some(failure.to_string()));
                if door.wait_stop(wait) {
                    break;
                }
            }
            Err(failure) => {
                tracing::error!(source = door.name, error = %failure, "a source stopped");
                meter.errors.fetch_add(1, Ordering::Relaxed);
                meter.state(StageState::Stopped, Some(failure.to_string()));
                break;
            }
        }
    }
    ending.ended.store(true, Ordering::Release);
}
