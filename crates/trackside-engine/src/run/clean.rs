//! Cleaning: one thread a partition reads `received`, runs the chain, and appends to `clean`.
//!
//! The output asks nobody how far it had come: its newest frame carries the input range and the counts. After a
//! restart the state comes from the newest snapshot at or before that position, and the rows between are replayed
//! with their output suppressed. From the same `received` the same rows come out, however they were cut.
//!
//! A reload may order another chain. It takes over between two frames: cleaners whose block is unchanged keep their
//! state, and that moment becomes a snapshot of the new chain before it cleans its first row, so that a restart goes on
//! from there and nowhere else.

use crate::catalog::{Snapshot, Snapshots};
use crate::config::Block;
use crate::derived;
use crate::ledger::{Board, Counts, add, lost_before, names};
use crate::metrics::{Meter, StageState};
use crate::offline::fitted;
use crate::policy::Backoff;
use crate::space::Space;
use crate::stop::Stop;
use crate::wall::now;
use arrow::array::RecordBatch;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use trackside_core::batch;
use trackside_core::dead_letter::{self, DeadLetter, Stage};
use trackside_core::error::Failure;
use trackside_core::log::{
    Budget, End, Frame, FrameDraft, FrameKind, FrameMeta, LogError, LogReader, LogWriter, SectionKind,
};
use trackside_core::operator::Operator;
use trackside_core::planted::{Bug, planted};
use trackside_core::position::{InputRange, Position};
use trackside_core::series::SeriesIndex;
use trackside_core::work::{CleanLayout, Touches, Work};

/// What one read takes: enough for large batches, small enough for the frame limit of a broker.
const BUDGET: Budget = Budget { bytes: 4 << 20, frames: 256 };
/// Small frames are put together up to this many rows.
const COALESCE: usize = 8192;
/// How long a wait for input lasts before the stop signal is looked at again.
const WAIT: Duration = Duration::from_millis(100);
/// Behind damage at the end of the log there is nothing to read; this keeps the loop from spinning on it.
pub(crate) const DAMAGE_PAUSE: Duration = Duration::from_millis(100);

/// How long a new chain waits for what the old one wrote to be durable.
const HANDOVER: Duration = Duration::from_secs(5);

/// How often it looks.
const HANDOVER_STEP: Duration = Duration::from_millis(2);

/// The chain of one partition: pure, as its operators are.
pub(crate) struct Chain {
    layout: Arc<CleanLayout>,
    operators: Vec<Box<dyn Operator>>,
    /// By operator, the name of its block; empty where no row is ever sent back.
    names: Vec<String>,
    index: SeriesIndex,
}

/// What came out of a chain.
pub(crate) struct Cleaned {
    pub(crate) rows: RecordBatch,
    pub(crate) dead: Vec<DeadLetter>,
    pub(crate) filtered: BTreeMap<String, u64>,
}

impl Chain {
    /// A chain as new.
    pub(crate) fn new(layout: &Arc<trackside_core::schema::Layout>, operators: Vec<Box<dyn Operator>>) -> Self {
        let mut touches = vec![Touches::default(); layout.config.fields.len()];
        operators.iter().for_each(|operator| operator.touches(&mut touches));
        let (layout, index) = (CleanLayout::new(layout.clone(), touches), SeriesIndex::new(layout.tags()));
        Self { layout, operators, names: Vec::new(), index }
    }

