//! What the page shows beyond counts: series, their lines, anomalies, dead letters, in bounded memory.
//!
//! One thread a topic follows the log ([`tail`]) into one [`store`]; the API reads from it. Nothing here is asked by the
//! pipeline, and nothing in the pipeline waits for it.

mod letters;
mod points;
mod ring;
mod series;
mod store;
mod tail;

pub use letters::Letter;
pub use points::Points;
pub use series::{Learning, SeriesEntry};
pub use store::Anomaly;

pub(crate) use series::Cursor;
pub(crate) use store::{MAX_NOTES, MAX_POINTS_A_LINE};

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use store::Store;
use tail::{Kind, Tail};
use trackside_core::log::Log;
use trackside_core::position::{CLEAN, RECEIVED, SCORES_PREFIX};
use trackside_core::schema::Layout;

/// The views of one pipeline; they end when this is dropped.
pub struct Views {
    store: Arc<Mutex<Store>>,
    log: Arc<dyn Log>,
    partitions: u32,
    stop: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Views {
    /// Begins to follow the topics of a pipeline with these models.
    pub fn start(log: Arc<dyn Log>, layout: &Layout, partitions: u32, models: &[String]) -> std::io::Result<Self> {
        let store = Arc::new(Mutex::new(Store::new(layout, Vec::new())));
        let views = Self { store, log, partitions, stop: Arc::default(), threads: Mutex::default() };
        views.tail(RECEIVED.to_owned(), Kind::Received)?;
        views.tail(CLEAN.to_owned(), Kind::Clean)?;
        views.follow(models)?;
        Ok(views)
    }

    /// Follows the scores of these models as well, if it does not yet. Those of a model that was removed stay in sight.
    pub fn follow(&self, models: &[String]) -> std::io::Result<()> {
        for model in models {
            let added = self.read().add_model(model);
            if let Some(number) = added {
                self.tail(format!("{SCORES_PREFIX}{model}"), Kind::Scores(number))?;
            }
        }
        Ok(())
    }

    fn tail(&self, topic: String, kind: Kind) -> std::io::Result<()> {
        let name = format!("view-{topic}");
        let (log, store, stop) = (self.log.clone(), self.store.clone(), self.stop.clone());
        let tail = Tail { log, topic, kind, partitions: self.partitions, store, stop };
        let thread = std::thread::Builder::new().name(name).spawn(move || tail.run())?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// The store, for one answer.
    pub(crate) fn read(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Views {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            thread.thread().unpark();
            // A view that panicked was said so by the thread itself; there is nothing left to do here.
            _ = thread.join();
        }
    }
}
