//! The workload: a plant of 1,000 devices with 5 sensors each, one reading a second, in JSON Lines, with known dirt.
//!
//! The same number of lines gives the same bytes on every machine: whole numbers decide, and no library's sine or
//! logarithm is asked. About 2 % of the lines repeat a reading up to 5 s later, 3 % come late, 1 % of the readings are
//! out of range and 1 % spikes inside it, one reading in 2,000 begins a true anomaly (a step for 6 readings), and 0.5 %
//! of the lines are malformed: half cut short, a quarter without the value, a quarter reversed behind `#~`.

use crate::job::{SENSORS, Sensor};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{BufWriter, Write};
use std::path::Path;

const DEVICES: usize = 1000;
const SERIES: usize = DEVICES * SENSORS.len();
const START_MS: i64 = 1_700_000_000_000;
const SEED: u64 = 20_260_722;
/// Typical value, how far a device's may lie from it, and noise: by sensor.
const LEVELS: [(f64, f64, f64); 5] =
    [(22.0, 8.0, 0.1), (50.0, 10.0, 0.3), (1000.0, 15.0, 0.5), (10.0, 3.0, 0.2), (13.0, 1.0, 0.05)];
/// A step of a true anomaly lasts so many readings and is so many sigmas high.
const STEP: (u32, f64) = (6, 15.0);
/// Readings of a slow wave on every series, and its height in sigmas.
const WAVE: (u64, f64) = (600, 10.0);

/// SplitMix64: small, good enough, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0 ≤ x < 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// About normal, with sigma 1: the sum of 12.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

/// A reading of one series.
#[derive(Clone, Copy)]
struct Reading {
    ts: i64,
    series: usize,
    value: f64,
    seq: u64,
}

/// What is known of each series.
struct Plant {
    dice: Dice,
    levels: Vec<f64>,
    phases: Vec<u64>,
    /// Readings of a true anomaly that are still to come.
    lifted: Vec<u32>,
}

impl Plant {
    fn new() -> Self {
        let mut dice = Dice(SEED);
        let levels = (0..SERIES).map(|series| {
            let (base, spread, _) = LEVELS[series % SENSORS.len()];
            base + (dice.unit() * 2.0 - 1.0) * spread
        });
        let levels = levels.collect();
        let phases = (0..SERIES).map(|_| dice.below(WAVE.0)).collect();
        Self { dice, levels, phases, lifted: vec![0; SERIES] }
    }

    /// All series once, in random order, in the second `tick`.
    fn second(&mut self, tick: u64) -> Vec<Reading> {
        let mut order: Vec<usize> = (0..SERIES).collect();
        (1..SERIES).rev().for_each(|last| order.swap(last, self.dice.below(last as u64 + 1) as usize));
        let mut offsets: Vec<i64> = (0..SERIES).map(|_| self.dice.below(1000) as i64).collect();
        offsets.sort_unstable();
        let second = START_MS + tick as i64 * 1000;
        let read =
            |(series, offset)| Reading { ts: second + offset, series, value: self.value(series, tick), seq: tick };
        order.into_iter().zip(offsets).map(read).collect()
    }

    fn value(&mut self, series: usize, tick: u64) -> f64 {
        let (Sensor { low, high, .. }, sigma) = (SENSORS[series % SENSORS.len()], LEVELS[series % SENSORS.len()].2);
        if self.dice.below(2000) == 0 {
            self.lifted[series] = STEP.0;
        }
        let lift = if self.lifted[series] > 0 { STEP.1 } else { 0.0 };
        self.lifted[series] = self.lifted[series].saturating_sub(1);
        let value = self.levels[series] + sigma * (wave(tick + self.phases[series]) + self.dice.normal() + lift);
        let (kind, size) = (self.dice.below(200), self.dice.unit());
        let value = match kind {
            0 => high + (high - low) * (0.05 + 2.95 * size),
            1 => low - (high - low) * (0.05 + 2.95 * size),
            2 => (value + sigma * (30.0 + 30.0 * size)).clamp(low + 0.01, high - 0.01),
            3 => (value - sigma * (30.0 + 30.0 * size)).clamp(low + 0.01, high - 0.01),
            _ => value,
        };
        (value * 1000.0).round() / 1000.0
    }
}

