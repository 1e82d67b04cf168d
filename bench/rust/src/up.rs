//! The real engine on a file: durable log with its fsyncs, the chain, tables of clean rows and dead letters.

use crate::job::{Counts, PIPELINE};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use trackside_engine::{Engine, Options, Pipeline};

/// Far longer than any run takes.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often is looked whether the file is read.
const STEP: Duration = Duration::from_millis(5);

/// Takes the file from beginning to end into a fresh data directory below `folder`.
pub(crate) fn run(file: &Path, folder: &Path) -> Result<Value> {
    let file = file.canonicalize().with_context(|| format!("no file `{}`", file.display()))?;
    std::fs::create_dir_all(folder)?;
    let text = format!(
        "[pipeline]\nname = \"bench\"\n{PIPELINE}\n[[source]]\ntype = \"file\"\npath = {}\nformat = \"json\"\n\n[[sink]]\ntype = \"parquet\"\ntopic = \"clean\"\n",
        Value::from(file.to_string_lossy())
    );
    let pipeline = Pipeline::parse(&folder.join("pipeline.toml"), &text).map_err(|error| anyhow!("{error}"))?;
    let started = Instant::now();
    let engine = Engine::start(pipeline, Options::default()).map_err(|error| anyhow!("{error}"))?;
    while !engine.sources_ended() {
        if started.elapsed() > PATIENCE {
            bail!("the file was not read within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(STEP);
    }
    let summary = engine.drain(PATIENCE);
    let seconds = started.elapsed().as_secs_f64();
    if !summary.balanced || summary.table_rows != summary.clean {
        bail!("the sums do not hold: {}", serde_json::to_string(&summary)?);
    }
    let filtered = |rule: &str| summary.sums.clean.filtered_by.get(rule).copied().unwrap_or(0);
    let counts = Counts {
        lines: summary.taken,
        malformed: summary.dead,
        duplicates: filtered("dedupe"),
        out_of_range: filtered("range"),
        spikes: filtered("hampel"),
        survivors: summary.table_rows,
    };
    let bytes: u64 = engine.status().tables.iter().map(|table| table.bytes).sum();
    Ok(json!({"wall_seconds": seconds, "counts": counts, "table_bytes": bytes}))
}
