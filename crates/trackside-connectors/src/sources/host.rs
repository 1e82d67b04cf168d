//! This machine's own sensors: cores, memory, disks, network, load and temperatures.
//!
//! Guarantee: at most once. What was not measured while the pipeline was down or full is nowhere.
//!
//! It needs the tags `device` and `sensor` and the float field `value`; it fills `unit`, `seq` (rises with every
//! round, also over restarts) and the tag `hostname` where the schema has them. Devices are `cpu` and `cpu-0`…
//! (`usage`), `memory` (`used`, `available`), `swap` (`used`), `load` (`1m`, `5m`, `15m`), `disk-/` (`used`, `read`,
//! `written`), `network-eth0` (`received`, `sent`) and `temperature` (by chip). What this machine lacks, a container's
//! temperatures say, is left out.
//!
//! ```toml
//! [[source]]
//! type = "host"
//! every = "1s"
//! parts = ["cpu", "memory"]     # default: all
//! ```

use super::hand_over;
use crate::formats::Envelope;
use crate::formats::mapping::{Mapping, Row, Value};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use sysinfo::{Components, Disks, MINIMUM_CPU_UPDATE_INTERVAL, Networks, System};
use trackside_core::builder::EventBuilder;
use trackside_core::component::{Component, config, schema_of};
use trackside_core::error::{ConfigError, Failure};
use trackside_core::schema::{FieldType, Layout};
use trackside_core::source::{BuildSource, Door, Guarantee, Source, SourceContext, SourceState};
use trackside_core::time::Span;

/// Shortest time between two rounds: the system's own counters move no faster.
const MIN_EVERY: Duration = Duration::from_millis(100);
/// Most readings of a round; machines with more cores and disks than this lose the last ones.
const MAX_READINGS: usize = 4096;

/// Its line in the list.
pub(super) const COMPONENT: Component<BuildSource> = Component {
    name: "host",
    summary: "Measures this machine: CPU per core, memory, disks, network, load and temperatures.",
    example: r#"[[source]]
type = "host"
every = "1s"
"#,
    schema: schema_of::<Config>,
    build,
};

/// The keys of a `host` block.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Time between two rounds of measuring.
    pub every: Span,
    /// What is measured.
    pub parts: Vec<Part>,
    /// Tags of all events.
    pub tags: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        use Part::{Cpu, Disk, Load, Memory, Network, Temperature};
        let parts = vec![Cpu, Memory, Load, Disk, Network, Temperature];
        Self { every: Span(Duration::from_secs(1)), parts, tags: BTreeMap::new() }
    }
}

/// A part of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Share of time that cores are busy.
    Cpu,
    /// Memory and swap.
    Memory,
    /// Runnable tasks, averaged.
    Load,
    /// Space, and bytes a second.
    Disk,
    /// Bytes a second by interface.
    Network,
    /// By chip.
    Temperature,
}

/// Builds the source.
pub fn build(block: serde_json::Value, context: &SourceContext<'_>) -> Result<Box<dyn Source>, ConfigError> {
    let config: Config = config(block)?;
    if config.every.0 < MIN_EVERY {
        return Err(ConfigError::new(
            "every",
            format!("{:?} is too often; the shortest is {MIN_EVERY:?}", config.every.0),
        ));
    }
    let mapping = Mapping::new(context.layout, context.name, &config.tags)?;
    let keys = Keys::find(context.layout, &mapping)?;
    Ok(Box::new(Host { config, mapping, keys }))
}

/// Keys of the schema that are filled.
struct Keys {
    device: usize,
    sensor: usize,
    value: usize,
    unit: Option<usize>,
    seq: Option<usize>,
    hostname: Option<usize>,
}

