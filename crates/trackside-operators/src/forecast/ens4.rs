//! `ens4`: an ensemble of online experts says what comes in the next rows.
//!
//! Eight of them, from "the last value again" to smoothing and autoregression with a daily and weekly season, each with a say
//! by its latest errors; bands are quantiles of the errors that forecasts had before. Rows are put on a regular grid first:
//! the step is the median distance of the first 25, a missing row teaches nothing, late and repeated rows are left out.
//! A series that changes its pace for good starts anew.
//!
//! Guarantee: causal, the same bits however the rows are cut into batches or restored; when forecasts are made depends on
//! event times only. State per series is bounded: about 2 KB, 192 bytes a step of the horizon (of 288 steps at most), and with
//! a season 16 bytes × (day + week) for profiles and 8 × (two days or a week, the longer) for history. That is 6 KB for a
//! sensor that speaks each second, 60 KB for one that speaks each five minutes and is known for weeks.
//!
//! On six public series of the Numenta Anomaly Benchmark (24 rows ahead) its error is 0.56 of seasonal naive's in the geometric
//! mean, and never above that of the last value; the 90 % bands hold 0.90.
//!
//! ```
//! use trackside_operators::forecast::ens4::{Config, Ens4, Forecasts};
//!
//! let mut forecaster = Ens4::new(Config::default());
//! let mut out = Forecasts::default();
//! let minute = 60_000_000_000;
//! let time: Vec<i64> = (0..200).map(|i| i * minute).collect();
//! let value: Vec<f64> = (0..200).map(|i| 20.0 + (f64::from(i) / 10.0).sin()).collect();
//! forecaster.update(&[0; 200], &time, &value, &mut out);
//! assert_eq!(out.row, [49, 72, 96, 120, 144, 168, 192].map(|row| [row; 24]).concat());
//! assert!(out.lower[0] < out.mean[0] && out.for_time[0] == out.made_at[0] + minute);
//! ```

use super::clock::{Clock, STEP_ROWS, Tick, usual_step};
use super::ensemble::Ensemble;
use super::plan::Plan;
pub use super::plan::{DayRows, Stretch};
use crate::state::codec::{Reader, StateError, Writer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const KIND: [u8; 4] = *b"ENS4";
const VERSION: u8 = 1;
/// Values this large are taken for no measurement: their squares would overflow.
const VALUE_MAX: f64 = 1e150;

/// Options of the forecaster.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How far ahead: rows (up to 4096) or a duration. `"auto"` is 24 rows.
    pub horizon: Stretch,
    /// A forecast each so often in event time: rows or a duration. `"auto"` is 24 rows.
    pub every: Stretch,
    /// Rows of a season: `"auto"` (a day, and a week of them), a number, or `"none"`.
    pub season: DayRows,
    /// Share of the values to come that the bands shall hold (0.5 to 0.999).
    pub level: f64,
    /// Rows of a series before its first forecast; at least 25.
    pub warm_up: usize,
    /// Longest season kept, in rows: a longer day or week is not modelled.
    pub max_season: usize,
    /// Series kept at most; rows of further ones are not forecast.
    pub max_series: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            horizon: Stretch::Rows(24),
            every: Stretch::Time("auto".into()),
            season: DayRows::Word("auto".into()),
            level: 0.9,
            warm_up: 50,
            max_season: 2016,
            max_series: 1_000_000,
        }
    }
}

impl Config {
    /// Says what is wrong with the options, and what would be right.
    pub fn check(&self) -> Result<(), String> {
        Plan::check(self)
    }
}

/// The answers to one batch; cleared and filled again by every update.
///
/// The first six columns have an entry for each step of each forecast made, in the order of the rows that triggered them; the
/// last four an entry for each row of the batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Forecasts {
    /// Index in the batch of the row that triggered the forecast, and names its series.
    pub row: Vec<i64>,
    /// That row's time.
    pub made_at: Vec<i64>,
    /// The time that is forecast: `made_at` and so many steps.
    pub for_time: Vec<i64>,
    /// The forecast.
    pub mean: Vec<f64>,
    /// Lower end of the band.
    pub lower: Vec<f64>,
    /// Upper end of the band.
    pub upper: Vec<f64>,
    /// What was expected of the row before it came; NaN when nothing was.
    pub expected: Vec<f64>,
    /// Lower end of the band around the expected; NaN while errors are too few.
    pub expected_lower: Vec<f64>,
    /// Upper end of the band around the expected.
    pub expected_upper: Vec<f64>,
    /// Enough rows of this series seen, and an expectation of this row given.
    pub ready: Vec<bool>,
}

impl Forecasts {
    fn clear(&mut self) {
        self.row.clear();
        self.made_at.clear();
        self.for_time.clear();
        for column in [&mut self.mean, &mut self.lower, &mut self.upper] {
            column.clear();
        }
        for column in [&mut self.expected, &mut self.expected_lower, &mut self.expected_upper] {
            column.clear();
        }
        self.ready.clear();
    }

