//! Which sequence numbers of a device were seen, in a few words of memory a series.
//!
//! A [`Track`] follows one run of a device's counter: the highest number and a bit for each number shortly below it. What
//! lies further back than the bits reach cannot be told from a repeat and is called one.
//!
//! A device that starts its counter again (a reboot, a full counter) would be silenced by that rule for as long as the
//! counter climbs. So a row far below the highest number is taken for a new start, not for a repeat, when
//! - its event time is later than that of the highest number (a repeat carries the time of the original), or
//! - it is number 0 or 1 with another time than the 0 or 1 seen before (the device's clock fell back as well).
//!
//! The track before the new start is kept beside the new one: rows of the old run that are still under way are judged by
//! it, and if the run simply goes on there (the new start was an old row with a wrong time), the two change places.

use super::seen::Seen;
use crate::state::codec::{Reader, StateError, Writer};

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Not seen before.
    New,
    /// Not seen before, and the counter started again here.
    Restart,
    /// Seen before, or too far back to tell.
    Duplicate,
}

/// How far back is remembered, and whether new starts are looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// Numbers, the highest included.
    pub(super) within: u64,
    /// Look for new starts.
    pub(super) notice: bool,
}

/// One run of a counter.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Track<S> {
    highest: i64,
    /// Event time of the highest number.
    time: i64,
    seen: S,
}

impl<S: Seen> Track<S> {
    fn none(within: u64) -> Self {
        Self { highest: 0, time: 0, seen: S::none(within) }
    }

    fn start(&mut self, number: i64, time: i64) {
        (self.highest, self.time) = (number, time);
        self.seen.start(number);
    }

    fn advance(&mut self, number: i64, time: i64) {
        self.seen.advance(self.highest, number);
        (self.highest, self.time) = (number, time);
    }

    /// Whether a row belongs to this run, as far as can be told: next to its end, and not newer than its end if below it.
    fn fits(&self, number: i64, time: i64, within: u64) -> bool {
        !self.seen.is_none() && self.highest.abs_diff(number) < within && (number > self.highest || time <= self.time)
    }

    fn save(&self, writer: &mut Writer) {
        writer.i64(self.highest);
        writer.i64(self.time);
        self.seen.save(writer);
    }

    fn load(within: u64, reader: &mut Reader<'_>) -> Result<Self, StateError> {
        Ok(Self { highest: reader.i64()?, time: reader.i64()?, seen: S::load(within, reader)? })
    }
}

/// What is known of one series. With `u64` bits it fills one cache line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sequence<S> {
    now: Track<S>,
    before: Track<S>,
    /// Event times of the last rows with number 0 and 1.
    starts: [i64; 2],
}

impl<S: Seen> Sequence<S> {
    /// A series without rows.
    pub(super) fn new(within: u64) -> Self {
        Self { now: Track::none(within), before: Track::none(within), starts: [i64::MIN; 2] }
    }

    /// Judges a row and remembers it.
    #[inline]
    pub(super) fn take(&mut self, number: i64, time: i64, rule: Rule) -> Answer {
        let answer = self.judge(number, time, rule);
        if answer != Answer::Duplicate
            && let Some(start) = usize::try_from(number).ok().and_then(|number| self.starts.get_mut(number))
        {
            *start = time;
        }
        answer
    }

    #[inline]
    fn judge(&mut self, number: i64, time: i64, rule: Rule) -> Answer {
        let now = &mut self.now;
        if now.seen.is_none() {
            now.start(number, time);
            return Answer::New;
        }
        let distance = now.highest.abs_diff(number);
        if distance >= rule.within && rule.notice {
            return self.judge_far(number, time, rule);
        }
        if number > now.highest {
            now.advance(number, time);
            return Answer::New;
        }
        if distance < rule.within && now.seen.insert(now.highest, number) { Answer::New } else { Answer::Duplicate }
    }

    /// The number is far from the run, above or below it.
    #[cold]
    fn judge_far(&mut self, number: i64, time: i64, rule: Rule) -> Answer {
        if self.before.fits(number, time, rule.within) {
            if number > self.before.highest {
                std::mem::swap(&mut self.now, &mut self.before);
                self.now.advance(number, time);
                return Answer::New;
            }
            let before = &mut self.before;
            return if before.seen.insert(before.highest, number) { Answer::New } else { Answer::Duplicate };
        }
        if number > self.now.highest {
            self.now.advance(number, time);
            return Answer::New;
        }
        let other_start =
            usize::try_from(number).ok().and_then(|n| self.starts.get(n)).is_some_and(|seen| *seen != time);
        if time > self.now.time || other_start {
            std::mem::swap(&mut self.now, &mut self.before);
            self.now.start(number, time);
            return Answer::Restart;
        }
        Answer::Duplicate
    }

    pub(super) fn save(&self, writer: &mut Writer) {
        self.now.save(writer);
        self.before.save(writer);
        self.starts.iter().for_each(|time| writer.i64(*time));
    }

    pub(super) fn load(within: u64, reader: &mut Reader<'_>) -> Result<Self, StateError> {
        let (now, before) = (Track::load(within, reader)?, Track::load(within, reader)?);
        Ok(Self { now, before, starts: [reader.i64()?, reader.i64()?] })
    }
}

#[cfg(test)]
mod tests {
    use super::Answer::{Duplicate, New, Restart};
    use super::*;
    use crate::clean::seen::Ring;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const NOTICE: Rule = Rule { within: 64, notice: true };

