//! Eight experts forecast one series; each has a say by how well it did lately.
//!
//! Time is a cell number here: the [clock](super::clock) made a regular grid of it. A cell without a row teaches nothing.
//! Experts that need a day or a week of history join when it is there. One forecast at a time is *pending*: kept until its
//! cells are past, it then tells how wrong each expert was, which sets their weights, and how wrong the sum was, which sets
//! the band.

use super::autoregression::{Autoregression, Units};
use super::conformal::{ManySteps, OneStep};
use super::history::History;
use super::holt_winters::{DampedTrend, Gains, HoltWinters};
use super::naive;
use crate::state::codec::{Reader, StateError, Writer};

/// Last value, damped trend, AR on the last three, last day, last week, smoothing, the same but faster, AR with seasons.
const EXPERTS: usize = 8;
/// Weights go by the error to the minus this. With 4 an expert twice as wrong as the best has hardly a say.
const SHARPNESS: i32 = 4;
/// How fast an expert's error follows: of settled forecasts, and of single steps.
const SETTLED_GAIN: f64 = 0.15;
const STEP_GAIN: f64 = 0.05;
/// Rows before the first pending forecast.
const FIRST_PENDING: i64 = 8;
/// A pending forecast counts when at least this share of its cells had rows.
const SETTLED_SHARE: f64 = 0.5;
/// Cells of history without a season.
const SHORT_HISTORY: usize = 64;
/// Seasonal experts join after two seasons' days; a week counts from this many weeks on.
const WEEKS: f64 = 2.2;
const STEADY: Gains = Gains { level: 0.1, day: 0.1 };
const FAST: Gains = Gains { level: 0.3, day: 0.1 };
/// Where the lags of the second day stand among the inputs; they give way to those of the week.
const LONG_LAGS: [usize; 2] = [6, 7];

/// Rows a day and a week; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Season {
    pub(crate) day: usize,
    pub(crate) week: usize,
}

impl Season {
    fn history(self) -> usize {
        SHORT_HISTORY.max(2 * self.day + 2).max(self.week + 2)
    }
}

/// A forecast of the next row, made before it came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) mean: f64,
    /// None before there are enough errors to tell.
    pub(crate) half_band: Option<f64>,
}

/// The experts that need a day of rows.
#[derive(Debug, Clone)]
struct Seasonal {
    steady: HoltWinters,
    fast: HoltWinters,
    lags: Autoregression<9>,
    weekly: bool,
}

impl Seasonal {
    fn new(Season { day, week }: Season) -> Self {
        let lags = [1, 2, 3, day - 1, day, day + 1, 2 * day, 2 * day + 1, 0];
        let weights = [0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.5, 0.0, 0.0];
        Self {
            steady: HoltWinters::new(day, week),
            fast: HoltWinters::new(day, week),
            lags: Autoregression::new(lags, weights),
            weekly: false,
        }
    }

    fn see_weeks(&mut self, week: usize) {
        self.weekly = true;
        self.lags.change_lag(LONG_LAGS[0], week);
        self.lags.change_lag(LONG_LAGS[1], week + 1);
    }
}

/// How wrong each expert is lately; NaN before its first error.
#[derive(Debug, Clone)]
struct Errors([f64; EXPERTS]);

impl Errors {
    /// Shares of those who spoke, summing to one: equal before anybody's first error.
    fn weights(&self, spoke: [bool; EXPERTS]) -> [f64; EXPERTS] {
        let known = |k: usize| spoke[k] && !self.0[k].is_nan();
        let best = (0..EXPERTS).filter(|k| known(*k)).map(|k| self.0[k]).fold(f64::INFINITY, f64::min);
        let mut weights = [0.0; EXPERTS];
        for (k, weight) in weights.iter_mut().enumerate() {
            *weight = if best == f64::INFINITY {
                f64::from(u8::from(spoke[k]))
            } else if known(k) {
                // Relative to the best, so that neither tiny nor huge units overflow the power.
                if self.0[k] > best { (best / self.0[k]).powi(SHARPNESS) } else { 1.0 }
            } else {
                0.0
            };
        }
        let sum: f64 = weights.iter().sum();
        weights.map(|w| w / sum)
    }

