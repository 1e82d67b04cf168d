//! Pace: holds decoded records back until their time has come.
//!
//! Either so many records a second, or as far apart as the events themselves, N times faster. Events out of order
//! leave at once; a gap in the data is waited for, N times shorter.

use super::hand_over;
use arrow::array::RecordBatch;
use std::time::{Duration, Instant};
use trackside_core::batch::times;
use trackside_core::dead_letter::DeadLetter;
use trackside_core::position::Span;
use trackside_core::source::Door;

/// Records due within so long leave together.
const TICK: Duration = Duration::from_millis(10);

/// What there was behind a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// Position.
    pub(super) to: u64,
    /// Rows so far.
    pub(super) rows: usize,
    /// Dead letters so far.
    pub(super) dead: usize,
}

/// A pace and where it stands.
#[derive(Debug)]
pub(super) struct Pace {
    kind: Kind,
    begun: Instant,
    /// Records so far, for `Rate`.
    records: u64,
    /// Time of the first event, for `Replay`.
    first: Option<i64>,
    /// When the last record was due, since the beginning.
    due: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Rate(f64),
    Replay(f64),
}

impl Pace {
    /// So many records a second.
    pub(super) fn rate(rate: f64) -> Self {
        Self::new(Kind::Rate(rate))
    }

    /// So many times faster than the events happened.
    pub(super) fn replay(speed: f64) -> Self {
        Self::new(Kind::Replay(speed))
    }

    fn new(kind: Kind) -> Self {
        Self { kind, begun: Instant::now(), records: 0, first: None, due: Duration::ZERO }
    }

    /// Delivers the records of a part, each when it is due; false when the pipeline is stopping.
    pub(super) fn deliver(
        &mut self,
        door: &dyn Door,
        rows: Option<RecordBatch>,
        dead: &[DeadLetter],
        part: &Span,
        marks: &[Mark],
    ) -> bool {
        let mut done = Mark { to: part.from, rows: 0, dead: 0 };
        let mut pending = done;
        for mark in marks {
            let due = self.due(rows.as_ref(), pending.rows, mark.rows);
            let wait = due.saturating_sub(self.begun.elapsed());
            if wait > TICK && pending.to > done.to {
                if !release(door, rows.as_ref(), dead, part, done, pending) {
                    return false;
                }
                done = pending;
            }
            let wait = due.saturating_sub(self.begun.elapsed());
            if wait > TICK && door.wait_stop(wait) {
                return false;
            }
            pending = *mark;
        }
        release(door, rows.as_ref(), dead, part, done, pending)
    }

    /// When the record that brought these rows is due, since the beginning.
    fn due(&mut self, rows: Option<&RecordBatch>, from: usize, to: usize) -> Duration {
        let due = match self.kind {
            Kind::Rate(rate) => {
                self.records += 1;
                (self.records - 1) as f64 / rate
            }
            Kind::Replay(speed) => {
                let times = rows.and_then(times).and_then(|times| times.values().get(from..to));
                let latest = times.and_then(|times| times.iter().max().copied());
                let first = latest.map(|latest| *self.first.get_or_insert(latest));
                latest.zip(first).map_or(0.0, |(latest, first)| latest.saturating_sub(first) as f64 / 1e9 / speed)
            }
        };
        // Times that went wrong must not stop the pipeline for ever, nor overflow.
        self.due = self.due.max(Duration::try_from_secs_f64(due).unwrap_or(Duration::ZERO));
        self.due
    }
}

/// Delivers what lies between two marks.
fn release(
    door: &dyn Door,
    rows: Option<&RecordBatch>,
    dead: &[DeadLetter],
    part: &Span,
    from: Mark,
    to: Mark,
) -> bool {
    let rows = rows.filter(|_| to.rows > from.rows).map(|rows| rows.slice(from.rows, to.rows - from.rows));
    let check = part.check.filter(|_| to.to == part.to);
    let span = Span { stream: part.stream.clone(), from: from.to, to: to.to, check };
    hand_over(door, rows, &dead[from.dead..to.dead], Some(span))
}
