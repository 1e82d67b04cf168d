//! What the simulated clients send, and what must become of it.
//!
//! Every event has an id of its own. Its fate follows from its content by rules that are written here a second time, so
//! that what the cleaners did can be compared with something that is not theirs.

use arrow::array::RecordBatch;
use std::collections::HashMap;
use std::sync::Arc;
use trackside_core::builder::EventBuilder;
use trackside_core::schema::Layout;
use trackside_log::Random;

/// The pipeline of all simulations; `PARTITIONS` is put in.
pub(super) const PIPELINE: &str = r#"
[pipeline]
name = "simulated"
partitions = PARTITIONS

[schema]
series = ["device"]
fields = { value = "float", seq = "integer", id = "integer" }

[[clean]]
type = "dedupe"
by = "seq"
within = 64
resets = "ignore"

[[clean]]
type = "range"
name = "impossible"
field = "value"
max = 1000
action = "reject"

[[clean]]
type = "range"
name = "unwanted"
field = "value"
min = -1000
action = "drop"

[[clean]]
type = "hampel"
field = "value"
window = 5

[[sink]]
type = "parquet"
topic = "clean"
rows = 24
age = "2s"
compression = "none"

[[sink]]
type = "parquet"
topic = "received"
rows = 32
age = "3s"
compression = "none"

[[sink]]
type = "parquet"
topic = "dead-letter"
rows = 8
age = "2s"
compression = "none"
"#;

/// Cleaners as blocks of JSON, for the straight run.
pub(super) fn cleaners() -> Vec<serde_json::Value> {
    vec![
        serde_json::json!({"type": "dedupe", "by": "seq", "within": 64, "resets": "ignore"}),
        serde_json::json!({"type": "range", "name": "impossible", "field": "value", "max": 1000, "action": "reject"}),
        serde_json::json!({"type": "range", "name": "unwanted", "field": "value", "min": -1000, "action": "drop"}),
        serde_json::json!({"type": "hampel", "field": "value", "window": 5}),
    ]
}

/// How far back a repeat is recognized.
const WITHIN: i64 = 64;
/// Devices that send and send again.
const DEVICES: u64 = 4;
const HOUR: i64 = 3_600_000_000_000;

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    pub(super) device: String,
    pub(super) time: i64,
    pub(super) value: f64,
    pub(super) seq: i64,
}

/// What becomes of an event that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Clean,
    Dead,
    Filtered,
}

/// All that was ever sent, by id.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) all: Vec<Event>,
    seqs: HashMap<String, i64>,
}

impl Events {
    /// A new event of one of the devices, or of the replayable stream; its id.
    pub(super) fn make(&mut self, random: &mut Random, clock: i64, stream: bool) -> i64 {
        let device = format!("{}{}", if stream { "r" } else { "d" }, random.below(DEVICES));
        let seq = self.seqs.entry(device.clone()).or_default();
        *seq += 1;
        let value = match random.below(24) {
            0 => 5000.0,
            1 => -5000.0,
            2 => 90.0,
            _ => 20.0 + random.below(100) as f64 / 50.0,
        };
        // Some are a day late: a commit then has files in two folders.
        let time = clock - if random.once_in(12) { 24 * HOUR } else { 0 } + random.below(1000) as i64;
        self.all.push(Event { device, time, value, seq: *seq });
        self.all.len() as i64 - 1
    }

    /// Whether a repeat of this event would still be recognized as one.
    pub(super) fn fresh(&self, id: i64) -> bool {
        let event = &self.all[id as usize];
        self.seqs[&event.device] - event.seq < WITHIN / 2
    }

    /// The events with these ids, as a source hands them over.
    pub(super) fn batch(&self, layout: &Arc<Layout>, ids: &[i64]) -> RecordBatch {
        let mut builder = EventBuilder::new(layout.clone());
        for id in ids {
            let event = &self.all[*id as usize];
            builder.time(event.time);
            builder.tag(0, &event.device);
            builder.float(0, event.value);
            builder.integer(1, event.seq);
            builder.integer(2, *id);
            builder.finish_row(0);
        }
        builder.finish()
    }
}

/// The rules of the pipeline once more: fates of the events of one partition, in the order received.
#[derive(Debug, Default)]
pub(super) struct Rules {
    seen: HashMap<String, (i64, Vec<i64>)>,
}

impl Rules {
    pub(super) fn fate(&mut self, event: &Event) -> Fate {
        let (highest, seen) = self.seen.entry(event.device.clone()).or_insert((i64::MIN, Vec::new()));
        if seen.contains(&event.seq) || (*highest != i64::MIN && event.seq <= *highest - WITHIN) {
            return Fate::Filtered;
        }
        *highest = event.seq.max(*highest);
        seen.push(event.seq);
        match event.value {
            value if value > 1000.0 => Fate::Dead,
            value if value < -1000.0 => Fate::Filtered,
            _ => Fate::Clean,
        }
    }
}