    /// With the names of its blocks, for rows that are sent back to one of them.
    #[must_use]
    pub(crate) fn named<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.names = names.into_iter().map(str::to_owned).collect();
        self
    }

    /// The layout of what comes out.
    pub(crate) fn layout(&self) -> &Arc<CleanLayout> {
        &self.layout
    }

    /// Sends rows through.
    pub(crate) fn process(&mut self, rows: RecordBatch, offsets: Vec<u64>) -> Result<Cleaned, Failure> {
        self.send(rows, offsets, 0)
    }

    /// Sends a rejected row back to the cleaner that rejected it.
    ///
    /// The row is as received, so the cleaners before that one convert and mark it again; but it has passed them once,
    /// so none of them drops it now: to `dedupe` it would be a duplicate of itself.
    fn send_back(&mut self, row: RecordBatch, offset: u64, cleaner: &str) -> Result<Cleaned, Failure> {
        // A cleaner that is there no more has no word in it: the whole chain has.
        let passed = self.names.iter().position(|name| name == cleaner).unwrap_or(0);
        self.send(row, vec![offset], passed)
    }

    /// The first `passed` cleaners may not drop.
    fn send(&mut self, rows: RecordBatch, offsets: Vec<u64>, passed: usize) -> Result<Cleaned, Failure> {
        let mut series = Vec::with_capacity(rows.num_rows());
        self.index.rows(&rows, &mut series);
        let mut work = Work::new(self.layout.clone(), rows, offsets, series);
        for (number, operator) in self.operators.iter_mut().enumerate() {
            operator.process(&mut work)?;
            if number < passed && work.dead.is_empty() {
                work.keep.fill(true);
                work.filtered.clear();
            }
        }
        let rows =
            work.finish().map_err(|error| Failure::stop(format!("the clean rows do not fit their schema: {error}")))?;
        Ok(Cleaned { rows, dead: work.dead, filtered: work.filtered })
    }

    fn tick(&mut self, at: i64) {
        self.operators.iter_mut().for_each(|operator| operator.tick(at));
    }

    /// Length-prefixed: the series' keys, then each operator's state.
    fn snapshot(&self) -> Vec<u8> {
        let mut state = Vec::new();
        let mut put = |bytes: &[u8]| {
            state.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            state.extend_from_slice(bytes);
        };
        put(&(self.index.len() as u64).to_le_bytes());
        self.index.encoded().iter().for_each(|key| put(key));
        self.operators.iter().for_each(|operator| put(&operator.snapshot()));
        state
    }

    fn restore(&mut self, mut state: &[u8]) -> Option<()> {
        let mut take = || -> Option<&[u8]> {
            let (length, rest) = state.split_first_chunk::<8>()?;
            let (bytes, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
            state = rest;
            Some(bytes)
        };
        let count = u64::from_le_bytes(take()?.try_into().ok()?);
        let mut keys = Vec::new();
        for _ in 0..count {
            keys.push(take()?.to_vec());
        }
        self.index = SeriesIndex::restore(self.layout.layout.tags(), keys);
        for operator in &mut self.operators {
            operator.restore(take()?).ok()?;
        }
        Some(())
    }
}

impl Chain {
    /// Takes over the series, and the state of every cleaner that stands in both chains with an unchanged block.
    fn take_over(&mut self, old: &Self, blocks: &[Block], old_blocks: &[Block]) {
        let keys = old.index.encoded().iter().map(|key| key.to_vec());
        self.index = SeriesIndex::restore(self.layout.layout.tags(), keys);
        for (operator, block) in self.operators.iter_mut().zip(blocks) {
            let Some(held) = old_blocks.iter().position(|old| old.same_as(block)) else { continue };
            let state = old.operators.get(held).map(|old| old.snapshot()).unwrap_or_default();
            if let Err(error) = operator.restore(&state) {
                tracing::warn!(cleaner = block.name, %error, "a cleaner could not keep its state and begins anew");
            }
        }
    }
}

/// Where a reload leaves a chain for a partition's stage.
pub(crate) type Orders = Arc<Mutex<Option<Order>>>;

/// A chain that shall take over.
pub(crate) struct Order {
    pub(crate) build: Box<dyn Fn() -> Chain + Send>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) snapshots: Snapshots,
    pub(crate) snapshot_every: Duration,
    /// Told when it has.
    pub(crate) done: Sender<()>,
}

/// Everything that one partition's cleaning needs.
pub(crate) struct CleanStage {
    pub(crate) build: Box<dyn Fn() -> Chain + Send>,
    /// What the chain is built from.
    pub(crate) blocks: Vec<Block>,
    pub(crate) orders: Orders,
    pub(crate) reader: Box<dyn LogReader>,
    pub(crate) writer: Arc<Mutex<Box<dyn LogWriter>>>,
    pub(crate) snapshots: Snapshots,
    pub(crate) snapshot_every: Duration,
    pub(crate) board: Board,
    pub(crate) meter: Arc<Meter>,
    /// Rows worked through, over all partitions: the door's lag bound.
    pub(crate) consumed: Arc<AtomicU64>,
    /// Input offset from which this stage still needs rows, for retention.
    pub(crate) keep_from: Arc<AtomicU64>,
    pub(crate) space: Arc<Space>,
    pub(crate) stop: Stop,
}

