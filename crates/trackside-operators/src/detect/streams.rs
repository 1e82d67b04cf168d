//! One scaled series, seen in four ways; what each way finds unheard-of, added up.
//!
//! The constants are those of the reference design, chosen once on labelled public series; nothing here is fitted to a user's
//! data but the scale (mean and deviation of the first rows).

use super::ar6::Ar6;
use super::excess::{Range, Refractory};
use super::time_of_day::TimeOfDay;
use crate::state::codec::{Reader, StateError, Writer};

/// Rows whose variance is the third stream.
const SPREAD_ROWS: usize = 24;
/// Keeps the logarithm of a flat stretch finite, in units of the scale's variance.
const VARIANCE_FLOOR: f64 = 1e-6;
/// What each stream may add at most: level, step, spread, time of day.
const WEIGHTS: [f64; 4] = [0.5, 1.0, 2.0, 0.5];
/// An excess of this share of the range already adds all of it.
const FULL_EXCESS: f64 = 0.02;
/// Scaled values beyond this are cut off, lest one absurd row overflow what the fit remembers.
const Z_MAX: f64 = 1e9;
/// The band around the expected value is this many deviations wide to each side …
const BAND: f64 = 4.0;
/// … where a deviation is the running mean |error| times √(π/2), as for a normal distribution.
const DEVIATIONS_PER_MEAN_ERROR: f64 = 1.253_314_137_315_5;
/// An error teaches the band at most this many times the mean error, so that one anomaly does not open it wide.
const LEARN_ERROR_MAX: f64 = 10.0;
/// A mean error below this (in deviations of the scale) still learns from larger ones.
const ERROR_FLOOR: f64 = 1e-3;
/// The mean error's memory is about 1 / this rows.
const ERROR_GAIN: f64 = 0.01;

/// The streams' numbers in [`WEIGHTS`]' order.
pub(crate) const LEVEL: usize = 0;
pub(crate) const STEP: usize = 1;
pub(crate) const SPREAD: usize = 2;
pub(crate) const TIME_OF_DAY: usize = 3;

/// The same for all series: what the configured period makes of the refractory and of the forgetting range.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) refractory_rows: u64,
    pub(crate) keep: f64,
}

impl Pace {
    pub(crate) fn new(period: usize) -> Self {
        let period = period as f64;
        Self { refractory_rows: (0.2 * period).round() as u64, keep: (-1.0 / (30.0 * period)).exp() }
    }
}

/// What the first rows say about units: z = (x − mean) / deviation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    mean: f64,
    deviation: f64,
}

impl Scale {
    pub(crate) fn of(rows: &[(i64, f64)]) -> Self {
        let first = rows.first().map_or(0.0, |row| row.1);
        // Asked exactly: the rounded mean of equal numbers differs from them, and its noise is no deviation.
        if rows.iter().all(|row| row.1 == first) {
            return Self { mean: first, deviation: 1.0 };
        }
        let n = rows.len() as f64;
        let mean = rows.iter().map(|row| row.1).sum::<f64>() / n;
        let variance = rows.iter().map(|row| (row.1 - mean).powi(2)).sum::<f64>() / n;
        let deviation = variance.sqrt();
        Self { mean, deviation: if deviation > 0.0 { deviation } else { 1.0 } }
    }

    fn scaled(&self, x: f64) -> f64 {
        ((x - self.mean) / self.deviation).clamp(-Z_MAX, Z_MAX)
    }

    pub(crate) fn unscaled(&self, z: f64) -> f64 {
        self.mean + self.deviation * z
    }

    pub(crate) fn width(&self, z: f64) -> f64 {
        self.deviation * z
    }
}

/// One row, judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judged {
    /// The score after the refractory, 0..3.
    pub(crate) score: f64,
    /// Expected value and half the band's width, in units of the value; NaN before there is an expectation.
    pub(crate) expected: f64,
    pub(crate) half_band: f64,
    /// Per stream: its value, its range before this row, what it adds.
    pub(crate) streams: [Stream; 4],
    /// The time-of-day error is upwards.
    pub(crate) above_usual: bool,
}

/// One stream at one row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream {
    pub(crate) y: f64,
    pub(crate) before: Range,
    pub(crate) adds: f64,
}

/// A series whose scale is known.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    pub(crate) scale: Scale,
    rows: u64,
    recent: [f64; SPREAD_ROWS],
    ar: Ar6,
    time_of_day: TimeOfDay,
    ranges: [Range; 4],
    refractory: Refractory,
    mean_error: f64,
}

impl Streams {
    /// `step`: the usual distance of two rows in seconds.
    pub(crate) fn new(scale: Scale, step: f64) -> Self {
        Self {
            scale,
            rows: 0,
            recent: [0.0; SPREAD_ROWS],
            ar: Ar6::new(),
            time_of_day: TimeOfDay::new(step),
            ranges: [Range::default(); 4],
            refractory: Refractory::default(),
            mean_error: 0.0,
        }
    }

