//! Recursive least squares with forgetting: a linear model that is fitted again at every row, in O(N²).
//!
//! Two guards keep it alive on real data, where the textbook form dies:
//! - on constant input the inverse covariance M grows by 1/λ a row without end: its trace is capped;
//! - after absurd input rounding can make M indefinite: it then starts anew, and so do weights that are no numbers.

use super::codec::{Reader, StateError, Writer};

/// Largest trace of M. Between jumps of real series it stays far below; a flat series reaches it after a few thousand rows.
const TRACE_MAX: f64 = 1000.0;

/// The constants of one use: how it starts and how fast it forgets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tuning<const N: usize> {
    /// Weights before the first row.
    pub(crate) weights: [f64; N],
    /// M = `spread` · I at first: how little the first weights are trusted.
    pub(crate) spread: f64,
    /// λ: a row's say fades by this factor a row.
    pub(crate) forget: f64,
}

/// The state of one fit.
#[derive(Debug, Clone)]
pub(crate) struct Rls<const N: usize> {
    weights: [f64; N],
    m: [[f64; N]; N],
}

impl<const N: usize> Rls<N> {
    pub(crate) fn new(tuning: &Tuning<N>) -> Self {
        let mut m = [[0.0; N]; N];
        (0..N).for_each(|i| m[i][i] = tuning.spread);
        Self { weights: tuning.weights, m }
    }

    /// What the weights say for these inputs.
    pub(crate) fn predict(&self, inputs: &[f64; N]) -> f64 {
        dot(&self.weights, inputs)
    }

    /// Learns from `error` = truth − [`predict`](Self::predict), which the caller may have clipped.
    pub(crate) fn learn(&mut self, inputs: &[f64; N], error: f64, tuning: &Tuning<N>) {
        let mut mx = [0.0; N];
        for (out, row) in mx.iter_mut().zip(&self.m) {
            *out = dot(row, inputs);
        }
        let denominator = tuning.forget + dot(inputs, &mx);
        for (w, mx) in self.weights.iter_mut().zip(&mx) {
            *w += mx / denominator * error;
        }
        // mx[i]·mx[j] is the same number as mx[j]·mx[i], so M stays symmetric to the bit.
        for (row, a) in self.m.iter_mut().zip(&mx) {
            for (m, b) in row.iter_mut().zip(&mx) {
                *m = (*m - a * b / denominator) / tuning.forget;
            }
        }
        self.guard(denominator, tuning);
    }

    fn guard(&mut self, denominator: f64, tuning: &Tuning<N>) {
        let trace: f64 = (0..N).map(|i| self.m[i][i]).sum();
        let definite = denominator >= tuning.forget && (0..N).all(|i| self.m[i][i] > 0.0) && trace.is_finite();
        if !definite || !self.weights.iter().all(|w| w.is_finite()) {
            *self = Self::new(tuning);
        } else if trace > TRACE_MAX {
            let shrink = TRACE_MAX / trace;
            self.m.iter_mut().flatten().for_each(|m| *m *= shrink);
        }
    }

    /// Input `i` means something else from now on: its weight is set and what was learnt about it forgotten.
    pub(crate) fn replace_input(&mut self, i: usize, weight: f64, tuning: &Tuning<N>) {
        self.weights[i] = weight;
        for j in 0..N {
            self.m[i][j] = 0.0;
            self.m[j][i] = 0.0;
        }
        self.m[i][i] = tuning.spread;
    }

    pub(crate) fn save(&self, w: &mut Writer) {
        w.array(&self.weights);
        self.m.iter().for_each(|row| w.array(row));
    }

    pub(crate) fn load(r: &mut Reader<'_>) -> Result<Self, StateError> {
        let weights = r.array()?;
        let mut m = [[0.0; N]; N];
        for row in &mut m {
            *row = r.array()?;
        }
        Ok(Self { weights, m })
    }
}

fn dot<const N: usize>(a: &[f64; N], b: &[f64; N]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUNING: Tuning<2> = Tuning { weights: [0.0, 0.0], spread: 10.0, forget: 0.999 };

    fn step(rls: &mut Rls<2>, inputs: [f64; 2], truth: f64) -> f64 {
        let error = truth - rls.predict(&inputs);
        rls.learn(&inputs, error, &TUNING);
        error
    }

    #[test]
    fn a_line_is_found() {
        let mut rls = Rls::new(&TUNING);
        for i in 0..200 {
            let x = f64::from(i % 13);
            step(&mut rls, [x, 1.0], 3.0 * x - 7.0);
        }
        assert!((rls.predict(&[100.0, 1.0]) - 293.0).abs() < 0.5);
    }

    #[test]
    fn constant_input_does_not_blow_up() {
        let mut rls = Rls::new(&TUNING);
        for _ in 0..100_000 {
            step(&mut rls, [0.0, 1.0], 5.0);
        }
        assert!(rls.m[0][0] <= TRACE_MAX);
        assert!(step(&mut rls, [1.0, 1.0], 6.0).abs() < 1.1);
    }

    #[test]
    fn absurd_input_is_survived() {
        let mut rls = Rls::new(&TUNING);
        for i in 0..1000 {
            let x = if i % 7 == 0 { 1e150 } else { -1e-150 };
            step(&mut rls, [x, 1.0], -x);
            assert!(rls.weights.iter().all(|w| w.is_finite()));
        }
    }
}