/// A state that becomes a snapshot once the output is durable up to `output`.
struct Pending {
    snapshot: Snapshot,
    output: u64,
}

/// A partition's cleaning under way: the chain, and where it stands.
pub(crate) struct Cleaning {
    chain: Chain,
    position: Position,
    counts: Counts,
    pending: Option<Pending>,
}

impl CleanStage {
    /// Runs until the stop is set and the input is worked through.
    pub(crate) fn run(mut self) {
        let mut backoff = Backoff::default();
        // A failure of the log is retried from the position that the output names, with the state built anew.
        while let Err(failure) = self.run_once(&mut backoff) {
            let wait = backoff.next();
            tracing::warn!(error = %failure, wait_ms = wait.as_millis(), "cleaning waits");
            self.meter.errors.fetch_add(1, Relaxed);
            self.meter.state(StageState::BackingOff, Some(failure.to_string()));
            if self.stop.wait(wait) {
                return;
            }
        }
        self.meter.state(StageState::Finished, None);
    }

    /// Goes on from where the output ends.
    pub(crate) fn begin(&mut self) -> Result<Cleaning, Failure> {
        let newest = lock(&self.writer).newest();
        let counts = newest.as_ref().map(|head| head.meta.counts.clone()).unwrap_or_default();
        let oldest = self.reader.oldest().map_err(from_log)?;
        let done = newest.and_then(|head| head.meta.input).map_or(Position { epoch: 0, offset: oldest }, |i| {
            Position { epoch: i.epoch, offset: if planted(Bug::SendTwice) { i.from } else { i.to } }
        });
        let chain = self.recover(done, oldest)?;
        Ok(Cleaning { chain, position: done, counts, pending: None })
    }

    /// Works through what can be read at once; whether there was anything.
    pub(crate) fn advance(&mut self, at: &mut Cleaning) -> Result<bool, Failure> {
        let groups = coalesced(self.reader.read(at.position.offset, BUDGET, End::Published).map_err(from_log)?)?;
        let any = !groups.is_empty();
        for frames in groups {
            at.position = self.step(&mut at.chain, &frames, &mut at.counts)?;
        }
        Ok(any)
    }

    fn run_once(&mut self, backoff: &mut Backoff) -> Result<(), Failure> {
        let mut at = self.begin()?;
        let mut saved = Instant::now();
        loop {
            if self.stop.is_overdue() {
                return Ok(());
            }
            let order = lock(&self.orders).take();
            if let Some(order) = order {
                self.hand_over(order, &mut at);
                saved = Instant::now();
            }
            if !self.reader.wait(at.position.offset, End::Published, WAIT) {
                self.meter.state(StageState::Waiting, None);
                if self.stop.is_set() && self.reader.published() <= at.position.offset {
                    self.save(&mut at, true);
                    return Ok(());
                }
            }
            if self.advance(&mut at)? {
                backoff.reset();
            } else if self.reader.published() > at.position.offset {
                self.stop.wait(DAMAGE_PAUSE); // quarantined: nothing readable follows yet
            }
            if saved.elapsed() >= self.snapshot_every {
                saved = Instant::now();
                self.save(&mut at, false);
            }
        }
    }

    /// The chain as it was when the output was written: newest snapshot, then a replay up to `done`.
    fn recover(&mut self, done: Position, oldest: u64) -> Result<Chain, Failure> {
        let mut chain = (self.build)();
        let mut from = oldest;
        if let Some(snapshot) = self.snapshots.load(done)?.filter(|s| s.position.offset >= oldest) {
            if chain.restore(&snapshot.state).is_some() {
                from = snapshot.position.offset;
            } else {
                tracing::warn!("a snapshot does not fit the chain; cleaning replays what the log still holds");
                chain = (self.build)();
            }
        }
        while from < done.offset {
            let mut frames = self.reader.read(from, BUDGET, End::Published).map_err(from_log)?;
            frames.retain(|frame| frame.end <= done.offset);
            let Some(last) = frames.last() else { break };
            from = last.end;
            for frames in coalesced(frames)? {
                run_chain(&mut chain, &frames)?;
            }
        }
        Ok(chain)
    }

