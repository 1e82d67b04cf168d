//! A pipeline without threads: the stages of the running one, moved on one step at a time by whoever drives them.
//!
//! Guarantee: the code that decides what is written, acknowledged, cleaned, committed and given up is the product's; only
//! threads, waits and back-off are the driver's. So an order of steps that a seed draws is an order in which threads may
//! come to run, and can be played again. Files go through the caller's `Vfs`, and time is what [`set_clock`] says.
//!
//! Partitions of one pipeline; sinks are Parquet tables; no models.

use crate::catalog;
use crate::catalog::stepped::{Embedded, Parquet};
use crate::catalog::{FileStore, Files, Snapshots, Store};
use crate::config::Pipeline;
use crate::derived::{Derived, SharedWriter, lock, sync_all};
use crate::ledger::{Board, Sums, Totals, names, sums};
use crate::metrics::Meter;
use crate::parts::{board, input_survived};
use crate::retention::bounded;
use crate::run::clean::{Chain, CleanStage, Cleaning};
use crate::run::deliver::DeliverStage;
use crate::run::ingest::{Received, SourceDoor};
use crate::stop::Stop;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use trackside_core::component;
use trackside_core::error::{Action, Failure};
use trackside_core::log::{Log, LogError, SectionKind};
use trackside_core::position::{CLEAN, DEAD_LETTER, RECEIVED};
use trackside_core::sink::SinkContext;
use trackside_core::source::{Delivery, Door, Refused};

/// Sets the wall clock of this thread, ns since 1970; `None` gives back the machine's.
pub fn set_clock(now: Option<i64>) {
    crate::wall::set(now);
}

/// A stage that waits longer than this would do so for ever.
const FAR: Duration = Duration::from_secs(1 << 30);

/// A sink's stage, and where it stands; none before it began, or after a failure.
struct Sinking {
    stage: DeliverStage,
    topic: String,
    origin: String,
    partition: u32,
    at: Option<u64>,
    /// It ended for good: a human is needed.
    stopped: Option<String>,
    keep_from: Arc<AtomicU64>,
}

struct Cleaner {
    stage: CleanStage,
    writer: SharedWriter,
    board: Board,
    keep_from: Arc<AtomicU64>,
    at: Option<Cleaning>,
}

/// The pipeline.
pub struct Stepped {
    log: Arc<dyn Log>,
    received: Arc<Received>,
    door: Arc<SourceDoor>,
    derived: Vec<Derived>,
    cleaners: Vec<Cleaner>,
    sinks: Vec<Sinking>,
    max_bytes: u64,
}

impl Stepped {
    /// Recovers from upstream to downstream, as a start does. `data` is the data directory on the files' disk.
    pub fn start(pipeline: &Pipeline, log: Embedded, files: &Files, data: &Path) -> Result<Self, LogError> {
        let log: Arc<dyn Log> = Arc::new(log);
        // Stages are never asked to wait: where they would, they say so and the driver comes again.
        let (open, busy) = (Stop::default(), Stop::default());
        busy.set(Instant::now() + FAR);
        let partitions = 0..pipeline.pipeline.partitions;
        let writers = partitions.clone().map(|p| log.writer(RECEIVED, p, &mut |_| true)).collect::<Result<_, _>>()?;
        let received =
            Received::new(pipeline.layout.clone(), writers, pipeline.pipeline.max_lag, open.clone(), Arc::default());
        let name = "simulated".to_owned();
        let door = Arc::new(SourceDoor { name, received: received.clone(), meter: Meter::shared(), stop: open });
        let max_bytes = pipeline.retention.max_mib << 20;
        let mut stepped =
            Self { log, received, door, derived: Vec::new(), cleaners: Vec::new(), sinks: Vec::new(), max_bytes };
        for partition in partitions.clone() {
            stepped.clean(pipeline, files, data, partition, &busy)?;
        }
        for (topic, origin, section) in [
            (RECEIVED, RECEIVED, SectionKind::Rows),
            (CLEAN, CLEAN, SectionKind::Rows),
            (DEAD_LETTER, RECEIVED, SectionKind::DeadLetters),
            (DEAD_LETTER, CLEAN, SectionKind::DeadLetters),
        ] {
            for partition in partitions.clone() {
                stepped.sink(pipeline, files, data, (topic, origin, section), partition, &busy)?;
            }
        }
        Ok(stepped)
    }

    fn clean(
        &mut self,
        pipeline: &Pipeline,
        files: &Files,
        data: &Path,
        partition: u32,
        busy: &Stop,
    ) -> Result<(), LogError> {
        let (input, epochs) = (self.received.syncer(partition), self.received.epochs(partition));
        let end = input.published();
        let writer = self.log.writer(CLEAN, partition, &mut |head| input_survived(head, &epochs, end))?;
        let writer: SharedWriter = Arc::new(std::sync::Mutex::new(writer));
        self.derived.push(Derived::new(writer.clone(), input));
        let board = board(&writer);
        self.received.consumed.fetch_add(board.read().0.get(names::CONSUMED).copied().unwrap_or(0), Relaxed);
        let snapshots = {
            let store: Arc<dyn Store> = Arc::new(FileStore::new(files, data));
            Snapshots::new(&store, "clean", partition, "simulated")
        };
        let keep_from: Arc<AtomicU64> = Arc::new(snapshots.oldest().map_or(0, |old| old.position.offset).into());
        let (blocks, layout) = (pipeline.cleaners.clone(), pipeline.layout.clone());
        let stage = CleanStage {
            build: Box::new(move || Chain::new(&layout, catalog::chain(&blocks, &layout).unwrap_or_default())),
            blocks: pipeline.cleaners.clone(),
            orders: Arc::default(),
            reader: self.log.reader(RECEIVED, partition)?,
            writer: writer.clone(),
            snapshots,
            snapshot_every: Duration::ZERO,
            board: board.clone(),
            meter: Meter::shared(),
            consumed: self.received.consumed.clone(),
            keep_from: keep_from.clone(),
            space: Arc::default(),
            stop: busy.clone(),
        };
        self.cleaners.push(Cleaner { stage, writer, board, keep_from, at: None });
        Ok(())
    }

