//! Autoregression on chosen lags, fitted by recursive least squares, forecast step by step from its own forecasts.

use super::history::History;
use crate::state::codec::{Reader, StateError, Writer};
use crate::state::rls::{Rls, Tuning};

/// Errors teach at most as if they were this many mean deviations.
const ERROR_MAX: f64 = 5.0;
/// The units of a series (its mean and mean deviation) have a memory of about 1 / this rows.
const UNITS_GAIN: f64 = 0.0005;
/// Rows before the units are good enough to learn weights in.
const UNITS_ROWS: u64 = 8;
const FORGET: f64 = 0.9995;
/// A missing value this near is taken to be the newer one beside it; farther ones leave the model without a say.
const NEAR: i64 = 3;

/// Mean and mean deviation of a series so far: what weights are learnt in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Units {
    rows: u64,
    mean: f64,
    deviation: f64,
}

impl Units {
    pub(crate) fn learn(&mut self, y: f64) {
        self.rows += 1;
        let gain = (1.0 / self.rows as f64).max(UNITS_GAIN);
        self.mean += gain * (y - self.mean);
        self.deviation += gain * ((y - self.mean).abs() - self.deviation);
    }

    fn per_unit(&self) -> f64 {
        if self.deviation > 0.0 { self.deviation } else { 1.0 }
    }

    fn scaled(&self, y: f64) -> f64 {
        (y - self.mean) / self.per_unit()
    }

    pub(crate) fn save(&self, w: &mut Writer) {
        w.u64(self.rows);
        w.array(&[self.mean, self.deviation]);
    }

    pub(crate) fn load(r: &mut Reader<'_>) -> Result<Self, StateError> {
        let rows = r.count()?;
        let [mean, deviation] = r.array()?;
        Ok(Self { rows, mean, deviation })
    }
}

/// `N` inputs: `N - 1` lags and a constant, whose lag is written 0.
#[derive(Debug, Clone)]
pub(crate) struct Autoregression<const N: usize> {
    lags: [usize; N],
    tuning: Tuning<N>,
    rls: Rls<N>,
}

impl<const N: usize> Autoregression<N> {
    pub(crate) fn new(lags: [usize; N], weights: [f64; N]) -> Self {
        let tuning = Tuning { weights, spread: 1.0, forget: FORGET };
        Self { lags, tuning, rls: Rls::new(&tuning) }
    }

    /// From now on input `i` is another lag, of which nothing is known yet.
    pub(crate) fn change_lag(&mut self, i: usize, lag: usize) {
        self.lags[i] = lag;
        self.rls.replace_input(i, 0.0, &self.tuning);
    }

    /// The inputs for `cell`; later cells than the newest come from `ahead`. None when a value is missing: any when
    /// `strict`, else one that has no newer one close by.
    fn inputs(&self, history: &History, units: &Units, cell: i64, ahead: &[f64], strict: bool) -> Option<[f64; N]> {
        let mut inputs = [1.0; N];
        let mut newer = f64::NAN;
        for (input, lag) in inputs.iter_mut().zip(self.lags).filter(|(_, lag)| *lag > 0) {
            let back = cell - lag as i64;
            let future = back - history.now() - 1;
            let mut y = if future >= 0 { ahead[future as usize] } else { history.get(back) };
            if y.is_nan() && !strict && lag as i64 <= NEAR {
                y = newer;
            }
            if y.is_nan() {
                return None;
            }
            newer = y;
            *input = units.scaled(y);
        }
        Some(inputs)
    }

    /// Forecasts the cells after the newest, each within `low..=high`; all NaN when it has no say.
    pub(crate) fn forecast(&self, history: &History, units: &Units, (low, high): (f64, f64), out: &mut [f64]) {
        for k in 0..out.len() {
            let (ahead, rest) = out.split_at_mut(k);
            let cell = history.now() + 1 + k as i64;
            let Some(inputs) = self.inputs(history, units, cell, ahead, false) else { return out.fill(f64::NAN) };
            rest[0] = (units.mean + units.per_unit() * self.rls.predict(&inputs)).clamp(low, high);
        }
    }

    /// Learns the row at `cell`, before history has it.
    pub(crate) fn learn(&mut self, history: &History, units: &Units, cell: i64, y: f64) {
        if units.rows < UNITS_ROWS || cell != history.now() + 1 {
            return;
        }
        if let Some(inputs) = self.inputs(history, units, cell, &[], true) {
            let error = units.scaled(y) - self.rls.predict(&inputs);
            self.rls.learn(&inputs, error.clamp(-ERROR_MAX, ERROR_MAX), &self.tuning);
        }
    }

    pub(crate) fn save(&self, w: &mut Writer) {
        self.rls.save(w);
    }

    /// Loads the weights into a model that was made with the same lags.
    pub(crate) fn load(&mut self, r: &mut Reader<'_>) -> Result<(), StateError> {
        self.rls = Rls::load(r)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Autoregression<3> {
        Autoregression::new([1, 2, 0], [1.0, 0.0, 0.0])
    }

    #[test]
    fn a_sine_goes_on_and_stays_in_its_bounds() {
        let (mut ar, mut history, mut units) = (model(), History::new(8), Units::default());
        let value = |cell: i64| 10.0 + 3.0 * (cell as f64 * 0.2).sin();
        for cell in 0..3000 {
            ar.learn(&history, &units, cell, value(cell));
            units.learn(value(cell));
            history.push(cell, value(cell));
        }
        let mut out = [0.0; 20];
        ar.forecast(&history, &units, (5.0, 15.0), &mut out);
        assert!((0..20).all(|k| (out[k] - value(3000 + k as i64)).abs() < 0.3), "{out:?}");
        ar.forecast(&history, &units, (9.5, 10.5), &mut out);
        assert!(out.iter().all(|y| (9.5..=10.5).contains(y)));
    }

    #[test]
    fn a_near_hole_is_bridged_and_a_far_one_silences() {
        let (mut ar, mut history, units) = (model(), History::new(32), Units::default());
        history.push(0, 1.0);
        history.push(2, 2.0);
        let mut out = [0.0; 2];
        ar.forecast(&history, &units, (-10.0, 10.0), &mut out);
        assert_eq!(out, [2.0, 2.0]);
        ar.change_lag(1, 20);
        ar.forecast(&history, &units, (-10.0, 10.0), &mut out);
        assert!(out.iter().all(|y| y.is_nan()));
    }
}