/// A triangle between -1 and 1, times the wave's height.
fn wave(tick: u64) -> f64 {
    let place = (tick % WAVE.0) as f64 / WAVE.0 as f64;
    WAVE.1 * (4.0 * (place - 0.5).abs() - 1.0)
}

/// Writes the lines; says how many bytes they are.
pub(crate) fn generate(lines: usize, path: &Path) -> Result<Value> {
    let failed = || format!("cannot write `{}`", path.display());
    let mut out =
        Lines { file: BufWriter::new(std::fs::File::create(path).with_context(failed)?), left: lines, bytes: 0 };
    let mut plant = Plant::new();
    let mut waiting: BinaryHeap<(Reverse<(i64, u64)>, usize)> = BinaryHeap::new();
    let (mut readings, mut number) = (Vec::new(), 0);
    for tick in 0.. {
        let second = plant.second(tick);
        for reading in second {
            let dice = &mut plant.dice;
            let late = if dice.below(100) < 3 { 50 + dice.below(4950) as i64 } else { 0 };
            let again = (dice.below(98) < 2).then(|| 1 + dice.below(4999) as i64);
            readings.push(reading);
            for arrival in [Some(reading.ts + late), again.map(|delay| reading.ts + late + delay)].into_iter().flatten()
            {
                waiting.push((Reverse((arrival, number)), readings.len() - 1));
                number += 1;
            }
        }
        let end = START_MS + (tick as i64 + 1) * 1000;
        while waiting.peek().is_some_and(|(Reverse((arrival, _)), _)| *arrival < end) {
            let Some((_, at)) = waiting.pop() else { break };
            out.write(&readings[at], &mut plant.dice).with_context(failed)?;
            if out.left == 0 {
                out.file.flush().with_context(failed)?;
                return Ok(json!({"lines": lines, "bytes": out.bytes}));
            }
        }
    }
    Ok(Value::Null) // not reached: time goes on until the lines are written
}

struct Lines {
    file: BufWriter<std::fs::File>,
    left: usize,
    bytes: u64,
}

impl Lines {
    fn write(&mut self, reading: &Reading, dice: &mut Dice) -> std::io::Result<()> {
        let Reading { ts, series, value, seq } = reading;
        let Sensor { name, unit, .. } = SENSORS[series % SENSORS.len()];
        let device = series / SENSORS.len();
        let mut line = format!(
            r#"{{"ts":{ts},"device":"truck-{device:05}","sensor":"{name}","value":{value:?},"unit":"{unit}","seq":{seq}}}"#
        );
        if dice.below(200) == 0 {
            line = corrupt(&line, dice);
        }
        line.push('\n');
        self.bytes += line.len() as u64;
        self.left -= 1;
        self.file.write_all(line.as_bytes())
    }
}

fn corrupt(line: &str, dice: &mut Dice) -> String {
    match dice.below(4) {
        0 | 1 => line[..1 + dice.below(line.len() as u64 - 2) as usize].to_owned(),
        2 => {
            let (before, after) = line.split_once("\"value\":").unwrap_or((line, ""));
            format!("{before}\"value\":{}", &after[after.find(',').unwrap_or(0)..])
        }
        _ => format!("#~{}", line.chars().rev().collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use crate::count::count;

    #[test]
    fn the_same_bytes_each_time_with_about_the_promised_dirt() {
        let path = std::env::temp_dir().join(format!("trackside-bench-{}.jsonl", std::process::id()));
        let mut files = (0..2).map(|_| {
            super::generate(50_000, &path).unwrap();
            std::fs::read(&path).unwrap()
        });
        let (one, two) = (files.next().unwrap(), files.next().unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(one == two);
        let counts = count(&one);
        assert_eq!(counts.lines, 50_000);
        for (found, per_mille) in [(counts.malformed, 5), (counts.duplicates, 17), (counts.out_of_range, 10)] {
            assert!(found.abs_diff(50 * per_mille) < 150, "{counts:?}");
        }
    }
}
