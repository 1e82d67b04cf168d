//! What is found on the disk afterwards, compared with what clients were told.

use super::events::{Fate, Rules, cleaners};
use super::world::{World, data};
use anyhow::{Context, Result};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use trackside_connectors::logs::embedded::Embedded;
use trackside_core::log::{Budget, End, Frame, Log, LogError, SectionKind};
use trackside_core::position::{CLEAN, DEAD_LETTER, RECEIVED};
use trackside_log::{Mode, Options, SimulatedVfs, Vfs};

/// What was wrong.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) phantom: u64,
    pub(super) corrupt: u64,
    pub(super) why: Vec<String>,
}

/// Findings are told up to this many a seed; all are counted.
const MAX_TOLD: usize = 4;

impl Found {
    pub(super) fn any(&self) -> bool {
        self.lost + self.duplicated + self.phantom + self.corrupt > 0
    }

    fn tell(&mut self, why: String) {
        if self.why.len() < MAX_TOLD {
            self.why.push(why);
        }
    }

    pub(super) fn lost(&mut self, why: String) {
        self.lost += 1;
        self.tell(format!("lost: {why}"));
    }

    pub(super) fn corrupt(&mut self, why: String) {
        self.corrupt += 1;
        self.tell(format!("corrupt: {why}"));
    }

    /// Compares how often something is there with how often it should be.
    fn count(&mut self, what: &str, expected: u64, there: u64) {
        match there {
            there if there < expected => self.lost(format!("{what}: {there} times instead of {expected}")),
            there if there > expected && expected == 0 => {
                self.phantom += 1;
                self.tell(format!("phantom: {what}: {there} times instead of never"));
            }
            there if there > expected => {
                self.duplicated += 1;
                self.tell(format!("duplicated: {what}: {there} times instead of {expected}"));
            }
            _ => {}
        }
    }
}

/// One row of `received`, or one payload that did not decode.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) offset: u64,
    pub(super) id: Option<i64>,
    pub(super) payload: Option<u64>,
    value: u64,
}

impl Row {
    pub(super) fn of(frame: &Frame) -> Result<Vec<Self>, LogError> {
        let mut rows = Vec::new();
        if let Some(batch) = frame.rows()? {
            let ids = integers(batch, "id");
            let values = batch["value"].as_primitive::<Float64Type>();
            rows.extend(ids.into_iter().enumerate().map(|(k, id)| Self {
                offset: frame.first + k as u64,
                id: Some(id),
                payload: None,
                value: values.value(k).to_bits(),
            }));
        }
        if let Some(batch) = frame.section(SectionKind::DeadLetters)? {
            let payloads = payloads(batch);
            rows.extend(payloads.into_iter().map(|payload| Self {
                offset: frame.first,
                id: None,
                payload: Some(payload),
                value: 0,
            }));
        }
        Ok(rows)
    }
}

fn integers(batch: &RecordBatch, name: &str) -> Vec<i64> {
    batch[name].as_primitive::<Int64Type>().values().to_vec()
}

/// The numbers of the payloads among dead letters.
fn payloads(batch: &RecordBatch) -> Vec<u64> {
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.strip_prefix("bad-")?.parse().ok();
    let column = &batch["payload"];
    match column.data_type() {
        DataType::Binary => column.as_binary::<i32>().iter().flatten().filter_map(number).collect(),
        _ => Vec::new(),
    }
}

/// By partition: the rows from an offset on, and where they end. For a disk whose owner is gone.
pub(super) fn read_received(disk: &SimulatedVfs, options: Options, from: &[u64]) -> Result<Vec<(Vec<Row>, u64)>> {
    let log = Embedded::over(Arc::new(disk.clone()), &data(), options)?;
    let mut all = Vec::new();
    for (partition, from) in from.iter().enumerate() {
        let mut rows = Vec::new();
        let mut end = *from;
        match log.reader(RECEIVED, partition as u32) {
            Ok(mut reader) => {
                let budget = Budget { bytes: u64::MAX, frames: usize::MAX };
                for frame in reader.read(*from, budget, End::Published)? {
                    rows.extend(Row::of(&frame)?);
                    end = frame.end;
                }
            }
            Err(LogError::NotFound(_)) => {} // it died before the partition was made
            Err(error) => return Err(error.into()),
        }
        all.push((rows, end));
    }
    Ok(all)
}

/// All rows of a table, as a glob finds them.
fn table(disk: &SimulatedVfs, topic: &str) -> Result<Vec<RecordBatch>> {
    let folder = data().join("tables").join(topic);
    let mut batches = Vec::new();
    for day in names(disk, &folder).iter().filter(|name| name.starts_with("day=")) {
        let day = folder.join(day);
        for name in names(disk, &day).iter().filter(|name| name.ends_with(".parquet") && !name.starts_with('.')) {
            let path = day.join(name);
            super::world::trace(|| path.display().to_string());
            let file = disk.open(&path, Mode::Read)?;
            let mut bytes = vec![0; file.len()? as usize];
            file.read_at(&mut bytes, 0)?;
            let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))
                .and_then(|builder| builder.build())
                .with_context(|| format!("{} is no Parquet file", path.display()))?;
            for batch in reader {
                batches.push(batch?);
            }
        }
    }
    Ok(batches)
}

fn names(disk: &SimulatedVfs, folder: &Path) -> Vec<String> {
    disk.list(folder).unwrap_or_default()
}

