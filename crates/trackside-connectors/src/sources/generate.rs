//! A simulated fleet of sensors, with dirt and true anomalies in it, for demos, tests and benchmarks.
//!
//! Guarantee: exactly once. Event number `k` is a pure function of seed and `k`, and the position is the next number,
//! so a restart goes on where the log stands. An endless fleet that was away leaves the time in between out, as real
//! sensors do; one with `count` or `start` makes it up.
//!
//! What it fills, by name: tags `device` (`pump-1`, …) and `sensor` (`temp`, `humidity`, …); fields `value`, `unit`
//! and `seq` (the number of the reading in its series: repeated by duplicates). Without a tag `sensor` an event holds
//! one value for each float field: of the kind that the field is named after, or of the next kind in turn. Without a
//! tag `device` the first tag that is not given takes the device. An event id is `series-reading`. Broken payloads are JSON text that
//! goes through the JSON decoder, like a device's.
//!
//! ```toml
//! [[source]]
//! type = "generate"
//! devices = 5
//! sensors = 2
//! rate = 20                     # events a second; 0 = as fast as possible
//! backfill = "1h"               # first the last hour, at once
//! malformed = 0.01
//! tags = { simulated = "true" }
//! ```

use super::fleet::{Fleet, KINDS, Reading, Shares, kind};
use super::{again, hand_over};
use crate::formats::mapping::{Mapping, Row, Value};
use crate::formats::{Decoder, Envelope, json::Json};
use arrow::array::RecordBatch;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use trackside_core::builder::EventBuilder;
use trackside_core::component::{Component, config, schema_of};
use trackside_core::dead_letter::DeadLetter;
use trackside_core::error::{ConfigError, Failure};
use trackside_core::position::{Resume, Span as Part};
use trackside_core::schema::{FieldType, Layout};
use trackside_core::source::{BuildSource, Door, Guarantee, Source, SourceContext, SourceState};
use trackside_core::time::{Span, TimeConfig, TimeReader};

/// Most events of one delivery.
const MAX_EVENTS: u64 = 8192;
/// Live events are gathered for so long.
const TICK: Duration = Duration::from_millis(10);
/// Most devices, and most sensors of a device.
const MAX_FLEET: u32 = 1_000_000;

/// Its line in the list.
pub(super) const COMPONENT: Component<BuildSource> = Component {
    name: "generate",
    summary: "Simulates a fleet of sensors from a seed, with dirt and true anomalies, live or as fast as possible.",
    example: r#"[[source]]
type = "generate"
seed = 7
devices = 5
sensors = 2
rate = 0
count = 10000
duplicates = 0.01
malformed = 0.005
"#,
    schema: schema_of::<Config>,
    build,
};

/// The keys of a `generate` block.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whatever is drawn is drawn from it.
    pub seed: u64,
    /// Number of devices.
    pub devices: u32,
    /// Sensors of each device.
    pub sensors: u32,
    /// Events a second, of the whole fleet; 0: as fast as possible, each series once a second of event time.
    pub rate: f64,
    /// Ends after so many events. Without it the fleet never ends.
    pub count: Option<u64>,
    /// Begins so far in the past, and catches up as fast as possible.
    pub backfill: Option<Span>,
    /// Time of the first event (RFC 3339) for runs that are the same to the bit. Default: now.
    pub start: Option<String>,
    /// Share of events that repeat the series' reading before.
    pub duplicates: f64,
    /// Share of readings that change places with their neighbour in the series.
    pub disorder: f64,
    /// Share of readings far outside of what the sensor can measure.
    pub out_of_range: f64,
    /// Share of readings that are spikes inside of the range.
    pub spikes: f64,
    /// Share of events that arrive as broken payloads.
    pub malformed: f64,
    /// Share of readings inside of a true anomaly (a step, a drift or a burst of 20 readings).
    pub anomalies: f64,
    /// The first series shows a sure anomaly so long after the fleet went live.
    pub first_anomaly_after: Option<Span>,
    /// Tags of all events.
    pub tags: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            devices: 5,
            sensors: 2,
            rate: 10.0,
            count: None,
            backfill: None,
            start: None,
            duplicates: 0.0,
            disorder: 0.0,
            out_of_range: 0.0,
            spikes: 0.0,
            malformed: 0.0,
            anomalies: 0.0,
            first_anomaly_after: None,
            tags: BTreeMap::new(),
        }
    }
}