impl Keys {
    fn find(layout: &Layout, mapping: &Mapping) -> Result<Self, ConfigError> {
        let config = &layout.config;
        let field = |name: &str, kind| mapping.find(name).filter(|_| config.fields.get(name) == Some(&kind));
        let tag = |name: &str| mapping.find(name).filter(|_| config.series.iter().any(|tag| tag == name));
        let (Some(device), Some(sensor), Some(value)) =
            (tag("device"), tag("sensor"), field("value", FieldType::Float))
        else {
            return Err(ConfigError::new(
                "",
                "`host` needs the tags `device` and `sensor` and the float field `value`",
            )
            .with_help(
                "write `series = [\"device\", \"sensor\"]` and `fields = { value = \"float\" }` in `[schema]`",
            ));
        };
        let (unit, seq) = (field("unit", FieldType::String), field("seq", FieldType::Integer));
        Ok(Self { device, sensor, value, unit, seq, hostname: tag("hostname") })
    }
}

struct Host {
    config: Config,
    mapping: Mapping,
    keys: Keys,
}

impl Source for Host {
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtMostOnce
    }

    fn run(&mut self, door: Arc<dyn Door>) -> Result<(), Failure> {
        let hostname = System::host_name().unwrap_or_else(|_| "localhost".into());
        let mut gauges = Gauges::new(&self.config.parts)?;
        let mut out = EventBuilder::new(self.mapping.layout().clone());
        let mut extra = String::new();
        door.state(SourceState::Running, None);
        // Loads and rates are differences: the first round needs one before it.
        let mut next = Instant::now() + self.config.every.0.min(MINIMUM_CPU_UPDATE_INTERVAL);
        while !door.wait_stop(next.saturating_duration_since(Instant::now())) {
            // A round that came late moves those after it; none is made up for.
            next = (next + self.config.every.0).max(Instant::now());
            let now = door.now();
            for reading in gauges.measure() {
                self.event(&reading, &hostname, now, &mut out, &mut extra);
            }
            let rows = (!out.is_empty()).then(|| out.finish());
            if rows.is_some() && !hand_over(&*door, rows, &[], None) {
                break;
            }
        }
        Ok(())
    }
}

impl Host {
    fn event(&self, reading: &Reading, hostname: &str, now: i64, out: &mut EventBuilder, extra: &mut String) {
        let keys = &self.keys;
        let envelope = Envelope { first_line: 0, ..Envelope::at(now) };
        let mut row = Row::begin(&self.mapping, &envelope, out, extra);
        row.time(now);
        let values = [
            (Some(keys.device), Value::Text(&reading.device)),
            (Some(keys.sensor), Value::Text(&reading.sensor)),
            (keys.hostname, Value::Text(hostname)),
            (Some(keys.value), Value::Float(reading.value, "")),
            (keys.unit, Value::Text(reading.unit)),
            (keys.seq, Value::Integer(now / 1_000_000, "")),
        ];
        let mut values = values.into_iter().filter_map(|(key, value)| Some((key?, value)));
        let done = values.try_for_each(|(key, value)| row.set(key, value)).and_then(|()| row.finish(&envelope, 0, 0));
        // The types were checked when the source was built, so there is nothing to refuse.
        if done.is_err() {
            out.rollback();
        }
    }
}

/// One measured value.
struct Reading {
    device: String,
    sensor: String,
    value: f64,
    unit: &'static str,
}

fn reading(device: impl Into<String>, sensor: impl Into<String>, value: f64, unit: &'static str) -> Reading {
    Reading { device: device.into(), sensor: sensor.into(), value, unit }
}

/// The machine's counters, and when they were read last.
struct Gauges {
    parts: Vec<Part>,
    system: System,
    /// What this machine does not offer is left out.
    disks: Option<Disks>,
    networks: Option<Networks>,
    components: Option<Components>,
    read: Instant,
}

impl Gauges {
    fn new(parts: &[Part]) -> Result<Self, Failure> {
        let mut system = System::new()
            .map_err(|error| Failure::stop(format!("cannot measure this machine: {error}; remove the source")))?;
        system.refresh_cpu_usage();
        let wants = |part: Part| parts.contains(&part);
        Ok(Self {
            system,
            disks: wants(Part::Disk).then(Disks::new_with_refreshed_list).and_then(Result::ok),
            networks: wants(Part::Network).then(Networks::new_with_refreshed_list).and_then(Result::ok),
            components: wants(Part::Temperature).then(Components::new_with_refreshed_list).and_then(Result::ok),
            parts: parts.to_vec(),
            read: Instant::now(),
        })
    }