    /// New errors, NaN for those who did not speak. Who joins late starts from the last value's error: one lucky
    /// forecast is no record.
    fn learn(&mut self, errors: [f64; EXPERTS], gain: f64) {
        let prior = self.0[0];
        for (old, new) in self.0.iter_mut().zip(errors).filter(|(_, new)| !new.is_nan()) {
            let from = if old.is_nan() { prior } else { *old };
            *old = if from.is_nan() { new } else { (1.0 - gain) * from + gain * new };
        }
    }
}

/// A forecast waiting for its rows.
#[derive(Debug, Clone)]
struct Pending {
    origin: i64,
    experts: Vec<f64>,
    residuals: Vec<f64>,
    sums: [f64; EXPERTS],
    rows: u32,
}

/// The forecaster of one series on a regular grid.
#[derive(Debug, Clone)]
pub(crate) struct Ensemble {
    season: Season,
    steps: usize,
    rows: u64,
    units: Units,
    history: History,
    bounds: (f64, f64),
    trend: DampedTrend,
    short: Autoregression<4>,
    seasonal: Option<Box<Seasonal>>,
    settled: Errors,
    single: Errors,
    pending: Option<Pending>,
    many_steps: ManySteps,
    one_step: OneStep,
}

impl Ensemble {
    /// `steps`: length of the pending forecasts, from which weights and bands are learnt.
    pub(crate) fn new(season: Season, steps: usize) -> Self {
        Self {
            season,
            steps,
            rows: 0,
            units: Units::default(),
            history: History::new(season.history()),
            bounds: (f64::NEG_INFINITY, f64::INFINITY),
            trend: DampedTrend::default(),
            short: Autoregression::new([1, 2, 3, 0], [1.0, 0.0, 0.0, 0.0]),
            seasonal: (season.day > 0).then(|| Box::new(Seasonal::new(season))),
            settled: Errors([f64::NAN; EXPERTS]),
            single: Errors([f64::NAN; EXPERTS]),
            pending: None,
            many_steps: ManySteps::new(steps),
            one_step: OneStep::default(),
        }
    }

