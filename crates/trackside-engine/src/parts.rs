//! Sources, models and sinks made from their blocks, for the start and for a reload alike.
//!
//! Making a part opens what it writes to and checks what it is told, but sets nothing going: what fails, fails before
//! anything has changed. [`Made::go`] starts its threads, behind those that make way for it.

use crate::catalog::{self, Snapshots, Store};
use crate::config::{Block, ModelSection, Pipeline};
use crate::crew::{Crew, Leaving};
use crate::data_dir::StartError;
use crate::derived::{Derived, SharedWriter, lock};
use crate::elsewhere::{Elsewhere, Lag, Watch, Watched};
use crate::engine::{CleanPart, ModelPart, ModelPartition, Options, SinkInstance, SinkPart, SourcePart};
use crate::ledger::Board;
use crate::metrics::{Meter, StageState};
use crate::run::clean::Chain;
use crate::run::deliver::DeliverStage;
use crate::run::ingest::{Received, SourceDoor};
use crate::run::model::answer::AnswerLayout;
use crate::run::model::{ModelStage, ModelState};
use crate::run::source;
use arrow::datatypes::SchemaRef;
use std::path::Path;
use std::sync::{Arc, Mutex};
use trackside_core::dead_letter;
use trackside_core::log::{EpochStart, FrameHead, Log, LogSync, SectionKind};
use trackside_core::position::{CLEAN, DEAD_LETTER, FORECASTS_PREFIX, RECEIVED, SCORES_PREFIX};
use trackside_core::sink::SinkContext;

/// What parts are made from, beside their blocks.
pub(crate) struct Workshop<'a> {
    pub(crate) pipeline: &'a Pipeline,
    pub(crate) options: &'a Options,
    pub(crate) data: &'a Path,
    pub(crate) log: &'a Arc<dyn Log>,
    pub(crate) store: &'a Arc<dyn Store>,
    pub(crate) received: &'a Arc<Received>,
    pub(crate) clean: &'a [CleanPart],
}

/// A part that is made and not yet at work.
pub(crate) struct Made<P> {
    part: P,
    derived: Vec<Derived>,
    runs: Vec<(String, Box<dyn FnOnce() + Send>)>,
}

/// What has threads of its own.
pub(crate) trait Manned {
    fn crew(&self) -> &Crew;
}

impl Manned for SourcePart {
    fn crew(&self) -> &Crew {
        &self.crew
    }
}

impl Manned for ModelPart {
    fn crew(&self) -> &Crew {
        &self.crew
    }
}

impl Manned for SinkPart {
    fn crew(&self) -> &Crew {
        &self.crew
    }
}

impl<P: Manned> Made<P> {
    /// The part as it will be.
    pub(crate) fn part(&self) -> &P {
        &self.part
    }

    /// Sets it to work once those that leave have gone.
    pub(crate) fn go(self, derived: &Mutex<Vec<Derived>>, after: &Arc<Leaving>) -> Result<Arc<P>, StartError> {
        lock(derived).extend(self.derived);
        for (name, run) in self.runs {
            self.part.crew().spawn(&name, after, run)?;
        }
        Ok(Arc::new(self.part))
    }
}

