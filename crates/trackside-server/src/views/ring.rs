//! A bounded queue whose entries are numbered, so that each listener can ask for what is new to it.
//!
//! Guarantee: never longer than the length that [`Ring::push`] is given; the oldest entries go. A listener that was away
//! too long gets what is left, and nothing waits for it.

use std::collections::VecDeque;

/// Entries with numbers from 0, of which the newest are held.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    entries: VecDeque<T>,
    next: u64,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), next: 0 }
    }
}

impl<T> Ring<T> {
    /// Adds an entry; lets the oldest go beyond `most`.
    pub(crate) fn push(&mut self, entry: T, most: usize) {
        while self.entries.len() >= most.max(1) {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
        self.next += 1;
    }

    /// The number that the next entry gets: the cursor of a listener that has seen all.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Entries from number `cursor` on, oldest first.
    pub(crate) fn since(&self, cursor: u64) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        let oldest = self.next - self.entries.len() as u64;
        let skip = cursor.saturating_sub(oldest).min(self.entries.len() as u64);
        self.entries.range(skip as usize..)
    }

    /// The newest entry.
    pub(crate) fn newest(&self) -> Option<&T> {
        self.entries.back()
    }

    /// Entries held.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_get_what_is_new_and_still_held() {
        let mut ring = Ring::default();
        (0..10).for_each(|n| ring.push(n, 4));
        assert_eq!((ring.next(), ring.len()), (10, 4));
        assert_eq!(ring.since(8).copied().collect::<Vec<_>>(), [8, 9]);
        assert_eq!(ring.since(2).copied().collect::<Vec<_>>(), [6, 7, 8, 9]);
        assert_eq!(ring.since(10).len() + ring.since(99).len(), 0);
    }

    #[test]
    fn a_bound_that_sank_is_kept_at_once() {
        let mut ring = Ring::default();
        (0..10).for_each(|n| ring.push(n, 8));
        ring.push(10, 2);
        assert_eq!(ring.since(0).copied().collect::<Vec<_>>(), [9, 10]);
    }
}
