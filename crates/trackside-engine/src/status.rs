//! The state of everything, as the page, `status` and `/metrics` show it.

use crate::config::{Block, Pipeline};
use crate::derived::lock;
use crate::engine::{Engine, Parts};
use crate::ledger::{self, Sums, Totals, names};
use crate::metrics::{Meter, StageState};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use trackside_core::position::{CLEAN, DEAD_LETTER};
use trackside_core::sink::SinkTotals;

/// Without a delivery for this long (ns), and with nothing in flight, the pipeline is idle.
const IDLE_AFTER: i64 = 5_000_000_000;

/// Everything at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Stages that this process runs, if others run elsewhere.
    pub only: Option<String>,
    /// `running`, `idle` or `draining`.
    pub state: &'static str,
    /// Version of this program.
    pub version: &'static str,
    /// Seconds since the start.
    pub uptime_s: f64,
    /// What an acknowledgement means here, in words.
    pub durability: String,
    /// What an acknowledged event may not survive, and what to do about it.
    pub weakness: Option<String>,
    /// Sources, cleaning, models and sinks.
    pub stages: Vec<StageStatus>,
    /// The sums of law 3.
    pub sums: Sums,
    /// Rows and payloads turned away with nothing stored.
    pub refused: u64,
    /// Scores with `anomaly` set.
    pub anomalies: u64,
    /// Forecast rows.
    pub forecasts: u64,
    /// Clean rows that are committed to tables.
    pub table_rows: u64,
    /// Models.
    pub models: Vec<ModelStatus>,
    /// Tables.
    pub tables: Vec<TableStatus>,
    /// What a human should look at, the gravest first.
    pub notices: Vec<crate::notices::Notice>,
    /// How the last reload of the pipeline file went, if there was one.
    pub reload: Option<crate::reload::LastReload>,
}

/// One stage.
#[derive(Debug, Clone, Serialize)]
pub struct StageStatus {
    /// `ingest`, `clean`, `model` or `sink`.
    pub stage: &'static str,
    /// Name of its block.
    pub name: String,
    /// Its type.
    pub component: String,
    /// Rows since the start of this process.
    pub rows: u64,
    /// Rows a second.
    pub rate: f64,
    /// Rows that wait for it.
    pub lag: u64,
    /// Failures and undecodable payloads.
    pub errors: u64,
    /// Median latency from arrival to its append.
    pub latency_ms_p50: Option<f64>,
    /// 99th percentile.
    pub latency_ms_p99: Option<f64>,
    /// How it is doing.
    pub state: StageState,
    /// The last error or remark in words.
    pub detail: Option<String>,
}

/// One model.
#[derive(Debug, Clone, Serialize)]
pub struct ModelStatus {
    /// Name of its block.
    pub name: String,
    /// Its code.
    #[serde(rename = "use")]
    pub code: String,
    /// Version that it said it is.
    pub version: String,
    /// Where it runs.
    pub mode: crate::config::ModelMode,
    /// `starting`, `running`, `learning`, `restarting` or `failed`; `elsewhere` when another process runs it.
    pub state: &'static str,
    /// Rows seen and needed by the series that has learnt least.
    pub learning: Option<Learning>,
    /// Process of its (first) worker.
    pub pid: Option<u32>,
    /// How often it was brought back.
    pub restarts: u64,
    /// The last failure in full.
    pub last_error: Option<String>,
    /// Rows passed over.
    pub skipped: u64,
    /// Its code cannot be loaded: until somebody mends it, it scores nothing.
    pub cannot_load: bool,
}

/// How far a model has learnt.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Learning {
    /// Rows seen.
    pub seen: u64,
    /// Rows needed.
    pub needed: u64,
}

/// One table.
#[derive(Debug, Clone, Serialize)]
pub struct TableStatus {
    /// Topic that it holds.
    pub topic: String,
    /// Committed rows.
    pub rows: u64,
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
    /// Its folder.
    pub path: String,
}