    fn feed(rows: &[(i64, i64)], rule: Rule) -> Vec<Answer> {
        let mut narrow = Sequence::<u64>::new(rule.within);
        let mut wide = Sequence::<Ring>::new(rule.within);
        rows.iter()
            .map(|(number, time)| {
                let answer = narrow.take(*number, *time, rule);
                assert_eq!(wide.take(*number, *time, rule), answer);
                answer
            })
            .collect()
    }

    fn run(numbers: std::ops::Range<i64>, from: i64) -> Vec<(i64, i64)> {
        numbers.clone().map(|n| (n, from + n - numbers.start)).collect()
    }

    #[test]
    fn a_series_of_the_narrow_kind_is_one_cache_line() {
        assert_eq!(size_of::<Sequence<u64>>(), 64);
    }

    #[test]
    fn repeats_and_late_rows_are_told_apart() {
        let answers = feed(&[(5, 5), (7, 7), (6, 6), (6, 6), (7, 7), (5, 5), (-57, 0), (-56, 0)], NOTICE);
        assert_eq!(answers, [New, New, New, Duplicate, Duplicate, Duplicate, Duplicate, New], "64 back is too far");
    }

    #[test]
    fn a_device_that_starts_again_is_heard() {
        let mut rows = run(0..500, 1000);
        rows.extend(run(0..500, 5000));
        let answers = feed(&rows, NOTICE);
        assert_eq!(answers.iter().filter(|answer| **answer == Restart).count(), 1);
        assert_eq!(answers[500], Restart);
        assert!(!answers.contains(&Duplicate));
    }

    #[test]
    fn a_clock_that_fell_back_with_the_counter_is_heard_too() {
        let mut rows = run(0..500, 1_000_000);
        rows.extend(run(0..200, 0));
        let answers = feed(&rows, NOTICE);
        assert_eq!((answers[500], answers.contains(&Duplicate)), (Restart, false));
    }

    #[test]
    fn a_whole_history_sent_again_is_a_repeat() {
        let mut rows = run(0..500, 1000);
        rows.extend(run(0..500, 1000));
        assert!(feed(&rows, NOTICE)[500..].iter().all(|answer| *answer == Duplicate));
    }

    #[test]
    fn rows_of_the_old_run_still_under_way_are_judged_by_it() {
        let mut rows = run(0..500, 1000);
        rows.retain(|(number, _)| *number != 490);
        let before = rows.len();
        // Started again; then 490 of the old run at last, 499 of it once more, and on with the new run.
        rows.extend([(0, 5000), (1, 5001), (490, 1490), (499, 1499), (2, 5002), (1, 5001), (3, 5003)]);
        let answers = &feed(&rows, NOTICE)[before..];
        assert_eq!(answers, [Restart, New, New, Duplicate, New, Duplicate, New]);
    }

    #[test]
    fn a_false_start_is_taken_back() {
        let mut rows = run(0..500, 1000);
        let before = rows.len();
        rows.extend([(100, 9000), (500, 9001), (499, 1499), (501, 9002)]);
        assert_eq!(&feed(&rows, NOTICE)[before..], [Restart, New, Duplicate, New]);
    }

    #[test]
    fn ignoring_restarts_is_the_plain_rule() {
        let mut rows = run(0..500, 1000);
        rows.extend(run(0..500, 5000));
        assert!(feed(&rows, Rule { notice: false, ..NOTICE })[500..].iter().all(|answer| *answer == Duplicate));
    }

    #[test]
    fn the_ends_of_the_integers_are_numbers_like_others() {
        let rows = [(i64::MIN, 0), (i64::MAX, 1), (i64::MAX - 63, 1), (i64::MAX - 64, 1), (i64::MIN, 0), (i64::MIN, 2)];
        assert_eq!(feed(&rows, NOTICE), [New, New, New, Duplicate, Duplicate, Restart]);
    }

    proptest! {
        #[test]
        fn the_plain_rule_is_what_a_set_of_numbers_says(
            steps in prop::collection::vec((-90..40i64, any::<bool>()), 0..300), within in 1..200u64,
        ) {
            let rule = Rule { within, notice: false };
            let (mut ring, mut seen, mut highest) = (Sequence::<Ring>::new(within), HashSet::new(), None::<i64>);
            for (step, big) in steps {
                let number = highest.unwrap_or(0) + if big { step * 10 } else { step };
                let too_far = highest.is_some_and(|highest| highest - number >= within as i64);
                let expected = if too_far || !seen.insert(number) { Duplicate } else { New };
                highest = highest.max(Some(number));
                prop_assert_eq!(ring.take(number, 0, rule), expected);
            }
        }

        #[test]
        fn narrow_and_wide_bits_agree_and_come_back_from_a_snapshot(
            rows in prop::collection::vec((prop_oneof![0..5i64, 0..200i64, Just(1000)], 0..50i64), 0..200),
            within in 1..=64u64, cut in 0..200usize,
        ) {
            let rule = Rule { within, notice: true };
            let (mut narrow, mut wide) = (Sequence::<u64>::new(within), Sequence::<Ring>::new(within));
            for (row, (number, time)) in rows.into_iter().enumerate() {
                prop_assert_eq!(narrow.take(number, time, rule), wide.take(number, time, rule));
                if row == cut {
                    let mut writer = Writer::new(*b"TEST", 1);
                    wide.save(&mut writer);
                    let bytes = writer.finish();
                    let mut reader = Reader::open(&bytes, *b"TEST", 1).unwrap();
                    wide = Sequence::load(within, &mut reader).unwrap();
                    reader.end().unwrap();
                }
            }
        }
    }
}
