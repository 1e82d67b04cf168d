//! Retention: segments that everyone has read go, oldest first, once a topic is larger than its bound.
//!
//! Cleaning, snapshots and sinks hold it back; a model does up to its backlog, past which its rows are skipped. A topic's
//! owner lets go of it. Stages that run elsewhere hold it back as well, also while their host is away: a model there skips
//! nothing while nobody runs it.

use crate::catalog::{Snapshot, Snapshots};
use crate::config::{Block, Pipeline};
use crate::crew::spawn;
use crate::data_dir::StartError;
use crate::derived::{SharedWriter, lock};
use crate::engine::{CleanPart, Engine, ModelPart, Parts};
use crate::parts::{model_snapshots, origins};
use crate::start::chain_snapshots;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;
use trackside_core::planted::{Bug, planted};
use trackside_core::position::{CLEAN, Position, RECEIVED};

const INTERVAL: Duration = Duration::from_secs(10);
/// The first time comes soon: an engine that is killed again and again must not fill the disk.
const FIRST: Duration = Duration::from_millis(250);

/// Starts the thread; it ends with the engine.
pub(crate) fn start(engine: &Arc<Engine>) -> Result<(), StartError> {
    let (engine, stop): (Weak<Engine>, _) = (Arc::downgrade(engine), engine.stops.syncs.clone());
    let run = move || {
        let mut pause = FIRST;
        while !stop.wait(pause) {
            let Some(engine) = engine.upgrade() else { return };
            trim(&engine);
            pause = INTERVAL;
        }
    };
    spawn("retention".into(), run).map(|_| ())
}

fn trim(engine: &Engine) {
    let (parts, pipeline, stages) = (engine.parts(), engine.pipeline(), engine.stages());
    let max = pipeline.retention.max_mib << 20;
    let needs = Needs { engine, parts: &parts, pipeline: &pipeline };
    needs.say();
    for (partition, clean) in (0u32..).zip(&engine.clean) {
        let bytes = engine.received.bytes(partition);
        if stages.ingest && bytes > max {
            let needed = needs.of_sinks(RECEIVED, partition).min(needs.of_clean(partition, clean));
            let end = engine.received.syncer(partition).published();
            report(RECEIVED, engine.received.retain(partition, bounded(needed, end, bytes, max)));
        }
        if stages.clean {
            let needed = || {
                let models = parts.models.iter().map(|model| needs.of_model(model, partition));
                models.fold(needs.of_sinks(CLEAN, partition), u64::min)
            };
            trim_derived(CLEAN, &clean.writer, max, needed);
        }
    }
    for model in parts.models.iter().filter(|_| stages.models) {
        let topic = model.section.topic();
        for (partition, part) in (0u32..).zip(&model.partitions) {
            let needed = || needs.of_sinks(&topic, partition).min(part.keep_output_from.load(Relaxed));
            trim_derived(&topic, &part.writer, max, needed);
        }
    }
}

/// What is needed may be asked of servers, so it is asked when there is too much, and before the writer is locked.
fn trim_derived(topic: &str, writer: &SharedWriter, max: u64, needed: impl Fn() -> u64) {
    let (bytes, end) = {
        let writer = lock(writer);
        (writer.bytes(), writer.published())
    };
    if bytes > max {
        let keep_from = bounded(needed(), end, bytes, max);
        let freed = lock(writer).retain(keep_from);
        report(topic, freed);
    }
}

/// Who still needs which offsets: stages of this process say so themselves, the others' outputs and snapshots tell.
struct Needs<'a> {
    engine: &'a Engine,
    parts: &'a Parts,
    pipeline: &'a Pipeline,
}