impl Workshop<'_> {
    fn partitions(&self) -> std::ops::Range<u32> {
        0..self.pipeline.pipeline.partitions
    }

    /// A source; in place of `old` it counts on where that one stopped.
    pub(crate) fn source(&self, block: &Block, old: Option<&SourcePart>) -> Result<Made<SourcePart>, StartError> {
        let (meter, crew) = (old.map_or_else(Meter::shared, |old| old.meter.clone()), Crew::default());
        let ending: Arc<source::Ending> = Arc::default();
        let (received, layout) = (self.received.clone(), &self.pipeline.layout);
        let mut door = SourceDoor { name: block.name.clone(), received, meter: meter.clone(), stop: crew.stop.clone() };
        let (mut finite, mut mount) = (false, None);
        let mut runs: Vec<(String, Box<dyn FnOnce() + Send>)> = Vec::new();
        if catalog::is_mounted(block) {
            // Requests under way end at the door that they came to, so it closes only with the pipeline.
            door.stop = self.received.stop.clone();
            meter.state(StageState::Running, None);
            mount = Some(catalog::mount(block, layout, &self.pipeline.base, Arc::new(door)).map_err(failed)?);
        } else {
            let source = catalog::source(block, layout, &self.pipeline.base).map_err(failed)?;
            finite = source.finite();
            let (meter, ending) = (meter.clone(), ending.clone());
            runs.push((block.name.clone(), Box::new(move || source::run(source, door, &meter, &ending))));
        }
        let part = SourcePart { block: block.clone(), meter, finite, ending, mount, crew };
        Ok(Made { part, derived: Vec::new(), runs })
    }

    /// A model; in place of `old` it goes on with the same partitions.
    pub(crate) fn model(&self, section: &ModelSection, old: Option<&ModelPart>) -> Result<Made<ModelPart>, StartError> {
        let (meter, crew) = (old.map_or_else(Meter::shared, |old| old.meter.clone()), Crew::default());
        let (mut partitions, mut derived, mut runs) = (Vec::new(), Vec::new(), Vec::new());
        for (partition, clean) in self.partitions().zip(self.clean) {
            let part = match old.and_then(|old| old.partitions.get(partition as usize)) {
                Some(part) => part.clone(),
                None => {
                    let (part, made) = self.model_partition(section, partition, clean)?;
                    derived.push(made);
                    part
                }
            };
            let stage = self.model_stage(section, partition, &part, &meter, &crew)?;
            let run: Box<dyn FnOnce() + Send> = Box::new(move || stage.run());
            runs.push((format!("{}-{partition}", section.name), run));
            partitions.push(part);
        }
        let code = code(section, &self.pipeline.base);
        Ok(Made { part: ModelPart { section: section.clone(), code, meter, partitions, crew }, derived, runs })
    }

    /// A model as another process runs it.
    pub(crate) fn model_elsewhere(&self, section: &ModelSection, watch: &mut Watch) -> Result<ModelPart, StartError> {
        let (meter, mut partitions) = (Meter::shared(), Vec::new());
        for (partition, clean) in self.partitions().zip(self.clean) {
            let seen = Elsewhere::open(self.log, &section.topic(), partition)?;
            let (board, input) = (Board::default(), lock(&clean.writer).syncer());
            partitions.push(ModelPartition {
                writer: Arc::new(Mutex::new(seen.writer())),
                board: board.clone(),
                state: Arc::new(Mutex::new(ModelState { state: "elsewhere", ..ModelState::default() })),
                keep_from: Arc::default(),
                keep_output_from: Arc::default(),
            });
            watch.add(Watched { seen, board, input: Some(Lag { input, meter: meter.clone() }) });
        }
        Ok(ModelPart { section: section.clone(), code: None, meter, partitions, crew: Crew::default() })
    }

    fn model_partition(
        &self,
        section: &ModelSection,
        partition: u32,
        clean: &CleanPart,
    ) -> Result<(ModelPartition, Derived), StartError> {
        let (epochs, input) = {
            let writer = lock(&clean.writer);
            (writer.epochs(), writer.syncer())
        };
        let writer = derived_writer(self.log, &section.topic(), partition, &epochs, &*input)?;
        let part = ModelPartition {
            board: board(&writer),
            state: Arc::new(Mutex::new(ModelState { state: "starting", ..ModelState::default() })),
            keep_from: Arc::default(),
            keep_output_from: Arc::default(),
            writer: writer.clone(),
        };
        Ok((part, Derived::new(writer, input)))
    }

    fn model_stage(
        &self,
        section: &ModelSection,
        partition: u32,
        part: &ModelPartition,
        meter: &Arc<Meter>,
        crew: &Crew,
    ) -> Result<ModelStage, StartError> {
        let tags = self.pipeline.layout.tags();
        Ok(ModelStage {
            model: section.clone(),
            partition,
            runtime: crate::trial::runtime(self.pipeline, self.options, section, partition)?,
            reader: self.log.mapped_reader(CLEAN, partition)?,
            output: self.log.reader(&section.topic(), partition)?,
            writer: part.writer.clone(),
            layout: AnswerLayout::new(tags),
            snapshots: model_snapshots(self.pipeline, self.store, section, partition)?,
            snapshot_every: self.pipeline.pipeline.snapshot_every.0,
            board: part.board.clone(),
            meter: meter.clone(),
            state: part.state.clone(),
            keep_from: part.keep_from.clone(),
            keep_output_from: part.keep_output_from.clone(),
            space: self.received.space.clone(),
            stop: crew.stop.clone(),
        })
    }

    /// A sink; in place of `old` it counts on, and what that one had not committed is still held for it.
    pub(crate) fn sink(&self, block: &Block, old: Option<&SinkPart>) -> Result<Made<SinkPart>, StartError> {
        let (meter, crew) = (old.map_or_else(Meter::shared, |old| old.meter.clone()), Crew::default());
        let (mut instances, mut runs) = (Vec::new(), Vec::new());
        for (origin, section) in origins(self.pipeline, &block.topic) {
            for partition in self.partitions() {
                let same = |held: &&SinkInstance| held.origin == origin && held.partition == partition;
                let held = old.and_then(|old| old.instances.iter().find(same));
                let instance = held.cloned().unwrap_or_else(|| SinkInstance {
                    origin: origin.clone(),
                    partition,
                    totals: Arc::default(),
                    keep_from: Arc::default(),
                });
                let stage = self.sink_stage(block, section, &instance, held.is_some(), &meter, &crew)?;
                let run: Box<dyn FnOnce() + Send> = Box::new(move || stage.run());
                runs.push((format!("{}-{partition}", block.name), run));
                instances.push(instance);
            }
        }
        let part = SinkPart { block: block.clone(), meter, instances, crew };
        Ok(Made { part, derived: Vec::new(), runs })
    }

    fn sink_stage(
        &self,
        block: &Block,
        section: SectionKind,
        instance: &SinkInstance,
        again: bool,
        meter: &Arc<Meter>,
        crew: &Crew,
    ) -> Result<DeliverStage, StartError> {
        let (origin, partition) = (&instance.origin, instance.partition);
        let context = SinkContext {
            name: &block.name,
            topic: &block.topic,
            origin,
            partition,
            data: self.data,
            base: &self.pipeline.base,
            schema: self.schema(&block.topic),
        };
        let sink = catalog::sink(block, &context).map_err(failed)?;
        let reader = self.log.reader(origin, partition)?;
        Ok(DeliverStage {
            sink,
            news: if again { None } else { Some(reader.published()) },
            reader,
            section,
            meter: meter.clone(),
            totals: instance.totals.clone(),
            keep_from: instance.keep_from.clone(),
            stop: crew.stop.clone(),
        })
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
}