/// Builds the source.
pub fn build(block: serde_json::Value, context: &SourceContext<'_>) -> Result<Box<dyn Source>, ConfigError> {
    let config: Config = config(block)?;
    check(&config)?;
    let start = config.start.as_deref().map(read_start).transpose()?;
    let mapping = Arc::new(Mapping::new(context.layout, context.name, &config.tags)?);
    let plan = Plan::new(context.layout, &mapping, &config.tags)?;
    let json = Json::new(mapping.clone());
    Ok(Box::new(Generate { config, start, mapping, plan, json, extra: String::new() }))
}

fn check(config: &Config) -> Result<(), ConfigError> {
    for (name, number) in [("devices", config.devices), ("sensors", config.sensors)] {
        if !(1..=MAX_FLEET).contains(&number) {
            return Err(ConfigError::new(name, format!("{number} {name}; choose 1 to {MAX_FLEET}")));
        }
    }
    if !config.rate.is_finite() || config.rate < 0.0 {
        return Err(ConfigError::new("rate", format!("a rate of {} events a second", config.rate))
            .with_help("give a positive number, or 0 for as fast as possible"));
    }
    let shares = [
        ("duplicates", config.duplicates),
        ("disorder", config.disorder),
        ("out_of_range", config.out_of_range),
        ("spikes", config.spikes),
        ("malformed", config.malformed),
        ("anomalies", config.anomalies),
    ];
    if let Some((name, share)) = shares.iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
        return Err(ConfigError::new(*name, format!("{share} is no share")).with_help("give a number from 0 to 1"));
    }
    if config.backfill.is_some() && config.rate == 0.0 {
        return Err(ConfigError::new("backfill", "`backfill` needs a `rate`")
            .with_help("give the events a second that the past should have"));
    }
    if config.backfill.is_some() && config.start.is_some() {
        return Err(ConfigError::new("backfill", "`backfill` ends now, and `start` says otherwise")
            .with_help("keep the one that you mean"));
    }
    Ok(())
}

fn read_start(text: &str) -> Result<i64, ConfigError> {
    let rfc3339 = TimeConfig { field: String::new(), unit: None, format: Some("rfc3339".into()), zone: "UTC".into() };
    TimeReader::new(&rfc3339)?.text(text).map_err(|_| {
        ConfigError::new("start", format!("`{text}` is no time")).with_help("write it as `2025-01-31T12:00:00Z`")
    })
}

/// Which key of the schema gets what.
struct Plan {
    device: Option<usize>,
    sensor: Option<usize>,
    /// Key and channel; the channel is the row's sensor when there is none.
    values: Vec<(usize, String, Option<usize>)>,
    unit: Option<usize>,
    seq: Option<usize>,
    id: Option<usize>,
    time: Option<String>,
}

impl Plan {
    fn new(layout: &Layout, mapping: &Mapping, tags: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let config = &layout.config;
        let tag = |name: &str| config.series.iter().any(|tag| tag == name).then(|| mapping.find(name)).flatten();
        let field = |name: &str, kind| mapping.find(name).filter(|_| config.fields.get(name) == Some(&kind));
        let sensor = tag("sensor");
        let free = |name: &&String| *name != "sensor" && !tags.contains_key(*name);
        let first = config.series.iter().find(free).and_then(|name| mapping.find(name));
        let floats = config.fields.iter().filter(|(_, kind)| **kind == FieldType::Float).map(|(name, _)| name);
        let mut values: Vec<_> = floats
            .enumerate()
            .filter_map(|(turn, name)| {
                let channel = KINDS.iter().position(|kind| kind.name == name).unwrap_or(turn);
                Some((mapping.find(name)?, name.clone(), Some(channel)))
            })
            .collect();
        if sensor.is_some() {
            let at = values.iter().position(|(_, name, _)| name == "value").unwrap_or(0);
            values = values.into_iter().skip(at).take(1).map(|(key, name, _)| (key, name, None)).collect();
        }
        if values.is_empty() {
            return Err(ConfigError::new("", "`generate` needs a float field to fill, and the schema has none")
                .with_help("add one to `[schema]`, for example `fields = { value = \"float\" }`"));
        }
        Ok(Self {
            device: tag("device").or(first),
            sensor,
            values,
            unit: field("unit", FieldType::String).filter(|_| sensor.is_some()),
            seq: field("seq", FieldType::Integer),
            id: config
                .event_id
                .as_ref()
                .and_then(|name| mapping.find(name))
                .filter(|key| Some(*key) != field("seq", FieldType::Integer)),
            time: config.time.as_ref().map(|time| time.field.clone()),
        })
    }
}

