//! A running pipeline: what `start` set going, what `drain` brings to rest, and what can be asked meanwhile.

use crate::catalog::Mount;
use crate::config::{Block, Pipeline};
use crate::data_dir::StartError;
use crate::derived::SharedWriter;
use crate::ledger::Board;
use crate::metrics::Meter;
use crate::run::ingest::{Received, SourceDoor};
use crate::run::model::ModelState;
use crate::run::source::Ending;
use crate::start;
use crate::status::{self, Status, Summary};
use crate::stop::Stop;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use trackside_core::log::{FrameKind, Log};
use trackside_core::model::ModelRuntime;
use trackside_core::sink::SinkTotals;
use trackside_core::source::Door;

/// Share of a drain's time that goes to sources, cleaning and models; the rest is for tables to commit.
const STAGES_SHARE: f64 = 0.6;

/// Makes in-process runtimes: model block, folder of the pipeline file, partition, tags.
pub type RuntimeFactory =
    Arc<dyn Fn(&crate::config::ModelSection, &std::path::Path, u32, &[String]) -> Box<dyn ModelRuntime> + Send + Sync>;

/// What the engine is given by whoever starts it.
#[derive(Clone, Default)]
pub struct Options {
    /// The interpreter for workers; else `TRACKSIDE_PYTHON`, else `python3`.
    pub python: Option<PathBuf>,
    /// Runs models with `mode = "in_process"`.
    pub in_process: Option<RuntimeFactory>,
}

/// A source and how it does.
pub(crate) struct SourcePart {
    pub(crate) block: Block,
    pub(crate) meter: Arc<Meter>,
    pub(crate) finite: bool,
    pub(crate) ending: Arc<Ending>,
}

/// One partition of cleaning.
pub(crate) struct CleanPart {
    pub(crate) writer: SharedWriter,
    pub(crate) board: Board,
    pub(crate) keep_from: Arc<AtomicU64>,
}

/// A model with its partitions.
pub(crate) struct ModelPart {
    pub(crate) section: crate::config::ModelSection,
    pub(crate) meter: Arc<Meter>,
    pub(crate) partitions: Vec<ModelPartition>,
}

/// One partition of a model.
pub(crate) struct ModelPartition {
    pub(crate) writer: SharedWriter,
    pub(crate) board: Board,
    pub(crate) state: Arc<Mutex<ModelState>>,
    pub(crate) keep_from: Arc<AtomicU64>,
    pub(crate) keep_output_from: Arc<AtomicU64>,
}

/// A sink with its instances.
pub(crate) struct SinkPart {
    pub(crate) block: Block,
    pub(crate) meter: Arc<Meter>,
    pub(crate) instances: Vec<SinkInstance>,
}

/// A sink at one partition of one topic.
pub(crate) struct SinkInstance {
    pub(crate) origin: String,
    pub(crate) partition: u32,
    pub(crate) totals: Arc<Mutex<SinkTotals>>,
    pub(crate) keep_from: Arc<AtomicU64>,
}

/// The stop signals and threads of each part, in the order in which they end.
#[derive(Default)]
pub(crate) struct Threads {
    pub(crate) sources: Vec<JoinHandle<()>>,
    pub(crate) clean: Vec<JoinHandle<()>>,
    pub(crate) models: Vec<JoinHandle<()>>,
    pub(crate) syncs: Vec<JoinHandle<()>>,
    pub(crate) sinks: Vec<JoinHandle<()>>,
}

/// One stop signal for each part.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stops {
    pub(crate) sources: Stop,
    pub(crate) clean: Stop,
    pub(crate) models: Stop,
    pub(crate) syncs: Stop,
    pub(crate) sinks: Stop,
}

/// A running pipeline.
pub struct Engine {
    pub(crate) pipeline: Pipeline,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) received: Arc<Received>,
    pub(crate) sources: Vec<SourcePart>,
    pub(crate) clean_meter: Arc<Meter>,
    pub(crate) clean: Vec<CleanPart>,
    pub(crate) models: Vec<ModelPart>,
    pub(crate) sinks: Vec<SinkPart>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) stops: Stops,
    pub(crate) threads: Mutex<Threads>,
    pub(crate) started: Instant,
    /// Held for as long as this engine owns the data directory.
    pub(crate) _lock: Box<dyn Send + Sync>,
}

impl Engine {
    /// Takes the data directory, recovers, and sets everything going.
    pub fn start(pipeline: Pipeline, options: Options) -> Result<Arc<Self>, StartError> {
        start::start(pipeline, &options)
    }

    /// The pipeline that runs.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Routes of the sources that share the server's port.
    pub fn mounts(&self) -> Vec<Mount> {
        self.mounts.clone()
    }

    /// The log, to read topics.
    pub fn log(&self) -> Arc<dyn Log> {
        self.log.clone()
    }

    /// A way in for a program that holds the engine: what it delivers is acknowledged like any source's.
    pub fn door(&self, name: &str) -> Arc<dyn Door> {
        Arc::new(SourceDoor { name: name.to_owned(), received: self.received.clone(), meter: Meter::shared() })
    }

    /// How everything is doing.
    pub fn status(&self) -> Status {
        status::status(self)
    }

    /// Whether every source has an end and has come to it.
    pub fn sources_ended(&self) -> bool {
        !self.sources.is_empty()
            && self.sources.iter().all(|source| source.finite && source.ending.ended.load(Ordering::Acquire))
    }

    /// Asks the sources to end, without waiting.
    pub fn stop_sources(&self, deadline: Instant) {
        self.stops.sources.set(deadline);
    }

    /// Brings everything to rest: sources end, what was taken flows through, tables are committed. Past the deadline
    /// stages end where they are, which loses nothing: the next start goes on from there.
    pub fn drain(&self, deadline: Duration) -> Summary {
        let end =
            Instant::now().checked_add(deadline).unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400 * 365));
        let stages = Instant::now().checked_add(deadline.mul_f64(STAGES_SHARE)).unwrap_or(end);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        self.stops.sources.set(stages);
        join(threads.sources, stages);
        self.mark_end();
        self.stops.clean.set(stages);
        join(threads.clean, stages);
        self.stops.models.set(stages);
        join(threads.models, stages);
        self.stops.syncs.set(end);
        join(threads.syncs, end);
        self.stops.sinks.set(end);
        join(threads.sinks, end);
        Summary::of(&self.status())
    }

    /// All finite input is delivered: that too is data (law 7). A stop signal never is.
    fn mark_end(&self) {
        let complete = |source: &SourcePart| source.finite && source.ending.complete.load(Ordering::Acquire);
        if !self.sources.is_empty()
            && self.sources.iter().all(complete)
            && !self.received.ends_marked()
            && let Err(error) = self.received.mark(FrameKind::End)
        {
            tracing::warn!(%error, "the end of the input could not be logged");
        }
    }
}

/// Waits for threads to end, until the deadline. One that does not is left behind: the process is about to end.
fn join(threads: Vec<JoinHandle<()>>, deadline: Instant) {
    for thread in threads {
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        if thread.is_finished() && thread.join().is_err() {
            tracing::error!("a thread of the pipeline panicked; please report this");
        }
    }
}
