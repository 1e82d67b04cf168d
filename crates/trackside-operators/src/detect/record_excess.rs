//! `record_excess`: what has never been like this before?
//!
//! Each series is scaled by its first rows and seen in four ways: its value, the error of a one-step forecast (AR(6)), the
//! spread of its last 24 rows, and the lasting error against its daily profile. Where one of them goes beyond all it has been,
//! it adds to the score by how far; the two largest count. The first of a row of alarms stands, for a fifth of `period`.
//!
//! Guarantee: causal, O(1) state per series (about 1 KB + 16 bytes for each slot of the day, at most 288), and the same bits
//! however the rows are cut into batches or restored from a snapshot.
//!
//! On 35 public files of the Numenta Anomaly Benchmark it scores 65.9 (standard profile) at the default threshold, which was
//! chosen on these files: about one false alarm in 2,000 normal rows.
//!
//! ```
//! use trackside_operators::detect::record_excess::{Config, RecordExcess, Scores};
//!
//! let mut detector = RecordExcess::new(Config::default());
//! let mut scores = Scores::default();
//! let value: Vec<f64> = (0..400).map(|i| if i == 300 { 50.0 } else { f64::from(i % 10) }).collect();
//! let time: Vec<i64> = (0..400).map(|i| i * 1_000_000_000).collect();
//! detector.update(&[0; 400], &time, &value, &mut scores);
//! assert!(scores.anomaly[300]);
//! assert!(scores.reason.iter().any(|(row, why)| *row == 300 && why.contains("outside all values seen (0 to 9)")));
//! ```

use super::streams::{Judged, LEVEL, Pace, SPREAD, STEP, Scale, Stream, Streams, TIME_OF_DAY};
use crate::state::codec::{Reader, StateError, Writer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const KIND: [u8; 4] = *b"RECX";
const VERSION: u8 = 1;
/// Values this large are taken for no measurement: their squares would overflow.
const VALUE_MAX: f64 = 1e150;
/// The bounds of [`Config::scale_rows`] and [`Config::period`].
const SCALE_ROWS: (usize, usize) = (10, 10_000);
const PERIOD: (usize, usize) = (10, 10_000);

/// Options of the detector. The defaults are what the published scores were measured with.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Scores (0 to 3) from here on are anomalies. Higher: fewer alarms.
    pub threshold: f64,
    /// Rows of a series whose mean and deviation give its scale (10 to 10000).
    pub scale_rows: usize,
    /// Rows of a series before it is ready to raise an anomaly.
    pub warm_up: usize,
    /// Time constant in rows (10 to 10000): alarms within a fifth of it must outdo each other.
    pub period: usize,
    /// Series kept at most; rows of further ones are not scored.
    pub max_series: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { threshold: 0.4212, scale_rows: 50, warm_up: 150, period: 600, max_series: 1_000_000 }
    }
}

impl Config {
    /// Says what is wrong with the options, and what would be right.
    pub fn check(&self) -> Result<(), String> {
        let within = |name: &str, x: usize, (low, high): (usize, usize)| match x {
            x if (low..=high).contains(&x) => Ok(()),
            x => Err(format!("`{name}` is {x}; give a number of rows from {low} to {high}")),
        };
        within("scale_rows", self.scale_rows, SCALE_ROWS)?;
        within("period", self.period, PERIOD)?;
        match self.threshold {
            t if t > 0.0 && t <= 3.0 => Ok(()),
            t => Err(format!("`threshold` is {t}; give a score above 0 and up to 3, such as 0.4212")),
        }
    }
}

/// The answers to one batch, a row of it each; cleared and filled again by every update.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// 0 (usual) to 3; NaN where the value was null.
    pub score: Vec<f64>,
    /// Ready, and the score at or above the threshold.
    pub anomaly: Vec<bool>,
    /// Enough rows of this series seen.
    pub ready: Vec<bool>,
    /// The one-step forecast, in units of the value; NaN while scaling.
    pub expected: Vec<f64>,
    /// Lower end of the band of usual errors: 4 deviations, by the running mean error, below the expected.
    pub lower: Vec<f64>,
    /// Upper end of the band.
    pub upper: Vec<f64>,
    /// (row of the batch, why) for each anomaly.
    pub reason: Vec<(usize, String)>,
}