/// Where a topic's rows lie: `dead-letter` and `forecasts.x` are read over sections of others.
pub(crate) fn origins(pipeline: &Pipeline, topic: &str) -> Vec<(String, SectionKind)> {
    if topic == DEAD_LETTER {
        let stages = [RECEIVED.to_owned(), CLEAN.to_owned()].into_iter();
        return stages
            .chain(pipeline.models.iter().map(ModelSection::topic))
            .map(|origin| (origin, SectionKind::DeadLetters))
            .collect();
    }
    match topic.strip_prefix(FORECASTS_PREFIX) {
        Some(model) => vec![(format!("{SCORES_PREFIX}{model}"), SectionKind::Forecasts)],
        None => vec![(topic.to_owned(), SectionKind::Rows)],
    }
}

/// The snapshots of a model's partition.
pub(crate) fn model_snapshots(
    pipeline: &Pipeline,
    store: &Arc<dyn Store>,
    section: &ModelSection,
    partition: u32,
) -> Result<Snapshots, StartError> {
    let tags = pipeline.layout.tags();
    let settings =
        serde_json::to_string(&(&section.code, section.named_fields(), &section.options, tags)).map_err(failed)?;
    Ok(Snapshots::new(store, &section.topic(), partition, &settings))
}

/// What the file looks like that a model's code lies in; none for a module, which Python finds.
pub(crate) fn code(section: &ModelSection, base: &Path) -> Option<u64> {
    let (file, _) = section.code.rsplit_once(':').filter(|(file, _)| file.ends_with(".py"))?;
    std::fs::read(base.join(file)).ok().map(|bytes| xxhash_rust::xxh3::xxh3_64(&bytes))
}

/// A derived partition's writer: frames whose input did not survive are dropped.
pub(crate) fn derived_writer(
    log: &Arc<dyn Log>,
    topic: &str,
    partition: u32,
    input_epochs: &[EpochStart],
    input: &dyn LogSync,
) -> Result<SharedWriter, StartError> {
    let end = input.published();
    let writer = log.writer(topic, partition, &mut |head| input_survived(head, input_epochs, end))?;
    Ok(Arc::new(Mutex::new(writer)))
}

/// Whether the rows that a derived frame was made from are still there, in the reign that wrote them.
pub(crate) fn input_survived(head: &FrameHead, epochs: &[EpochStart], end: u64) -> bool {
    let Some(input) = head.meta.input else { return true };
    let Some(reign) = epochs.iter().position(|start| start.epoch == input.epoch) else { return false };
    let reign_end = epochs.get(reign + 1).map_or(end, |next| next.first);
    input.to <= reign_end
}

/// The counts that a partition's newest frame tells.
pub(crate) fn board(writer: &SharedWriter) -> Board {
    let (board, writer) = (Board::default(), lock(writer));
    let counts = writer.newest().map(|head| head.meta.counts).unwrap_or_default();
    board.publish(&counts, writer.published());
    board
}

pub(crate) fn failed(error: impl std::fmt::Display) -> StartError {
    StartError::Failed(error.to_string())
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
