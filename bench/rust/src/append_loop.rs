//! Hand-over to Python: 100 rows appended to `clean`, and the moment at which a real model in a real worker process holds
//! them as a NumPy array.
//!
//! Log, wake-up and worker are the engine's own; three threads stand for its stages: one appends at a pace, one makes each
//! append durable (so the disk is at work all the time), one lets the worker wait at the end of the log, as
//! `run/model/tail.rs` does, and tells it of what is already there, as `run/model.rs` does. CLOCK_MONOTONIC is read between making the batch and appending it.

use crate::measure::monotonic_ns;
use anyhow::{Context, Result, anyhow, bail};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use trackside_connectors::logs::embedded::Embedded;
use trackside_core::builder::EventBuilder;
use trackside_core::log::{Budget, End, FrameDraft, FrameMeta, Log, LogReader, LogSync, SectionKind};
use trackside_core::model::{FrameSlice, ModelRequest, ModelRuntime, TailReply, TailRequest};
use trackside_core::position::CLEAN;
use trackside_engine::Pipeline;
use trackside_engine::worker::process::ProcessRuntime;

/// Rows of a batch.
const ROWS: usize = 100;
/// Batches, and the time from one to the next.
const BATCHES: usize = 4000;
const EVERY: Duration = Duration::from_millis(2);
/// Longest wait for rows that were appended.
const PATIENCE: Duration = Duration::from_secs(10);
const BUDGET: Budget = Budget { bytes: 4 << 20, frames: 256 };

/// Runs the loop with the model of `handoff.toml`, which writes its stamps where its options say.
pub(crate) fn run(folder: &Path, python: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(folder.join("handoff.toml"))?;
    let pipeline = Pipeline::parse(&folder.join("handoff.toml"), &text).map_err(|error| anyhow!("{error}"))?;
    let model = pipeline.models.first().context("the pipeline has no model")?.clone();
    let tags = pipeline.layout.tags().to_vec();
    let mut worker = ProcessRuntime::new(python.to_path_buf(), model, pipeline.base.clone(), 0, tags);
    worker.start(None).map_err(|fault| anyhow!("{fault:?}"))?;

    let log = Embedded::open(&folder.join("handoff"), Default::default())?;
    let mut writer = log.writer(CLEAN, 0, &mut |_| true)?;
    let reader = log.reader(CLEAN, 0)?;
    let (sync, (appended, to_sync)) = (writer.syncer(), channel());
    let syncing = std::thread::spawn(move || make_durable(&*sync, &to_sync));
    let stop = Arc::new(AtomicBool::new(false));
    let done = stop.clone();
    let name = pipeline.models.first().map(|model| model.name.clone()).unwrap_or_default();
    let telling = std::thread::spawn(move || tell(reader, worker, name, &done));

    let batch = rows(&pipeline);
    let (mut due, mut sent) = (Instant::now(), Vec::with_capacity(BATCHES));
    for number in 0..BATCHES as i64 {
        let sections = vec![(SectionKind::Rows, numbered(&batch, number)?)];
        let draft = FrameDraft { meta: FrameMeta::default(), ingest_time: 0, sections };
        due += EVERY;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let now = monotonic_ns();
        writer.append(&draft)?;
        sent.push(now);
        appended.send(now)?;
    }
    drop(appended);
    stop.store(true, Ordering::Release);
    let told = telling.join().map_err(|_| anyhow!("the thread that tells the worker panicked"))??;
    let durable = syncing.join().map_err(|_| anyhow!("the thread that syncs panicked"))??;
    if told != BATCHES * ROWS {
        bail!("the worker was told of {told} rows");
    }
    Ok(json!({"batches": BATCHES, "rows": ROWS, "sent_ns": sent, "acknowledged_ns": durable}))
}

/// As a busy second of ten machines looks.
fn rows(pipeline: &Pipeline) -> RecordBatch {
    let mut builder = EventBuilder::new(pipeline.layout.clone());
    for row in 0..ROWS {
        builder.time(1_700_000_000_000_000_000 + row as i64);
        builder.tag(0, &format!("machine-{}", row % 10));
        builder.float(0, row as f64 * 0.25);
        builder.finish_row(0);
    }
    builder.finish()
}

/// The rows with their batch's number in the last column, by which the model's stamps are found again.
fn numbered(rows: &RecordBatch, number: i64) -> Result<RecordBatch> {
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    *columns.last_mut().context("no columns")? = Arc::new(Int64Array::from_value(number, ROWS));
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}

/// One fsync an append, as soon as the one before is done; how long after its append each was durable.
fn make_durable(sync: &dyn LogSync, appended: &Receiver<i64>) -> Result<Vec<i64>> {
    let mut took = Vec::with_capacity(BATCHES);
    while let Ok(sent) = appended.recv() {
        sync.sync()?;
        took.push(monotonic_ns() - sent);
    }
    Ok(took)
}

/// Lets the worker see what is published until it has seen all; the rows that it answered for.
fn tell(mut reader: Box<dyn LogReader>, mut worker: ProcessRuntime, model: String, done: &AtomicBool) -> Result<usize> {
    let (mut offset, mut told, mut since) = (0, 0, Instant::now());
    while told < BATCHES * ROWS {
        if done.load(Ordering::Acquire) && since.elapsed() > PATIENCE {
            bail!("{told} rows were told and no more came");
        }
        if reader.published() <= offset {
            let place = reader.lend().context("the log cannot be followed")?;
            let (max_rows, max_frames) = (usize::MAX, usize::MAX);
            let wait = Duration::from_millis(100);
            let request = TailRequest { place, model: model.clone(), offset, max_rows, max_frames, wait };
            let answer = worker.tail(&request).context("a worker process waits by itself")?;
            let TailReply { to, reply } = answer.map_err(|fault| anyhow!("{fault:?}"))?;
            if to > offset {
                (offset, told, since) = (to, told + reply.rows, Instant::now());
            }
            continue;
        }
        since = Instant::now();
        let frames = reader.read(offset, BUDGET, End::Published)?;
        let slice = |frame: &trackside_core::log::Frame| {
            Some(FrameSlice { location: frame.location.clone()?, base: frame.first, from: 0, to: frame.num_rows })
        };
        let request =
            ModelRequest { frames: frames.iter().filter_map(slice).collect(), skip: Vec::new(), replay: false };
        told += worker.update(&request).map_err(|fault| anyhow!("{fault:?}"))?.rows;
        offset = frames.last().map_or(offset, |frame| frame.end);
    }
    worker.stop();
    Ok(told)
}
