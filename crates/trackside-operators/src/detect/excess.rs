//! Record excess (how far outside of all it has been is a number, by what share of its range?) and the refractory that
//! lets only the first of a row of alarms through.

use crate::state::codec::{Reader, StateError, Writer};
use std::collections::VecDeque;

/// Rows before a range means anything.
const MIN_ROWS: u64 = 10;
/// A range narrower than this is no range.
const MIN_RANGE: f64 = 1e-12;
/// The running mean, towards which a forgetting range shrinks, has this memory in rows.
const MEAN_ROWS: u64 = 1000;

/// The smallest and largest of a stream so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Range {
    pub(crate) low: f64,
    pub(crate) high: f64,
    mean: f64,
}

impl Range {
    /// The excess of `y`, row `i` of its stream, over the rows before it; then `y` is one of them.
    ///
    /// `keep` is the share of its width that the range keeps per row: 1 never forgets.
    pub(crate) fn push(&mut self, i: u64, y: f64, keep: f64) -> f64 {
        if i == 0 {
            *self = Self { low: y, high: y, mean: y };
            return 0.0;
        }
        let width = self.high - self.low;
        let excess =
            if i >= MIN_ROWS && width > MIN_RANGE { (y - self.high).max(self.low - y).max(0.0) / width } else { 0.0 };
        self.stretch(y);
        self.mean += (y - self.mean) / (i + 1).min(MEAN_ROWS) as f64;
        if keep < 1.0 {
            self.high = self.mean + (self.high - self.mean) * keep;
            self.low = self.mean + (self.low - self.mean) * keep;
            self.stretch(y);
        }
        excess
    }

    fn stretch(&mut self, y: f64) {
        self.high = self.high.max(y);
        self.low = self.low.min(y);
    }

    pub(crate) fn save(&self, w: &mut Writer) {
        w.array(&[self.low, self.high, self.mean]);
    }

    pub(crate) fn load(r: &mut Reader<'_>) -> Result<Self, StateError> {
        let [low, high, mean] = r.array()?;
        Ok(Self { low, high, mean })
    }
}

/// Lets a score through only when it is larger than every score of the last `rows` rows, let through or not.
///
/// A queue of the scores that can still be the largest: falling from front to back, so at most one entry a row of the
/// window, and usually one or none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refractory {
    queue: VecDeque<(u64, f64)>,
}

impl Refractory {
    pub(crate) fn push(&mut self, i: u64, score: f64, rows: u64) -> f64 {
        while self.queue.front().is_some_and(|(at, _)| at + rows < i) {
            self.queue.pop_front();
        }
        if score <= 0.0 {
            return 0.0;
        }
        let largest = self.queue.front().map_or(0.0, |(_, score)| *score);
        while self.queue.back().is_some_and(|(_, last)| *last <= score) {
            self.queue.pop_back();
        }
        self.queue.push_back((i, score));
        if score > largest { score } else { 0.0 }
    }

    pub(crate) fn save(&self, w: &mut Writer) {
        w.u64(self.queue.len() as u64);
        for (at, score) in &self.queue {
            w.u64(*at);
            w.f64(*score);
        }
    }

    pub(crate) fn load(r: &mut Reader<'_>) -> Result<Self, StateError> {
        let n = r.length(16)?;
        let queue = (0..n).map(|_| Ok((r.count()?, r.f64()?))).collect::<Result<_, StateError>>()?;
        Ok(Self { queue })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excess_is_a_share_of_the_range_so_far() {
        let mut range = Range::default();
        for i in 0..20 {
            assert_eq!(range.push(i, (i % 5) as f64, 1.0), 0.0);
        }
        assert_eq!(range.push(20, 5.0, 1.0), 0.25);
        assert_eq!(range.push(21, -1.0, 1.0), 0.2);
        assert_eq!((range.low, range.high), (-1.0, 5.0));
    }

    #[test]
    fn a_forgetting_range_shrinks_but_holds_its_last_row() {
        let mut range = Range::default();
        range.push(0, 100.0, 0.9);
        (1..200).for_each(|i| {
            range.push(i, 0.0, 0.9);
        });
        assert!(range.high < 5.0 && range.low == 0.0);
    }

    #[test]
    fn the_refractory_agrees_with_its_definition() {
        let scores: Vec<f64> = (0u64..2000).map(|i| ((i * 7919) % 101).saturating_sub(60) as f64).collect();
        let mut refractory = Refractory::default();
        for (i, score) in scores.iter().enumerate() {
            let largest = scores[i.saturating_sub(12)..i].iter().copied().fold(0.0, f64::max);
            let wanted = if *score > largest { *score } else { 0.0 };
            assert_eq!(refractory.push(i as u64, *score, 12), wanted, "row {i}");
            assert!(refractory.queue.len() <= 13);
        }
    }
}
