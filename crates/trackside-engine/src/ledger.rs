//! The sums of law 3: what came in equals what came out, at each stage, over the data directory's life.
//!
//! Every stage keeps its cumulative counts in the frames that it appends, so a count and the rows it speaks of are
//! committed by the same append. This file only adds the partitions up and compares. Two things are compared that were
//! counted apart: rows that went in, and rows that came out; and rows counted against the offsets of the log itself.

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use trackside_core::log::Frame;

/// Names of counts in frames.
pub(crate) mod names {
    /// Ingest: rows and undecodable payloads that sources brought.
    pub(crate) const TAKEN: &str = "taken";
    /// Ingest: rows written to `received`.
    pub(crate) const RECEIVED: &str = "received";
    /// Any stage: rows and payloads that it rejected.
    pub(crate) const DEAD: &str = "dead";
    /// Any stage: frames without rows, each of which takes one offset.
    pub(crate) const ROWLESS: &str = "rowless";
    /// Clean and models: input rows worked through.
    pub(crate) const CONSUMED: &str = "consumed";
    /// Clean and models: input rows that stood in a damaged part of the log and were never seen.
    pub(crate) const LOST: &str = "lost";
    /// Clean: rows written to `clean`.
    pub(crate) const CLEAN: &str = "clean";
    /// Clean: rows dropped by a rule; followed by the rule's name.
    pub(crate) const FILTERED: &str = "filtered.";
    /// Models: clean rows scored.
    pub(crate) const SCORED: &str = "scored";
    /// Models: clean rows passed over because the model had fallen too far behind.
    pub(crate) const SKIPPED: &str = "skipped";
    /// Clean and models: dead letters' rows that came back and were worked through.
    pub(crate) const RETRIED: &str = "retried";
    /// Received: rows of dead letters of the door that were sent round again.
    pub(crate) const RETRIED_INGEST: &str = "retried.ingest";
    /// Received: dead letters' rows that were sent back to cleaning.
    pub(crate) const RETRIED_CLEAN: &str = "retried.clean";
    /// Received: dead letters' rows that were sent back to a model; followed by its name.
    pub(crate) const RETRIED_MODEL: &str = "retried.model.";
    /// Received: frames with a word on a dead letter.
    pub(crate) const LETTERS: &str = "letters";
    /// Models: scores with `anomaly` set.
    pub(crate) const ANOMALIES: &str = "anomalies";
    /// Models: forecast rows.
    pub(crate) const FORECASTS: &str = "forecasts";
}

/// The counts of one stage in one partition, as the newest frame has them.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Adds to a count.
pub(crate) fn add(counts: &mut Counts, name: &str, by: u64) {
    if by > 0 {
        match counts.get_mut(name) {
            Some(count) => *count += by,
            None => _ = counts.insert(name.to_owned(), by),
        }
    }
}

/// Input rows that a stage will never see, found out at a frame that it does see: the frame's own cumulative count of
/// `written` rows, less its rows from `row` on, against what the stage has counted. A log steps over damage that it has
/// quarantined; without this its rows would be in flight for ever.
pub(crate) fn lost_before(frame: &Frame, row: usize, written: &str, counts: &Counts) -> u64 {
    let count = |counts: &Counts, name: &str| counts.get(name).copied().unwrap_or(0);
    let before = count(&frame.meta.counts, written).saturating_sub((frame.num_rows.saturating_sub(row)) as u64);
    before.saturating_sub(count(counts, names::CONSUMED) + count(counts, names::LOST))
}

/// Where a stage publishes its counts for status and metrics: written after each append, read by anyone.
#[derive(Debug, Default, Clone)]
pub(crate) struct Board(Arc<Mutex<(Counts, u64)>>);

impl Board {
    /// The counts of the newest frame and the output's end.
    pub(crate) fn publish(&self, counts: &Counts, end: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (counts.clone(), end);
    }