struct Generate {
    config: Config,
    start: Option<i64>,
    mapping: Arc<Mapping>,
    plan: Plan,
    json: Json,
    extra: String,
}

impl Generate {
    /// The fleet, and the stream under which its positions are kept: it names the time of event 0, which a restart
    /// must not move.
    fn fleet(&self, resume: &Resume, now: i64) -> (Fleet, String) {
        let config = &self.config;
        let sensors = if self.plan.sensor.is_some() { u64::from(config.sensors) } else { 1 };
        let series = u64::from(config.devices) * sensors;
        let prefix = format!("seed-{}@", config.seed);
        let before = resume.stands.keys().filter_map(|name| name.strip_prefix(&prefix)?.parse::<i64>().ok()).max();
        let past = config.backfill.map_or(0, |span| span.0.as_nanos() as i64);
        let origin = self.start.or(before).unwrap_or(now - past);
        let live = origin.saturating_add(past);
        let fleet = Fleet {
            seed: config.seed,
            sensors,
            series,
            origin,
            step: if config.rate > 0.0 { 1e9 / config.rate } else { 1e9 / series as f64 },
            shares: Shares {
                duplicates: config.duplicates,
                disorder: config.disorder,
                out_of_range: config.out_of_range,
                spikes: config.spikes,
                malformed: config.malformed,
                anomalies: config.anomalies,
            },
            first_anomaly: config.first_anomaly_after.map(|after| live.saturating_add(after.0.as_nanos() as i64)),
        };
        (fleet, format!("{prefix}{origin}"))
    }

    /// Where to go on: behind the newest stand an endless live fleet leaves out what it missed.
    fn skip_to(&self, fleet: &Fleet, next: u64, stands: &[u64], now: i64) -> u64 {
        let endless = self.config.count.is_none() && self.start.is_none() && self.config.rate > 0.0;
        let backfilled = fleet.due(fleet.origin + self.config.backfill.map_or(0, |span| span.0.as_nanos() as i64));
        let resumed = stands.last() == Some(&next);
        if endless && resumed && next > backfilled { next.max(fleet.due(now).saturating_sub(1)) } else { next }
    }

    fn event(&mut self, fleet: &Fleet, k: u64, out: &mut EventBuilder, dead: &mut Vec<DeadLetter>, arrival: i64) {
        let reading = fleet.reading(k);
        let envelope = Envelope { first_line: 0, ..Envelope::at(arrival) };
        if let Some(way) = reading.broken {
            let bytes = self.broken(fleet, &reading, way);
            let before = dead.len();
            self.json.decode(&bytes, &envelope, out, dead);
            dead[before..].iter_mut().for_each(|letter| letter.detail = Some(format!("event {k}")));
            return;
        }
        let (device, sensor) = names(fleet, &reading);
        let plan = &self.plan;
        let mut row = Row::begin(&self.mapping, &envelope, out, &mut self.extra);
        row.time(reading.time);
        let id = plan.id.map(|key| (key, format!("{}-{}", reading.series, reading.number)));
        let number = i64::try_from(reading.number).unwrap_or(i64::MAX);
        let own = (reading.series % fleet.sensors) as usize;
        let texts = [(plan.device, device.as_str()), (plan.sensor, &sensor), (plan.unit, kind(own).unit)];
        let texts = texts.into_iter().filter_map(|(key, text)| Some((key?, Value::Text(text))));
        let values = plan
            .values
            .iter()
            .map(|(key, _, channel)| (*key, Value::Float(fleet.value(&reading, channel.unwrap_or(own)), "")));
        let others = plan.seq.map(|key| (key, Value::Integer(number, "")));
        let id = id.iter().map(|(key, id)| (*key, Value::Text(id)));
        // Types were looked up in the schema, so nothing can be refused.
        let done = texts.chain(values).chain(others).chain(id).try_for_each(|(key, value)| row.set(key, value));
        if let Err(reason) = done.and_then(|()| row.finish(&envelope, k, 0)) {
            out.rollback();
            dead.push(DeadLetter::payload(self.mapping.component(), reason, b"").with_detail(format!("event {k}")));
        }
    }

