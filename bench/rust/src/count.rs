//! The job's definition taken literally, as slow as it is plain: what every fast implementation is held against.

use crate::job::{Counts, SCALE, SENSORS, Sensor};
use serde::Deserialize;
use std::collections::{HashMap, VecDeque};

/// An event with all its six fields, as the general parser reads it.
#[derive(Deserialize)]
pub(crate) struct Event<'a> {
    pub(crate) ts: i64,
    #[serde(borrow)]
    pub(crate) device: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) sensor: std::borrow::Cow<'a, str>,
    pub(crate) value: f64,
    #[serde(borrow)]
    pub(crate) unit: std::borrow::Cow<'a, str>,
    pub(crate) seq: i64,
}

#[derive(Default)]
struct Series {
    highest: Option<i64>,
    seen: u64,
    window: VecDeque<f64>,
}

/// Counts of a workload.
pub(crate) fn count(bytes: &[u8]) -> Counts {
    let mut counts = Counts::default();
    let mut all: HashMap<(String, String), Series> = HashMap::new();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        counts.lines += 1;
        let Ok(event) = serde_json::from_slice::<Event<'_>>(line) else {
            counts.malformed += 1;
            continue;
        };
        let Some(sensor) = SENSORS.iter().find(|sensor| sensor.name == event.sensor) else { continue };
        let series = all.entry((event.device.into_owned(), event.sensor.into_owned())).or_default();
        if !series.is_new(event.seq) {
            counts.duplicates += 1;
        } else if event.value < sensor.low || event.value > sensor.high {
            counts.out_of_range += 1;
        } else if series.is_spike(event.value, sensor) {
            counts.spikes += 1;
        } else {
            counts.survivors += 1;
        }
    }
    counts
}

impl Series {
    fn is_new(&mut self, seq: i64) -> bool {
        let Some(highest) = self.highest.filter(|highest| seq <= *highest) else {
            let by = self.highest.map_or(64, |highest| seq - highest);
            self.seen = if by < 64 { self.seen << by | 1 } else { 1 };
            self.highest = Some(seq);
            return true;
        };
        let back = highest - seq;
        let new = back < 64 && self.seen >> back & 1 == 0;
        if new {
            self.seen |= 1 << back;
        }
        new
    }

    fn is_spike(&mut self, value: f64, sensor: &Sensor) -> bool {
        self.window.push_back(value);
        if self.window.len() > 7 {
            self.window.pop_front();
        }
        if self.window.len() < 7 {
            return false;
        }
        let middle = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values[3]
        };
        let median = middle(self.window.iter().copied().collect());
        let mad = middle(self.window.iter().map(|w| (w - median).abs()).collect());
        (value - median).abs() > (SCALE * mad).max(sensor.floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_counts_once() {
        let line = |seq: i64, value: f64| {
            format!(r#"{{"ts":1,"device":"d","sensor":"voltage","value":{value},"unit":"V","seq":{seq}}}"#)
        };
        let mut lines: Vec<String> = (0..9).map(|seq| line(seq, 12.0)).collect();
        lines.extend([line(9, 20.0), line(8, 12.0), line(10, 33.0), "{\"ts\":1".into(), "{}".into()]);
        let counts = count(lines.join("\n").as_bytes());
        let expected = Counts { lines: 14, malformed: 2, duplicates: 1, out_of_range: 1, spikes: 1, survivors: 9 };
        assert_eq!(counts, expected);
    }
}