    pub(crate) fn read(&self) -> (Counts, u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The sum at the door.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IngestSum {
    /// Rows and payloads that sources brought.
    pub taken: u64,
    /// Rows in `received`.
    pub received: u64,
    /// Payloads that did not decode.
    pub dead: u64,
    /// Dead letters sent round again.
    pub retried: u64,
    /// `taken + retried = received + dead`.
    pub balanced: bool,
}

/// The sum of cleaning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CleanSum {
    /// Rows in `received`.
    pub received: u64,
    /// Rows in `clean`.
    pub clean: u64,
    /// Rows rejected.
    pub dead: u64,
    /// Rows dropped.
    pub filtered: u64,
    /// Rows dropped, by the rule that dropped them.
    pub filtered_by: BTreeMap<String, u64>,
    /// Dead letters' rows sent back to cleaning.
    pub retried: u64,
    /// Rows that stood in a damaged part of the log, which is quarantined.
    pub lost: u64,
    /// Rows received or sent back that cleaning has not seen yet.
    pub in_flight: u64,
    /// `received + retried = clean + dead + filtered + lost + in flight`.
    pub balanced: bool,
}

/// The sum of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ModelSum {
    /// Rows in `clean`.
    pub clean: u64,
    /// Rows scored.
    pub scored: u64,
    /// Rows rejected.
    pub dead: u64,
    /// Rows passed over.
    pub skipped: u64,
    /// Dead letters' rows sent back to it.
    pub retried: u64,
    /// Rows that stood in a damaged part of the log, which is quarantined.
    pub lost: u64,
    /// Rows that it has not seen yet.
    pub in_flight: u64,
    /// `clean + retried = scored + dead + skipped + lost + in flight`.
    pub balanced: bool,
}

/// All sums.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// At the door.
    pub ingest: IngestSum,
    /// Of cleaning.
    pub clean: CleanSum,
    /// Of each model.
    pub models: BTreeMap<String, ModelSum>,
}

impl Sums {
    /// Whether every sum holds.
    pub fn balanced(&self) -> bool {
        self.ingest.balanced && self.clean.balanced && self.models.values().all(|model| model.balanced)
    }

    /// Rows under way anywhere.
    pub fn in_flight(&self) -> u64 {
        self.clean.in_flight + self.models.values().map(|model| model.in_flight).sum::<u64>()
    }
}

/// Adds up partitions: (counts, end of the output).
pub(crate) struct Totals {
    counts: Counts,
    /// Rows that the log's offsets speak of: the end of each partition less its rowless frames.
    rows: u64,
    /// Another process counts, and was looked at a moment ago.
    elsewhere: bool,
}

impl Totals {
    /// Sums over the partitions of one stage.
    pub(crate) fn of<'a>(boards: impl IntoIterator<Item = &'a Board>) -> Self {
        let mut total = Self { counts: Counts::new(), rows: 0, elsewhere: false };
        for board in boards {
            let (counts, end) = board.read();
            total.rows += end.saturating_sub(counts.get(names::ROWLESS).copied().unwrap_or(0));
            counts.iter().for_each(|(name, count)| add(&mut total.counts, name, *count));
        }
        total
    }

    /// The same, counted by another process if it is so.
    pub(crate) fn elsewhere(self, elsewhere: bool) -> Self {
        Self { elsewhere, ..self }
    }

    /// A count that cannot be below what was seen of it downstream: where it is kept elsewhere, it is known late.
    fn at_least(&self, name: &str, seen: u64) -> u64 {
        if self.elsewhere { self.get(name).max(seen) } else { self.get(name) }
    }

    pub(crate) fn get(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    fn filtered(&self) -> BTreeMap<String, u64> {
        self.counts
            .iter()
            .filter_map(|(name, count)| Some((name.strip_prefix(names::FILTERED)?.to_owned(), *count)))
            .collect()
    }
}