impl Scores {
    fn clear(&mut self) {
        self.score.clear();
        self.anomaly.clear();
        self.ready.clear();
        self.expected.clear();
        self.lower.clear();
        self.upper.clear();
        self.reason.clear();
    }

    fn push(&mut self, score: f64, ready: bool) {
        self.score.push(score);
        self.anomaly.push(false);
        self.ready.push(ready);
        self.expected.push(f64::NAN);
        self.lower.push(f64::NAN);
        self.upper.push(f64::NAN);
    }

    fn push_judged(&mut self, judged: &Judged, ready: bool, anomaly: bool) {
        self.score.push(judged.score);
        self.anomaly.push(anomaly);
        self.ready.push(ready);
        self.expected.push(judged.expected);
        self.lower.push(judged.expected - judged.half_band);
        self.upper.push(judged.expected + judged.half_band);
    }
}

/// One series: first held back until its scale is known, then running.
#[derive(Debug, Clone)]
enum Series {
    Scaling(Vec<(i64, f64)>),
    Running { seen: u64, streams: Box<Streams> },
}

/// The detector: its options and the state of every series.
#[derive(Debug, Clone)]
pub struct RecordExcess {
    config: Config,
    pace: Pace,
    series: Vec<Series>,
}

impl RecordExcess {
    /// A detector that has seen nothing. Options out of bounds are moved to the nearest bound; [`Config::check`] tells.
    pub fn new(mut config: Config) -> Self {
        config.scale_rows = config.scale_rows.clamp(SCALE_ROWS.0, SCALE_ROWS.1);
        config.period = config.period.clamp(PERIOD.0, PERIOD.1);
        let pace = Pace::new(config.period);
        Self { config, pace, series: Vec::new() }
    }

    /// Scores rows of many series in arrival order, and learns from each before the next.
    ///
    /// `series` holds dense ids, `time_ns` event times, `value` the field (NaN = null: score NaN, not ready, nothing learnt;
    /// so are infinite values). The columns' common length counts.
    pub fn update(&mut self, series: &[u32], time_ns: &[i64], value: &[f64], out: &mut Scores) {
        out.clear();
        for ((id, time), x) in series.iter().zip(time_ns).zip(value) {
            let id = *id as usize;
            if x.abs() < VALUE_MAX && id < self.config.max_series {
                self.push(id, *time, *x, out);
            } else {
                out.push(f64::NAN, false);
            }
        }
    }

    fn push(&mut self, id: usize, time: i64, x: f64, out: &mut Scores) {
        if id >= self.series.len() {
            self.series.resize(id + 1, Series::Scaling(Vec::new()));
        }
        match &mut self.series[id] {
            Series::Scaling(held) => {
                held.push((time, x));
                out.push(0.0, false);
                if held.len() == self.config.scale_rows {
                    self.series[id] = start(held, &self.pace);
                }
            }
            Series::Running { seen, streams } => {
                let judged = streams.push(time, x, &self.pace);
                let ready = *seen >= self.config.warm_up as u64;
                let anomaly = ready && judged.score >= self.config.threshold;
                *seen += 1;
                if anomaly {
                    out.reason.push((out.score.len(), reason(x, &judged, streams)));
                }
                out.push_judged(&judged, ready, anomaly);
            }
        }
    }

    /// Rows of this series learnt from so far; `learning` lasts until there are [`Config::warm_up`].
    pub fn seen(&self, series: u32) -> u64 {
        match self.series.get(series as usize) {
            Some(Series::Scaling(held)) => held.len() as u64,
            Some(Series::Running { seen, .. }) => *seen,
            None => 0,
        }
    }

