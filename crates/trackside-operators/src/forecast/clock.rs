//! From event times to cells of a regular grid, and back to a new grid when the series changes its pace.
//!
//! The step is the median distance of the first rows; a row belongs to the nearest cell. Of two rows in a cell the first
//! counts. Where rows persistently miss the grid (another rate, a clock set back after a time far in the future), the clock
//! asks to be started anew.

use crate::state::codec::{Reader, StateError, Writer};
use std::collections::VecDeque;

/// Rows whose times set the step.
pub(crate) const STEP_ROWS: usize = 25;
/// So many more rows off the grid than on it, and the grid is looked at again.
const MISFITS: u32 = 64;
/// A step changed by less than this factor is still the same.
const SAME_STEP: f64 = 1.5;
/// Cells are counted up to here; beyond lies no time that 64 bits of nanoseconds can tell from a mistake.
const CELL_MAX: i64 = i64::MAX / 4;

/// What a row's time means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tick {
    /// A new cell.
    Cell(i64),
    /// A cell that has its row, or an earlier one: not used.
    Late,
    /// The grid no longer fits.
    Restart,
}

/// The grid of one series.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    start: i64,
    step: i64,
    misfits: u32,
    recent: VecDeque<i64>,
}

impl Clock {
    pub(crate) fn new(start: i64, step: i64) -> Self {
        Self { start, step: step.max(1), misfits: 0, recent: VecDeque::new() }
    }

    pub(crate) fn step(&self) -> i64 {
        self.step
    }

    /// Places a row at `time` when the newest cell is `now`.
    pub(crate) fn tick(&mut self, time: i64, now: i64) -> Tick {
        if self.recent.len() == STEP_ROWS {
            self.recent.pop_front();
        }
        self.recent.push_back(time);
        let cell = self.cell(time);
        if cell == now + 1 {
            self.misfits = self.misfits.saturating_sub(1);
        } else {
            self.misfits = self.misfits.saturating_add(1);
            if self.misfits > MISFITS {
                self.misfits = 0;
                // A cell that already has a row is usual where rows come faster; one before it means the clock went back.
                if cell < now || self.pace_changed() {
                    return Tick::Restart;
                }
            }
        }
        if cell > now { Tick::Cell(cell) } else { Tick::Late }
    }

    fn cell(&self, time: i64) -> i64 {
        let half = i128::from(self.step) / 2;
        let cell = (i128::from(time) - i128::from(self.start) + half).div_euclid(i128::from(self.step));
        cell.clamp(i128::from(-CELL_MAX), i128::from(CELL_MAX)) as i64
    }

    fn pace_changed(&self) -> bool {
        usual_step(self.recent.iter().copied()).is_some_and(|step| {
            let factor = step as f64 / self.step as f64;
            !(1.0 / SAME_STEP..=SAME_STEP).contains(&factor)
        })
    }

    pub(crate) fn save(&self, w: &mut Writer) {
        w.i64(self.start);
        w.i64(self.step);
        w.u32(self.misfits);
        w.u64(self.recent.len() as u64);
        self.recent.iter().for_each(|time| w.i64(*time));
    }

    pub(crate) fn load(r: &mut Reader<'_>) -> Result<Self, StateError> {
        let (start, step, misfits, recent) = (r.i64()?, r.i64()?, r.u32()?, r.i64s()?);
        if step < 1 || recent.len() > STEP_ROWS || misfits > MISFITS {
            return Err(StateError::Invalid(format!("a grid of {step} ns steps, {} times", recent.len())));
        }
        Ok(Self { start, step, misfits, recent: recent.into() })
    }
}

/// Median of the distances that are forward in time; none when there is none.
pub(crate) fn usual_step(times: impl Iterator<Item = i64>) -> Option<i64> {
    let mut steps = [0i64; STEP_ROWS];
    let (mut n, mut last) = (0, None::<i64>);
    for time in times.take(STEP_ROWS) {
        let step = last.map_or(0, |last| time.saturating_sub(last));
        last = Some(time);
        if step > 0 {
            steps[n] = step;
            n += 1;
        }
    }
    let steps = &mut steps[..n];
    steps.sort_unstable();
    steps.get(n / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_in_its_cell_and_gaps_are_counted() {
        let mut clock = Clock::new(1000, 100);
        assert_eq!(clock.tick(1000, -1), Tick::Cell(0));
        assert_eq!(clock.tick(1130, 0), Tick::Cell(1));
        assert_eq!(clock.tick(1140, 1), Tick::Late);
        assert_eq!(clock.tick(1951, 1), Tick::Cell(10));
        assert_eq!(clock.tick(900, 10), Tick::Late);
        assert!(matches!(clock.tick(i64::MAX, 10), Tick::Cell(cell) if cell > i64::MAX / 101));
    }

    #[test]
    fn another_pace_or_a_clock_set_back_starts_anew_and_raggedness_does_not() {
        let run = |times: &mut dyn Iterator<Item = i64>, mut now: i64| {
            let mut clock = Clock::new(0, 100);
            times.take(500).any(|time| match clock.tick(time, now) {
                Tick::Cell(cell) => {
                    now = cell;
                    false
                }
                Tick::Late => false,
                Tick::Restart => true,
            })
        };
        assert!(run(&mut (1..).map(|i| i * 10), 0), "ten times faster");
        assert!(run(&mut (1..).map(|i| i * 1000), 0), "ten times slower");
        assert!(run(&mut (1..).map(|i| i * 100), 1_000_000), "far behind its own clock");
        assert!(!run(&mut (1..).map(|i| i * 100), 0));
        let mut ragged = (1i64..).scan(0, |time, i| {
            *time += [40, 90, 130, 100, 250][i as usize % 5];
            Some(*time)
        });
        assert!(!run(&mut ragged, 0));
    }
}
