//! A running pipeline: what `start` set going, what `drain` brings to rest, and what can be asked meanwhile.

use crate::catalog::{Mount, Store};
use crate::config::{Block, Pipeline};
use crate::crew::{self, Crew, Leaving};
use crate::data_dir::StartError;
use crate::derived::{Derived, SharedWriter, lock};
use crate::elsewhere::Watch;
use crate::ledger::{Board, Sums};
use crate::letters::Words;
use crate::metrics::Meter;
use crate::notices::Since;
use crate::run::clean::Orders;
use crate::run::ingest::{Received, SourceDoor};
use crate::run::model::ModelState;
use crate::run::source::Ending;
use crate::space::Space;
use crate::stages::Stages;
use crate::start;
use crate::status::{self, Status, Summary};
use crate::stop::Stop;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use trackside_core::log::{Durability, FrameKind, Log};
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
    /// Stages that it runs; the others run elsewhere on the same log.
    pub stages: Stages,
}

/// A source and how it does.
pub(crate) struct SourcePart {
    pub(crate) block: Block,
    pub(crate) meter: Arc<Meter>,
    pub(crate) finite: bool,
    pub(crate) ending: Arc<Ending>,
    /// Its routes, if it shares the server's port.
    pub(crate) mount: Option<Mount>,
    pub(crate) crew: Crew,
}

/// One partition of cleaning.
pub(crate) struct CleanPart {
    pub(crate) writer: SharedWriter,
    pub(crate) board: Board,
    pub(crate) keep_from: Arc<AtomicU64>,
    /// A chain that takes the place of the one at work.
    pub(crate) orders: Orders,
}

/// A model with its partitions.
pub(crate) struct ModelPart {
    pub(crate) section: crate::config::ModelSection,
    /// What its code looked like when it was started.
    pub(crate) code: Option<u64>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) partitions: Vec<ModelPartition>,
    pub(crate) crew: Crew,
}

/// One partition of a model. It outlives the stages that work on it: a restarted model goes on with the same writer.
#[derive(Clone)]
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
    pub(crate) crew: Crew,
}

/// A sink at one partition of one topic.
#[derive(Clone)]
pub(crate) struct SinkInstance {
    pub(crate) origin: String,
    pub(crate) partition: u32,
    pub(crate) totals: Arc<Mutex<SinkTotals>>,
    pub(crate) keep_from: Arc<AtomicU64>,
}

/// What a reload may add, replace and take away. A reload makes a new list; who holds the old one reads on in it.
#[derive(Default, Clone)]
pub(crate) struct Parts {
    pub(crate) sources: Vec<Arc<SourcePart>>,
    pub(crate) models: Vec<Arc<ModelPart>>,
    pub(crate) sinks: Vec<Arc<SinkPart>>,
}

/// Parts that a reload took away or replaced, until their threads have gone.
#[derive(Default, Clone)]
pub(crate) struct Left {
    pub(crate) sources: Arc<Leaving>,
    pub(crate) models: Arc<Leaving>,
    pub(crate) sinks: Arc<Leaving>,
}

/// Threads that stay for the engine's life, in the order in which they end.
#[derive(Default)]
pub(crate) struct Threads {
    pub(crate) clean: Vec<JoinHandle<()>>,
    pub(crate) syncs: Vec<JoinHandle<()>>,
}

/// Stop signals of what stays for the engine's life; `sources` closes the door itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stops {
    pub(crate) sources: Stop,
    pub(crate) clean: Stop,
    pub(crate) syncs: Stop,
}

/// A running pipeline.
pub struct Engine {
    pub(crate) pipeline: RwLock<Arc<Pipeline>>,
    pub(crate) options: Options,
    pub(crate) data: PathBuf,
    pub(crate) log: Arc<dyn Log>,
    /// Where snapshots lie.
    pub(crate) store: Arc<dyn Store>,
    /// What other processes write.
    pub(crate) watch: Arc<Watch>,
    /// What an acknowledgement is worth, as it was at the start.
    pub(crate) durability: Durability,
    pub(crate) received: Arc<Received>,
    pub(crate) clean_meter: Arc<Meter>,
    pub(crate) clean: Vec<CleanPart>,
    pub(crate) parts: RwLock<Arc<Parts>>,
    /// Derived partitions, upstream first.
    pub(crate) derived: Arc<Mutex<Vec<Derived>>>,
    /// Logs ticks, while an operator asks for them.
    pub(crate) ticks: Mutex<Crew>,
    pub(crate) stops: Stops,
    pub(crate) threads: Mutex<Threads>,
    /// What was said of dead letters; who holds it is the only one who says something.
    pub(crate) letters: Mutex<Words>,
    /// Held by whoever changes the parts: one reload at a time, and none once a drain has begun.
    pub(crate) left: Mutex<Left>,
    pub(crate) last_reload: Mutex<Option<crate::reload::LastReload>>,
    pub(crate) space: Arc<Space>,
    pub(crate) noticed: Since,
    pub(crate) started: Instant,
    /// Held for as long as this engine runs sinks.
    pub(crate) _claim: Box<dyn Send + Sync>,
    /// Held for as long as this engine owns the data directory.
    pub(crate) _lock: Box<dyn Send + Sync>,
}