/// Compares what the stages counted. Downstream must be read before upstream, so that rows in motion count as in
/// flight and never as made from nothing.
pub(crate) fn sums(ingest: &Totals, clean: &Totals, models: &[(String, Totals)]) -> Sums {
    let (taken, received, dead) = (ingest.get(names::TAKEN), ingest.get(names::RECEIVED), ingest.get(names::DEAD));
    let (consumed, cleaned) = (clean.get(names::CONSUMED), clean.get(names::CLEAN));
    let filtered_by = clean.filtered();
    let (filtered, lost) = (filtered_by.values().sum(), clean.get(names::LOST));
    let (again, back) = (ingest.get(names::RETRIED_INGEST), clean.get(names::RETRIED));
    let retried = ingest.at_least(names::RETRIED_CLEAN, back);
    let came = ingest.at_least(names::RECEIVED, consumed + lost);
    let model = |(name, model): &(String, Totals)| {
        let (consumed, scored) = (model.get(names::CONSUMED), model.get(names::SCORED));
        let (dead, skipped) = (model.get(names::DEAD), model.get(names::SKIPPED));
        let (lost, back) = (model.get(names::LOST), model.get(names::RETRIED));
        let retried = ingest.at_least(&format!("{}{name}", names::RETRIED_MODEL), back);
        let cleaned = clean.at_least(names::CLEAN, consumed + lost);
        let balanced = consumed + back == scored + dead + skipped && consumed + lost <= cleaned && back <= retried;
        let in_flight = cleaned.saturating_sub(consumed + lost) + retried.saturating_sub(back);
        (name.clone(), ModelSum { clean: cleaned, scored, dead, skipped, retried, lost, in_flight, balanced })
    };
    Sums {
        ingest: IngestSum {
            taken,
            received,
            dead,
            retried: again,
            balanced: taken + again == received + dead && received == ingest.rows,
        },
        clean: CleanSum {
            received: came,
            clean: cleaned,
            dead: clean.get(names::DEAD),
            filtered,
            filtered_by,
            retried,
            lost,
            in_flight: came.saturating_sub(consumed + lost) + retried.saturating_sub(back),
            balanced: consumed + back == cleaned + clean.get(names::DEAD) + filtered
                && consumed + lost <= came
                && back <= retried
                && cleaned == clean.rows,
        },
        models: models.iter().map(model).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(counts: &[(&str, u64)], end: u64) -> Board {
        let board = Board::default();
        board.publish(&counts.iter().map(|(n, c)| (n.to_string(), *c)).collect(), end);
        board
    }

    #[test]
    fn a_letter_that_was_sent_back_counts_on_both_sides() {
        let ingest = [("taken", 5), ("received", 5), ("dead", 1), ("retried.ingest", 1), ("retried.clean", 2)];
        let ingest = board(&[&ingest[..], &[("retried.model.m", 1), ("rowless", 3)]].concat(), 8);
        let clean = board(&[("consumed", 5), ("retried", 1), ("clean", 4), ("dead", 2), ("rowless", 1)], 5);
        let model = board(&[("consumed", 4), ("retried", 1), ("scored", 4), ("dead", 1)], 5);
        let sums = sums(&Totals::of([&ingest]), &Totals::of([&clean]), &[("m".into(), Totals::of([&model]))]);
        assert!(sums.balanced(), "{sums:?}");
        assert_eq!((sums.ingest.retried, sums.clean.retried, sums.clean.in_flight), (1, 2, 1));
        assert_eq!((sums.models["m"].retried, sums.models["m"].in_flight), (1, 0));
    }

    #[test]
    fn what_is_counted_elsewhere_may_be_known_late() {
        let ingest = board(&[("taken", 10), ("received", 10)], 10);
        let clean = board(&[("consumed", 12), ("clean", 12)], 12);
        let model = || [("m".to_owned(), Totals::of([&board(&[("consumed", 11), ("scored", 11)], 11)]))];
        let late = sums(&Totals::of([&ingest]).elsewhere(true), &Totals::of([&clean]), &model());
        assert!(late.balanced() && late.in_flight() == 1, "{late:?}");
        assert_eq!((late.clean.received, late.ingest.received), (12, 10));
        let here = sums(&Totals::of([&ingest]), &Totals::of([&clean]).elsewhere(true), &model());
        assert!(!here.clean.balanced, "rows made from nothing");
    }

    #[test]
    fn a_row_that_vanished_breaks_the_sum() {
        let ingest = board(&[("taken", 10), ("received", 9), ("dead", 1), ("rowless", 1)], 10);
        let good = board(&[("consumed", 8), ("clean", 6), ("filtered.dedupe", 2)], 6);
        let sums_of = |clean: &Board| sums(&Totals::of([&ingest]), &Totals::of([clean]), &[]);
        let sums = sums_of(&good);
        assert!(sums.balanced());
        assert_eq!((sums.clean.in_flight, sums.clean.filtered), (1, 2));
        assert!(!sums_of(&board(&[("consumed", 8), ("clean", 5), ("filtered.dedupe", 2)], 5)).balanced());
        assert!(
            !sums_of(&board(&[("consumed", 8), ("clean", 6), ("filtered.dedupe", 2)], 7)).balanced(),
            "the log holds a row that nobody counted"
        );
    }
}
