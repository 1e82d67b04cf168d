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
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Views {
    /// Begins to follow the topics of a pipeline with these models.
    pub fn start(log: Arc<dyn Log>, layout: &Layout, partitions: u32, models: &[String]) -> std::io::Result<Self> {
        let store = Arc::new(Mutex::new(Store::new(layout, models.to_vec())));
        let mut views = Self { store: store.clone(), stop: Arc::default(), threads: Vec::new() };
        let mut topics = vec![(RECEIVED.to_owned(), Kind::Received), (CLEAN.to_owned(), Kind::Clean)];
        topics.extend(models.iter().enumerate().map(|(n, model)| (format!("{SCORES_PREFIX}{model}"), Kind::Scores(n))));
        for (topic, kind) in topics {
            let name = format!("view-{topic}");
            let (log, store, stop) = (log.clone(), store.clone(), views.stop.clone());
            let tail = Tail { log, topic, kind, partitions, store, stop };
            views.threads.push(std::thread::Builder::new().name(name).spawn(move || tail.run())?);
        }
        Ok(views)
    }

    /// The store, for one answer.
    pub(crate) fn read(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Views {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A view that panicked was said so by the thread itself; there is nothing left to do here.
            _ = thread.join();
        }
    }
}