/// What `up --until-idle` and `demo` print at the end.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Rows and payloads that sources brought.
    pub taken: u64,
    /// Rows in `received`.
    pub received: u64,
    /// Rows in `clean`.
    pub clean: u64,
    /// Dead letters of all stages.
    pub dead: u64,
    /// Rows dropped by rules.
    pub filtered: u64,
    /// Rows under way.
    pub in_flight: u64,
    /// Clean rows scored, over all models.
    pub scored: u64,
    /// Clean rows passed over, over all models.
    pub skipped: u64,
    /// Forecast rows.
    pub forecasts: u64,
    /// Anomalies.
    pub anomalies: u64,
    /// Clean rows in tables.
    pub table_rows: u64,
    /// Rows and payloads turned away.
    pub refused: u64,
    /// Whether every sum of law 3 holds.
    pub balanced: bool,
    /// The sums.
    pub sums: Sums,
    /// Tables.
    pub tables: Vec<TableStatus>,
}

impl Summary {
    /// The end of a run, from its last status.
    pub fn of(status: &Status) -> Self {
        let sums = &status.sums;
        let models = |get: fn(&ledger::ModelSum) -> u64| sums.models.values().map(get).sum::<u64>();
        Self {
            taken: sums.ingest.taken,
            received: sums.ingest.received,
            clean: sums.clean.clean,
            dead: sums.ingest.dead + sums.clean.dead + models(|m| m.dead),
            filtered: sums.clean.filtered,
            in_flight: sums.in_flight(),
            scored: models(|m| m.scored),
            skipped: models(|m| m.skipped),
            forecasts: status.forecasts,
            anomalies: status.anomalies,
            table_rows: status.table_rows,
            refused: status.refused,
            balanced: sums.balanced(),
            sums: sums.clone(),
            tables: status.tables.clone(),
        }
    }
}

/// Gathers it. Boards are read from downstream to upstream, so that a row in motion counts as in flight.
pub(crate) fn status(engine: &Engine) -> Status {
    let (parts, pipeline) = (engine.parts(), engine.pipeline());
    let sinks: Vec<_> = parts.sinks.iter().map(|sink| (sink, totals(sink))).collect();
    let models: Vec<_> = parts
        .models
        .iter()
        .map(|m| (m.section.name.clone(), Totals::of(m.partitions.iter().map(|p| &p.board))))
        .collect();
    let here = engine.stages();
    let clean = Totals::of(engine.clean.iter().map(|part| &part.board)).elsewhere(!here.clean);
    let ingest = Totals::of(engine.received.boards()).elsewhere(!here.ingest);
    let sums = ledger::sums(&ingest, &clean, &models);
    let over = |name: &str| models.iter().map(|(_, totals)| totals.get(name)).sum();
    let parquet = || sinks.iter().filter(|(sink, _)| sink.block.kind == "parquet");
    Status {
        pipeline: pipeline.pipeline.name.clone(),
        only: Some(here).filter(|stages| !stages.all()).map(|stages| stages.to_string()),
        state: state(engine, &sums),
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: engine.started.elapsed().as_secs_f64(),
        durability: engine.durability.words.clone(),
        weakness: engine.durability.weakness.clone(),
        stages: stages(engine, &parts, &pipeline),
        refused: engine.received.refused.load(Relaxed),
        anomalies: over(names::ANOMALIES),
        forecasts: over(names::FORECASTS),
        table_rows: parquet()
            .filter(|(sink, _)| sink.block.topic == CLEAN)
            .map(|(_, totals)| totals.rows)
            .max()
            .unwrap_or(0),
        models: model_status(&parts, &sums),
        tables: parquet().map(|(sink, totals)| table(&pipeline, &sink.block, *totals)).collect(),
        notices: crate::notices::gather(engine, &parts, &pipeline),
        reload: lock(&engine.last_reload).clone(),
        sums,
    }
}