    fn expect(&mut self, mean: f64, half_band: f64, ready: bool) {
        self.expected.push(mean);
        self.expected_lower.push(mean - half_band);
        self.expected_upper.push(mean + half_band);
        self.ready.push(ready);
    }

    fn forecast(&mut self, row: usize, made_at: i64, step: i64, steps: &[(f64, f64)]) {
        let mut for_time = made_at;
        for (mean, half_band) in steps {
            for_time = for_time.saturating_add(step);
            self.row.push(row as i64);
            self.made_at.push(made_at);
            self.for_time.push(for_time);
            self.mean.push(*mean);
            self.lower.push(mean - half_band);
            self.upper.push(mean + half_band);
        }
    }
}

/// One series: first held back until its step is known, then running.
#[derive(Debug, Clone)]
enum Series {
    Starting { held: Vec<(i64, f64)>, late: u32 },
    Running(Box<Running>),
}

#[derive(Debug, Clone)]
struct Running {
    clock: Clock,
    first_time: i64,
    /// How many multiples of `every` after the first time the newest forecast was made.
    made: i64,
    ensemble: Ensemble,
}

/// So many rows in a row that are not after the last held one: the held ones were wrong.
const LATE_MAX: u32 = 64;

impl Series {
    fn new() -> Self {
        Self::Starting { held: Vec::new(), late: 0 }
    }

    /// Holds a row back; with enough of them the series runs.
    fn start(&mut self, time: i64, y: f64, plan: &Plan) {
        let Self::Starting { held, late } = self else { return };
        if held.last().is_some_and(|last| time <= last.0) {
            *late = late.saturating_add(1);
            if *late > LATE_MAX {
                *self = Self::new();
            }
            return;
        }
        *late = 0;
        held.push((time, y));
        if held.len() < STEP_ROWS {
            return;
        }
        // Held times only go forward, so there is a step.
        let step = usual_step(held.iter().map(|row| row.0)).unwrap_or(1);
        let clock = Clock::new(held[0].0, step);
        let mut running = Running { clock, first_time: held[0].0, made: 0, ensemble: plan.ensemble(step) };
        for (time, y) in held.iter() {
            if let Tick::Cell(cell) = running.clock.tick(*time, running.ensemble.now()) {
                running.ensemble.push(cell, *y, plan.level);
            }
        }
        *self = Self::Running(Box::new(running));
    }
}

impl Running {
    /// Is this row the first at or after the next multiple of `every`?
    fn is_due(&mut self, time: i64, plan: &Plan) -> bool {
        let every = i128::from(plan.every(self.clock.step()));
        let since = i128::from(time) - i128::from(self.first_time);
        let multiple = (since / every).clamp(0, i128::from(i64::MAX)) as i64;
        let due = multiple > self.made;
        self.made = self.made.max(multiple);
        due
    }
}

/// The forecaster: its options and the state of every series.
#[derive(Debug, Clone)]
pub struct Ens4 {
    config: Config,
    plan: Plan,
    series: Vec<Series>,
}

impl Ens4 {
    /// A forecaster that has seen nothing. Options that make no sense become the nearest that do; [`Config::check`] tells.
    pub fn new(config: Config) -> Self {
        Self { plan: Plan::new(&config), config, series: Vec::new() }
    }

    /// Says what was expected of each row, learns it, and forecasts where a forecast is due.
    ///
    /// `series` holds dense ids, `time_ns` event times, `value` the field (NaN = null; nulls and infinite values are
    /// missing rows). The columns' common length counts.
    pub fn update(&mut self, series: &[u32], time_ns: &[i64], value: &[f64], out: &mut Forecasts) {
        out.clear();
        for ((id, time), y) in series.iter().zip(time_ns).zip(value) {
            let id = *id as usize;
            if y.abs() < VALUE_MAX && id < self.config.max_series {
                self.push(id, *time, *y, out);
            } else {
                out.expect(f64::NAN, f64::NAN, false);
            }
        }
    }

    fn push(&mut self, id: usize, time: i64, y: f64, out: &mut Forecasts) {
        if id >= self.series.len() {
            self.series.resize(id + 1, Series::new());
        }
        let (series, plan) = (&mut self.series[id], &self.plan);
        let Series::Running(running) = series else {
            series.start(time, y, plan);
            return out.expect(f64::NAN, f64::NAN, false);
        };
        match running.clock.tick(time, running.ensemble.now()) {
            Tick::Cell(cell) => {
                let ready = running.ensemble.rows() >= plan.warm_up;
                match running.ensemble.push(cell, y, plan.level) {
                    Some(expected) => {
                        out.expect(expected.mean, expected.half_band.unwrap_or(f64::NAN), ready);
                    }
                    None => out.expect(f64::NAN, f64::NAN, false),
                }
                if running.ensemble.rows() >= plan.warm_up && running.is_due(time, plan) {
                    let step = running.clock.step();
                    if let Some(steps) = running.ensemble.forecast(plan.horizon(step), plan.level) {
                        out.forecast(out.ready.len() - 1, time, step, &steps);
                    }
                }
            }
            Tick::Late => out.expect(f64::NAN, f64::NAN, false),
            Tick::Restart => {
                *series = Series::new();
                series.start(time, y, plan);
                out.expect(f64::NAN, f64::NAN, false);
            }
        }
    }

