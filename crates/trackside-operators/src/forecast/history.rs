//! The last values of a series on its regular grid: cell 0 is its first row, a cell without a row is NaN.

use crate::state::codec::{Reader, StateError, Writer};

/// A ring of cells that grows with the series up to its capacity.
#[derive(Debug, Clone)]
pub(crate) struct History {
    cells: Vec<f64>,
    capacity: usize,
    now: i64,
}

impl History {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { cells: Vec::new(), capacity, now: -1 }
    }

    /// The newest cell with a row; -1 before the first.
    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    fn at(&self, cell: i64) -> usize {
        (cell as u64 % self.capacity as u64) as usize
    }

    /// The value of a cell; NaN when it has none, is yet to come, or is forgotten.
    pub(crate) fn get(&self, cell: i64) -> f64 {
        if cell < 0 || cell > self.now || self.now - cell >= self.capacity as i64 {
            return f64::NAN;
        }
        self.cells.get(self.at(cell)).copied().unwrap_or(f64::NAN)
    }

    /// The newest value.
    pub(crate) fn last(&self) -> f64 {
        self.get(self.now)
    }

    /// Writes a cell later than all others. What is skipped is missing; however wide the gap, the work is at most a turn.
    pub(crate) fn push(&mut self, cell: i64, y: f64) {
        let first_missing = (self.now + 1).max(cell.saturating_sub(self.capacity as i64 - 1));
        for missing in first_missing..cell {
            self.set(missing, f64::NAN);
        }
        self.set(cell, y);
        self.now = cell;
    }

    fn set(&mut self, cell: i64, y: f64) {
        let at = self.at(cell);
        if at >= self.cells.len() {
            self.cells.resize(at + 1, f64::NAN);
        }
        self.cells[at] = y;
    }

    /// Smallest and largest of the last `rows` cells; the newest has a value, so there are some.
    pub(crate) fn range(&self, rows: usize) -> (f64, f64) {
        let from = (self.now - rows as i64 + 1).max(0);
        (from..=self.now)
            .map(|cell| self.get(cell))
            .filter(|y| !y.is_nan())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)))
    }

    pub(crate) fn save(&self, w: &mut Writer) {
        w.i64(self.now);
        w.f64s(&self.cells);
    }

    pub(crate) fn load(r: &mut Reader<'_>, capacity: usize) -> Result<Self, StateError> {
        let (now, cells) = (r.i64()?, r.f64s()?);
        // Far enough from the last number that there is for counting to go on.
        if !(-1..1 << 53).contains(&now) || cells.len() > capacity {
            return Err(StateError::Invalid(format!("{} cells of history up to cell {now}", cells.len())));
        }
        Ok(Self { cells, capacity, now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_missing_and_a_wide_one_forgets_all() {
        let mut history = History::new(4);
        history.push(0, 1.0);
        history.push(2, 3.0);
        assert!(history.get(1).is_nan() && history.get(3).is_nan() && history.get(-1).is_nan());
        assert_eq!((history.get(0), history.last(), history.range(4)), (1.0, 3.0, (1.0, 3.0)));
        history.push(i64::MAX / 2, 9.0);
        assert_eq!((history.last(), history.range(4)), (9.0, (9.0, 9.0)));
        assert!((1..4).all(|k| history.get(i64::MAX / 2 - k).is_nan()));
    }
}
