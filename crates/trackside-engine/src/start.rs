//! Starting a pipeline: lock, recover from upstream to downstream, build every stage, set the threads going.

use crate::catalog::logs::Owned;
use crate::catalog::{self, Snapshots, Store};
use crate::config::{Block, Pipeline};
use crate::crew::{Crew, Leaving, spawn};
use crate::data_dir::{self, StartError};
use crate::derived::{self, Derived, SharedWriter};
use crate::elsewhere::{Elsewhere, Lag, Watch, Watched};
use crate::engine::{CleanPart, Engine, Left, Options, Parts, Stops, Threads};
use crate::ledger::{Board, names};
use crate::metrics::Meter;
use crate::parts::{Workshop, board, derived_writer, failed};
use crate::retention;
use crate::run::clean::{Chain, CleanStage};
use crate::run::ingest::Received;
use crate::space::Space;
use crate::stages::Stages;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;
use trackside_core::log::{FrameKind, Log, LogError, LogWriter};
use trackside_core::position::{CLEAN, RECEIVED};
use trackside_core::schema::Layout;

/// Starts a checked pipeline.
pub(crate) fn start(pipeline: Pipeline, options: &Options) -> Result<Arc<Engine>, StartError> {
    let (data, stages) = (pipeline.data(), options.stages);
    stages.fit(&pipeline)?;
    data_dir::open(&data, &pipeline.pipeline.name, pipeline.pipeline.partitions, pipeline.layout.tags())?;
    let guard = catalog::lock(&data).map_err(|error| StartError::Unavailable(error.to_string()))?;
    let Owned { log, store } = catalog::logs::own(&pipeline.log, pipeline.pipeline.partitions, &data)?;
    // Sinks write no partition, whose lease would keep two processes that run them apart.
    let claim = if stages.sinks { log.claim("sinks")? } else { Box::new(()) };
    let mut ground = Ground {
        pipeline: &pipeline,
        stages,
        data,
        log,
        store,
        watch: Watch::default(),
        stops: Stops::default(),
        threads: Threads::default(),
        derived: Vec::new(),
    };
    let received = ground.received()?;
    let (clean, clean_meter) = ground.clean(&received)?;
    let Ground { data, log, store, mut watch, stops, mut threads, derived, .. } = ground;
    let derived = Arc::new(Mutex::new(derived));
    let workshop = Workshop {
        pipeline: &pipeline,
        options,
        data: &data,
        log: &log,
        store: &store,
        received: &received,
        clean: &clean,
    };
    let parts = parts(&workshop, &derived, &mut watch)?;
    let watch = Arc::new(watch);
    threads.syncs.extend(watch.start(&stops.syncs)?);
    threads.syncs.push({
        let (derived, stop) = (derived.clone(), stops.syncs.clone());
        spawn("sync-derived".into(), move || derived::run(&derived, &stop))?
    });
    let space = received.space.clone();
    let engine = Engine {
        ticks: Mutex::new(if stages.ingest { ticks(&pipeline, &received)? } else { Crew::default() }),
        pipeline: RwLock::new(Arc::new(pipeline)),
        options: options.clone(),
        data,
        durability: log.durability(),
        log,
        store,
        watch,
        received,
        clean_meter,
        clean,
        parts: RwLock::new(Arc::new(parts)),
        derived,
        stops,
        threads: Mutex::new(threads),
        letters: Mutex::default(),
        left: Mutex::new(Left::default()),
        last_reload: Mutex::default(),
        space,
        noticed: Mutex::default(),
        started: Instant::now(),
        _claim: claim,
        _lock: guard,
    };
    let engine = Arc::new(engine);
    retention::start(&engine)?;
    Ok(engine)
}

/// Sources come last: what they bring finds everybody at their place.
fn parts(workshop: &Workshop<'_>, derived: &Mutex<Vec<Derived>>, watch: &mut Watch) -> Result<Parts, StartError> {
    let (pipeline, nobody, stages) = (workshop.pipeline, Arc::<Leaving>::default(), workshop.options.stages);
    let mut parts = Parts::default();
    for section in &pipeline.models {
        parts.models.push(match stages.models {
            true => workshop.model(section, None)?.go(derived, &nobody)?,
            false => Arc::new(workshop.model_elsewhere(section, watch)?),
        });
    }
    for block in pipeline.sinks.iter().filter(|_| stages.sinks) {
        parts.sinks.push(workshop.sink(block, None)?.go(derived, &nobody)?);
    }
    for block in pipeline.sources.iter().filter(|_| stages.ingest) {
        parts.sources.push(workshop.source(block, None)?.go(derived, &nobody)?);
    }
    Ok(parts)
}

/// What stays for the engine's life: the door and cleaning.
struct Ground<'a> {
    pipeline: &'a Pipeline,
    stages: Stages,
    data: PathBuf,
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    watch: Watch,
    stops: Stops,
    threads: Threads,
    derived: Vec<Derived>,
}

