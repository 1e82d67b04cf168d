//! Partitions that another process writes, seen from here: where its owner stands, and what it has counted.
//!
//! Whoever works downstream of such a partition finds the same things as beside its owner: ends, reigns, the newest
//! frame, a board with its counts. Nothing can be appended. The newest frame tells everything (law 4), and it is looked at
//! now and then ([`Watch`]).

use crate::crew::spawn;
use crate::data_dir::StartError;
use crate::derived::lock;
use crate::ledger::{Board, names};
use crate::metrics::{Meter, StageState};
use crate::stop::Stop;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use trackside_core::log::{Appended, EpochStart, FrameDraft, FrameHead, Log, LogError, LogReader, LogSync, LogWriter};

/// How often the newest frames are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// A partition with its owner elsewhere.
pub(crate) struct Elsewhere {
    topic: String,
    partition: u32,
    reader: Mutex<Box<dyn LogReader>>,
    /// As it was at the last look.
    newest: Mutex<Option<FrameHead>>,
    /// As they were when it was opened.
    epochs: Vec<EpochStart>,
}

impl Elsewhere {
    /// Opens it; whoever comes first makes it.
    pub(crate) fn open(log: &Arc<dyn Log>, topic: &str, partition: u32) -> Result<Arc<Self>, LogError> {
        log.prepare(topic, partition)?;
        let mut reader = log.reader(topic, partition)?;
        let (epochs, newest) = (reader.epochs()?, reader.newest()?);
        let (topic, reader, newest) = (topic.to_owned(), Mutex::new(reader), Mutex::new(newest));
        Ok(Arc::new(Self { topic, partition, reader, newest, epochs }))
    }

    /// What stands in the place of its writer here.
    pub(crate) fn writer(self: &Arc<Self>) -> Box<dyn LogWriter> {
        Box::new(Seen(self.clone()))
    }

    /// Asks the log for the newest frame, if there is a newer one.
    fn look(&self) -> Result<(), LogError> {
        let mut reader = lock(&self.reader);
        if lock(&self.newest).as_ref().map_or(0, |head| head.end) != reader.published() {
            let newest = reader.newest()?;
            *lock(&self.newest) = newest;
        }
        Ok(())
    }

    fn refusal(&self) -> LogError {
        LogError::ReadOnly(format!(
            "partition {} of `{}` is written by the process that runs its stage; ask that one",
            self.partition, self.topic
        ))
    }
}

/// A writer that writes nothing.
struct Seen(Arc<Elsewhere>);

impl LogWriter for Seen {
    fn append(&mut self, _: &FrameDraft) -> Result<Appended, LogError> {
        Err(self.0.refusal())
    }

    fn reserve(&mut self, _: u64) -> Result<(), LogError> {
        Err(self.0.refusal())
    }

    fn syncer(&self) -> Arc<dyn LogSync> {
        Arc::new(SeenEnds(self.0.clone()))
    }

    fn newest(&self) -> Option<FrameHead> {
        lock(&self.0.newest).clone()
    }

    fn epochs(&self) -> Vec<EpochStart> {
        self.0.epochs.clone()
    }

    fn epoch(&self) -> u32 {
        self.0.epochs.last().map_or(0, |start| start.epoch)
    }

    fn published(&self) -> u64 {
        lock(&self.0.reader).published()
    }

    fn durable(&self) -> u64 {
        lock(&self.0.reader).durable()
    }

    /// Its owner lets go of what nobody needs.
    fn retain(&mut self, _: u64) -> Result<u64, LogError> {
        Ok(0)
    }

    fn bytes(&self) -> u64 {
        0
    }
}

/// Its ends; its owner makes it durable.
struct SeenEnds(Arc<Elsewhere>);

impl LogSync for SeenEnds {
    fn sync(&self) -> Result<u64, LogError> {
        Ok(self.durable())
    }

    fn allow(&self, _: u64) {}

    fn durable(&self) -> u64 {
        lock(&self.0.reader).durable()
    }

    fn published(&self) -> u64 {
        lock(&self.0.reader).published()
    }
}

/// A partition that is watched: its board, and for derived ones the input that its lag is told by.
pub(crate) struct Watched {
    pub(crate) seen: Arc<Elsewhere>,
    pub(crate) board: Board,
    pub(crate) input: Option<Lag>,
}

/// How far a stage that runs elsewhere is behind.
pub(crate) struct Lag {
    pub(crate) input: Arc<dyn LogSync>,
    pub(crate) meter: Arc<Meter>,
}

/// Everything that other processes write and this one looks at.
#[derive(Default)]
pub(crate) struct Watch {
    watched: Vec<Watched>,
    /// Rows that cleaning elsewhere has worked through: the door's lag bound.
    consumed: Option<(Arc<AtomicU64>, Vec<Board>)>,
}

impl Watch {
    /// Adds a partition.
    pub(crate) fn add(&mut self, watched: Watched) {
        watched.tell();
        self.watched.push(watched);
    }

    /// From now on the door waits for these boards' cleaning.
    pub(crate) fn hold_back(&mut self, consumed: &Arc<AtomicU64>, boards: Vec<Board>) {
        self.consumed = Some((consumed.clone(), boards));
    }

    /// Looks at all of them, downstream first: rows in motion count as in flight.
    pub(crate) fn look(&self) {
        for watched in self.watched.iter().rev() {
            if let Err(error) = watched.seen.look() {
                let Elsewhere { topic, partition, .. } = &*watched.seen;
                tracing::debug!(topic, partition, %error, "a partition of another process could not be looked at");
            }
            watched.tell();
        }
        if let Some((consumed, boards)) = &self.consumed {
            let count = |board: &Board| {
                let (counts, _) = board.read();
                [names::CONSUMED, names::LOST].iter().filter_map(|name| counts.get(*name)).sum::<u64>()
            };
            consumed.store(boards.iter().map(count).sum(), Relaxed);
        }
    }

    /// Looks now and then, until the stop.
    pub(crate) fn start(self: &Arc<Self>, stop: &Stop) -> Result<Option<std::thread::JoinHandle<()>>, StartError> {
        if self.watched.is_empty() {
            return Ok(None);
        }
        let (watch, stop) = (self.clone(), stop.clone());
        let run = move || {
            while !stop.wait(LOOK) {
                watch.look();
            }
        };
        spawn("elsewhere".into(), run).map(Some)
    }
}

impl Watched {
    fn tell(&self) {
        let Some(head) = lock(&self.seen.newest).clone() else {
            return self.lag(0);
        };
        self.board.publish(&head.meta.counts, head.end);
        self.lag(head.meta.input.map_or(0, |input| input.to));
    }

    fn lag(&self, done: u64) {
        if let Some(Lag { input, meter }) = &self.input {
            meter.lag.store(input.published().saturating_sub(done), Relaxed);
            meter.state(StageState::Elsewhere, None);
        }
    }
}