    /// A new chain takes over where the old one stands.
    fn hand_over(&mut self, order: Order, at: &mut Cleaning) {
        let Order { build, blocks, snapshots, snapshot_every, done } = order;
        let mut next = build();
        next.take_over(&at.chain, &blocks, &self.blocks);
        let state = next.snapshot();
        (self.build, self.blocks, self.snapshots, self.snapshot_every) = (build, blocks, snapshots, snapshot_every);
        (at.chain, at.pending) = (next, None);
        // Until the new settings have two generations of their own, a restart may need all that is held.
        self.keep_from.store(self.snapshots.oldest().map_or(0, |old| old.position.offset), Relaxed);
        let saved = match self.is_durable(HANDOVER) {
            true => self.snapshots.save(&Snapshot { position: at.position, state }).map_err(|error| error.to_string()),
            false => Err("what the old chain wrote is not durable yet".into()),
        };
        if let Err(error) = saved {
            tracing::warn!(
                error,
                "the new chain begins without a snapshot; a restart before the next one replays what the log holds"
            );
        }
        _ = done.send(()); // who waits for it may have lost patience
    }

    /// Waits until all that was written is durable: a snapshot may not stand on less.
    fn is_durable(&self, patience: Duration) -> bool {
        let (end, writer) = (Instant::now() + patience, &self.writer);
        let durable = || {
            let writer = lock(writer);
            writer.durable() >= writer.published()
        };
        while !durable() {
            if Instant::now() >= end || self.stop.wait(HANDOVER_STEP) {
                return durable();
            }
        }
        true
    }

    /// One batch: input frames of one epoch in, one output frame out.
    fn step(&mut self, chain: &mut Chain, frames: &[Frame], counts: &mut Counts) -> Result<Position, Failure> {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else { return Err(Failure::stop("no frames")) };
        let input = InputRange { epoch: first.epoch, from: first.first, to: last.end };
        let word = first.meta.letter.as_deref();
        let cleaned = run_chain(chain, frames)?;
        let now = now();
        let (mut next, mut passed) = (counts.clone(), 0);
        for frame in frames {
            let lost = lost_before(frame, 0, names::RECEIVED, &next);
            add(&mut next, names::LOST, lost);
            add(&mut next, names::CONSUMED, frame.num_rows as u64);
            passed += lost + frame.num_rows as u64;
        }
        let mut sections = Vec::new();
        let mut rows = 0;
        if let Some(cleaned) = cleaned {
            rows = cleaned.rows.num_rows();
            add(&mut next, names::CLEAN, rows as u64);
            add(&mut next, names::DEAD, cleaned.dead.len() as u64);
            for (rule, count) in &cleaned.filtered {
                add(&mut next, &format!("{}{rule}", names::FILTERED), *count);
            }
            if rows > 0 {
                sections.push((SectionKind::Rows, cleaned.rows));
            }
            if !cleaned.dead.is_empty() {
                sections.push((SectionKind::DeadLetters, dead_letter::batch(&cleaned.dead, now)));
            }
        }
        add(&mut next, names::RETRIED, u64::from(word.is_some_and(|word| word.is_retry_at(Stage::Clean))));
        add(&mut next, names::ROWLESS, u64::from(rows == 0));
        let (mut kind, mut letter) = (last.meta.kind, None);
        if let Some(word) = word {
            kind = FrameKind::Rows;
            let row = first.section(SectionKind::Retried).map_err(from_log)?;
            if let Some(row) = row.filter(|_| word.is_retry_at(Stage::Model)) {
                // Not for us: it is passed on untouched, and `clean` does not count the row again.
                sections.push((SectionKind::Retried, row.clone()));
                (kind, letter) = (FrameKind::Letter, Some(Box::new(word.clone())));
            }
        }
        let meta = FrameMeta { kind, input: Some(input), counts: next, letter, ..FrameMeta::default() };
        let draft = FrameDraft { meta, ingest_time: last.ingest_time, sections };
        let end = derived::append(&self.writer, &draft, &self.space, &self.stop, &self.meter)?.end;
        *counts = draft.meta.counts;
        self.board.publish(counts, end);
        self.consumed.fetch_add(passed, Relaxed);
        self.meter.rows.fetch_add(rows as u64, Relaxed);
        self.meter.lag.store(self.reader.published().saturating_sub(input.to), Relaxed);
        self.meter.latency.note(crate::wall::now() - first.ingest_time);
        self.meter.state(StageState::Running, None);
        Ok(Position { epoch: input.epoch, offset: input.to })
    }

