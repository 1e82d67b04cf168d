//! Models: one thread a model and partition asks a runtime about the next rows of `clean` and appends its answers.
//!
//! Exactly once: an answer and the position it belongs to are one append. A runtime that failed is brought back by
//! its newest snapshot and a replay of the rows since, without those that the output records as dead or skipped. A
//! batch that fails again is halved down to the row, each half from the restored state; that row becomes a dead letter
//! with its traceback and all others are scored. Ingest never notices: only this thread waits. At the end of `clean` the
//! runtime waits by itself, where it can ([`tail`]).

pub(crate) mod answer;
pub(crate) mod batch;
mod replay;
mod tail;

use crate::catalog::{Snapshot, Snapshots};
use crate::config::ModelSection;
use crate::derived;
use crate::ledger::{Board, Counts, add, names};
use crate::metrics::{Meter, StageState};
use crate::policy::Backoff;
use crate::run::clean::{DAMAGE_PAUSE, from_log};
use crate::space::Space;
use crate::stop::Stop;
use crate::wall::now;
use answer::AnswerLayout;
use arrow::array::RecordBatch;
use batch::{Batch, Excluded};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tail::Tail;
use trackside_core::batch::{row_json, times};
use trackside_core::dead_letter::{self, DeadLetter, Stage};
use trackside_core::error::Failure;
use trackside_core::log::{
    Budget, End, Frame, FrameDraft, FrameKind, FrameMeta, LogError, LogReader, LogWriter, SectionKind,
};
use trackside_core::model::{ModelCard, ModelFault, ModelReply, ModelRuntime};
use trackside_core::position::{InputRange, Position};

pub(crate) const BUDGET: Budget = Budget { bytes: 4 << 20, frames: 256 };
/// How long a wait for input lasts before the stop signal is looked at again.
const WAIT: Duration = Duration::from_millis(100);
/// How long a series that learns is remembered after it was heard of.
const LEARNING: Duration = Duration::from_secs(3);
/// Rows in a row that may become dead letters before the model as a whole counts as broken.
const MAX_DEAD_IN_A_ROW: u32 = 1000;
/// Length of a reason in a dead letter.
const MAX_REASON: usize = 500;

/// How a model is doing, for the page.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct ModelState {
    /// Version that it said it is.
    pub version: String,
    /// `starting`, `running`, `learning`, `restarting` or `failed`.
    pub state: &'static str,
    /// Of the series that has learnt least: rows seen and needed.
    pub learning: Option<(u64, u64)>,
    /// Process of the worker.
    pub pid: Option<u32>,
    /// How often it was brought back.
    pub restarts: u64,
    /// The last failure, in full.
    pub last_error: Option<String>,
    /// Its code cannot be loaded: until somebody mends it, it scores nothing.
    pub cannot_load: bool,
}

/// Everything that one model needs for one partition.
pub(crate) struct ModelStage {
    pub(crate) model: ModelSection,
    pub(crate) partition: u32,
    pub(crate) runtime: Box<dyn ModelRuntime>,
    pub(crate) reader: Box<dyn LogReader>,
    /// Its own output: what was dead or skipped.
    pub(crate) output: Box<dyn LogReader>,
    pub(crate) writer: Arc<Mutex<Box<dyn LogWriter>>>,
    pub(crate) layout: AnswerLayout,
    pub(crate) snapshots: Snapshots,
    pub(crate) snapshot_every: Duration,
    pub(crate) board: Board,
    pub(crate) meter: Arc<Meter>,
    pub(crate) state: Arc<Mutex<ModelState>>,
    /// Offsets of input and output from which rows are still needed, for retention.
    pub(crate) keep_from: Arc<AtomicU64>,
    pub(crate) keep_output_from: Arc<AtomicU64>,
    pub(crate) space: Arc<Space>,
    pub(crate) stop: Stop,
}

/// What a running model's loop carries along.
struct Session {
    card: ModelCard,
    position: Position,
    counts: Counts,
    saved: Instant,
    pending: Option<(Snapshot, u64)>,
    dead_in_a_row: u32,
    /// The series that has learnt least, of those that were heard of lately, and when that was.
    learning: Option<((u64, u64), Instant)>,
    /// What the runtime is asked when there is nothing to ask about.
    tail: Tail,
    /// The worker was replaced for its size and has answered nothing since.
    recycled: bool,
    /// Bytes that it may take whatever the limit says, because a fresh one takes them.
    allowed: u64,
    /// Rows before the first that the log still held when the model was new: nobody kept them for it.
    trimmed: bool,
}

