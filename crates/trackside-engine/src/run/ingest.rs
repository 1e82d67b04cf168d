//! The door: deliveries of sources become frames in `received`, and acknowledgements follow the fsync.
//!
//! A delivery is split by series, room is reserved in every partition it goes to, and only then is the first frame
//! appended: a refusal stores nothing. Each partition has a thread that fsyncs whatever was published since the last
//! time (group commit) and then answers everyone who waited for it. Appending happens on the source's own thread; a
//! partition is locked for the length of one write.
//!
//! A replayable source's delivery writes a frame to *every* partition, with rows or without, so that each partition
//! knows for itself how much of the stream it holds (law 4).

mod letters;
mod split;

use crate::ledger::{Board, Counts, add, names};
use crate::metrics::{Meter, StageState};
use crate::space::Space;
use crate::stop::Stop;
use crate::wall::now;
use arrow::array::RecordBatch;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use trackside_core::dead_letter::{self, DeadLetter};
use trackside_core::log::{
    EpochStart, FrameDraft, FrameKind, FrameMeta, LogError, LogSync, LogWriter, Losses, SectionKind,
};
use trackside_core::planted::{Bug, planted};
use trackside_core::position::{Resume, SourcePositions, Stand};
use trackside_core::schema::Layout;
use trackside_core::source::{Ack, Delivery, Door, Outcome, Refused, SourceState};

/// When the disk is full, clients are asked to come back after this long.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Without anyone waiting for an acknowledgement, fsyncs are at least this far apart.
const IDLE_SYNC: Duration = Duration::from_millis(20);
/// How often a paused source looks whether there is room again.
const PAUSE_STEP: Duration = Duration::from_millis(5);
/// Bytes that a frame takes beside its columns: header, schema, dictionaries, counts.
const FRAME_OVERHEAD: u64 = 16 * 1024;
/// Bytes that a source's position in one stream takes in a frame, at most.
const STREAM_BYTES: u64 = 512;

/// `received`: all partitions with their writers.
pub(crate) struct Received {
    layout: Arc<Layout>,
    partitions: Vec<Partition>,
    /// Rows that cleaning may lag behind before sources wait.
    pub(crate) max_lag: AtomicU64,
    /// Rows that cleaning has worked through; written by `run/clean.rs`.
    pub(crate) consumed: Arc<AtomicU64>,
    appended: AtomicU64,
    /// Wall clock of the newest delivery, ns since 1970; 0 before the first.
    pub(crate) last_delivery: AtomicI64,
    /// Rows turned away with nothing stored.
    pub(crate) refused: AtomicU64,
    /// Set when the door closes for good.
    pub(crate) stop: Stop,
    /// The disk that it is written to.
    pub(crate) space: Arc<Space>,
}

struct Partition {
    writer: Mutex<Writer>,
    commits: Arc<Commits>,
    board: Board,
}