/// The tables at rest: every row of `received` once, at the place that its fate names, with the values that a straight
/// run gives.
pub(super) fn tables(world: &World, found: &mut Found) -> Result<()> {
    let Some(run) = &world.run else { return Ok(()) };
    let mut expected: [BTreeMap<i64, u64>; 3] = Default::default();
    let (mut filtered, mut payloads_due) = (0, BTreeMap::new());
    let mut straight = BTreeMap::new();
    for history in &world.history {
        let mut rules = Rules::default();
        for row in history {
            if let Some(payload) = row.payload {
                *payloads_due.entry(payload).or_insert(0u64) += 1;
            }
            let Some(id) = row.id else { continue };
            let event = &world.events.all[id as usize];
            if row.value != event.value.to_bits() {
                found.corrupt(format!("event {id} has another value in `received`"));
            }
            *expected[0].entry(id).or_default() += 1;
            match rules.fate(event) {
                Fate::Clean => *expected[1].entry(id).or_default() += 1,
                Fate::Dead => *expected[2].entry(id).or_default() += 1,
                Fate::Filtered => filtered += 1,
            }
        }
        straight.extend(straight_run(world, history.iter().filter_map(|row| row.id).collect())?);
    }
    let dead = table(&world.disk, DEAD_LETTER)?;
    let mut payloads_there = BTreeMap::new();
    let mut dead_there = BTreeMap::new();
    for batch in &dead {
        payloads(batch).into_iter().for_each(|payload| *payloads_there.entry(payload).or_insert(0u64) += 1);
        let rows = batch["row"].as_string::<i32>();
        for row in rows.iter().flatten() {
            let id = serde_json::from_str::<serde_json::Value>(row)?["id"].as_i64().context("a row without its id")?;
            *dead_there.entry(id).or_insert(0u64) += 1;
        }
    }
    let clean = table(&world.disk, CLEAN)?;
    let there = [count(&table(&world.disk, RECEIVED)?), count(&clean), dead_there];
    for ((topic, expected), there) in [RECEIVED, CLEAN, DEAD_LETTER].iter().zip(&expected).zip(&there) {
        for id in expected.keys().chain(there.keys().filter(|id| !expected.contains_key(id))) {
            let times = |map: &BTreeMap<i64, u64>| map.get(id).copied().unwrap_or(0);
            found.count(&format!("event {id} in `{topic}`"), times(expected), times(there));
        }
    }
    for payload in payloads_due.keys().chain(payloads_there.keys().filter(|p| !payloads_due.contains_key(p))) {
        let times = |map: &BTreeMap<u64, u64>| map.get(payload).copied().unwrap_or(0);
        found.count(&format!("payload {payload}"), times(&payloads_due), times(&payloads_there));
    }
    for batch in &clean {
        let values = batch["value"].as_primitive::<Float64Type>();
        for (k, (id, quality)) in integers(batch, "id").into_iter().zip(qualities(batch)).enumerate() {
            let ours = (values.value(k).to_bits(), quality);
            if straight.get(&id).is_some_and(|straight| *straight != ours) {
                found.corrupt(format!("event {id} is {ours:?}, a straight run gives {:?}", straight[&id]));
            }
        }
    }
    for id in &world.acked {
        if !expected[0].contains_key(id) {
            found.lost(format!("event {id} was acknowledged and is not in `received`"));
        }
    }
    for id in &world.refused {
        if expected[0].contains_key(id) {
            found.phantom += 1;
            found.tell(format!("phantom: event {id} was refused and is there"));
        }
    }
    let sums = run.sums();
    let seen = (sums.clean.filtered, sums.in_flight());
    if !sums.balanced() || seen != (filtered, 0) {
        found.corrupt(format!("the sums do not agree: {filtered} were filtered, {sums:?}"));
    }
    for changed in world.disk.changed() {
        found.corrupt(format!("bytes changed under a reader: {changed}"));
    }
    Ok(())
}

fn count(batches: &[RecordBatch]) -> BTreeMap<i64, u64> {
    let mut counts = BTreeMap::new();
    batches.iter().flat_map(|batch| integers(batch, "id")).for_each(|id| *counts.entry(id).or_insert(0) += 1);
    counts
}

/// The quality of the value, row by row.
fn qualities(batch: &RecordBatch) -> Vec<u64> {
    let column = arrow::compute::cast(&batch["value_quality"], &DataType::UInt64);
    column.map(|column| column.as_primitive::<arrow::datatypes::UInt64Type>().values().to_vec()).unwrap_or_default()
}

/// What comes out when nothing ever stops: by id, the value and its quality.
fn straight_run(world: &World, ids: Vec<i64>) -> Result<BTreeMap<i64, (u64, u64)>> {
    let schema =
        serde_json::json!({"series": ["device"], "fields": {"value": "float", "seq": "integer", "id": "integer"}});
    let batch = world.events.batch(&world.pipeline.layout, &ids);
    let cleaned = trackside_engine::clean_batch(schema, cleaners(), &batch)?;
    let values = cleaned.rows["value"].as_primitive::<Float64Type>();
    let ids = integers(&cleaned.rows, "id");
    let qualities = qualities(&cleaned.rows);
    Ok(ids.into_iter().zip(qualities).enumerate().map(|(k, (id, q))| (id, (values.value(k).to_bits(), q))).collect())
}