    pub(crate) fn now(&self) -> i64 {
        self.history.now()
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes the row at `cell`, later than all before; what was expected of it, unless cells were skipped.
    pub(crate) fn push(&mut self, cell: i64, y: f64, level: f64) -> Option<Expected> {
        let expected = (self.rows > 0 && cell == self.now() + 1).then(|| self.expect(y, level));
        self.settle(cell, y);
        self.learn(cell, y);
        if self.pending.is_none() && self.now() >= FIRST_PENDING {
            self.open_pending();
        }
        expected
    }

    fn expect(&mut self, y: f64, level: f64) -> Expected {
        let mut each = [f64::NAN; EXPERTS];
        self.experts(&mut each, 1);
        let weights = self.single.weights(each.map(|f| !f.is_nan()));
        let mean = combine(&weights, &each, 1, 0);
        let half_band = self.one_step.half_band(level);
        self.single.learn(each.map(|f| (y - f).abs()), STEP_GAIN);
        self.one_step.push((y - mean).abs());
        Expected { mean, half_band }
    }

    fn learn(&mut self, cell: i64, y: f64) {
        self.short.learn(&self.history, &self.units, cell, y);
        if let Some(seasonal) = &mut self.seasonal {
            seasonal.lags.learn(&self.history, &self.units, cell, y);
            seasonal.steady.learn(cell, y, STEADY);
            seasonal.fast.learn(cell, y, FAST);
            let week = self.season.week;
            if !seasonal.weekly && week > 0 && cell as f64 >= WEEKS * week as f64 {
                seasonal.see_weeks(week);
            }
        }
        self.trend.learn(y);
        self.units.learn(y);
        self.history.push(cell, y);
        self.rows += 1;
        // Drawn with each pending forecast and by rows outside: no look through the history at each row.
        if y < self.bounds.0 || y > self.bounds.1 {
            self.draw_bounds();
        }
    }

    /// Autoregressions stay within the range of the history, widened by half of it to both sides.
    fn draw_bounds(&mut self) {
        let (low, high) = self.history.range(self.history.capacity());
        let half = (high - low) / 2.0;
        self.bounds = (low - half, high + half);
    }

    /// All experts' forecasts of the next `steps` cells, one after another; NaN for those without a say.
    fn experts(&self, out: &mut [f64], steps: usize) {
        let (now, history) = (self.now(), &self.history);
        let mut parts = out.chunks_exact_mut(steps);
        let mut next = |speak: &dyn Fn(&mut [f64])| {
            if let Some(part) = parts.next() {
                part.fill(f64::NAN);
                speak(part);
            }
        };
        next(&|out| naive::last_value(history, out));
        next(&|out| self.trend.forecast(out));
        next(&|out| self.short.forecast(history, &self.units, self.bounds, out));
        let Some(seasonal) = self.seasonal.as_ref().filter(|_| now >= 2 * self.season.day as i64) else {
            return (3..EXPERTS).for_each(|_| next(&|_| {}));
        };
        next(&|out| naive::seasonal(history, self.season.day, out));
        next(&|out| {
            if seasonal.weekly {
                naive::seasonal(history, self.season.week, out);
            }
        });
        next(&|out| seasonal.steady.forecast(now, out));
        next(&|out| seasonal.fast.forecast(now, out));
        next(&|out| seasonal.lags.forecast(history, &self.units, self.bounds, out));
    }

    fn open_pending(&mut self) {
        self.draw_bounds();
        let mut experts = vec![f64::NAN; EXPERTS * self.steps];
        self.experts(&mut experts, self.steps);
        let residuals = vec![f64::NAN; self.steps];
        self.pending = Some(Pending { origin: self.now(), experts, residuals, sums: [0.0; EXPERTS], rows: 0 });
    }

    /// The pending forecast meets a row; past its end it is settled and makes room for the next.
    fn settle(&mut self, cell: i64, y: f64) {
        let steps = self.steps as i64;
        let Some(pending) = &mut self.pending else { return };
        let ahead = cell - pending.origin;
        if ahead <= steps {
            let k = (ahead - 1) as usize;
            let each: [f64; EXPERTS] = std::array::from_fn(|e| pending.experts[e * self.steps + k]);
            let weights = self.settled.weights(each.map(|f| !f.is_nan()));
            pending.residuals[k] = (y - combine(&weights, &pending.experts, self.steps, k)).abs();
            pending.sums.iter_mut().zip(each).for_each(|(sum, f)| *sum += (y - f).abs());
            pending.rows = pending.rows.saturating_add(1);
        }
        if ahead >= steps {
            if f64::from(pending.rows) >= SETTLED_SHARE * steps as f64 {
                let rows = f64::from(pending.rows);
                self.settled.learn(pending.sums.map(|sum| sum / rows), SETTLED_GAIN);
                self.many_steps.push(&pending.residuals);
            }
            self.pending = None;
        }
    }

    /// The next `steps` cells: mean and half the band, which is none while errors are too few.
    pub(crate) fn forecast(&self, steps: usize, level: f64) -> Option<Vec<(f64, f64)>> {
        let mut each = vec![f64::NAN; EXPERTS * steps];
        self.experts(&mut each, steps);
        let weights = self.settled.weights(std::array::from_fn(|e| !each[e * steps].is_nan()));
        let one = self.one_step.half_band(level);
        let mut last = None;
        (0..steps)
            .map(|k| {
                // Beyond the pending forecasts' length, as before they are settled, a band widens like a random walk's.
                if k < self.steps {
                    let widened = one.map(|half| half * ((k + 1) as f64).sqrt());
                    last = self.many_steps.half_band(k, level).or(widened);
                }
                let beyond = ((k + 1) as f64 / self.steps as f64).max(1.0).sqrt();
                Some((combine(&weights, &each, steps, k), last? * beyond))
            })
            .collect()
    }

    pub(crate) fn save(&self, w: &mut Writer) {
        w.u64(self.rows);
        self.units.save(w);
        self.history.save(w);
        w.array(&[self.bounds.0, self.bounds.1]);
        self.trend.save(w);
        self.short.save(w);
        if let Some(seasonal) = &self.seasonal {
            w.bool(seasonal.weekly);
            seasonal.steady.save(w);
            seasonal.fast.save(w);
            seasonal.lags.save(w);
        }
        w.array(&self.settled.0);
        w.array(&self.single.0);
        w.bool(self.pending.is_some());
        if let Some(pending) = &self.pending {
            w.i64(pending.origin);
            w.f64s(&pending.experts);
            w.f64s(&pending.residuals);
            w.array(&pending.sums);
            w.u32(pending.rows);
        }
        self.many_steps.save(w);
        self.one_step.save(w);
    }

    pub(crate) fn load(r: &mut Reader<'_>, season: Season, steps: usize) -> Result<Self, StateError> {
        let mut new = Self::new(season, steps);
        new.rows = r.count()?;
        new.units = Units::load(r)?;
        new.history = History::load(r, season.history())?;
        let [low, high] = r.array()?;
        new.bounds = (low, high);
        if low.is_nan() || high.is_nan() || low > high {
            return Err(StateError::Invalid(format!("bounds {low} to {high}")));
        }
        new.trend = DampedTrend::load(r)?;
        new.short.load(r)?;
        if let Some(seasonal) = &mut new.seasonal {
            if r.bool()? {
                seasonal.see_weeks(season.week);
            }
            seasonal.steady = HoltWinters::load(r, season.day, season.week)?;
            seasonal.fast = HoltWinters::load(r, season.day, season.week)?;
            seasonal.lags.load(r)?;
        }
        new.settled = Errors(r.array()?);
        new.single = Errors(r.array()?);
        new.pending = if r.bool()? { Some(load_pending(r, steps, new.now())?) } else { None };
        new.many_steps = ManySteps::load(r, steps)?;
        new.one_step = OneStep::load(r)?;
        Ok(new)
    }
}

fn load_pending(r: &mut Reader<'_>, steps: usize, now: i64) -> Result<Pending, StateError> {
    let pending =
        Pending { origin: r.i64()?, experts: r.f64s()?, residuals: r.f64s()?, sums: r.array()?, rows: r.u32()? };
    let fits = pending.experts.len() == EXPERTS * steps && pending.residuals.len() == steps;
    if !fits || pending.origin > now || pending.origin < 0 {
        return Err(StateError::Invalid("a pending forecast of another length".into()));
    }
    Ok(pending)
}

/// The weighted sum at step `k` of forecasts that lie one after another.
fn combine(weights: &[f64; EXPERTS], each: &[f64], steps: usize, k: usize) -> f64 {
    // A weight of zero may stand before a NaN: who did not speak is left out, not multiplied.
    (0..EXPERTS).filter(|e| weights[*e] > 0.0).map(|e| weights[e] * each[e * steps + k]).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_go_to_the_best_and_are_equal_at_first() {
        let mut errors = Errors([f64::NAN; EXPERTS]);
        let mut spoke = [false; EXPERTS];
        spoke[..2].fill(true);
        assert_eq!(errors.weights(spoke)[..3], [0.5, 0.5, 0.0]);
        let mut seen = [f64::NAN; EXPERTS];
        seen[..2].copy_from_slice(&[2e-200, 1e-200]);
        errors.learn(seen, 0.15);
        let weights = errors.weights(spoke);
        assert!((weights[1] - 16.0 / 17.0).abs() < 1e-12 && (weights[0] + weights[1] - 1.0).abs() < 1e-12);
        seen = [f64::NAN; EXPERTS];
        seen[2] = 0.0;
        errors.learn(seen, 0.15);
        assert!(errors.0[2] > 1e-200, "a late first success is no record");
    }

    #[test]
    fn a_jump_of_ages_is_one_step_of_work() {
        let mut ensemble = Ensemble::new(Season { day: 24, week: 168 }, 24);
        (0..500).for_each(|cell| {
            ensemble.push(cell, (cell % 24) as f64, 0.9);
        });
        assert!(ensemble.push(i64::MAX / 4, 1.0, 0.9).is_none());
        assert!(ensemble.forecast(24, 0.9).is_some_and(|f| f.iter().all(|(mean, half)| (mean + half).is_finite())));
    }
}
