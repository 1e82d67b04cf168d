//! A level that is wrong for this time of the day, and stays wrong: two-sided CUSUM over the error of a daily profile.

use crate::state::codec::{Reader, StateError, Writer};

const DAY_NS: i64 = 86_400_000_000_000;
/// Slots of a day: one a row, but never fewer than hours or more than five-minute steps.
const SLOTS: (f64, f64) = (24.0, 288.0);
/// An error counts at most this many running mean errors; what is a usual one does not count (the CUSUM's slack).
const ERROR_MAX: f64 = 6.0;
const SLACK: f64 = 1.0;
/// Rows before errors count.
const QUIET_ROWS: u64 = 20;

/// Level, profile by time of day, size of a usual error, the two sums.
#[derive(Debug, Clone)]
pub(crate) struct TimeOfDay {
    slots: Box<[Slot]>,
    level: f64,
    usual_error: f64,
    up: f64,
    down: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    offset: f64,
    seen: u32,
}

impl TimeOfDay {
    /// `step` is the usual distance of two rows in seconds; anything below one second counts as one.
    pub(crate) fn new(step: f64) -> Self {
        let slots = (86_400.0 / step.max(1.0)).round().clamp(SLOTS.0, SLOTS.1) as usize;
        Self { slots: vec![Slot::default(); slots].into(), level: 0.0, usual_error: 0.0, up: 0.0, down: 0.0 }
    }

    fn slot(&self, time_ns: i64) -> usize {
        let of_day = time_ns.rem_euclid(DAY_NS) as f64 / DAY_NS as f64;
        ((of_day * self.slots.len() as f64) as usize).min(self.slots.len() - 1)
    }

    /// Takes row `i` and gives the larger of the two sums.
    pub(crate) fn push(&mut self, i: u64, time_ns: i64, z: f64) -> f64 {
        if i == 0 {
            self.level = z;
        }
        let at = self.slot(time_ns);
        let slot = &mut self.slots[at];
        let off_level = z - self.level;
        let error = off_level - if slot.seen > 0 { slot.offset } else { 0.0 };
        slot.seen = slot.seen.saturating_add(1);
        slot.offset += (1.0 / f64::from(slot.seen)).max(0.15) * (off_level - slot.offset);
        let offset = if slot.seen > 1 { slot.offset } else { 0.0 };
        let share = 1.0 / (i + 1) as f64;
        self.level += share.max(0.01) * (z - self.level - offset);
        let unusual =
            if i > QUIET_ROWS { (error / (self.usual_error + 1e-9)).clamp(-ERROR_MAX, ERROR_MAX) } else { 0.0 };
        self.up = (self.up + unusual - SLACK).max(0.0);
        self.down = (self.down - unusual - SLACK).max(0.0);
        self.usual_error += share.max(0.001) * (error.abs() - self.usual_error);
        self.up.max(self.down)
    }

    /// Above (or below) what is usual at this time of day?
    pub(crate) fn is_above(&self) -> bool {
        self.up >= self.down
    }

    pub(crate) fn save(&self, w: &mut Writer) {
        w.array(&[self.level, self.usual_error, self.up, self.down]);
        w.u64(self.slots.len() as u64);
        for slot in &self.slots {
            w.f64(slot.offset);
            w.u32(slot.seen);
        }
    }

    pub(crate) fn load(r: &mut Reader<'_>) -> Result<Self, StateError> {
        let [level, usual_error, up, down] = r.array()?;
        let n = r.length(12)?;
        if n < SLOTS.0 as usize || n > SLOTS.1 as usize {
            return Err(StateError::Invalid(format!("{n} slots of a day")));
        }
        let slots = (0..n).map(|_| Ok(Slot { offset: r.f64()?, seen: r.u32()? })).collect::<Result<_, StateError>>()?;
        Ok(Self { slots, level, usual_error, up, down })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shifted_day_adds_up() {
        let mut model = TimeOfDay::new(3600.0);
        assert_eq!(model.slots.len(), 24);
        let value = |i: u64| (i % 24) as f64 / 6.0 + ((i * 31) % 7) as f64 * 0.05;
        let hour = 3_600_000_000_000;
        let usual = (0..240).map(|i| model.push(i, i as i64 * hour, value(i))).skip(100).fold(0.0, f64::max);
        let shifted = (240..252).map(|i| model.push(i, i as i64 * hour, value(i + 12))).fold(0.0, f64::max);
        assert!(shifted > usual + 10.0, "{shifted} {usual}");
    }

    #[test]
    fn any_time_has_a_slot() {
        let model = TimeOfDay::new(0.0);
        for time in [i64::MIN, -1, 0, 1, DAY_NS - 1, DAY_NS, i64::MAX] {
            assert!(model.slot(time) < 288);
        }
    }
}