impl Needs<'_> {
    /// Of `received`, by cleaning.
    fn of_clean(&self, partition: u32, clean: &CleanPart) -> u64 {
        match self.engine.stages().clean {
            true => clean.keep_from.load(Relaxed),
            false => elsewhere(&clean.writer, chain_snapshots(self.pipeline, &self.engine.store, partition)),
        }
    }

    /// Of `clean`, by a model.
    fn of_model(&self, model: &ModelPart, partition: u32) -> u64 {
        let Some(part) = model.partitions.get(partition as usize) else { return u64::MAX };
        match self.engine.stages().models {
            true => part.keep_from.load(Relaxed),
            false => {
                let snapshots = model_snapshots(self.pipeline, &self.engine.store, &model.section, partition);
                elsewhere(&part.writer, snapshots)
            }
        }
    }

    /// Of a topic's partition, by all sinks.
    fn of_sinks(&self, origin: &str, partition: u32) -> u64 {
        if self.engine.stages().sinks {
            let instances = self.parts.sinks.iter().flat_map(|sink| &sink.instances);
            let ours = instances.filter(|i| i.origin == origin && i.partition == partition);
            return ours.map(|i| AtomicU64::load(&i.keep_from, Relaxed)).min().unwrap_or(u64::MAX);
        }
        let reads = |block: &&Block| origins(self.pipeline, &block.topic).iter().any(|(topic, _)| topic == origin);
        let stand = |block: &Block| self.stand(&block.name, origin, partition).newest().ok().flatten();
        let sinks = self.pipeline.sinks.iter().filter(reads);
        sinks.map(|block| stand(block).map_or(0, |stand| stand.position.offset)).min().unwrap_or(u64::MAX)
    }

    /// Where a sink stands, kept as a snapshot without a state: the owner of what it reads may be another process.
    fn stand(&self, sink: &str, origin: &str, partition: u32) -> Snapshots {
        Snapshots::new(&self.engine.store, &format!("sink.{sink}.{origin}"), partition, "")
    }

    /// Tells the owners elsewhere how far the sinks of this process have come.
    fn say(&self) {
        let stages = self.engine.stages();
        let owned = |origin: &str| match origin {
            RECEIVED => stages.ingest,
            CLEAN => stages.clean,
            _ => stages.models,
        };
        for sink in &self.parts.sinks {
            for instance in sink.instances.iter().filter(|instance| !owned(&instance.origin)) {
                let snapshots = self.stand(&sink.block.name, &instance.origin, instance.partition);
                let position = Position { epoch: 0, offset: instance.keep_from.load(Relaxed) };
                let said = snapshots.newest().and_then(|newest| match newest {
                    Some(newest) if newest.position == position => Ok(()),
                    _ => snapshots.save(&Snapshot { position, state: Vec::new() }),
                });
                if let Err(error) = said {
                    tracing::warn!(%error, sink = sink.block.name, "where a sink stands could not be told; its rows are kept");
                }
            }
        }
    }
}

/// What a stage elsewhere needs of its input: what its output has not come to yet, and what follows its older snapshot.
/// Without two of them, everything: it may have to learn anew.
fn elsewhere(output: &SharedWriter, snapshots: Result<Snapshots, StartError>) -> u64 {
    let done = lock(output).newest().and_then(|head| head.meta.input).map_or(0, |input| input.to);
    let oldest = snapshots.ok().and_then(|snapshots| snapshots.oldest());
    oldest.map_or(0, |oldest| oldest.position.offset.min(done))
}

/// Of what nobody needs, only as much goes as the bound asks for: rows are taken to be of equal size.
pub(crate) fn bounded(needed: u64, end: u64, bytes: u64, max: u64) -> u64 {
    let kept = (end as f64 * max as f64 / bytes.max(1) as f64) as u64;
    let needed = if planted(Bug::TrimBeforeReader) { end } else { needed };
    needed.min(end.saturating_sub(kept))
}

fn report(topic: &str, freed: Result<u64, trackside_core::log::LogError>) {
    match freed {
        Ok(0) => {}
        Ok(bytes) => tracing::debug!(topic, bytes, "old segments were removed"),
        Err(error) => tracing::warn!(topic, %error, "old segments could not be removed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::logs::{LogSection, Owned, own};
    use trackside_core::log::{FrameDraft, FrameMeta};
    use trackside_core::position::InputRange;

    #[test]
    fn what_a_stage_elsewhere_needs_is_told_by_its_output_and_its_snapshots() {
        let data = tempfile::tempdir().unwrap();
        let Owned { log, store } = own(&LogSection::Embedded, 1, data.path()).unwrap();
        let writer = log.writer("scores.m", 0, &mut |_| true).unwrap();
        let writer: SharedWriter = Arc::new(std::sync::Mutex::new(writer));
        let append = |to| {
            let input = Some(InputRange { epoch: 1, from: 0, to });
            let meta = FrameMeta { input, ..FrameMeta::default() };
            lock(&writer).append(&FrameDraft { meta, ..FrameDraft::default() }).unwrap();
        };
        let snapshots = || Snapshots::new(&store, "scores.m", 0, "{}");
        let save = |offset| {
            let position = Position { epoch: 1, offset };
            snapshots().save(&Snapshot { position, state: vec![1] }).unwrap();
        };
        let needs = || elsewhere(&writer, Ok(snapshots()));
        append(500);
        assert_eq!(needs(), 0, "without a snapshot it learns anew");
        save(100);
        assert_eq!(needs(), 0, "one may turn out to be damaged");
        save(300);
        assert_eq!(needs(), 100);
        save(400);
        assert_eq!(needs(), 300);
        save(600);
        save(700);
        assert_eq!(needs(), 500, "an output that gave frames up stands before its snapshots");
        assert_eq!(elsewhere(&writer, Err(StartError::Failed(String::new()))), 0);
    }
}
