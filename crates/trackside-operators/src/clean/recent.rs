//! The last keys seen, oldest out first: a table for the question and a ring for the order.

use crate::state::codec::{Reader, StateError, Writer};
use hashbrown::HashMap;
use std::collections::VecDeque;

/// The last `limit` different keys of a partition, each with its event time.
#[derive(Debug)]
pub(super) struct Recent {
    limit: usize,
    /// A key seen on a row this many ns away in event time counts as another.
    within: Option<u64>,
    /// Where a key stands: the number of its entry since the beginning.
    places: HashMap<u128, u64>,
    entries: VecDeque<(u128, i64)>,
    /// Number of the first entry still there.
    first: u64,
}

impl Recent {
    /// Nothing seen yet.
    pub(super) fn new(limit: usize, within: Option<u64>) -> Self {
        Self { limit, within, places: HashMap::new(), entries: VecDeque::new(), first: 0 }
    }

    /// Notes a key; false if it was there.
    pub(super) fn insert(&mut self, key: u128, time: i64) -> bool {
        if let Some(place) = self.places.get(&key) {
            let seen = self.entries[(place - self.first) as usize].1;
            if self.within.is_none_or(|within| seen.abs_diff(time) <= within) {
                return false;
            }
        }
        if self.entries.len() == self.limit {
            self.forget_oldest();
        }
        self.places.insert(key, self.first + self.entries.len() as u64);
        self.entries.push_back((key, time));
        true
    }

    fn forget_oldest(&mut self) {
        if let Some((key, _)) = self.entries.pop_front() {
            // A key that came again, too long after, stands further back: its newer entry counts.
            if self.places.get(&key) == Some(&self.first) {
                self.places.remove(&key);
            }
            self.first += 1;
        }
    }

    pub(super) fn save(&self, writer: &mut Writer) {
        writer.u64(self.entries.len() as u64);
        for (key, time) in &self.entries {
            writer.u64((key >> 64) as u64);
            writer.u64(*key as u64);
            writer.i64(*time);
        }
    }

    /// Takes back what [`Recent::save`] wrote.
    pub(super) fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), StateError> {
        self.clear();
        for place in 0..reader.length(24)? as u64 {
            let key = u128::from(reader.u64()?) << 64 | u128::from(reader.u64()?);
            self.entries.push_back((key, reader.i64()?));
            self.places.insert(key, place);
        }
        match self.entries.len() {
            found if found > self.limit => {
                Err(StateError::Invalid(format!("{found} keys; {} are the most", self.limit)))
            }
            _ => Ok(()),
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.entries.clear();
        self.first = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_key_is_forgotten_first() {
        let mut recent = Recent::new(2, None);
        assert!(recent.insert(1, 0) && recent.insert(2, 0) && !recent.insert(1, 0));
        assert!(recent.insert(3, 0) && recent.insert(1, 0), "1 went when 3 came");
        assert!(!recent.insert(3, 0));
        assert_eq!((recent.places.len(), recent.entries.len()), (2, 2));
    }

    #[test]
    fn a_key_far_away_in_time_is_another_event() {
        let mut recent = Recent::new(3, Some(10));
        assert!(recent.insert(1, 0) && !recent.insert(1, 10) && recent.insert(1, 11));
        assert!(!recent.insert(1, 1), "the newer entry counts");
        assert!(recent.insert(2, 0) && recent.insert(3, 0) && recent.insert(4, 0));
        assert!(recent.insert(1, 11), "both entries of 1 are gone");
    }
}
