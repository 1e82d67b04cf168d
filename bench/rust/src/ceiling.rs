//! The ceiling: the same job by hand, in one loop that knows this workload and nothing else.
//!
//! What stands between it and ourselves is the price of being general: any schema, any chain, any order of keys. It
//! skips what a product must not: quality codes, offsets, a place for dead letters.

use crate::count::Event;
use crate::job::{Counts, SCALE, SENSORS, Sensor};
use crate::lines::{self, Line};
use crate::measure::timed;
use anyhow::Result;
use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::array::{RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::Int32Type;
use serde_json::{Value, json};
use std::sync::Arc;

/// Rows of a batch.
const ROWS: usize = 65_536;

/// Runs it so many times; for a profiler.
pub(crate) fn alone(bytes: &[u8], rounds: usize) -> Result<Value> {
    let padded = pad(bytes);
    let runs: Vec<(f64, Counts)> = (0..rounds).map(|_| timed(|| run(&padded))).collect();
    Ok(json!({"seconds": runs.iter().map(|run| run.0).collect::<Vec<_>>(), "counts": runs.last().map(|run| run.1)}))
}

/// The bytes with room behind them for loads that run over the end.
pub(crate) fn pad(bytes: &[u8]) -> Vec<u8> {
    [bytes, &[0; lines::PADDING]].concat()
}

/// Everything about a series in neighbouring cache lines.
#[derive(Clone)]
#[repr(align(64))]
struct Slot {
    device: u128,
    sensor: u128,
    unit: u128,
    highest: i64,
    /// Bit j: `highest - j` was seen; 0 where the slot is free.
    seen: u64,
    lanes: [f64; 8],
    place: u32,
    known: Sensor,
    ids: [i32; 3],
}

/// All series: open addressing, linear probe.
struct Table {
    slots: Vec<Slot>,
    used: usize,
}

impl Table {
    fn new(slots: usize) -> Self {
        let free = Slot {
            device: 0,
            sensor: 0,
            unit: 0,
            highest: 0,
            seen: 0,
            lanes: [f64::NAN; 8],
            place: 0,
            known: SENSORS[0],
            ids: [0; 3],
        };
        Self { slots: vec![free; slots], used: 0 }
    }

    #[inline]
    fn find(&mut self, line: &Line, out: &mut Columns) -> Option<&mut Slot> {
        let fold = |name: u128| (name as u64 ^ (name >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let hash = (fold(line.device) ^ fold(line.sensor).rotate_left(29)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let mask = self.slots.len() - 1;
        let mut at = (hash >> 32) as usize & mask;
        loop {
            let slot = &self.slots[at];
            if slot.device == line.device && slot.sensor == line.sensor && slot.seen != 0 {
                return Some(&mut self.slots[at]);
            }
            if slot.seen == 0 {
                return self.take(at, line, out);
            }
            at = (at + 1) & mask;
        }
    }

    #[cold]
    fn take(&mut self, at: usize, line: &Line, out: &mut Columns) -> Option<&mut Slot> {
        assert!(self.used < self.slots.len() / 2, "the workload has more series than the table was made for");
        self.used += 1;
        let known = *SENSORS.iter().find(|sensor| padded(sensor.name) == line.sensor)?;
        let unit = if known.add == 0.0 { line.unit } else { padded("K") };
        let slot = &mut self.slots[at];
        (slot.device, slot.sensor, slot.unit, slot.known) = (line.device, line.sensor, line.unit, known);
        slot.highest = line.seq - 64;
        slot.ids = [out.names[0].id(line.device), out.names[1].id(line.sensor), out.names[2].id(unit)];
        Some(slot)
    }
}

fn padded(text: &str) -> u128 {
    text.bytes().rev().fold(0, |name, byte| name << 8 | u128::from(byte))
}

/// The texts of a dictionary column; the array is made anew only when there is a new one.
#[derive(Default)]
struct Names {
    texts: Vec<u128>,
    array: Option<ArrayRef>,
}

impl Names {
    fn id(&mut self, text: u128) -> i32 {
        let known = self.texts.iter().position(|known| *known == text);
        known.unwrap_or_else(|| {
            self.array = None;
            self.texts.push(text);
            self.texts.len() - 1
        }) as i32
    }

    fn array(&mut self) -> ArrayRef {
        let text = |name: &u128| String::from_utf8_lossy(&name.to_le_bytes()).trim_end_matches('\0').to_owned();
        let make = || Arc::new(StringArray::from_iter_values(self.texts.iter().map(text))) as ArrayRef;
        self.array.get_or_insert_with(make).clone()
    }
}

#[derive(Default)]
struct Columns {
    ts: Vec<i64>,
    ids: [Vec<i32>; 3],
    names: [Names; 3],
    value: Vec<f64>,
    seq: Vec<i64>,
    rows: u64,
}

impl Columns {
    fn new() -> Self {
        let mut columns = Self::default();
        columns.make_room();
        columns
    }

    fn make_room(&mut self) {
        self.ts.reserve(ROWS);
        self.ids.iter_mut().for_each(|ids| ids.reserve(ROWS));
        self.value.reserve(ROWS);
        self.seq.reserve(ROWS);
    }

    #[inline]
    fn push(&mut self, line: &Line, value: f64, ids: [i32; 3]) {
        self.ts.push(line.ts);
        self.ids.iter_mut().zip(ids).for_each(|(column, id)| column.push(id));
        self.value.push(value);
        self.seq.push(line.seq);
        if self.ts.len() == ROWS {
            std::hint::black_box(self.batch());
        }
    }

    fn batch(&mut self) -> Option<RecordBatch> {
        self.rows += self.ts.len() as u64;
        let take = |column: &mut Vec<i64>| std::mem::take(column);
        let mut columns: Vec<(&str, ArrayRef)> =
            vec![("ts", Arc::new(TimestampMillisecondArray::from(take(&mut self.ts))))];
        for ((name, ids), names) in ["device", "sensor", "unit"].iter().zip(&mut self.ids).zip(&mut self.names) {
            let keys = Int32Array::from(std::mem::take(ids));
            columns.push((name, Arc::new(DictionaryArray::<Int32Type>::new(keys, names.array()))));
        }
        columns.push(("value", Arc::new(Float64Array::from(std::mem::take(&mut self.value)))));
        columns.push(("seq", Arc::new(Int64Array::from(take(&mut self.seq)))));
        self.make_room();
        RecordBatch::try_from_iter(columns).ok()
    }
}

/// The whole job over padded bytes.
pub(crate) fn run(bytes: &[u8]) -> Counts {
    let end = bytes.len() - lines::PADDING;
    let (mut table, mut out, mut counts, mut at) = (Table::new(16_384), Columns::new(), Counts::default(), 0);
    while at < end {
        counts.lines += 1;
        let (line, length) = match lines::parse(&bytes[at..]) {
            Some((line, length)) => (Some(line), length),
            None => general(&bytes[at..end]),
        };
        at += length;
        match line {
            Some(line) => step(&line, &mut table, &mut out, &mut counts),
            None => counts.malformed += 1,
        }
    }
    std::hint::black_box(out.batch());
    counts.survivors = out.rows;
    counts
}

#[inline]
fn step(line: &Line, table: &mut Table, out: &mut Columns, counts: &mut Counts) {
    let Some(slot) = table.find(line, out) else { return };
    if !is_new(slot, line.seq) {
        counts.duplicates += 1;
    } else if line.value < slot.known.low || line.value > slot.known.high {
        counts.out_of_range += 1;
    } else if is_spike(slot, line.value) {
        counts.spikes += 1;
    } else {
        let (value, mut ids) = (line.value + slot.known.add, slot.ids);
        if line.unit != slot.unit {
            ids[2] = out.names[2].id(line.unit); // a unit that changes within a series: not in this workload
        }
        out.push(line, value, ids);
    }
}

#[inline]
fn is_new(slot: &mut Slot, seq: i64) -> bool {
    let by = seq - slot.highest;
    if by > 0 {
        slot.seen = if by < 64 { slot.seen << by | 1 } else { 1 };
        slot.highest = seq;
        return true;
    }
    let new = by > -64 && slot.seen >> -by & 1 == 0;
    if new {
        slot.seen |= 1 << -by;
    }
    new
}

/// A value whose distance from the median is within the floor passes, and that is told by counting: see the cleaner's
/// own `window.rs` for why this is exact.
#[inline]
fn is_spike(slot: &mut Slot, value: f64) -> bool {
    slot.lanes[(slot.place % 7) as usize] = value;
    slot.place = if slot.place == 13 { 7 } else { slot.place + 1 };
    if slot.place < 7 {
        return false;
    }
    let floor = slot.known.floor;
    let above: u32 = slot.lanes.iter().map(|w| u32::from(w - value >= -floor)).sum();
    let below: u32 = slot.lanes.iter().map(|w| u32::from(w - value <= floor)).sum();
    !(above >= 4 && below >= 4) && stands_out(&slot.lanes, value, floor)
}

#[cold]
fn stands_out(lanes: &[f64; 8], value: f64, floor: f64) -> bool {
    let middle = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[3]
    };
    let median = middle(lanes[..7].to_vec());
    let mad = middle(lanes[..7].iter().map(|w| (w - median).abs()).collect());
    (value - median).abs() > (SCALE * mad).max(floor)
}

/// The line for a general parser: what it holds, and its length.
#[cold]
fn general(bytes: &[u8]) -> (Option<Line>, usize) {
    let length = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let event = serde_json::from_slice::<Event<'_>>(&bytes[..length]).ok();
    let line = event.map(|event| Line {
        ts: event.ts,
        device: padded(&event.device),
        sensor: padded(&event.sensor),
        value: event.value,
        unit: padded(&event.unit),
        seq: event.seq,
    });
    (line, length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_what_the_definition_counts() {
        let path = std::env::temp_dir().join(format!("trackside-ceiling-{}.jsonl", std::process::id()));
        crate::workload::generate(60_000, &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(run(&pad(&bytes)), crate::count::count(&bytes));
    }
}