    /// The event as a device would send it, and broken: cut off, a text for a number, or garbage.
    fn broken(&self, fleet: &Fleet, reading: &Reading, way: u64) -> Vec<u8> {
        let (device, sensor) = names(fleet, reading);
        let own = (reading.series % fleet.sensors) as usize;
        let mut line = String::from("{");
        let mut names = self.mapping.names();
        let name = |key: Option<usize>| key.and_then(|key| self.mapping.names().nth(key));
        // Writing to a string cannot fail.
        if let Some(time) = &self.plan.time {
            _ = write!(line, "{}:{},", serde_json::Value::from(time.as_str()), reading.time / 1_000_000);
        }
        for (key, text) in [(self.plan.device, device), (self.plan.sensor, sensor)] {
            if let Some(name) = name(key) {
                _ = write!(line, "{}:\"{text}\",", serde_json::Value::from(name));
            }
        }
        let (key, _, channel) = &self.plan.values[0];
        let value = fleet.value(reading, channel.unwrap_or(own));
        let value = if way == 0 { "\"ERR\"".to_string() } else { value.to_string() };
        _ = write!(line, "{}:{value}}}", serde_json::Value::from(names.nth(*key).unwrap_or_default()));
        match way {
            1 => line.truncate(line.len() / 2),
            2 => line = format!("#~{}", line.chars().rev().collect::<String>()),
            _ => {}
        }
        line.into_bytes()
    }
}

fn names(fleet: &Fleet, reading: &Reading) -> (String, String) {
    let (device, sensor) = (reading.series / fleet.sensors, (reading.series % fleet.sensors) as usize);
    let kind = kind(sensor).name;
    let sensor = if sensor < KINDS.len() { kind.to_string() } else { format!("{kind}-{}", sensor / KINDS.len() + 1) };
    (format!("pump-{}", device + 1), sensor)
}

impl Source for Generate {
    fn decode_again(&mut self, letter: &DeadLetter, _event: bool, arrival: i64) -> Result<RecordBatch, String> {
        again::json(&self.mapping, letter, arrival)
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn finite(&self) -> bool {
        self.config.count.is_some()
    }

    fn run(&mut self, door: Arc<dyn Door>) -> Result<(), Failure> {
        let resume = door.resume();
        let launch = door.now();
        let (fleet, stream) = self.fleet(&resume, launch);
        let mut next = resume.start(&stream);
        let stands = resume.stands.get(&stream).cloned().unwrap_or_default();
        // With a fixed start the events come at their distance from each other, from now on.
        let shift = if self.start.is_some() { launch.saturating_sub(fleet.time(next)) } else { 0 };
        // A reading that changed places must not come from the future.
        let late = if self.config.disorder > 0.0 { (fleet.step * fleet.series as f64) as i64 } else { 0 };
        let end = self.config.count.unwrap_or(u64::MAX);
        let mut out = EventBuilder::new(self.mapping.layout().clone());
        door.state(SourceState::Running, None);
        while next < end {
            if !door.wait_for_room() {
                return Ok(());
            }
            let now = door.now();
            next = self.skip_to(&fleet, next, &stands, now);
            let clock = now.saturating_sub(shift).saturating_sub(late);
            let due = if self.config.rate > 0.0 { fleet.due(clock) } else { u64::MAX };
            let limit = resume.limit(&stream, next).unwrap_or(u64::MAX);
            let to = due.min(next.saturating_add(MAX_EVENTS)).min(end).min(limit);
            if to <= next {
                let wait = Duration::from_nanos(fleet.time(next).saturating_sub(clock).max(0) as u64);
                if door.wait_stop(wait.max(TICK)) {
                    return Ok(());
                }
                continue;
            }
            let mut dead = Vec::new();
            (next..to).for_each(|k| self.event(&fleet, k, &mut out, &mut dead, now));
            let rows = (!out.is_empty()).then(|| out.finish());
            let span = Part { stream: stream.clone(), from: next, to, check: None };
            if !hand_over(&*door, rows, &dead, Some(span)) {
                return Ok(());
            }
            next = to;
        }
        Ok(())
    }
}