    /// The whole state, as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut w = Writer::new(KIND, VERSION);
        w.u64(self.config.scale_rows as u64);
        w.u64(self.config.period as u64);
        w.u64(self.series.len() as u64);
        for series in &self.series {
            match series {
                Series::Scaling(held) => {
                    w.u8(0);
                    w.i64s(&held.iter().map(|row| row.0).collect::<Vec<_>>());
                    w.f64s(&held.iter().map(|row| row.1).collect::<Vec<_>>());
                }
                Series::Running { seen, streams } => {
                    w.u8(1);
                    w.u64(*seen);
                    streams.save(&mut w);
                }
            }
        }
        w.finish()
    }

    /// Takes over a snapshot of a detector with the same `scale_rows` and `period`. On an error nothing changes.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let mut r = Reader::open(bytes, KIND, VERSION)?;
        for (name, ours) in [("scale_rows", self.config.scale_rows), ("period", self.config.period)] {
            let theirs = r.u64()?;
            if theirs != ours as u64 {
                return Err(StateError::Invalid(format!("it was made with `{name}` = {theirs}, now it is {ours}")));
            }
        }
        let n = r.length(1)?;
        let series = (0..n).map(|_| load(&mut r, self.config.scale_rows)).collect::<Result<_, _>>()?;
        r.end()?;
        self.series = series;
        Ok(())
    }
}

/// The scale is known: the rows held back go through the streams, their scores are nobody's.
fn start(held: &[(i64, f64)], pace: &Pace) -> Series {
    let mut streams = Box::new(Streams::new(Scale::of(held), usual_step(held)));
    for (time, x) in held {
        streams.push(*time, *x, pace);
    }
    Series::Running { seen: held.len() as u64, streams }
}

/// Median distance of the held rows in seconds. Repeated and backward times are not what a step is, so only if nothing else
/// is there does it come out as 0.
fn usual_step(held: &[(i64, f64)]) -> f64 {
    let mut steps: Vec<i64> = held.windows(2).map(|w| w[1].0.saturating_sub(w[0].0)).filter(|step| *step > 0).collect();
    steps.sort_unstable();
    let middle = |k: usize| steps.get(k).copied().unwrap_or(0) as f64;
    match steps.len() {
        0 => 0.0,
        n if n % 2 == 1 => middle(n / 2) / 1e9,
        n => (middle(n / 2 - 1) + middle(n / 2)) / 2e9,
    }
}

fn load(r: &mut Reader<'_>, scale_rows: usize) -> Result<Series, StateError> {
    match r.u8()? {
        0 => {
            let (times, values) = (r.i64s()?, r.f64s()?);
            if times.len() != values.len() || times.len() >= scale_rows {
                return Err(StateError::Invalid(format!("{} times and {} values held", times.len(), values.len())));
            }
            Ok(Series::Scaling(times.into_iter().zip(values).collect()))
        }
        1 => Ok(Series::Running { seen: r.count()?, streams: Box::new(Streams::load(r)?) }),
        other => Err(StateError::Invalid(format!("{other} is no state of a series"))),
    }
}

/// Names the streams that went beyond their record, the strongest first, with numbers in units of the value.
fn reason(x: f64, judged: &Judged, streams: &Streams) -> String {
    let mut order: Vec<usize> = (0..4).filter(|k| judged.streams[*k].adds > 0.0).collect();
    order.sort_by(|a, b| judged.streams[*b].adds.total_cmp(&judged.streams[*a].adds));
    let parts: Vec<String> = order.iter().map(|k| phrase(*k, &judged.streams[*k], judged, streams)).collect();
    format!("{}: {}", short(x), parts.join("; "))
}

