//! Delivery: one thread a sink and partition reads durable frames and hands their rows to the sink.
//!
//! The sink is asked how far it has come; nobody else remembers it. Failures that may heal are retried with back-off,
//! and meanwhile retention keeps what the sink has not taken.

use crate::metrics::{Meter, StageState};
use crate::policy::Backoff;
use crate::run::clean::{DAMAGE_PAUSE, from_log};
use crate::stop::Stop;
use crate::wall::now;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use trackside_core::error::{Action, Failure};
use trackside_core::log::{Budget, End, Frame, LogReader, SectionKind};
use trackside_core::position::Position;
use trackside_core::sink::{Sink, SinkRows, SinkTotals};

const BUDGET: Budget = Budget { bytes: 8 << 20, frames: 512 };
/// How long a wait for durable rows lasts before age and stop are looked at again.
const WAIT: Duration = Duration::from_millis(50);

/// Everything that one sink needs for one partition.
pub(crate) struct DeliverStage {
    pub(crate) sink: Box<dyn Sink>,
    pub(crate) reader: Box<dyn LogReader>,
    /// What was published before the sources started: where a sink begins that wants only what is new. None: it takes
    /// the place of one that was replaced, and begins where that one had come to.
    pub(crate) news: Option<u64>,
    /// Which section of the frames it is given.
    pub(crate) section: SectionKind,
    pub(crate) meter: Arc<Meter>,
    pub(crate) totals: Arc<Mutex<SinkTotals>>,
    /// What it has committed: retention keeps the rest.
    pub(crate) keep_from: Arc<AtomicU64>,
    pub(crate) stop: Stop,
}

impl DeliverStage {
    /// Runs until the stop is set and everything durable is delivered.
    pub(crate) fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            match self.run_once(&mut backoff) {
                Ok(()) => return self.meter.state(StageState::Finished, None),
                Err(failure) => {
                    self.meter.errors.fetch_add(1, Relaxed);
                    if failure.action == Action::Stop {
                        tracing::error!(error = %failure, "a sink stopped; what it has not taken is kept");
                        return self.meter.state(StageState::Stopped, Some(failure.to_string()));
                    }
                    if failure.action == Action::Reject && self.sink.skip_rejected() {
                        tracing::warn!(error = %failure, "a sink's receiver refused rows for good; they are passed over");
                        continue;
                    }
                    let wait = backoff.next();
                    tracing::warn!(error = %failure, wait_ms = wait.as_millis(), "a sink waits");
                    self.meter.state(StageState::BackingOff, Some(failure.to_string()));
                    // What it has not committed it will be given again: a sink that is away must not look idle.
                    let behind = self.reader.published().saturating_sub(self.keep_from.load(Relaxed));
                    self.meter.lag.store(behind, Relaxed);
                    if self.stop.wait(wait) {
                        return;
                    }
                }
            }
        }
    }

    /// Where the sink goes on: it is asked, and nobody else.
    pub(crate) fn begin(&mut self) -> Result<u64, Failure> {
        let resumed = self.sink.resume()?;
        if let Some(position) = resumed {
            self.check_stand(position)?;
        }
        let offset = match resumed {
            Some(position) => position.offset,
            None if self.sink.only_new() => self.news.unwrap_or_else(|| self.keep_from.load(Relaxed)),
            None => self.reader.oldest().map_err(from_log)?,
        };
        self.keep_from.store(offset, Relaxed);
        Ok(offset)
    }

    /// Hands over what is durable and can be read at once; whether there was anything.
    pub(crate) fn advance(&mut self, offset: &mut u64) -> Result<bool, Failure> {
        let frames = self.reader.read(*offset, BUDGET, End::Durable).map_err(from_log)?;
        let any = !frames.is_empty();
        for frame in frames {
            let rows = self.rows(&frame, *offset)?;
            let count = rows.rows.as_ref().map_or(0, |rows| rows.num_rows() as u64);
            // Before it, for it may take long: a slow sink must not look idle.
            self.meter.lag.store(self.reader.published().saturating_sub(*offset), Relaxed);
            self.sink.write(&rows)?;
            *offset = frame.end;
            self.meter.rows.fetch_add(count, Relaxed);
            if count > 0 {
                self.meter.latency.note(now() - frame.ingest_time);
            }
        }
        Ok(any)
    }

    /// Lets the sink commit if it is due, or in any case.
    pub(crate) fn commit(&mut self, all: bool) -> Result<(), Failure> {
        let committed = if all { self.sink.flush(now())? } else { self.sink.poll(now())? };
        self.committed(committed);
        Ok(())
    }

    fn run_once(&mut self, backoff: &mut Backoff) -> Result<(), Failure> {
        let mut offset = self.begin()?;
        let mut last = None;
        loop {
            if self.stop.is_overdue() {
                return Ok(());
            }
            // Asked to end while more comes in, it takes what is durable now: whoever follows takes the rest.
            if self.stop.is_set() && offset >= *last.get_or_insert_with(|| self.reader.durable()) {
                return self.commit(true);
            }
            if self.reader.wait(offset, End::Durable, WAIT) {
                if !self.advance(&mut offset)? {
                    self.stop.wait(DAMAGE_PAUSE);
                }
                self.meter.state(StageState::Running, None);
                backoff.reset();
            } else {
                self.meter.state(StageState::Waiting, None);
            }
            self.meter.lag.store(self.reader.published().saturating_sub(offset), Relaxed);
            self.commit(false)?;
        }
    }

    /// A sink that stands beyond what its reign wrote belongs to another log: waiting there would swallow new rows.
    fn check_stand(&mut self, position: Position) -> Result<(), Failure> {
        let epochs = self.reader.epochs().map_err(from_log)?;
        let end = epochs.iter().find(|start| start.epoch > position.epoch).map_or(self.reader.published(), |s| s.first);
        let known = epochs.last().is_some_and(|last| last.epoch >= position.epoch);
        if known && position.offset <= end {
            return Ok(());
        }
        Err(Failure::stop(format!(
            "the sink has come to offset {} and the log ends at {end}: it belongs to another data directory; give back its log, or move the table away to begin a new one",
            position.offset
        )))
    }

    fn committed(&self, position: Option<Position>) {
        if let Some(position) = position {
            self.keep_from.store(position.offset, Relaxed);
        }
        *self.totals.lock().unwrap_or_else(PoisonError::into_inner) = self.sink.totals();
    }

    /// The part of a frame from `offset` on (a sink's position may lie inside of a frame).
    fn rows(&self, frame: &Frame, offset: u64) -> Result<SinkRows, Failure> {
        let mut rows = frame.section(self.section).map_err(from_log)?.cloned();
        let mut first = frame.first;
        if self.section == SectionKind::Rows && offset > frame.first {
            let skip = (offset - frame.first) as usize;
            rows = rows.map(|rows| rows.slice(skip.min(rows.num_rows()), rows.num_rows().saturating_sub(skip)));
            first = offset;
        }
        Ok(SinkRows {
            epoch: frame.epoch,
            first,
            end: frame.end,
            ingest_time: frame.ingest_time,
            rows: rows.filter(|rows| rows.num_rows() > 0),
        })
    }
}