    /// Notes the state now, and writes the one noted before if its output has become durable.
    pub(crate) fn save(&self, at: &mut Cleaning, last: bool) {
        if let Some(ready) = at.pending.take_if(|p| lock(&self.writer).durable() >= p.output) {
            match self.snapshots.save(&ready.snapshot) {
                Ok(()) => self.keep_from.store(self.snapshots.oldest().map_or(0, |old| old.position.offset), Relaxed),
                Err(error) => {
                    tracing::warn!(%error, "a snapshot of cleaning could not be saved; the next restart replays more")
                }
            }
        }
        if at.pending.is_none() && !last {
            let output = lock(&self.writer).published();
            let snapshot = Snapshot { position: at.position, state: at.chain.snapshot() };
            at.pending = Some(Pending { snapshot, output });
        }
    }
}

/// Frames that are worked through together: of one epoch, ticks and words on letters alone, small ones up to [`COALESCE`] rows.
fn coalesced(frames: Vec<Frame>) -> Result<Vec<Vec<Frame>>, Failure> {
    let mut groups: Vec<Vec<Frame>> = Vec::new();
    let mut rows = 0;
    for frame in frames {
        let more = frame.num_rows;
        let alone = frame.meta.kind != FrameKind::Rows;
        match groups.last_mut() {
            Some(group)
                if !alone
                    && same_columns(&group[0], &frame).map_err(from_log)?
                    && group[0].epoch == frame.epoch
                    && group[0].meta.kind == FrameKind::Rows
                    && rows + more <= COALESCE =>
            {
                rows += more;
                group.push(frame);
            }
            _ => {
                rows = more;
                groups.push(vec![frame]);
            }
        }
    }
    Ok(groups)
}

/// Whether the frames can be put together: neither has rows, or those of both have the same columns.
pub(crate) fn same_columns(left: &Frame, right: &Frame) -> Result<bool, LogError> {
    Ok(match (left.rows()?, right.rows()?) {
        (Some(left), Some(right)) => left.schema_ref() == right.schema_ref(),
        _ => true,
    })
}

fn run_chain(chain: &mut Chain, frames: &[Frame]) -> Result<Option<Cleaned>, Failure> {
    for tick in frames.iter().filter(|frame| frame.meta.kind == FrameKind::Tick) {
        chain.tick(tick.ingest_time);
    }
    if let [frame] = frames
        && let Some(word) = frame.meta.letter.as_deref().filter(|word| word.is_retry_at(Stage::Clean))
        && let Some(row) = frame.section(SectionKind::Retried).map_err(from_log)?
    {
        let row = fitted(&chain.layout.layout, row)?;
        return chain.send_back(row, frame.first, &word.component).map(Some);
    }
    let batches = frames.iter().filter_map(|frame| frame.rows().transpose()).map(|rows| rows.cloned());
    let batches: Vec<RecordBatch> = batches.collect::<Result<_, _>>().map_err(from_log)?;
    let rows = batch::concat(&batches)
        .map_err(|error| Failure::stop(format!("frames of `received` do not fit together: {error}")))?;
    let Some(mut rows) = rows else { return Ok(None) };
    if rows.schema_ref() != &chain.layout.layout.schema {
        // Received before the schema of the pipeline file was changed: columns are found by name.
        rows = fitted(&chain.layout.layout, &rows)?;
    }
    let offsets = frames.iter().flat_map(|frame| (frame.first..).take(frame.num_rows)).collect();
    chain.process(rows, offsets).map(Some)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What has passed by itself before is tried again (descriptors ran out, a broker elects a leader); what cannot pass is not.
pub(crate) fn from_log(error: LogError) -> Failure {
    match error {
        LogError::Damaged(_) | LogError::ReadOnly(_) => Failure::stop(error),
        LogError::Full(why) | LogError::NotFound(why) | LogError::Other(why) => Failure::retry(why),
    }
}
