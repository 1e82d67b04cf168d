//! Starting a pipeline: lock, recover from upstream to downstream, build every stage, set the threads going.

use crate::catalog::{self, Mount};
use crate::config::{Block, ModelMode, ModelSection, Pipeline};
use crate::data_dir::{self, StartError};
use crate::derived::{self, Derived, SharedWriter, lock};
use crate::engine::{
    CleanPart, Engine, ModelPart, ModelPartition, Options, SinkInstance, SinkPart, SourcePart, Stops, Threads,
};
use crate::ledger::{Board, names};
use crate::metrics::Meter;
use crate::retention;
use crate::run::clean::{Chain, CleanStage};
use crate::run::deliver::DeliverStage;
use crate::run::ingest::{Received, SourceDoor};
use crate::run::model::answer::AnswerLayout;
use crate::run::model::{ModelStage, ModelState};
use crate::run::source;
use crate::snapshot::Snapshots;
use crate::worker::process::ProcessRuntime;
use arrow::datatypes::SchemaRef;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;
use trackside_connectors::sinks::files::Files;
use trackside_core::dead_letter;
use trackside_core::log::{EpochStart, FrameHead, FrameKind, Log, LogError, LogSync, SectionKind};
use trackside_core::model::ModelRuntime;
use trackside_core::position::{CLEAN, DEAD_LETTER, FORECASTS_PREFIX, RECEIVED, SCORES_PREFIX};
use trackside_core::sink::SinkContext;

/// Starts a checked pipeline.
pub(crate) fn start(pipeline: Pipeline, options: &Options) -> Result<Arc<Engine>, StartError> {
    let data = pipeline.data();
    data_dir::open(&data, &pipeline.pipeline.name, pipeline.pipeline.partitions, pipeline.layout.tags())?;
    let guard = catalog::lock(&data).map_err(|error| StartError::Unavailable(error.to_string()))?;
    let log = catalog::log(&data)?;
    let mut builder = Builder {
        pipeline: &pipeline,
        options,
        data,
        log,
        stops: Stops::default(),
        threads: Threads::default(),
        derived: Vec::new(),
    };
    let received = builder.received()?;
    let (clean, clean_meter) = builder.clean(&received)?;
    let models = builder.models(&clean)?;
    let sinks = builder.sinks()?;
    let (sources, mounts) = builder.sources(&received)?;
    builder.syncs(&received)?;
    let Builder { log, stops, threads, .. } = builder;
    let engine = Engine {
        pipeline,
        log,
        received,
        sources,
        clean_meter,
        clean,
        models,
        sinks,
        mounts,
        stops,
        threads: Mutex::new(threads),
        started: Instant::now(),
        _lock: guard,
    };
    let engine = Arc::new(engine);
    retention::start(&engine)?;
    Ok(engine)
}

struct Builder<'a> {
    pipeline: &'a Pipeline,
    options: &'a Options,
    data: PathBuf,
    log: Arc<dyn Log>,
    stops: Stops,
    threads: Threads,
    derived: Vec<Derived>,
}

