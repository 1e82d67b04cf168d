//! The whole way to Python: batches of 100 rows are given to the running engine, and a real model in a real worker
//! process notes when it holds them as a NumPy array.
//!
//! Each row carries CLOCK_MONOTONIC as read before its batch is even built; every delivery waits for its fsync, as an
//! HTTP post would. The figure holds two appends, the chain, three wake-ups and the worker's side.

use crate::measure::monotonic_ns;
use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use trackside_core::builder::EventBuilder;
use trackside_core::source::{Delivery, Outcome};
use trackside_engine::{Engine, Options, Pipeline};

/// Rows of a batch.
const ROWS: usize = 100;
/// Batches, and the time from one to the next.
const BATCHES: usize = 2000;
const EVERY: Duration = Duration::from_millis(5);
/// Longest wait for a condition.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the loop; the model writes its stamps where its options say.
pub(crate) fn run(folder: &Path, python: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(folder.join("handoff.toml"))?;
    let pipeline = Pipeline::parse(&folder.join("handoff.toml"), &text).map_err(|error| anyhow!("{error}"))?;
    let options = Options { python: Some(python.to_path_buf()), ..Options::default() };
    let engine = Engine::start(pipeline, options).map_err(|error| anyhow!("{error}"))?;
    let started = Instant::now();
    while engine.status().models.iter().any(|model| model.state == "starting") {
        if started.elapsed() > PATIENCE {
            bail!("the worker did not start: {:?}", engine.status().models);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let (mut builder, door) = (EventBuilder::new(engine.pipeline().layout.clone()), engine.door("door-loop"));
    let mut fsyncs = Vec::with_capacity(BATCHES);
    let mut due = Instant::now();
    for batch in 0..BATCHES {
        due += EVERY;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let (tell, told) = mpsc::channel();
        let sent = monotonic_ns();
        for row in 0..ROWS {
            builder.time(sent + row as i64);
            builder.tag(0, DEVICES[row % DEVICES.len()]);
            builder.float(0, batch as f64);
            builder.integer(1, sent);
            builder.finish_row(0);
        }
        let rows = Some(builder.finish());
        let ack = Box::new(move |outcome| _ = tell.send(outcome));
        door.deliver(Delivery { rows, dead: Vec::new(), span: None, ack: Some(ack) }).map_err(|e| anyhow!("{e}"))?;
        match told.recv_timeout(PATIENCE)? {
            Outcome::Durable => fsyncs.push(monotonic_ns() - sent),
            Outcome::Unknown(why) => bail!("{why}"),
        }
    }
    let stages: Vec<Value> =
        engine.status().stages.iter().map(|s| json!([s.name, s.latency_ms_p50, s.latency_ms_p99])).collect();
    let summary = engine.drain(PATIENCE);
    if !summary.balanced || summary.scored != (BATCHES * ROWS) as u64 {
        bail!("the sums do not hold: {}", serde_json::to_string(&summary)?);
    }
    Ok(json!({"batches": BATCHES, "rows": ROWS, "acknowledged_ns": fsyncs, "stages_ms": stages}))
}

const DEVICES: [&str; 10] = ["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8", "d9"];