/// What is guarded by a partition's lock.
struct Writer {
    log: Box<dyn LogWriter>,
    counts: Counts,
    sources: BTreeMap<String, SourcePositions>,
    /// Where the log ended when counts and sources were brought up to it.
    end: u64,
    /// Where the newest frame of a source's stream ends, of those written since the start.
    ends: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Received {
    /// Takes over the writers, with the counts and positions of their newest frames.
    pub(crate) fn new(
        layout: Arc<Layout>,
        writers: Vec<Box<dyn LogWriter>>,
        max_lag: u64,
        stop: Stop,
        space: Arc<Space>,
    ) -> Arc<Self> {
        let partition = |log: Box<dyn LogWriter>| {
            let meta = log.newest().map(|head| head.meta).unwrap_or_default();
            let (commits, board) = (Commits::new(log.syncer()), Board::default());
            board.publish(&meta.counts, log.published());
            let (end, ends) = (log.published(), BTreeMap::new());
            let writer = Writer { log, counts: meta.counts, sources: meta.sources, end, ends };
            Partition { writer: Mutex::new(writer), commits, board }
        };
        let partitions: Vec<Partition> = writers.into_iter().map(partition).collect();
        let appended: u64 =
            partitions.iter().map(|p| p.board.read().0.get(names::RECEIVED).copied().unwrap_or(0)).sum();
        let (consumed, refused) = (Arc::default(), AtomicU64::new(0));
        let (appended, last_delivery) = (AtomicU64::new(appended), AtomicI64::new(0));
        let max_lag = AtomicU64::new(max_lag);
        Arc::new(Self { layout, partitions, max_lag, consumed, appended, last_delivery, refused, stop, space })
    }

    /// Starts the threads that make partitions durable. They end when `finish` is set and all is durable.
    pub(crate) fn start_syncing(self: &Arc<Self>, finish: &Stop) -> Vec<std::thread::JoinHandle<()>> {
        let start = |(number, partition): (usize, &Partition)| {
            let (commits, finish) = (partition.commits.clone(), finish.clone());
            let name = format!("sync-{number}");
            // Spawning fails only when the machine is out of threads, before any event was taken.
            std::thread::Builder::new().name(name).spawn(move || commits.run(&finish)).expect("a thread can be started")
        };
        self.partitions.iter().enumerate().map(start).collect()
    }

    /// Makes a partition durable and answers, on the caller's thread.
    #[cfg(feature = "testing")]
    pub(crate) fn commit(&self, partition: u32) {
        self.partitions[partition as usize].commits.commit();
    }

    /// Counts of each partition.
    pub(crate) fn boards(&self) -> impl Iterator<Item = &Board> {
        self.partitions.iter().map(|partition| &partition.board)
    }

    /// The syncer of a partition.
    pub(crate) fn syncer(&self, partition: u32) -> Arc<dyn LogSync> {
        self.partitions[partition as usize].commits.log.clone()
    }

    /// The reigns of a partition.
    pub(crate) fn epochs(&self, partition: u32) -> Vec<EpochStart> {
        lock(&self.partitions[partition as usize].writer).log.epochs()
    }

    /// Whether the end of the input is the newest thing that every partition knows.
    pub(crate) fn ends_marked(&self) -> bool {
        self.partitions
            .iter()
            .all(|p| lock(&p.writer).log.newest().is_some_and(|head| head.meta.kind == FrameKind::End))
    }

    /// Lets go of segments that nobody needs.
    pub(crate) fn retain(&self, partition: u32, keep_from: u64) -> Result<u64, LogError> {
        lock(&self.partitions[partition as usize].writer).log.retain(keep_from)
    }

    /// What of a partition turned out to be gone or damaged.
    pub(crate) fn losses(&self, partition: u32) -> Losses {
        lock(&self.partitions[partition as usize].writer).log.losses()
    }

    /// Bytes on disk of a partition.
    pub(crate) fn bytes(&self, partition: u32) -> u64 {
        lock(&self.partitions[partition as usize].writer).log.bytes()
    }

    /// Logs that time passed, or that all input ended, in every partition.
    pub(crate) fn mark(&self, kind: FrameKind) -> Result<(), LogError> {
        for partition in &self.partitions {
            let mut writer = lock(&partition.writer);
            self.settle(partition, &mut writer);
            add(&mut writer.counts, names::ROWLESS, 1);
            let (sources, counts) = (writer.sources.clone(), writer.counts.clone());
            let meta = FrameMeta { kind, sources, counts, ..FrameMeta::default() };
            let appended = writer.log.append(&FrameDraft { meta, ingest_time: now(), sections: Vec::new() });
            match appended {
                Ok(appended) => {
                    writer.end = appended.end;
                    partition.board.publish(&writer.counts, appended.end);
                    partition.commits.published();
                }
                Err(error) => {
                    writer.counts.entry(names::ROWLESS.into()).and_modify(|count| *count -= 1);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// An append that failed with its fate unknown may be stored after all (a broker's answer was lost). By the next one
    /// the log knows, and its newest frame counts.
    fn settle(&self, partition: &Partition, writer: &mut Writer) {
        let end = writer.log.published();
        if writer.end == end {
            return;
        }
        let meta = writer.log.newest().map(|head| head.meta).unwrap_or_default();
        let received = |counts: &Counts| counts.get(names::RECEIVED).copied().unwrap_or(0);
        self.appended.fetch_add(received(&meta.counts).saturating_sub(received(&writer.counts)), Relaxed);
        (writer.counts, writer.sources, writer.end) = (meta.counts, meta.sources, end);
        partition.board.publish(&writer.counts, end);
        partition.commits.published();
    }

    fn lag(&self) -> u64 {
        self.appended.load(Relaxed).saturating_sub(self.consumed.load(Relaxed))
    }

    fn resume(&self, source: &str) -> Resume {
        let positions: Vec<SourcePositions> =
            self.partitions.iter().map(|p| lock(&p.writer).sources.get(source).cloned().unwrap_or_default()).collect();
        let streams: BTreeSet<&String> = positions.iter().flat_map(BTreeMap::keys).collect();
        let mut resume = Resume::default();
        for stream in streams {
            let held = || positions.iter().map(|held| held.get(stream));
            let stands: BTreeSet<u64> = held().map(|stand| stand.map_or(0, |stand| stand.at)).collect();
            let checks: BTreeSet<(u64, u32)> =
                held().flatten().filter_map(|stand| Some((stand.at, stand.check?))).collect();
            resume.stands.insert(stream.clone(), stands.into_iter().collect());
            resume.checks.insert(stream.clone(), checks.into_iter().collect());
        }
        resume
    }

    /// Forgets streams in all partitions at once, each when all that any of them holds of it is durable: a partition
    /// that lost its tail in a crash would otherwise ask for a stream that the others know nothing of. The next frame
    /// of each partition tells the rest.
    fn forget(&self, source: &str, streams: &[String]) {
        // In the order in which deliveries lock them.
        let mut writers: Vec<MutexGuard<'_, Writer>> = self.partitions.iter().map(|p| lock(&p.writer)).collect();
        for stream in streams {
            let held = |writer: &MutexGuard<'_, Writer>| {
                let end = writer.ends.get(source).and_then(|ends| ends.get(stream));
                end.is_none_or(|end| *end <= writer.log.durable())
            };
            if writers.iter().all(held) {
                for writer in &mut writers {
                    writer.ends.get_mut(source).and_then(|ends| ends.remove(stream));
                    writer.sources.get_mut(source).and_then(|held| held.remove(stream));
                }
            }
        }
    }

    fn deliver(&self, source: &str, mut delivery: Delivery) -> Result<usize, Refused> {
        if self.stop.is_set() {
            return Err(Refused::Stopping);
        }
        let now = now();
        self.last_delivery.store(now, Relaxed);
        let ack = delivery.ack.take();
        let size = (delivery.rows.as_ref().map_or(0, RecordBatch::num_rows) + delivery.dead.len()).max(1) as u64;
        if delivery.span.is_none() && self.lag() > self.max_lag.load(Relaxed) {
            // Sources that can pause wait by themselves; the others' clients are asked to.
            return Err(self.full(size, format!("cleaning lags more than {} rows behind", self.max_lag.load(Relaxed))));
        }
        if let Some(why) = self.space.closed() {
            return Err(self.full(size, why));
        }
        let shares = self.split(source, &mut delivery, now);
        let rows = shares.iter().map(|(_, draft)| draft.rows()).sum::<usize>();
        let mut writers: Vec<(usize, MutexGuard<'_, Writer>, FrameDraft, Counts)> = Vec::with_capacity(shares.len());
        for (number, draft) in shares {
            let mut writer = lock(&self.partitions[number].writer);
            let bytes: u64 = draft.sections.iter().map(|(_, rows)| rows.get_array_memory_size() as u64).sum();
            let positions = writer.sources.values().map(|streams| streams.len() as u64 * STREAM_BYTES).sum::<u64>();
            let room = writer.log.reserve(bytes + positions + FRAME_OVERHEAD);
            if planted(Bug::DropWhenFull) && room.is_err() {
                Countdown::new(0, ack); // answers that all is well
                return Ok(rows);
            }
            room.map_err(|error| {
                self.space.refused();
                self.full(size, error.to_string())
            })?;
            self.settle(&self.partitions[number], &mut writer);
            if let Some(span) = &delivery.span
                && writer
                    .sources
                    .get(source)
                    .and_then(|held| held.get(&span.stream))
                    .is_some_and(|held| held.at >= span.to)
            {
                continue; // This partition holds it already: it was fsynced before a crash that others did not survive.
            }
            let counts = writer.counts.clone();
            writers.push((number, writer, draft, counts));
        }
        // From here on something may be stored: a failure means "unknown", never "no".
        let waiting = Countdown::new(writers.len(), ack);
        let mut failed = None;
        for (number, mut writer, mut draft, mut counts) in writers {
            let partition = &self.partitions[number];
            let taken = draft.rows() as u64;
            let dead = draft
                .sections
                .iter()
                .find(|(kind, _)| *kind == SectionKind::DeadLetters)
                .map_or(0, |(_, d)| d.num_rows() as u64);
            add(&mut counts, names::TAKEN, taken + dead);
            add(&mut counts, names::RECEIVED, taken);
            add(&mut counts, names::DEAD, dead);
            add(&mut counts, names::ROWLESS, u64::from(taken == 0));
            let mut sources = writer.sources.clone();
            if let Some(span) = &delivery.span {
                let stand = Stand { at: span.to, check: span.check };
                sources.entry(source.to_owned()).or_default().insert(span.stream.clone(), stand);
            }
            draft.meta = FrameMeta { sources, counts, ..FrameMeta::default() };
            match writer.log.append(&draft) {
                Ok(appended) => {
                    partition.board.publish(&draft.meta.counts, appended.end);
                    self.appended.fetch_add(taken, Relaxed);
                    (writer.counts, writer.sources, writer.end) = (draft.meta.counts, draft.meta.sources, appended.end);
                    if let Some(span) = &delivery.span {
                        let ends = writer.ends.entry(source.to_owned()).or_default();
                        ends.insert(span.stream.clone(), appended.end);
                    }
                    partition.commits.wait_for(appended.end, waiting.clone());
                }
                Err(error) => {
                    waiting.fail(&format!("received could not be written: {error}"));
                    failed = Some(error);
                }
            }
        }
        match failed {
            // Nobody waits for a replayable source's ack: it must hear of it here and deliver the span again. The
            // partitions that hold it already leave it out.
            Some(error) if delivery.span.is_some() => {
                Err(Refused::Full { reason: error.to_string(), retry_after: RETRY_AFTER })
            }
            _ => Ok(rows),
        }
    }

    fn full(&self, size: u64, reason: String) -> Refused {
        self.refused.fetch_add(size, Relaxed);
        Refused::Full { reason, retry_after: RETRY_AFTER }
    }

    /// Which partition gets what: (partition, frame). Dead letters go to partition 0.
    fn split(&self, source: &str, delivery: &mut Delivery, now: i64) -> Vec<(usize, FrameDraft)> {
        let count = self.partitions.len();
        let mut shares: Vec<Option<RecordBatch>> = vec![None; count];
        if let Some(rows) = delivery.rows.take().filter(|rows| rows.num_rows() > 0) {
            if count == 1 {
                shares[0] = Some(rows);
            } else {
                shares = split::by_partition(&rows, self.layout.tags(), count);
            }
        }
        let dead = std::mem::take(&mut delivery.dead);
        let letters = (!dead.is_empty()).then(|| dead_letter::batch(&named(dead, source), now));
        let everywhere = delivery.span.is_some();
        let draft = |(number, rows): (usize, Option<RecordBatch>)| {
            let mut sections: Vec<_> = rows.map(|rows| (SectionKind::Rows, rows)).into_iter().collect();
            if number == 0 {
                sections.extend(letters.clone().map(|letters| (SectionKind::DeadLetters, letters)));
            }
            (everywhere || !sections.is_empty())
                .then(|| (number, FrameDraft { meta: FrameMeta::default(), ingest_time: now, sections }))
        };
        shares.into_iter().enumerate().filter_map(draft).collect()
    }
}

fn named(mut letters: Vec<DeadLetter>, source: &str) -> Vec<DeadLetter> {
    letters
        .iter_mut()
        .filter(|letter| letter.component.is_empty())
        .for_each(|letter| source.clone_into(&mut letter.component));
    letters
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls the delivery's ack once, when every partition that it went to is durable, or one of them failed.
struct Countdown {
    left: Mutex<(usize, Option<Ack>)>,
}

impl Countdown {
    fn new(partitions: usize, ack: Option<Ack>) -> Arc<Self> {
        let countdown = Arc::new(Self { left: Mutex::new((partitions, ack)) });
        if partitions == 0 {
            countdown.answer(Outcome::Durable); // nothing new: all of it was held before
        }
        countdown
    }

    fn done(&self) {
        let last = {
            let mut left = lock(&self.left);
            left.0 = left.0.saturating_sub(1);
            left.0 == 0
        };
        if last {
            self.answer(Outcome::Durable);
        }
    }

    fn fail(&self, why: &str) {
        self.answer(Outcome::Unknown(why.to_owned()));
    }

    fn answer(&self, outcome: Outcome) {
        let ack = lock(&self.left).1.take();
        if let Some(ack) = ack {
            ack(outcome);
        }
    }

    fn is_awaited(&self) -> bool {
        lock(&self.left).1.is_some()
    }
}

/// Group commit of one partition.
struct Commits {
    log: Arc<dyn LogSync>,
    state: Mutex<CommitState>,
    changed: Condvar,
}

#[derive(Default)]
struct CommitState {
    dirty: bool,
    urgent: bool,
    waiting: VecDeque<(u64, Arc<Countdown>)>,
}

impl Commits {
    fn new(log: Arc<dyn LogSync>) -> Arc<Self> {
        Arc::new(Self { log, state: Mutex::default(), changed: Condvar::new() })
    }

    fn published(&self) {
        lock(&self.state).dirty = true;
        self.changed.notify_one();
    }

    fn wait_for(&self, end: u64, countdown: Arc<Countdown>) {
        if planted(Bug::AckBeforeFsync) {
            countdown.done();
        }
        let mut state = lock(&self.state);
        state.urgent |= countdown.is_awaited();
        state.dirty = true;
        state.waiting.push_back((end, countdown));
        drop(state);
        self.changed.notify_one();
    }

    fn run(&self, finish: &Stop) {
        loop {
            let mut state = lock(&self.state);
            while !state.dirty {
                if finish.is_set() {
                    return;
                }
                state = self
                    .changed
                    .wait_timeout(state, Duration::from_millis(50))
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            if !state.urgent && !finish.is_set() {
                // Nobody waits for an answer: let more come together, unless somebody does meanwhile.
                state = self
                    .changed
                    .wait_timeout_while(state, IDLE_SYNC, |s| !s.urgent)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            drop(state);
            self.commit();
        }
    }

    /// One fsync, and the answers to all whom it covers.
    fn commit(&self) {
        {
            let mut state = lock(&self.state);
            (state.dirty, state.urgent) = (false, false);
        }
        let result = self.log.sync();
        self.answer(result);
    }

    fn answer(&self, result: Result<u64, LogError>) {
        let mut state = lock(&self.state);
        let ready: Vec<_> = match &result {
            Ok(durable) => {
                let count = state.waiting.iter().take_while(|(end, _)| end <= durable).count();
                state.waiting.drain(..count).collect()
            }
            Err(_) => state.waiting.drain(..).collect(),
        };
        drop(state);
        if let Err(error) = &result {
            tracing::error!(%error, "received could not be made durable; nothing is acknowledged");
        }
        for (_, countdown) in ready {
            match &result {
                Ok(_) => countdown.done(),
                Err(error) => countdown.fail(&error.to_string()),
            }
        }
    }
}

/// One source's way in.
pub(crate) struct SourceDoor {
    pub(crate) name: String,
    pub(crate) received: Arc<Received>,
    pub(crate) meter: Arc<Meter>,
    /// This source's own: a reload may end it while the others go on. What it has in its hands is still taken.
    pub(crate) stop: Stop,
}

impl Door for SourceDoor {
    fn layout(&self) -> &Arc<Layout> {
        &self.received.layout
    }

    fn deliver(&self, delivery: Delivery) -> Result<(), Refused> {
        let dead = delivery.dead.len() as u64;
        let started = now();
        let rows = self.received.deliver(&self.name, delivery)?;
        self.meter.rows.fetch_add(rows as u64, Relaxed);
        self.meter.errors.fetch_add(dead, Relaxed);
        self.meter.latency.note(now() - started);
        Ok(())
    }

    fn wait_for_room(&self) -> bool {
        let mut paused = false;
        while self.received.lag() > self.received.max_lag.load(Relaxed) {
            if !std::mem::replace(&mut paused, true) {
                self.meter.state(
                    StageState::Paused,
                    Some(format!("cleaning lags more than {} rows behind", self.received.max_lag.load(Relaxed))),
                );
            }
            if self.stop.wait(PAUSE_STEP) {
                return false;
            }
        }
        if paused {
            self.meter.state(StageState::Running, None);
        }
        !self.stop.is_set()
    }

    fn resume(&self) -> Resume {
        self.received.resume(&self.name)
    }

    fn forget(&self, streams: &[String]) {
        self.received.forget(&self.name, streams);
    }

    fn refuse(&self, count: u64) {
        self.meter.refused.fetch_add(count, Relaxed);
        self.received.refused.fetch_add(count, Relaxed);
    }

    fn stopping(&self) -> bool {
        self.stop.is_set()
    }

    fn wait_stop(&self, timeout: Duration) -> bool {
        self.stop.wait(timeout)
    }

    fn state(&self, state: SourceState, detail: Option<String>) {
        let state = match state {
            SourceState::Running => StageState::Running,
            SourceState::Waiting => StageState::Waiting,
            SourceState::BackingOff => StageState::BackingOff,
            SourceState::Paused => StageState::Paused,
        };
        self.meter.state(state, detail);
    }

    fn now(&self) -> i64 {
        now()
    }
}