impl Engine {
    /// Takes the data directory, recovers, and sets everything going.
    pub fn start(pipeline: Pipeline, options: Options) -> Result<Arc<Self>, StartError> {
        start::start(pipeline, &options)
    }

    /// The pipeline that runs, as of the last reload.
    pub fn pipeline(&self) -> Arc<Pipeline> {
        self.pipeline.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Routes of the sources that share the server's port, as of the last reload.
    pub fn mounts(&self) -> Vec<Mount> {
        self.parts().sources.iter().filter_map(|source| source.mount.clone()).collect()
    }

    /// Counts what the server turned away before it reached the source that shares its port.
    pub fn refuse_mounted(&self, count: u64) {
        self.received.refused.fetch_add(count, Ordering::Relaxed);
        for source in self.parts().sources.iter().filter(|source| source.mount.is_some()) {
            source.meter.refused.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Sources, models and sinks, as of the last reload.
    pub(crate) fn parts(&self) -> Arc<Parts> {
        self.parts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The log, to read topics.
    pub fn log(&self) -> Arc<dyn Log> {
        self.log.clone()
    }

    /// A way in for a program that holds the engine: what it delivers is acknowledged like any source's.
    pub fn door(&self, name: &str) -> Arc<dyn Door> {
        Arc::new(SourceDoor {
            name: name.to_owned(),
            received: self.received.clone(),
            meter: Meter::shared(),
            stop: self.stops.sources.clone(),
        })
    }

    /// How everything is doing.
    pub fn status(&self) -> Status {
        status::status(self)
    }

    /// Stages that it runs.
    pub fn stages(&self) -> Stages {
        self.options.stages
    }

    /// Rows that it waits for before it is through.
    pub fn under_way(&self, sums: &Sums) -> u64 {
        self.stages().under_way(sums)
    }

    /// Whether every source has an end and has come to it. The end of sources elsewhere stands in the log.
    pub fn sources_ended(&self) -> bool {
        if !self.stages().ingest {
            return self.received.ends_marked();
        }
        let parts = self.parts();
        !parts.sources.is_empty()
            && parts.sources.iter().all(|source| source.finite && source.ending.ended.load(Ordering::Acquire))
    }

    /// Asks the sources to end, without waiting.
    pub fn stop_sources(&self, deadline: Instant) {
        self.stops.sources.set(deadline);
        lock(&self.ticks).stop.set(deadline);
        self.parts().sources.iter().for_each(|source| source.crew.stop.set(deadline));
    }

    /// Brings everything to rest: sources end, what was taken flows through, tables are committed. Past the deadline
    /// stages end where they are, which loses nothing: the next start goes on from there.
    pub fn drain(&self, deadline: Duration) -> Summary {
        let end =
            Instant::now().checked_add(deadline).unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400 * 365));
        let stages = Instant::now().checked_add(deadline.mul_f64(STAGES_SHARE)).unwrap_or(end);
        self.stops.sources.set(stages);
        let left = lock(&self.left); // a reload under way comes to its end first, and none begins after
        let threads = std::mem::take(&mut *lock(&self.threads));
        let parts = self.parts();
        self.stop_sources(stages);
        lock(&self.ticks).join(stages);
        parts.sources.iter().for_each(|source| source.crew.join(stages));
        left.sources.gone_by(stages);
        self.mark_end(&parts);
        self.stops.clean.set(stages);
        crew::join(threads.clean, stages);
        parts.models.iter().for_each(|model| model.crew.stop.set(stages));
        parts.models.iter().for_each(|model| model.crew.join(stages));
        left.models.gone_by(stages);
        self.stops.syncs.set(end);
        crew::join(threads.syncs, end);
        parts.sinks.iter().for_each(|sink| sink.crew.stop.set(end));
        parts.sinks.iter().for_each(|sink| sink.crew.join(end));
        left.sinks.gone_by(end);
        self.watch.look();
        Summary::of(&self.status())
    }

    /// All finite input is delivered: that too is data (law 7). A stop signal never is.
    fn mark_end(&self, parts: &Parts) {
        let complete = |source: &Arc<SourcePart>| source.finite && source.ending.complete.load(Ordering::Acquire);
        if !parts.sources.is_empty()
            && parts.sources.iter().all(complete)
            && !self.received.ends_marked()
            && let Err(error) = self.received.mark(FrameKind::End)
        {
            tracing::warn!(%error, "the end of the input could not be logged");
        }
    }
}