    /// Rows of this series learnt from so far; `learning` lasts until there are [`Config::warm_up`].
    pub fn seen(&self, series: u32) -> u64 {
        match self.series.get(series as usize) {
            Some(Series::Starting { held, .. }) => held.len() as u64,
            Some(Series::Running(running)) => running.ensemble.rows(),
            None => 0,
        }
    }

    /// The whole state, as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut w = Writer::new(KIND, VERSION);
        w.u64(self.series.len() as u64);
        for series in &self.series {
            match series {
                Series::Starting { held, late } => {
                    w.u8(0);
                    w.i64s(&held.iter().map(|row| row.0).collect::<Vec<_>>());
                    w.f64s(&held.iter().map(|row| row.1).collect::<Vec<_>>());
                    w.u32(*late);
                }
                Series::Running(running) => {
                    w.u8(1);
                    running.clock.save(&mut w);
                    w.i64(running.first_time);
                    w.i64(running.made);
                    running.ensemble.save(&mut w);
                }
            }
        }
        w.finish()
    }

    /// Takes over a snapshot of a forecaster with the same options. On an error nothing changes.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let mut r = Reader::open(bytes, KIND, VERSION)?;
        let n = r.length(1)?;
        let series = (0..n).map(|_| load(&mut r, &self.plan)).collect::<Result<_, _>>()?;
        r.end()?;
        self.series = series;
        Ok(())
    }
}

fn load(r: &mut Reader<'_>, plan: &Plan) -> Result<Series, StateError> {
    match r.u8()? {
        0 => {
            let (times, values, late) = (r.i64s()?, r.f64s()?, r.u32()?);
            if times.len() != values.len() || times.len() >= STEP_ROWS || !times.is_sorted() || late > LATE_MAX {
                return Err(StateError::Invalid(format!("{} times and {} values held", times.len(), values.len())));
            }
            Ok(Series::Starting { held: times.into_iter().zip(values).collect(), late })
        }
        1 => {
            let (clock, first_time, made) = (Clock::load(r)?, r.i64()?, r.i64()?);
            let step = clock.step();
            let ensemble = Ensemble::load(r, plan.season(step), plan.learn_steps(step))?;
            Ok(Series::Running(Box::new(Running { clock, first_time, made, ensemble })))
        }
        other => Err(StateError::Invalid(format!("{other} is no state of a series"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn run(config: Config, times: &[i64], value: impl Fn(usize) -> f64) -> Forecasts {
        let mut out = Forecasts::default();
        let values: Vec<f64> = (0..times.len()).map(value).collect();
        Ens4::new(config).update(&vec![0; times.len()], times, &values, &mut out);
        out
    }

    #[test]
    fn a_young_series_has_forecasts_with_bands() {
        let times: Vec<i64> = (0..100).map(|i| i * SECOND).collect();
        let out = run(Config::default(), &times, |i| 5.0 + (i % 3) as f64);
        assert_eq!((out.row[0], out.row.len()), (49, 3 * 24));
        assert!(out.lower.iter().zip(&out.upper).all(|(low, high)| low <= high && low.is_finite()));
        assert_eq!(out.ready.iter().position(|r| *r), Some(50));
    }

    #[test]
    fn a_forecast_is_made_each_so_often() {
        let config =
            Config { every: Stretch::Time("10s".into()), horizon: Stretch::Time("3s".into()), ..Config::default() };
        let mut times: Vec<i64> = (0..100).map(|i| 7 * SECOND + i * SECOND).collect();
        times.extend([500 * SECOND, 501 * SECOND]);
        let out = run(config, &times, |i| i as f64);
        let rows: Vec<i64> = out.row.iter().copied().step_by(3).collect();
        assert_eq!(rows, [49, 50, 60, 70, 80, 90, 100]);
        assert_eq!(out.for_time[..3], [57, 58, 59].map(|s| s * SECOND));
    }

    #[test]
    fn a_change_of_pace_starts_anew_and_a_stray_future_time_does_no_lasting_harm() {
        let mut times: Vec<i64> = (0..360).map(|i| i * 10 * SECOND).collect();
        times.extend((0..400).map(|i| (3600 + i) * SECOND));
        let out = run(Config::default(), &times, |i| (i as f64 / 9.0).sin());
        assert!(out.ready[350] && out.ready[759]);
        assert_eq!(out.for_time[out.for_time.len() - 1] - out.made_at[out.made_at.len() - 1], 24 * SECOND);
        times[300] = i64::MAX;
        assert!(run(Config::default(), &times, |i| i as f64).ready[759]);
    }
}
