//! The step that nobody foresaw: one-step error of an autoregression of order 6, fitted as the rows come.

use crate::state::codec::{Reader, StateError, Writer};
use crate::state::rls::{Rls, Tuning};

const LAGS: usize = 6;
const INPUTS: usize = LAGS + 1;
/// Starts as "the same as the last row"; λ of a memory of about 1000 rows.
const TUNING: Tuning<INPUTS> = Tuning { weights: [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], spread: 10.0, forget: 0.999 };

/// The last six rows, newest first, a constant, and the fit.
#[derive(Debug, Clone)]
pub(crate) struct Ar6 {
    inputs: [f64; INPUTS],
    rls: Rls<INPUTS>,
}

impl Ar6 {
    pub(crate) fn new() -> Self {
        let mut inputs = [0.0; INPUTS];
        inputs[LAGS] = 1.0;
        Self { inputs, rls: Rls::new(&TUNING) }
    }

    /// What row `i` should be; none before seven rows are known.
    pub(crate) fn expected(&self, i: u64) -> Option<f64> {
        (i > LAGS as u64).then(|| self.rls.predict(&self.inputs))
    }

    /// Takes row `i` and gives its error against what was expected.
    pub(crate) fn push(&mut self, z: f64, expected: Option<f64>) -> f64 {
        let error = expected.map_or(0.0, |expected| {
            let error = z - expected;
            self.rls.learn(&self.inputs, error, &TUNING);
            error
        });
        self.inputs.copy_within(0..LAGS - 1, 1);
        self.inputs[0] = z;
        error
    }

    pub(crate) fn save(&self, w: &mut Writer) {
        w.array(&self.inputs);
        self.rls.save(w);
    }

    pub(crate) fn load(r: &mut Reader<'_>) -> Result<Self, StateError> {
        Ok(Self { inputs: r.array()?, rls: Rls::load(r)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sine_is_foreseen_and_a_kink_is_not() {
        let mut ar = Ar6::new();
        let mut last = 0.0;
        for i in 0..500 {
            let expected = ar.expected(i);
            last = ar.push((i as f64 * 0.3).sin(), expected);
        }
        assert!(f64::abs(last) < 1e-2, "{last}");
        let expected = ar.expected(500);
        assert!(f64::abs(ar.push(3.0, expected)) > 1.0);
    }
}