impl Builder<'_> {
    fn partitions(&self) -> std::ops::Range<u32> {
        0..self.pipeline.pipeline.partitions
    }

    fn received(&mut self) -> Result<Arc<Received>, StartError> {
        let writers =
            self.partitions().map(|p| self.log.writer(RECEIVED, p, &mut |_| true)).collect::<Result<Vec<_>, _>>()?;
        let received = Received::new(
            self.pipeline.layout.clone(),
            writers,
            self.pipeline.pipeline.max_lag,
            self.stops.sources.clone(),
        );
        self.threads.syncs.extend(received.start_syncing(&self.stops.syncs));
        Ok(received)
    }

    /// A derived partition's writer: frames whose input did not survive are dropped.
    fn derived_writer(
        &mut self,
        topic: &str,
        partition: u32,
        input_epochs: &[EpochStart],
        input: Arc<dyn LogSync>,
    ) -> Result<SharedWriter, StartError> {
        let end = input.published();
        let writer = self.log.writer(topic, partition, &mut |head| input_survived(head, input_epochs, end))?;
        let writer: SharedWriter = Arc::new(Mutex::new(writer));
        self.derived.push(Derived::new(writer.clone(), input));
        Ok(writer)
    }

    fn clean(&mut self, received: &Arc<Received>) -> Result<(Vec<CleanPart>, Arc<Meter>), StartError> {
        let meter = Meter::shared();
        let mut parts = Vec::new();
        let settings: Vec<_> =
            self.pipeline.cleaners.iter().map(|block| (&block.kind, &block.name, &block.settings)).collect();
        let settings = serde_json::to_string(&(&settings, &self.pipeline.layout.config)).map_err(failed)?;
        for partition in self.partitions() {
            let input = received.syncer(partition);
            let writer = self.derived_writer(CLEAN, partition, &received.epochs(partition), input)?;
            let newest = lock(&writer).newest();
            let board = board(&newest, &writer);
            received.consumed.fetch_add(board.read().0.get(names::CONSUMED).copied().unwrap_or(0), Relaxed);
            let snapshots = Snapshots::new(&Files::default(), &self.data, "clean", partition, &settings);
            let keep_from = Arc::new(snapshots.oldest().map_or(0, |old| old.position.offset).into());
            let (blocks, layout) = (self.pipeline.cleaners.clone(), self.pipeline.layout.clone());
            let reader = self.log.reader(RECEIVED, partition)?;
            let stage = CleanStage {
                // The blocks were built once when the file was checked; they build again.
                build: Box::new(move || Chain::new(&layout, catalog::chain(&blocks, &layout).unwrap_or_default())),
                reader,
                writer: writer.clone(),
                snapshots,
                snapshot_every: self.pipeline.pipeline.snapshot_every.0,
                board: board.clone(),
                meter: meter.clone(),
                consumed: received.consumed.clone(),
                keep_from: Arc::clone(&keep_from),
                stop: self.stops.clean.clone(),
            };
            self.threads.clean.push(spawn(format!("clean-{partition}"), move || stage.run())?);
            parts.push(CleanPart { writer, board, keep_from });
        }
        Ok((parts, meter))
    }

    fn models(&mut self, clean: &[CleanPart]) -> Result<Vec<ModelPart>, StartError> {
        let mut parts = Vec::new();
        for section in &self.pipeline.models {
            let meter = Meter::shared();
            let mut partitions = Vec::new();
            for (partition, clean) in self.partitions().zip(clean) {
                let (epochs, input) = {
                    let writer = lock(&clean.writer);
                    (writer.epochs(), writer.syncer())
                };
                let writer = self.derived_writer(&section.topic(), partition, &epochs, input)?;
                partitions.push(self.model(section, partition, writer, meter.clone())?);
            }
            parts.push(ModelPart { section: section.clone(), meter, partitions });
        }
        Ok(parts)
    }

    fn model(
        &mut self,
        section: &ModelSection,
        partition: u32,
        writer: SharedWriter,
        meter: Arc<Meter>,
    ) -> Result<ModelPartition, StartError> {
        let tags = self.pipeline.layout.tags();
        let newest = lock(&writer).newest();
        let settings =
            serde_json::to_string(&(&section.code, section.named_fields(), &section.options, tags)).map_err(failed)?;
        let snapshots = Snapshots::new(&Files::default(), &self.data, &section.topic(), partition, &settings);
        let part = ModelPartition {
            board: board(&newest, &writer),
            state: Arc::new(Mutex::new(ModelState { state: "starting", ..ModelState::default() })),
            keep_from: Arc::default(),
            keep_output_from: Arc::default(),
            writer: writer.clone(),
        };
        let stage = ModelStage {
            model: section.clone(),
            partition,
            runtime: self.runtime(section, partition)?,
            reader: self.log.reader(CLEAN, partition)?,
            output: self.log.reader(&section.topic(), partition)?,
            writer,
            layout: AnswerLayout::new(tags),
            snapshots,
            snapshot_every: self.pipeline.pipeline.snapshot_every.0,
            board: part.board.clone(),
            meter,
            state: part.state.clone(),
            keep_from: part.keep_from.clone(),
            keep_output_from: part.keep_output_from.clone(),
            stop: self.stops.models.clone(),
        };
        self.threads.models.push(spawn(format!("{}-{partition}", section.name), move || stage.run())?);
        Ok(part)
    }

    fn runtime(&self, section: &ModelSection, partition: u32) -> Result<Box<dyn ModelRuntime>, StartError> {
        let (base, tags) = (&self.pipeline.base, self.pipeline.layout.tags());
        match section.mode {
            ModelMode::Process => {
                let python = self
                    .options
                    .python
                    .clone()
                    .or_else(|| std::env::var_os("TRACKSIDE_PYTHON").map(PathBuf::from))
                    .unwrap_or_else(|| "python3".into());
                Ok(Box::new(ProcessRuntime::new(python, section.clone(), base.clone(), partition, tags.to_vec())))
            }
            ModelMode::InProcess => match &self.options.in_process {
                Some(factory) => Ok(factory(section, base, partition, tags)),
                None => Err(StartError::Mismatch(format!(
                    "model `{}` has `mode = \"in_process\"`, which needs the `trackside` command of the Python package; use that, or `mode = \"process\"`",
                    section.name
                ))),
            },
        }
    }

    fn sinks(&mut self) -> Result<Vec<SinkPart>, StartError> {
        let mut parts = Vec::new();
        for block in &self.pipeline.sinks {
            let meter = Meter::shared();
            let mut instances = Vec::new();
            for (origin, section) in self.origins(&block.topic) {
                for partition in self.partitions() {
                    instances.push(self.sink(block, &origin, section, partition, meter.clone())?);
                }
            }
            parts.push(SinkPart { block: block.clone(), meter, instances });
        }
        Ok(parts)
    }

    /// Where a topic's rows lie: `dead-letter` and `forecasts.x` are read over sections of others.
    fn origins(&self, topic: &str) -> Vec<(String, SectionKind)> {
        if topic == DEAD_LETTER {
            let stages = [RECEIVED.to_owned(), CLEAN.to_owned()].into_iter();
            return stages
                .chain(self.pipeline.models.iter().map(ModelSection::topic))
                .map(|origin| (origin, SectionKind::DeadLetters))
                .collect();
        }
        match topic.strip_prefix(FORECASTS_PREFIX) {
            Some(model) => vec![(format!("{SCORES_PREFIX}{model}"), SectionKind::Forecasts)],
            None => vec![(topic.to_owned(), SectionKind::Rows)],
        }
    }

    fn schema(&self, topic: &str) -> Option<SchemaRef> {
        let answers = AnswerLayout::new(self.pipeline.layout.tags());
        match topic {
            RECEIVED => Some(self.pipeline.layout.schema.clone()),
            CLEAN => {
                let chain = catalog::chain(&self.pipeline.cleaners, &self.pipeline.layout).ok()?;
                Some(Chain::new(&self.pipeline.layout, chain).layout().schema.clone())
            }
            DEAD_LETTER => Some(dead_letter::SCHEMA.clone()),
            other if other.starts_with(FORECASTS_PREFIX) => Some(answers.forecasts),
            _ => Some(answers.scores),
        }
    }

    fn sink(
        &mut self,
        block: &Block,
        origin: &str,
        section: SectionKind,
        partition: u32,
        meter: Arc<Meter>,
    ) -> Result<SinkInstance, StartError> {
        let context = SinkContext {
            name: &block.name,
            topic: &block.topic,
            origin,
            partition,
            data: &self.data,
            base: &self.pipeline.base,
            schema: self.schema(&block.topic),
        };
        let sink = catalog::sink(block, &context).map_err(failed)?;
        let instance =
            SinkInstance { origin: origin.to_owned(), partition, totals: Arc::default(), keep_from: Arc::default() };
        let reader = self.log.reader(origin, partition)?;
        let stage = DeliverStage {
            sink,
            news: reader.published(),
            reader,
            section,
            meter,
            totals: instance.totals.clone(),
            keep_from: instance.keep_from.clone(),
            stop: self.stops.sinks.clone(),
        };
        self.threads.sinks.push(spawn(format!("{}-{partition}", block.name), move || stage.run())?);
        Ok(instance)
    }

    fn sources(&mut self, received: &Arc<Received>) -> Result<(Vec<SourcePart>, Vec<Mount>), StartError> {
        let (mut parts, mut mounts) = (Vec::new(), Vec::new());
        for block in &self.pipeline.sources {
            let meter = Meter::shared();
            let ending: Arc<source::Ending> = Arc::default();
            let door = SourceDoor { name: block.name.clone(), received: received.clone(), meter: meter.clone() };
            let mut part =
                SourcePart { block: block.clone(), meter: meter.clone(), finite: false, ending: ending.clone() };
            if catalog::is_mounted(block) {
                meter.state(crate::metrics::StageState::Running, None);
                let mount = catalog::mount(block, &self.pipeline.layout, &self.pipeline.base, Arc::new(door));
                mounts.push(mount.map_err(failed)?);
            } else {
                let source = catalog::source(block, &self.pipeline.layout, &self.pipeline.base).map_err(failed)?;
                part.finite = source.finite();
                self.threads
                    .sources
                    .push(spawn(block.name.clone(), move || source::run(source, door, &meter, &ending))?);
            }
            parts.push(part);
        }
        Ok((parts, mounts))
    }

    fn syncs(&mut self, received: &Arc<Received>) -> Result<(), StartError> {
        let (derived, stop) = (std::mem::take(&mut self.derived), self.stops.syncs.clone());
        self.threads.syncs.push(spawn("sync-derived".into(), move || derived::run(&derived, &stop))?);
        let ticking = catalog::chain(&self.pipeline.cleaners, &self.pipeline.layout)
            .is_ok_and(|chain| chain.iter().any(|operator| operator.wants_ticks()));
        if ticking {
            let (received, stop, every) = (received.clone(), self.stops.sources.clone(), self.pipeline.pipeline.tick.0);
            let tick = move || {
                while !stop.wait(every) {
                    if let Err(error) = received.mark(FrameKind::Tick) {
                        tracing::warn!(%error, "a tick could not be logged");
                    }
                }
            };
            self.threads.sources.push(spawn("tick".into(), tick)?);
        }
        Ok(())
    }
}