fn phrase(k: usize, stream: &Stream, judged: &Judged, streams: &Streams) -> String {
    let Stream { y, before, .. } = *stream;
    match k {
        LEVEL => {
            let (low, high) = (streams.scale.unscaled(before.low), streams.scale.unscaled(before.high));
            format!("outside all values seen ({} to {})", short(low), short(high))
        }
        STEP => {
            let side = if y > 0.0 { "above" } else { "below" };
            let step = short(streams.scale.width(y.abs()));
            format!("unexpected step, {step} {side} the expected {}", short(judged.expected))
        }
        SPREAD => {
            let (word, record) = if y > before.high { ("more", before.high) } else { ("less", before.low) };
            let now = short(streams.deviation_of(y));
            let before = short(streams.deviation_of(record));
            format!("{word} spread than ever in 24 rows (deviation {now}, record {before})")
        }
        TIME_OF_DAY => {
            let side = if judged.above_usual { "above" } else { "below" };
            format!("longer {side} the usual for this time of day than ever")
        }
        _ => String::new(),
    }
}

/// Four significant digits, plain where plain is readable.
fn short(x: f64) -> String {
    let size = x.abs();
    if size == 0.0 {
        "0".into()
    } else if (1e-3..1e7).contains(&size) {
        let digits = (3 - size.log10().floor() as i32).max(0) as usize;
        let text = format!("{x:.digits$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
    } else {
        format!("{x:.3e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn run(values: &[f64]) -> Scores {
        let times: Vec<i64> = (0..values.len() as i64).map(|i| i * SECOND).collect();
        let mut scores = Scores::default();
        RecordExcess::new(Config::default()).update(&vec![0; values.len()], &times, values, &mut scores);
        scores
    }

    #[test]
    fn flat_series_are_usual_and_a_first_step_is_not() {
        let mut values = vec![0.1; 20_000];
        assert!(run(&values).score.iter().all(|s| *s == 0.0));
        values[15_000..].fill(0.2);
        let scores = run(&values);
        // A range of no width knows no excess: the first step ever can only be seen by its aftermath.
        assert!(scores.score.iter().all(|s| s.is_finite()));
        assert!(scores.expected[200..].iter().all(|x| (0.0..0.3).contains(x)));
    }

    #[test]
    fn warm_up_is_silent() {
        let mut values: Vec<f64> = (0..400).map(|i| f64::from(i % 7)).collect();
        values[100] = 1000.0;
        let scores = run(&values);
        assert!(scores.score[..50].iter().all(|s| *s == 0.0));
        assert!(scores.score[100] > 2.0 && !scores.anomaly[100]);
        assert_eq!(scores.ready.iter().position(|r| *r), Some(150));
        assert_eq!(scores.expected.iter().position(|x| !x.is_nan()), Some(50));
    }

    #[test]
    fn reasons_name_the_streams() {
        let mut values: Vec<f64> = (0..400).map(|i| f64::from(i % 7)).collect();
        values[350] = 104.25;
        let scores = run(&values);
        let (_, text) = scores.reason.iter().find(|(row, _)| *row == 350).unwrap();
        assert!(text.starts_with("104.2: more spread than ever in 24 rows (deviation "), "{text}");
        assert!(text.contains("unexpected step"), "{text}");
    }

    #[test]
    fn options_are_checked_in_words() {
        assert_eq!(Config::default().check(), Ok(()));
        let wrong = Config { scale_rows: 3, ..Config::default() };
        assert!(wrong.check().is_err_and(|e| e.contains("`scale_rows` is 3")));
        assert!(serde_json::from_str::<Config>(r#"{"treshold": 1}"#).is_err());
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 104.25, -98.0, 1234567.0, 2.5e-5, 0.012345, 1e10, 9.9996].map(short);
        assert_eq!(texts, ["0", "104.2", "-98", "1234567", "2.500e-5", "0.01235", "1.000e10", "10"].map(String::from));
    }

    #[test]
    fn snapshots_of_other_settings_are_refused() {
        let bytes = RecordExcess::new(Config::default()).snapshot();
        let mut other = RecordExcess::new(Config { period: 300, ..Config::default() });
        assert!(other.restore(&bytes).is_err_and(|e| e.to_string().contains("`period` = 600, now it is 300")));
    }
}
