//! Bands from what the forecasts were wrong by, and nothing else: no distribution is assumed.

use crate::state::codec::{Reader, StateError, Writer};

/// Residuals kept of each step.
const KEPT: usize = 30;
/// With fewer than this a band would be a guess.
pub(crate) const ENOUGH: usize = 10;

/// The quantile that covers `level` of what is next, given this many residuals before it (some may be NaN = missing).
fn half_band(residuals: impl Iterator<Item = f64>, level: f64) -> Option<f64> {
    let (mut sorted, mut n) = ([0.0; KEPT], 0);
    for residual in residuals.filter(|r| !r.is_nan()).take(KEPT) {
        sorted[n] = residual;
        n += 1;
    }
    if n < ENOUGH {
        return None;
    }
    let sorted = &mut sorted[..n];
    sorted.sort_unstable_by(f64::total_cmp);
    let share = (level * (1.0 + 1.0 / n as f64)).min(1.0);
    let place = share * (n - 1) as f64;
    let (below, part) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(n - 1);
    Some(sorted[below] + part * (sorted[above] - sorted[below]))
}

/// The last |errors| of the one-step forecast.
#[derive(Debug, Clone, Default)]
pub(crate) struct OneStep {
    ring: Vec<f64>,
    next: u32,
}

impl OneStep {
    pub(crate) fn push(&mut self, residual: f64) {
        match self.ring.get_mut(self.next as usize) {
            Some(slot) => *slot = residual,
            None => self.ring.push(residual),
        }
        self.next = (self.next + 1) % KEPT as u32;
    }

    pub(crate) fn half_band(&self, level: f64) -> Option<f64> {
        half_band(self.ring.iter().copied(), level)
    }

    pub(crate) fn save(&self, w: &mut Writer) {
        w.f64s(&self.ring);
        w.u32(self.next);
    }

    pub(crate) fn load(r: &mut Reader<'_>) -> Result<Self, StateError> {
        let (ring, next) = (r.f64s()?, r.u32()?);
        if ring.len() > KEPT || next as usize >= KEPT {
            return Err(StateError::Invalid(format!("{} residuals, next {next}", ring.len())));
        }
        Ok(Self { ring, next })
    }
}

/// The |errors| of the last settled forecasts, per step ahead; in single precision, for there are many.
#[derive(Debug, Clone)]
pub(crate) struct ManySteps {
    steps: usize,
    ring: Vec<f32>,
    next: u32,
}

impl ManySteps {
    pub(crate) fn new(steps: usize) -> Self {
        Self { steps, ring: Vec::new(), next: 0 }
    }

    /// One settled forecast: an |error| a step, NaN where no row came.
    pub(crate) fn push(&mut self, residuals: &[f64]) {
        let at = self.next as usize * self.steps;
        if at >= self.ring.len() {
            self.ring.resize(at + self.steps, f32::NAN);
        }
        for (slot, residual) in self.ring[at..at + self.steps].iter_mut().zip(residuals) {
            *slot = if residual.is_nan() { f32::NAN } else { residual.min(f64::from(f32::MAX)) as f32 };
        }
        self.next = (self.next + 1) % KEPT as u32;
    }

    /// Half the band at step `k` (0 = the next row).
    pub(crate) fn half_band(&self, k: usize, level: f64) -> Option<f64> {
        half_band(self.ring.iter().skip(k).step_by(self.steps).map(|r| f64::from(*r)), level)
    }

    pub(crate) fn save(&self, w: &mut Writer) {
        w.u64(self.ring.len() as u64);
        self.ring.iter().for_each(|r| w.u32(r.to_bits()));
        w.u32(self.next);
    }

    pub(crate) fn load(r: &mut Reader<'_>, steps: usize) -> Result<Self, StateError> {
        let n = r.length(4)?;
        let ring = (0..n).map(|_| r.u32().map(f32::from_bits)).collect::<Result<Vec<_>, _>>()?;
        let next = r.u32()?;
        if n % steps != 0 || n > KEPT * steps || next as usize >= KEPT || (next as usize) * steps > n {
            return Err(StateError::Invalid(format!("{n} residuals of {steps} steps, next {next}")));
        }
        Ok(Self { steps, ring, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_band_needs_ten_and_covers_its_level() {
        let mut one = OneStep::default();
        (0..9).for_each(|i| one.push(f64::from(i)));
        assert_eq!(one.half_band(0.9), None);
        (9..100).for_each(|i| one.push(f64::from(i)));
        let band = one.half_band(0.9).unwrap();
        assert!((96.0..99.0).contains(&band), "the last 30 are 70..99: {band}");
        assert_eq!(one.half_band(1.0), Some(99.0));
    }

    #[test]
    fn steps_are_kept_apart_and_holes_do_not_count() {
        let mut many = ManySteps::new(2);
        (0..40).for_each(|i| many.push(&[f64::from(i), if i % 4 == 0 { 1e300 } else { f64::NAN }]));
        assert!(many.half_band(0, 0.5).is_some_and(|b| (20.0..30.0).contains(&b)));
        assert_eq!(many.half_band(1, 0.9), None);
    }
}