impl Session {
    fn new(card: ModelCard, position: Position, counts: Counts) -> Self {
        Self {
            card,
            position,
            trimmed: counts.is_empty() && position.offset > 0,
            counts,
            saved: Instant::now(),
            pending: None,
            dead_in_a_row: 0,
            learning: None,
            tail: Tail::default(),
            recycled: false,
            allowed: 0,
        }
    }

    /// A reply tells of its own series; others learn on meanwhile, and are heard of again within seconds.
    fn learning(&mut self, told: Option<(u64, u64)>) -> Option<(u64, u64)> {
        let known = self.learning.filter(|(_, at)| at.elapsed() < LEARNING);
        let told = told.map(|learning| (learning, Instant::now()));
        self.learning = match (known, told) {
            (Some(known), Some(told)) if known.0.0 < told.0.0 => Some(known),
            (known, told) => told.or(known),
        };
        self.learning.map(|(learning, _)| learning)
    }
}

impl ModelStage {
    /// Runs until the stop is set and the input is worked through.
    pub(crate) fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut told = String::new();
        while let Err(failure) = self.run_once(&mut backoff) {
            let wait = backoff.next();
            self.report(&failure, &mut told, wait);
            self.meter.errors.fetch_add(1, Relaxed);
            self.meter.state(StageState::BackingOff, Some(failure.to_string()));
            self.tell(|state| {
                state.state = "failed";
                state.last_error = Some(failure.to_string());
            });
            self.runtime.stop();
            if let Err(error) = self.skip_backlog() {
                tracing::warn!(%error, "rows could not be counted as skipped");
            }
            if self.stop.wait(wait) {
                return;
            }
        }
        self.runtime.stop();
        self.meter.state(StageState::Finished, None);
    }

    /// Tells a failure in full once, and in a line for as long as it is the same.
    fn report(&self, failure: &Failure, told: &mut String, wait: Duration) {
        let text = failure.to_string();
        let wait_ms = wait.as_millis();
        if *told == text {
            let error = text.lines().next().unwrap_or_default();
            tracing::warn!(model = self.model.name, error, wait_ms, "a model still waits, for the same reason");
        } else {
            tracing::warn!(model = self.model.name, wait_ms, "a model waits: {text}");
            *told = text;
        }
    }

    fn run_once(&mut self, backoff: &mut Backoff) -> Result<(), Failure> {
        let mut session = self.open()?;
        loop {
            if self.stop.is_overdue() {
                return Ok(());
            }
            let before = session.position.offset;
            if !self.wait(&mut session)? {
                self.meter.state(StageState::Waiting, None);
                if self.stop.is_set() && self.reader.published() <= session.position.offset {
                    return Ok(());
                }
            }
            if session.position.offset > before {
                backoff.reset();
            }
            self.skip(&mut session)?;
            let frames = self.read(session.position.offset).map_err(from_log)?;
            if frames.is_empty() && self.reader.published() > session.position.offset {
                self.stop.wait(DAMAGE_PAUSE);
            }
            let max_frames = if session.card.split { 1 } else { usize::MAX };
            while let Some(batch) =
                Batch::gather(&frames, session.position.offset, self.model.max_batch, max_frames, u64::MAX)
                    .map_err(from_log)?
            {
                self.step(&mut session, batch)?;
                backoff.reset();
                if self.stop.is_overdue() {
                    return Ok(());
                }
            }
            self.keep_state(&mut session)?;
        }
    }

    /// Brings the model to where its output ends.
    fn open(&mut self) -> Result<Session, Failure> {
        self.tell(|state| state.state = "starting");
        let newest = lock(&self.writer).newest();
        let oldest = self.reader.oldest().map_err(from_log)?;
        let position = newest
            .as_ref()
            .and_then(|head| head.meta.input)
            .map_or(Position { epoch: 0, offset: oldest }, |i| Position { epoch: i.epoch, offset: i.to });
        let counts = newest.map(|head| head.meta.counts).unwrap_or_default();
        let card = self.bring_back(position).map_err(|fault| {
            self.tell(|state| state.cannot_load = matches!(fault, ModelFault::CannotLoad { .. }));
            from_fault(fault)
        })?;
        self.tell(|state| state.cannot_load = false);
        Ok(Session::new(card, position, counts))
    }

    /// The next frames; shared, for a batch holds on to those that it takes rows of.
    fn read(&mut self, from: u64) -> Result<Vec<Arc<Frame>>, LogError> {
        let frames = self.reader.read(from, BUDGET, End::Published)?;
        Ok(frames.into_iter().map(|frame| Arc::new(batch::sent_back(frame, &self.model.name))).collect())
    }

    fn step(&mut self, session: &mut Session, batch: Batch) -> Result<(), Failure> {
        if batch.rows() == 0 {
            return self.commit(session, &batch, None, None);
        }
        match self.runtime.update(&batch.request(false, &Excluded::default())) {
            Ok(reply) => self.accept(session, &batch, &reply),
            Err(fault) => self.survive(session, batch, fault),
        }
    }

    fn accept(&mut self, session: &mut Session, batch: &Batch, reply: &ModelReply) -> Result<(), Failure> {
        self.commit(session, batch, Some(reply), None)?;
        session.dead_in_a_row = 0;
        session.tail.died = false;
        let learning = session.learning(reply.learning.filter(|(seen, needed)| seen < needed));
        self.tell(|state| {
            state.learning = learning;
            state.state = if state.learning.is_some() { "learning" } else { "running" };
        });
        if let Some(received) = batch.received_at() {
            self.meter.latency.note(now() - received);
        }
        self.meter.state(StageState::Running, None);
        if reply.rss.is_some_and(|rss| rss > session.allowed.max(self.model.memory_mib << 20)) {
            self.outgrown(session, reply.rss.unwrap_or_default())?;
        }
        session.recycled = false;
        Ok(())
    }

    /// The worker is over its limit. One that is so with its first batch is no leak, and would be at once again.
    fn outgrown(&mut self, session: &mut Session, rss: u64) -> Result<(), Failure> {
        if !session.recycled {
            return self.recycle(session);
        }
        session.allowed = rss + rss / 4;
        let (model, limit_mib, mib) = (&self.model.name, self.model.memory_mib, rss >> 20);
        tracing::warn!(model, limit_mib, mib, "a fresh worker needs more than its limit; set a higher `memory_mib`");
        Ok(())
    }

    /// A worker that has grown too large hands its state to a fresh one, between batches.
    fn recycle(&mut self, session: &mut Session) -> Result<(), Failure> {
        tracing::info!(
            model = self.model.name,
            limit_mib = self.model.memory_mib,
            "a worker is over its memory limit and is replaced"
        );
        let fresh = self.runtime.snapshot().and_then(|state| {
            self.runtime.stop();
            self.runtime.start(Some(&state))
        });
        session.card = match fresh {
            Ok(card) => card,
            Err(_) => self.bring_back(session.position).map_err(from_fault)?,
        };
        session.recycled = true;
        let pid = self.runtime.pid();
        self.tell(|state| {
            state.restarts += 1;
            state.pid = pid;
        });
        Ok(())
    }

    /// The batch failed: from the restored state, try it again in ever smaller parts.
    fn survive(&mut self, session: &mut Session, batch: Batch, fault: ModelFault) -> Result<(), Failure> {
        self.note(&fault);
        session.card = self.bring_back(session.position).map_err(from_fault)?;
        let mut state = self.state(session)?;
        // A worker that was killed from outside deserves the same batch once more; code that raised would raise again.
        let mut parts = match fault {
            ModelFault::Raised { .. } | ModelFault::Late(_) if batch.rows() > 1 => {
                let (left, right) = batch.halves();
                vec![right, left]
            }
            _ => vec![batch],
        };
        while let Some(part) = parts.pop() {
            match self.runtime.update(&part.request(false, &Excluded::default())) {
                Ok(reply) => {
                    self.accept(session, &part, &reply)?;
                    if !parts.is_empty() {
                        state = self.state(session)?;
                    }
                }
                Err(fault) => {
                    self.note(&fault);
                    match (&fault, &state) {
                        (ModelFault::Raised { .. }, Some(state)) => self.runtime.restore(state),
                        (_, Some(state)) => self.runtime.start(Some(state)).map(|card| session.card = card),
                        (_, None) => self.bring_back(session.position).map(|card| session.card = card),
                    }
                    .map_err(from_fault)?;
                    if part.rows() > 1 {
                        let (left, right) = part.halves();
                        parts.extend([right, left]);
                        continue;
                    }
                    self.commit(session, &part, None, Some(&fault))?;
                    session.dead_in_a_row += 1;
                    if session.dead_in_a_row >= MAX_DEAD_IN_A_ROW {
                        return Err(Failure::retry(format!(
                            "the model fails on every row ({fault}); it is given a rest"
                        )));
                    }
                }
            }
        }
        let pid = self.runtime.pid();
        self.tell(|state| state.pid = pid);
        Ok(())
    }

    /// Its state between two parts of a batch; none when it cannot be saved: then it is brought back by a replay, which takes
    /// longer and comes to the same.
    fn state(&mut self, session: &mut Session) -> Result<Option<Vec<u8>>, Failure> {
        match self.runtime.snapshot() {
            Ok(state) => return Ok(Some(state)),
            Err(ModelFault::Raised { error, .. }) => {
                tracing::warn!(
                    model = self.model.name,
                    error,
                    "a model's state cannot be saved; its rows are replayed"
                );
            }
            Err(_) => session.card = self.bring_back(session.position).map_err(from_fault)?,
        }
        Ok(None)
    }

    fn note(&self, fault: &ModelFault) {
        let text = match fault {
            ModelFault::Raised { error, traceback } | ModelFault::CannotLoad { error, traceback } => {
                format!("{error}\n{traceback}")
            }
            other => other.to_string(),
        };
        tracing::warn!(model = self.model.name, error = %fault, "a model failed; it goes on from its last state");
        self.meter.errors.fetch_add(1, Relaxed);
        self.tell(|state| {
            state.restarts += 1;
            state.state = "restarting";
            state.last_error = Some(text.trim_end().to_owned());
        });
    }

    /// One append: answers, forecasts or a dead letter, with the input range and the counts.
    fn commit(
        &mut self,
        session: &mut Session,
        batch: &Batch,
        reply: Option<&ModelReply>,
        fault: Option<&ModelFault>,
    ) -> Result<(), Failure> {
        let now = now();
        let mut counts = session.counts.clone();
        let mut sections = Vec::new();
        let unfit = |error| {
            Failure::stop(format!("the answers of model `{}` do not fit their schema: {error}", self.model.name))
        };
        batch.count(&mut counts, session.trimmed);
        if let Some(table) = batch.table().map_err(unfit)? {
            if let Some(reply) = reply {
                let scores = self
                    .layout
                    .score_rows(self.partition, &table, &batch.keys(), &session.card, reply)
                    .map_err(unfit)?;
                let forecasts = self.layout.forecast_rows(&table, &session.card, reply).map_err(unfit)?;
                add(&mut counts, names::SCORED, batch.rows() as u64);
                add(&mut counts, names::ANOMALIES, reply.anomaly.iter().filter(|anomaly| **anomaly).count() as u64);
                add(&mut counts, names::FORECASTS, forecasts.as_ref().map_or(0, |rows| rows.num_rows() as u64));
                self.meter.rows.fetch_add(batch.rows() as u64, Relaxed);
                sections.push((SectionKind::Rows, scores));
                sections.extend(forecasts.map(|rows| (SectionKind::Forecasts, rows)));
            }
            if let Some(fault) = fault {
                add(&mut counts, names::DEAD, batch.rows() as u64);
                let letters = self.letters(&table, &batch.offsets(), fault);
                sections.push((SectionKind::DeadLetters, dead_letter::batch(&letters, now)));
            }
        }
        self.append(session, batch.range, FrameKind::Rows, counts, sections, batch.received_at().unwrap_or(now))
    }

    fn append(
        &mut self,
        session: &mut Session,
        input: InputRange,
        kind: FrameKind,
        mut counts: Counts,
        sections: Vec<(SectionKind, RecordBatch)>,
        ingest_time: i64,
    ) -> Result<(), Failure> {
        let rowless = !sections.iter().any(|(kind, _)| *kind == SectionKind::Rows);
        add(&mut counts, names::ROWLESS, u64::from(rowless));
        let meta = FrameMeta { kind, input: Some(input), counts, ..FrameMeta::default() };
        let draft = FrameDraft { meta, ingest_time, sections };
        let end = derived::append(&self.writer, &draft, &self.space, &self.stop, &self.meter)?.end;
        self.board.publish(&draft.meta.counts, end);
        session.counts = draft.meta.counts;
        session.position = Position { epoch: input.epoch, offset: input.to };
        self.meter.lag.store(self.reader.published().saturating_sub(input.to), Relaxed);
        Ok(())
    }

    fn letters(&self, rows: &RecordBatch, offsets: &[u64], fault: &ModelFault) -> Vec<DeadLetter> {
        let (reason, detail) = match fault {
            ModelFault::Raised { error, traceback } | ModelFault::CannotLoad { error, traceback } => {
                (error.clone(), Some(traceback.clone()))
            }
            ModelFault::Died(why) | ModelFault::Late(why) => {
                (why.lines().next().unwrap_or_default().to_owned(), Some(why.clone()))
            }
        };
        let letter = |(row, offset): (usize, &u64)| DeadLetter {
            stage: Stage::Model,
            component: self.model.name.clone(),
            reason: reason.chars().take(MAX_REASON).collect(),
            time: times(rows).map(|times| times.value(row)),
            offset: Some(*offset),
            row: Some(serde_json::Value::Object(row_json(rows, row)).to_string()),
            payload: None,
            detail: detail.clone().filter(|text| !text.is_empty()),
        };
        offsets.iter().enumerate().map(letter).collect()
    }

    /// The backlog of a model that does not run: its output tells where it stands.
    fn skip_backlog(&mut self) -> Result<(), Failure> {
        let newest = lock(&self.writer).newest();
        let oldest = self.reader.oldest().map_err(from_log)?;
        let offset = newest.as_ref().and_then(|head| head.meta.input).map_or(oldest, |input| input.to);
        let counts = newest.map(|head| head.meta.counts).unwrap_or_default();
        let mut session = Session::new(ModelCard::default(), Position { epoch: 0, offset }, counts);
        self.skip(&mut session)
    }

    /// Past the named backlog the oldest rows are counted as skipped: a model that is broken or too slow never stops
    /// ingest (law 8). What was skipped is no longer held for it either; a replay passes over it.
    fn skip(&mut self, session: &mut Session) -> Result<(), Failure> {
        let before = session.position.offset;
        while self.reader.published().saturating_sub(session.position.offset) > self.model.max_backlog {
            let offset = session.position.offset;
            let room = usize::try_from(self.reader.published() - offset - self.model.max_backlog).unwrap_or(usize::MAX);
            let frames = self.read(offset).map_err(from_log)?;
            let batch = Batch::gather(&frames, offset, room, usize::MAX, u64::MAX).map_err(from_log)?;
            let Some(batch) = batch else { break };
            let mut counts = session.counts.clone();
            batch.count(&mut counts, session.trimmed);
            add(&mut counts, names::SKIPPED, batch.rows() as u64);
            self.append(session, batch.range, FrameKind::Skipped, counts, Vec::new(), now())?;
        }
        if session.position.offset > before {
            tracing::warn!(
                model = self.model.name,
                backlog = self.model.max_backlog,
                "a model fell behind its backlog; rows were skipped"
            );
            self.keep_from.fetch_max(session.position.offset, Relaxed);
        }
        Ok(())
    }

    /// Takes a snapshot when it is due, and saves the one before once its output is durable.
    fn keep_state(&mut self, session: &mut Session) -> Result<(), Failure> {
        if let Some((snapshot, _)) = session.pending.take_if(|(_, output)| lock(&self.writer).durable() >= *output) {
            match self.snapshots.save(&snapshot) {
                Ok(()) => self.keep(),
                Err(error) => {
                    tracing::warn!(%error, "a model's snapshot could not be saved; the next restart replays more")
                }
            }
        }
        if session.pending.is_none() && session.saved.elapsed() >= self.snapshot_every {
            session.saved = Instant::now();
            match self.runtime.snapshot() {
                Ok(state) => {
                    let output = lock(&self.writer).published();
                    let state = [output.to_le_bytes().as_slice(), &state].concat();
                    session.pending = Some((Snapshot { position: session.position, state }, output));
                }
                // Its state is as it was: it goes on with it. Without a snapshot the next start replays more.
                Err(ModelFault::Raised { error, .. }) => {
                    tracing::warn!(
                        model = self.model.name,
                        error,
                        "a model's state cannot be saved; it is tried again"
                    );
                }
                Err(fault) => {
                    self.note(&fault);
                    session.card = self.bring_back(session.position).map_err(from_fault)?;
                }
            }
        }
        Ok(())
    }

    /// Input and output that the older snapshot still needs.
    fn keep(&self) {
        let Some(oldest) = self.snapshots.oldest() else { return };
        let output = oldest.state.first_chunk::<8>().map_or(0, |output| u64::from_le_bytes(*output));
        self.keep_from.store(oldest.position.offset, Relaxed);
        self.keep_output_from.store(output, Relaxed);
    }

    fn tell(&self, change: impl FnOnce(&mut ModelState)) {
        change(&mut lock(&self.state));
    }
}

fn from_fault(fault: ModelFault) -> Failure {
    match fault {
        ModelFault::CannotLoad { error, traceback } if !traceback.is_empty() => {
            Failure::retry(format!("{error}\n{traceback}"))
        }
        other => Failure::retry(other),
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
