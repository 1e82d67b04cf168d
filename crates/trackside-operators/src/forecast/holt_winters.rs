//! Exponential smoothing: a level with a daily and a weekly profile, and for short series a level with a damped trend.

use crate::state::codec::{Reader, StateError, Writer};

/// Most of what the error has in common with the one before it; more would be a second level.
const AUTOCORRELATION_MAX: f64 = 0.95;
const AUTOCORRELATION_KEEP: f64 = 0.995;

/// How fast a smoother follows: the level by a fifth of `level`, the day's profile by `day`, once it has settled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gains {
    pub(crate) level: f64,
    pub(crate) day: f64,
}

/// Level + profile of the day + profile of the week + an autocorrelated error.
#[derive(Debug, Clone)]
pub(crate) struct HoltWinters {
    day: Box<[f64]>,
    /// Empty until a week was seen.
    week: Vec<f64>,
    week_rows: usize,
    rows: u64,
    level: f64,
    last_error: f64,
    numerator: f64,
    denominator: f64,
}

impl HoltWinters {
    /// `day` and `week` in rows; a `week` of 0 is none.
    pub(crate) fn new(day: usize, week: usize) -> Self {
        Self {
            day: vec![0.0; day].into(),
            week: Vec::new(),
            week_rows: week,
            rows: 0,
            level: 0.0,
            last_error: 0.0,
            numerator: 0.0,
            denominator: 1e-9,
        }
    }

    fn slot(cell: i64, slots: usize) -> usize {
        cell.rem_euclid(slots.max(1) as i64) as usize
    }

    fn smooth(&self, cell: i64) -> f64 {
        let week = self.week.get(Self::slot(cell, self.week_rows)).copied().unwrap_or(0.0);
        self.level + self.day[Self::slot(cell, self.day.len())] + week
    }

    fn autocorrelation(&self) -> f64 {
        (self.numerator / self.denominator).clamp(0.0, AUTOCORRELATION_MAX)
    }

    pub(crate) fn forecast(&self, now: i64, out: &mut [f64]) {
        let (fade, mut error) = (self.autocorrelation(), self.last_error);
        for (k, out) in out.iter_mut().enumerate() {
            error *= fade;
            *out = self.smooth(now + 1 + k as i64) + error;
        }
    }

    pub(crate) fn learn(&mut self, cell: i64, y: f64, gains: Gains) {
        if self.rows == 0 {
            self.level = y;
        }
        let off = y - self.smooth(cell);
        let error = off - self.autocorrelation() * self.last_error;
        self.numerator = AUTOCORRELATION_KEEP * self.numerator + off * self.last_error;
        self.denominator = AUTOCORRELATION_KEEP * self.denominator + self.last_error * self.last_error;
        self.rows += 1;
        let (rows, day, week) = (self.rows, self.day.len() as u64, self.week_rows as u64);
        let level = if rows < day { gains.level.max(1.0 / (rows + 1) as f64) } else { gains.level };
        self.level += 0.2 * level * error;
        // The first two days write most of the profile; the first two weeks most of the week's.
        let for_day = if rows <= 2 * day { 0.6 } else { gains.day };
        self.day[Self::slot(cell, day as usize)] += for_day * off;
        if week > 0 && rows > week {
            let for_week = if rows <= 2 * week { 0.5 } else { 0.2 };
            self.week.resize(week as usize, 0.0);
            self.week[Self::slot(cell, week as usize)] += for_week * (1.0 - for_day) * off;
        }
        self.last_error = off;
    }

    pub(crate) fn save(&self, w: &mut Writer) {
        w.f64s(&self.day);
        w.f64s(&self.week);
        w.u64(self.rows);
        w.array(&[self.level, self.last_error, self.numerator, self.denominator]);
    }

    pub(crate) fn load(r: &mut Reader<'_>, day: usize, week: usize) -> Result<Self, StateError> {
        let (days, weeks, rows) = (r.f64s()?, r.f64s()?, r.count()?);
        if days.len() != day || !(weeks.is_empty() || weeks.len() == week) {
            return Err(StateError::Invalid(format!("profiles of {} and {} rows", days.len(), weeks.len())));
        }
        let [level, last_error, numerator, denominator] = r.array()?;
        Ok(Self { day: days.into(), week: weeks, week_rows: week, rows, level, last_error, numerator, denominator })
    }
}

const TREND_LEVEL: f64 = 0.5;
const TREND_GAIN: f64 = 0.1;
const TREND_DAMPING: f64 = 0.9;

/// Level and a trend that fades: Holt's method for series too young to have a season.
#[derive(Debug, Clone, Default)]
pub(crate) struct DampedTrend {
    started: bool,
    level: f64,
    trend: f64,
}

impl DampedTrend {
    pub(crate) fn forecast(&self, out: &mut [f64]) {
        let (mut y, mut trend) = (self.level, self.trend);
        for out in out {
            trend *= TREND_DAMPING;
            y += trend;
            *out = y;
        }
    }

    pub(crate) fn learn(&mut self, y: f64) {
        if !self.started {
            *self = Self { started: true, level: y, trend: 0.0 };
            return;
        }
        let trend = self.trend * TREND_DAMPING;
        let error = y - (self.level + trend);
        self.level += trend + TREND_LEVEL * error;
        self.trend = trend + TREND_GAIN * error;
    }

    pub(crate) fn save(&self, w: &mut Writer) {
        w.bool(self.started);
        w.array(&[self.level, self.trend]);
    }

    pub(crate) fn load(r: &mut Reader<'_>) -> Result<Self, StateError> {
        let started = r.bool()?;
        let [level, trend] = r.array()?;
        Ok(Self { started, level, trend })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_and_a_weekend_are_learnt() {
        let value = |cell: i64| 50.0 + (cell % 8) as f64 + if (cell / 8) % 7 >= 5 { -20.0 } else { 0.0 };
        let mut model = HoltWinters::new(8, 56);
        (0..56 * 8).for_each(|cell| model.learn(cell, value(cell), Gains { level: 0.1, day: 0.1 }));
        let mut out = [0.0; 56];
        model.forecast(56 * 8 - 1, &mut out);
        let error = (0..56).map(|k| (out[k as usize] - value(56 * 8 + k)).abs()).sum::<f64>() / 56.0;
        assert!(error < 2.5, "{error}");
    }

    #[test]
    fn a_trend_fades() {
        let mut model = DampedTrend::default();
        (0..200).for_each(|i| model.learn(f64::from(i)));
        let mut out = [0.0; 100];
        model.forecast(&mut out);
        assert!(out[0] > 199.0 && out[99] < 215.0 && out[99] > out[0], "{} {}", out[0], out[99]);
    }
}