/// Whether the rows that a derived frame was made from are still there, in the reign that wrote them.
pub(crate) fn input_survived(head: &FrameHead, epochs: &[EpochStart], end: u64) -> bool {
    let Some(input) = head.meta.input else { return true };
    let Some(reign) = epochs.iter().position(|start| start.epoch == input.epoch) else { return false };
    let reign_end = epochs.get(reign + 1).map_or(end, |next| next.first);
    input.to <= reign_end
}

pub(crate) fn board(newest: &Option<FrameHead>, writer: &SharedWriter) -> Board {
    let board = Board::default();
    let counts = newest.as_ref().map(|head| head.meta.counts.clone()).unwrap_or_default();
    board.publish(&counts, lock(writer).published());
    board
}

fn failed(error: impl std::fmt::Display) -> StartError {
    StartError::Failed(error.to_string())
}

pub(crate) fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new().name(name).spawn(run).map_err(|error| {
        StartError::Failed(format!("a thread could not be started: {error}; raise the limit of processes (ulimit -u)"))
    })
}

/// Opens the log of a data directory for reading, beside a running engine or without one.
pub fn open_log(data: &std::path::Path) -> Result<Arc<dyn Log>, LogError> {
    catalog::log(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackside_core::log::FrameMeta;
    use trackside_core::position::InputRange;

    #[test]
    fn a_frame_whose_input_was_lost_is_dropped_also_when_its_offsets_came_back() {
        let epochs = [EpochStart { epoch: 1, first: 0 }, EpochStart { epoch: 2, first: 80 }];
        let head = |epoch, to| FrameHead {
            epoch: 9,
            first: 0,
            end: 1,
            meta: FrameMeta { input: Some(InputRange { epoch, from: 0, to }), ..FrameMeta::default() },
        };
        assert!(input_survived(&head(1, 80), &epochs, 200));
        assert!(
            !input_survived(&head(1, 90), &epochs, 200),
            "rows 80..90 of epoch 1 were lost; those of epoch 2 are others"
        );
        assert!(input_survived(&head(2, 200), &epochs, 200));
        assert!(!input_survived(&head(3, 10), &epochs, 200));
    }
}