    /// One round. Values that are no numbers are left out.
    fn measure(&mut self) -> Vec<Reading> {
        let seconds = self.read.elapsed().as_secs_f64().max(1e-3);
        self.read = Instant::now();
        let mut readings = Vec::new();
        for part in self.parts.clone() {
            match part {
                Part::Cpu => self.cpu(&mut readings),
                Part::Memory => self.memory(&mut readings),
                Part::Load => load(&mut readings),
                Part::Disk => self.disks(seconds, &mut readings),
                Part::Network => self.networks(seconds, &mut readings),
                Part::Temperature => self.temperatures(&mut readings),
            }
        }
        readings.retain(|reading| reading.value.is_finite());
        readings.truncate(MAX_READINGS);
        readings
    }

    fn cpu(&mut self, out: &mut Vec<Reading>) {
        self.system.refresh_cpu_usage();
        out.push(reading("cpu", "usage", f64::from(self.system.global_cpu_usage()), "%"));
        let cores = self.system.cpus().iter().enumerate();
        out.extend(cores.map(|(core, cpu)| reading(format!("cpu-{core}"), "usage", f64::from(cpu.usage()), "%")));
    }

    fn memory(&mut self, out: &mut Vec<Reading>) {
        self.system.refresh_memory();
        let system = &self.system;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        out.push(reading("memory", "used", percent(system.used_memory(), system.total_memory()), "%"));
        out.push(reading("memory", "available", mib(system.available_memory()), "MiB"));
        out.push(reading("swap", "used", percent(system.used_swap(), system.total_swap()), "%"));
    }

    fn disks(&mut self, seconds: f64, out: &mut Vec<Reading>) {
        let Some(disks) = &mut self.disks else { return };
        disks.refresh(true);
        // A disk may be mounted at several places; the first tells all.
        let mut seen = HashSet::new();
        for disk in disks.iter().filter(|disk| seen.insert(disk.name().to_owned())) {
            let device = format!("disk-{}", disk.mount_point().display());
            let (total, usage) = (disk.total_space(), disk.usage());
            out.push(reading(&device, "used", percent(total.saturating_sub(disk.available_space()), total), "%"));
            out.push(reading(&device, "read", usage.read_bytes as f64 / seconds, "B/s"));
            out.push(reading(&device, "written", usage.written_bytes as f64 / seconds, "B/s"));
        }
    }

    fn networks(&mut self, seconds: f64, out: &mut Vec<Reading>) {
        let Some(networks) = &mut self.networks else { return };
        networks.refresh(true);
        let mut interfaces: Vec<_> = networks.iter().collect();
        interfaces.sort_by_key(|(name, _)| *name);
        for (name, counters) in interfaces {
            let device = format!("network-{}", name.display());
            out.push(reading(&device, "received", counters.received() as f64 / seconds, "B/s"));
            out.push(reading(&device, "sent", counters.transmitted() as f64 / seconds, "B/s"));
        }
    }

    fn temperatures(&mut self, out: &mut Vec<Reading>) {
        let Some(components) = &mut self.components else { return };
        components.refresh(true);
        let mut seen = HashSet::new();
        for component in components.iter().filter(|component| seen.insert(component.label().to_owned())) {
            if let Some(celsius) = component.temperature() {
                out.push(reading("temperature", component.label(), f64::from(celsius), "C"));
            }
        }
    }
}

fn load(out: &mut Vec<Reading>) {
    if let Ok(load) = System::load_average() {
        out.push(reading("load", "1m", load.one, "tasks"));
        out.push(reading("load", "5m", load.five, "tasks"));
        out.push(reading("load", "15m", load.fifteen, "tasks"));
    }
}

/// Not a number where there is none of it at all.
fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole as f64
}
