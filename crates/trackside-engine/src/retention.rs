//! Retention: segments that everyone has read go, oldest first, once a topic is larger than its bound.
//!
//! Cleaning, snapshots and sinks hold it back; a model does up to its backlog, past which its rows are skipped.

use crate::crew::spawn;
use crate::data_dir::StartError;
use crate::derived::lock;
use crate::engine::{Engine, Parts};

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;
use trackside_core::planted::{Bug, planted};
use trackside_core::position::{CLEAN, RECEIVED};

const INTERVAL: Duration = Duration::from_secs(10);

/// Starts the thread; it ends with the engine.
pub(crate) fn start(engine: &Arc<Engine>) -> Result<(), StartError> {
    let (engine, stop): (Weak<Engine>, _) = (Arc::downgrade(engine), engine.stops.syncs.clone());
    let run = move || {
        while !stop.wait(INTERVAL) {
            let Some(engine) = engine.upgrade() else { return };
            trim(&engine);
        }
    };
    spawn("retention".into(), run).map(|_| ())
}

fn trim(engine: &Engine) {
    let parts = engine.parts();
    let max = engine.pipeline().retention.max_mib << 20;
    for (partition, clean) in (0u32..).zip(&engine.clean) {
        let bytes = engine.received.bytes(partition);
        if bytes > max {
            let needed =
                parts.sink_positions(RECEIVED, partition).chain([clean.keep_from.load(Relaxed)]).min().unwrap_or(0);
            let end = engine.received.syncer(partition).published();
            report(RECEIVED, engine.received.retain(partition, bounded(needed, end, bytes, max)));
        }
        let models = parts.models.iter().filter_map(|model| model.partitions.get(partition as usize));
        let needed =
            models.map(|model| model.keep_from.load(Relaxed)).chain(parts.sink_positions(CLEAN, partition)).min();
        let mut writer = lock(&clean.writer);
        let (bytes, end) = (writer.bytes(), writer.published());
        if bytes > max {
            report(CLEAN, writer.retain(bounded(needed.unwrap_or(end), end, bytes, max)));
        }
    }
    for model in &parts.models {
        let topic = model.section.topic();
        for (partition, part) in (0u32..).zip(&model.partitions) {
            let needed =
                parts.sink_positions(&topic, partition).chain([part.keep_output_from.load(Relaxed)]).min().unwrap_or(0);
            let mut writer = lock(&part.writer);
            let (bytes, end) = (writer.bytes(), writer.published());
            if bytes > max {
                report(&topic, writer.retain(bounded(needed, end, bytes, max)));
            }
        }
    }
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

impl Parts {
    /// Offsets that sinks still need of a topic's partition.
    fn sink_positions<'a>(&'a self, origin: &'a str, partition: u32) -> impl Iterator<Item = u64> + 'a {
        let instances = self.sinks.iter().flat_map(|sink| &sink.instances);
        instances
            .filter(move |i| i.origin == origin && i.partition == partition)
            .map(|i| AtomicU64::load(&i.keep_from, Relaxed))
    }
}
