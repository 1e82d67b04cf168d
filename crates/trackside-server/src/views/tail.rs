//! Follows one topic for the page: a thread that reads what is published, a few times a second, into the store.
//!
//! It never holds anything up: it reads beside the pipeline. Where rows come faster than a page can use, it passes over
//! the oldest of them ([`MAX_BEHIND`]) and says so. At its start it goes back a bounded number of rows, so that a page
//! shows a restarted pipeline's past at once.

use super::letters;
use super::store::{MAX_NOTES, Store};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use trackside_core::log::{Budget, End, Frame, Log, LogError, LogReader, SectionKind};

/// Time between two looks at a topic.
const PACE: Duration = Duration::from_millis(40);
/// Longest wait for news before the stop flag is looked at.
const WAIT: Duration = Duration::from_millis(100);
/// Read in one look, of each partition.
const BUDGET: Budget = Budget { bytes: 1 << 20, frames: 64 };
/// Rows behind the end of a partition from which on rows are passed over.
const MAX_BEHIND: u64 = 50_000;
/// Rows before the end that are read at the start and after a jump, over all partitions.
const PAST: u64 = 50_000;
/// Pause after the log could not be read.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// What the rows of a topic are to the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Received,
    Clean,
    /// Scores and forecasts of the model with this number.
    Scores(usize),
}

/// A topic to follow.
pub(crate) struct Tail {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) topic: String,
    pub(crate) kind: Kind,
    pub(crate) partitions: u32,
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) stop: Arc<AtomicBool>,
}

struct Reader {
    partition: u32,
    log: Box<dyn LogReader>,
    offset: u64,
}

impl Tail {
    /// Runs until the flag is set.
    pub(crate) fn run(self) {
        while !self.stopped() {
            if let Err(error) = self.follow() {
                tracing::debug!(topic = self.topic, %error, "the page cannot follow a topic; it tries again");
                thread::park_timeout(AFTER_ERROR);
            }
        }
    }

    fn follow(&self) -> Result<(), LogError> {
        let mut readers = Vec::new();
        for partition in 0..self.partitions {
            let mut log = self.log.reader(&self.topic, partition)?;
            let past = PAST / u64::from(self.partitions.max(1));
            let offset = log.oldest()?.max(log.published().saturating_sub(past));
            readers.push(Reader { partition, log, offset });
        }
        let mut turn = 0;
        while !self.stopped() {
            let began = Instant::now();
            let mut news = false;
            for reader in &mut readers {
                news |= self.look(reader)?;
            }
            if !news && !readers.is_empty() {
                turn = (turn + 1) % readers.len();
                readers[turn].log.wait(readers[turn].offset, End::Published, WAIT);
            }
            thread::park_timeout(PACE.saturating_sub(began.elapsed()));
        }
        Ok(())
    }

    fn look(&self, reader: &mut Reader) -> Result<bool, LogError> {
        let end = reader.log.published();
        if end.saturating_sub(reader.offset) > MAX_BEHIND + PAST {
            reader.offset = end - PAST / u64::from(self.partitions.max(1));
            self.store.lock().unwrap_or_else(PoisonError::into_inner).sampled = true;
        }
        let frames = reader.log.read(reader.offset, BUDGET, End::Published)?;
        for frame in &frames {
            reader.offset = frame.end;
            self.take(frame, reader.partition)?;
        }
        Ok(!frames.is_empty())
    }

    fn take(&self, frame: &Frame, partition: u32) -> Result<(), LogError> {
        let letters = frame.section(SectionKind::DeadLetters)?;
        let letters = letters.map(|rows| letters::of(rows, &self.topic, partition, frame.first)).unwrap_or_default();
        let (rows, forecasts) = (frame.rows()?, frame.section(SectionKind::Forecasts)?);
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.kind, rows) {
            (_, None) => {}
            (Kind::Received, Some(rows)) => store.received(rows, frame.ingest_time),
            (Kind::Clean, Some(rows)) => store.clean(rows),
            (Kind::Scores(model), Some(rows)) => store.scores(model, rows),
        }
        if let Some(forecasts) = forecasts {
            store.forecasts(forecasts);
        }
        if let (Kind::Received, Some(word)) = (self.kind, frame.meta.letter.as_deref()) {
            store.word(word);
        }
        letters.into_iter().for_each(|letter| store.letters.push(letter, MAX_NOTES));
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