fn state(engine: &Engine, sums: &Sums) -> &'static str {
    let quiet = crate::wall::now() - engine.received.last_delivery.load(Relaxed) > IDLE_AFTER;
    match () {
        () if engine.stops.sources.is_set() => "draining",
        () if quiet && sums.in_flight() == 0 => "idle",
        () => "running",
    }
}

fn totals(sink: &crate::engine::SinkPart) -> SinkTotals {
    sink.instances.iter().fold(SinkTotals::default(), |sum, instance| {
        let totals = *lock(&instance.totals);
        SinkTotals { rows: sum.rows + totals.rows, files: sum.files + totals.files, bytes: sum.bytes + totals.bytes }
    })
}

/// Its folder is told in full: whoever reads it may stand elsewhere.
fn table(pipeline: &Pipeline, block: &Block, totals: SinkTotals) -> TableStatus {
    let given = block.settings.get("path").and_then(serde_json::Value::as_str);
    let folder = given.map_or_else(|| pipeline.data().join("tables"), |path| pipeline.base.join(path));
    let path = folder.join(&block.topic);
    let path = std::path::absolute(&path).unwrap_or(path).display().to_string();
    TableStatus { topic: block.topic.clone(), rows: totals.rows, files: totals.files, bytes: totals.bytes, path }
}

fn stages(engine: &Engine, parts: &Parts, pipeline: &Pipeline) -> Vec<StageStatus> {
    let mut stages: Vec<StageStatus> =
        parts.sources.iter().map(|s| stage("ingest", &s.block.name, &s.block.kind, &s.meter)).collect();
    let cleaners: Vec<&str> = pipeline.cleaners.iter().map(|block| block.kind.as_str()).collect();
    stages.push(stage("clean", "clean", &cleaners.join(" → "), &engine.clean_meter));
    stages.extend(parts.models.iter().map(|m| stage("model", &m.section.name, &m.section.code, &m.meter)));
    let shown = parts.sinks.iter().filter(|sink| sink.block.topic != DEAD_LETTER || sink.block.name != DEAD_LETTER);
    stages.extend(shown.map(|s| stage("sink", &s.block.name, &s.block.kind, &s.meter)));
    stages
}

fn stage(stage: &'static str, name: &str, component: &str, meter: &Meter) -> StageStatus {
    let (state, detail) = meter.read_state();
    StageStatus {
        stage,
        name: name.into(),
        component: component.into(),
        rows: meter.rows.load(Relaxed),
        rate: meter.rate(),
        lag: meter.lag.load(Relaxed),
        errors: meter.errors.load(Relaxed),
        latency_ms_p50: meter.latency.quantile_ms(0.5),
        latency_ms_p99: meter.latency.quantile_ms(0.99),
        state,
        detail,
    }
}

fn model_status(parts: &Parts, sums: &Sums) -> Vec<ModelStatus> {
    let one = |model: &Arc<crate::engine::ModelPart>| {
        let states: Vec<_> = model.partitions.iter().map(|partition| lock(&partition.state).clone()).collect();
        // The page shows the partition that needs attention most.
        let rank =
            |state: &str| ["failed", "restarting", "starting", "learning", "running"].iter().position(|s| *s == state);
        let first = states.iter().min_by_key(|state| rank(state.state)).cloned().unwrap_or_default();
        ModelStatus {
            name: model.section.name.clone(),
            code: model.section.code.clone(),
            version: first.version,
            mode: model.section.mode,
            state: first.state,
            learning: first.learning.map(|(seen, needed)| Learning { seen, needed }),
            pid: first.pid,
            restarts: states.iter().map(|state| state.restarts).sum(),
            cannot_load: states.iter().any(|state| state.cannot_load),
            last_error: states.iter().find_map(|state| state.last_error.clone()),
            skipped: sums.models.get(&model.section.name).map_or(0, |sum| sum.skipped),
        }
    };
    parts.models.iter().map(one).collect()
}