impl Ground<'_> {
    fn partitions(&self) -> std::ops::Range<u32> {
        0..self.pipeline.pipeline.partitions
    }

    fn received(&mut self) -> Result<Arc<Received>, StartError> {
        let mut seen = Vec::new();
        let mut writer = |partition| -> Result<Box<dyn LogWriter>, LogError> {
            if self.stages.ingest {
                return self.log.writer(RECEIVED, partition, &mut |_| true);
            }
            seen.push(Elsewhere::open(&self.log, RECEIVED, partition)?);
            Ok(seen[seen.len() - 1].writer())
        };
        let writers = self.partitions().map(&mut writer).collect::<Result<Vec<_>, _>>()?;
        let received = Received::new(
            self.pipeline.layout.clone(),
            writers,
            self.pipeline.pipeline.max_lag,
            self.stops.sources.clone(),
            Space::watch(self.data.clone(), self.pipeline.retention.reserve_mib, self.stops.syncs.clone())?,
        );
        if self.stages.ingest {
            self.threads.syncs.extend(received.start_syncing(&self.stops.syncs));
        }
        for (seen, board) in seen.into_iter().zip(received.boards()) {
            self.watch.add(Watched { seen, board: board.clone(), input: None });
        }
        Ok(received)
    }

    fn clean(&mut self, received: &Arc<Received>) -> Result<(Vec<CleanPart>, Arc<Meter>), StartError> {
        let meter = Meter::shared();
        let mut parts = Vec::new();
        if !self.stages.clean {
            let parts = self.clean_elsewhere(received, &meter)?;
            if self.stages.ingest {
                let boards = parts.iter().map(|part| part.board.clone()).collect();
                self.watch.hold_back(&received.consumed, boards);
            }
            return Ok((parts, meter));
        }
        for partition in self.partitions() {
            let input = received.syncer(partition);
            let writer = derived_writer(&self.log, CLEAN, partition, &received.epochs(partition), &*input)?;
            self.derived.push(Derived::new(writer.clone(), input));
            let board = board(&writer);
            received.consumed.fetch_add(board.read().0.get(names::CONSUMED).copied().unwrap_or(0), Relaxed);
            let snapshots = chain_snapshots(self.pipeline, &self.store, partition)?;
            let keep_from = Arc::new(snapshots.oldest().map_or(0, |old| old.position.offset).into());
            let part = CleanPart { writer, board, keep_from, orders: Arc::default() };
            let stage = CleanStage {
                build: chain(&self.pipeline.cleaners, &self.pipeline.layout),
                blocks: self.pipeline.cleaners.clone(),
                orders: part.orders.clone(),
                reader: self.log.reader(RECEIVED, partition)?,
                writer: part.writer.clone(),
                snapshots,
                snapshot_every: self.pipeline.pipeline.snapshot_every.0,
                board: part.board.clone(),
                meter: meter.clone(),
                consumed: received.consumed.clone(),
                keep_from: part.keep_from.clone(),
                space: received.space.clone(),
                stop: self.stops.clean.clone(),
            };
            self.threads.clean.push(spawn(format!("clean-{partition}"), move || stage.run())?);
            parts.push(part);
        }
        Ok((parts, meter))
    }

    /// Cleaning as another process does it.
    fn clean_elsewhere(&mut self, received: &Arc<Received>, meter: &Arc<Meter>) -> Result<Vec<CleanPart>, StartError> {
        let mut parts = Vec::new();
        for partition in self.partitions() {
            let seen = Elsewhere::open(&self.log, CLEAN, partition)?;
            let part = clean_part(&seen);
            let input = Some(Lag { input: received.syncer(partition), meter: meter.clone() });
            self.watch.add(Watched { seen, board: part.board.clone(), input });
            parts.push(part);
        }
        Ok(parts)
    }
}

fn clean_part(seen: &Arc<Elsewhere>) -> CleanPart {
    let writer: SharedWriter = Arc::new(Mutex::new(seen.writer()));
    CleanPart { board: Board::default(), writer, keep_from: Arc::default(), orders: Arc::default() }
}

/// The snapshots of a partition's chain.
pub(crate) fn chain_snapshots(
    pipeline: &Pipeline,
    store: &Arc<dyn Store>,
    partition: u32,
) -> Result<Snapshots, StartError> {
    let blocks: Vec<_> = pipeline.cleaners.iter().map(|block| (&block.kind, &block.name, &block.settings)).collect();
    let settings = serde_json::to_string(&(&blocks, &pipeline.layout.config)).map_err(failed)?;
    Ok(Snapshots::new(store, "clean", partition, &settings))
}

/// Builds a chain of these cleaners, again and again.
pub(crate) fn chain(blocks: &[Block], layout: &Arc<Layout>) -> Box<dyn Fn() -> Chain + Send> {
    let (blocks, layout) = (blocks.to_vec(), layout.clone());
    // The blocks were built once when the file was checked; they build again.
    Box::new(move || {
        let operators = catalog::chain(&blocks, &layout).unwrap_or_default();
        Chain::new(&layout, operators).named(blocks.iter().map(|block| block.name.as_str()))
    })
}

/// Logs ticks, if an operator asks for them.
pub(crate) fn ticks(pipeline: &Pipeline, received: &Arc<Received>) -> Result<Crew, StartError> {
    let crew = Crew::default();
    let ticking = catalog::chain(&pipeline.cleaners, &pipeline.layout)
        .is_ok_and(|chain| chain.iter().any(|operator| operator.wants_ticks()));
    if ticking {
        let (received, stop, every) = (received.clone(), crew.stop.clone(), pipeline.pipeline.tick.0);
        let tick = move || {
            while !stop.wait(every) {
                if let Err(error) = received.mark(FrameKind::Tick) {
                    tracing::warn!(%error, "a tick could not be logged");
                }
            }
        };
        crew.spawn("tick", &Arc::default(), tick)?;
    }
    Ok(crew)
}

/// Opens the log of a data directory for reading, beside a running engine or without one.
pub fn open_log(data: &Path) -> Result<Arc<dyn Log>, LogError> {
    catalog::logs::log(data)
}