    pub(crate) fn push(&mut self, time_ns: i64, x: f64, pace: &Pace) -> Judged {
        let i = self.rows;
        self.rows += 1;
        let z = self.scale.scaled(x);
        let foreseen = self.ar.expected(i);
        let error = self.ar.push(z, foreseen);
        let half = BAND * DEVIATIONS_PER_MEAN_ERROR * self.mean_error;
        if foreseen.is_some() {
            self.learn_error(i, error.abs());
        }
        let y = [z, error, self.spread(i, z), self.time_of_day.push(i, time_ns, z)];
        let mut streams = [Stream { y: 0.0, before: Range::default(), adds: 0.0 }; 4];
        for (k, stream) in streams.iter_mut().enumerate() {
            let before = self.ranges[k];
            let keep = if k == TIME_OF_DAY { pace.keep } else { 1.0 };
            let excess = self.ranges[k].push(i, y[k], keep);
            *stream = Stream { y: y[k], before, adds: WEIGHTS[k] * excess.min(FULL_EXCESS) / FULL_EXCESS };
        }
        Judged {
            score: self.refractory.push(i, two_largest(&streams), pace.refractory_rows),
            expected: foreseen.map_or(f64::NAN, |z| self.scale.unscaled(z)),
            half_band: foreseen.map_or(f64::NAN, |_| self.scale.width(half)),
            streams,
            above_usual: self.time_of_day.is_above(),
        }
    }

    fn learn_error(&mut self, i: u64, error: f64) {
        let most = LEARN_ERROR_MAX * self.mean_error.max(ERROR_FLOOR);
        let gain = (1.0 / (i + 1) as f64).max(ERROR_GAIN);
        self.mean_error += gain * (error.min(most) - self.mean_error);
    }

    /// ln of the variance of the last 24 rows, this one included; two passes, so that it never goes below zero.
    fn spread(&mut self, i: u64, z: f64) -> f64 {
        self.recent[(i % SPREAD_ROWS as u64) as usize] = z;
        let filled = &self.recent[..SPREAD_ROWS.min(i as usize + 1)];
        let n = filled.len() as f64;
        let mean = filled.iter().sum::<f64>() / n;
        let variance = filled.iter().map(|z| (z - mean) * (z - mean)).sum::<f64>() / n;
        (variance + VARIANCE_FLOOR).ln()
    }

    /// The deviation that the third stream stands for, in units of the value.
    pub(crate) fn deviation_of(&self, spread: f64) -> f64 {
        self.scale.width((spread.exp() - VARIANCE_FLOOR).max(0.0).sqrt())
    }

    pub(crate) fn save(&self, w: &mut Writer) {
        w.array(&[self.scale.mean, self.scale.deviation, self.mean_error]);
        w.u64(self.rows);
        w.array(&self.recent);
        self.ar.save(w);
        self.time_of_day.save(w);
        self.ranges.iter().for_each(|range| range.save(w));
        self.refractory.save(w);
    }

    pub(crate) fn load(r: &mut Reader<'_>) -> Result<Self, StateError> {
        let [mean, deviation, mean_error] = r.array()?;
        Ok(Self {
            scale: Scale { mean, deviation },
            mean_error,
            rows: r.count()?,
            recent: r.array()?,
            ar: Ar6::load(r)?,
            time_of_day: TimeOfDay::load(r)?,
            ranges: [Range::load(r)?, Range::load(r)?, Range::load(r)?, Range::load(r)?],
            refractory: Refractory::load(r)?,
        })
    }
}

fn two_largest(streams: &[Stream; 4]) -> f64 {
    let (mut first, mut second) = (0.0, 0.0);
    for stream in streams {
        if stream.adds > first {
            (first, second) = (stream.adds, first);
        } else if stream.adds > second {
            second = stream.adds;
        }
    }
    first + second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rows_have_no_deviation() {
        let scale = Scale::of(&[(0, 0.1); 50]);
        assert_eq!((scale.mean, scale.deviation), (0.1, 1.0));
        assert_eq!(scale.unscaled(scale.scaled(7.0)), 7.0);
    }

    #[test]
    fn the_band_holds_what_is_usual_and_not_a_jump() {
        let mut streams = Streams::new(Scale { mean: 100.0, deviation: 10.0 }, 60.0);
        let pace = Pace::new(600);
        let mut seed = 1u64;
        let mut noise = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 40) as f64 / f64::from(1 << 22) - 2.0
        };
        let mut outside = 0;
        for i in 0..1000 {
            let x = 100.0 + noise();
            let judged = streams.push(i * 60_000_000_000, x, &pace);
            outside += usize::from(i > 100 && (x - judged.expected).abs() > judged.half_band);
        }
        assert!(outside < 5, "{outside}");
        let judged = streams.push(60_000_000_000_000, 160.0, &pace);
        assert!(judged.expected + judged.half_band < 160.0);
        assert_eq!(judged.score, 3.0, "step 1 and spread 2 are the two largest");
    }
}