    fn sink(
        &mut self,
        pipeline: &Pipeline,
        files: &Files,
        data: &Path,
        (topic, origin, section): (&str, &str, SectionKind),
        partition: u32,
        busy: &Stop,
    ) -> Result<(), LogError> {
        let Some(block) = pipeline.sinks.iter().find(|block| block.kind == "parquet" && block.topic == topic) else {
            return Ok(());
        };
        let context = SinkContext { name: &block.name, topic, origin, partition, data, base: data, schema: None };
        let config = component::config(block.settings.clone()).map_err(|error| LogError::Other(error.to_string()))?;
        let reader = self.log.reader(origin, partition)?;
        let keep_from: Arc<AtomicU64> = Arc::default();
        let stage = DeliverStage {
            sink: Box::new(Parquet::new(config, &context, files.clone())),
            news: Some(reader.published()),
            reader,
            section,
            meter: Meter::shared(),
            totals: Arc::default(),
            keep_from: keep_from.clone(),
            stop: busy.clone(),
        };
        let (topic, origin) = (topic.to_owned(), origin.to_owned());
        self.sinks.push(Sinking { stage, topic, origin, partition, at: None, stopped: None, keep_from });
        Ok(())
    }

    /// The log that it runs on.
    pub fn log(&self) -> &Arc<dyn Log> {
        &self.log
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> u32 {
        self.cleaners.len() as u32
    }

    /// How many sinks there are: one a table, origin and partition.
    pub fn sinks(&self) -> usize {
        self.sinks.len()
    }

    /// The one source's door.
    pub fn door(&self) -> Arc<dyn Door> {
        self.door.clone()
    }

    /// Hands a delivery through the door.
    pub fn deliver(&self, delivery: Delivery) -> Result<(), Refused> {
        self.door.deliver(delivery)
    }

    /// One group commit of a partition of `received`, with the answers that follow.
    pub fn commit(&self, partition: u32) {
        self.received.commit(partition);
    }

    /// Cleans what can be read at once; whether there was anything.
    pub fn clean_step(&mut self, partition: u32) -> Result<bool, Failure> {
        let Cleaner { stage, at, .. } = &mut self.cleaners[partition as usize];
        let mut cleaning = match at.take() {
            Some(cleaning) => cleaning,
            None => stage.begin()?,
        };
        // After a failure it begins anew from what the output names.
        let any = stage.advance(&mut cleaning)?;
        *at = Some(cleaning);
        Ok(any)
    }

    /// Notes a snapshot, or saves the one noted before once its output is durable.
    pub fn snapshot(&mut self, partition: u32) {
        let Cleaner { stage, at, .. } = &mut self.cleaners[partition as usize];
        if let Some(cleaning) = at {
            stage.save(cleaning, false);
        }
    }

    /// Makes derived topics durable, upstream first.
    pub fn sync_derived(&self) {
        sync_all(&self.derived);
    }

    /// Delivers what can be read at once, and lets the sink commit: if due, or `all`. Whether there was anything.
    pub fn sink_step(&mut self, number: usize, all: bool) -> Result<bool, Failure> {
        let sink = &mut self.sinks[number];
        if let Some(why) = &sink.stopped {
            return Err(Failure::stop(why));
        }
        let begun = sink.at.take();
        let step = |stage: &mut DeliverStage| {
            let mut offset = match begun {
                Some(offset) => offset,
                None => stage.begin()?,
            };
            let any = stage.advance(&mut offset)?;
            stage.commit(all)?;
            Ok((offset, any))
        };
        match step(&mut sink.stage) {
            Ok((offset, any)) => {
                sink.at = Some(offset);
                Ok(any)
            }
            Err(failure) => {
                let failure: Failure = failure;
                if failure.action == Action::Stop {
                    sink.stopped = Some(format!("{} of {}: {failure}", sink.topic, sink.origin));
                }
                Err(failure)
            }
        }
    }

    /// Lets go of what nobody needs, as retention does.
    pub fn trim(&self) {
        let sinks = |origin: &'static str, partition: u32| {
            let ours = move |sink: &&Sinking| sink.origin == origin && sink.partition == partition;
            self.sinks.iter().filter(ours).map(|sink| sink.keep_from.load(Relaxed))
        };
        for (partition, cleaner) in (0..).zip(&self.cleaners) {
            let bytes = self.received.bytes(partition);
            if bytes > self.max_bytes {
                let needed = sinks(RECEIVED, partition).chain([cleaner.keep_from.load(Relaxed)]).min().unwrap_or(0);
                let end = self.received.syncer(partition).published();
                _ = self.received.retain(partition, bounded(needed, end, bytes, self.max_bytes)); // tried again later
            }
            let mut writer = lock(&cleaner.writer);
            let (bytes, end) = (writer.bytes(), writer.published());
            if bytes > self.max_bytes {
                let needed = sinks(CLEAN, partition).min().unwrap_or(end);
                _ = writer.retain(bounded(needed, end, bytes, self.max_bytes));
            }
        }
    }

    /// The sums of law 3.
    pub fn sums(&self) -> Sums {
        let clean = Totals::of(self.cleaners.iter().map(|cleaner| &cleaner.board));
        sums(&Totals::of(self.received.boards()), &clean, &[])
    }
}
