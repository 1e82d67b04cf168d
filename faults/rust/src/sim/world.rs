//! One simulated machine: a disk that fails by plan, a pipeline on it that is moved step by step, clients that remember
//! what they were told.

use super::check::{Found, Row, read_received};
use super::events::Events;
use anyhow::{Result, anyhow, bail};
use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use trackside_connectors::logs::embedded::Embedded;
use trackside_connectors::sinks::files::Files;
use trackside_core::dead_letter::DeadLetter;
use trackside_core::error::Failure;
use trackside_core::log::{Budget, End};
use trackside_core::position::{RECEIVED, Span};
use trackside_core::source::{Ack, Delivery, Outcome, Refused};
use trackside_engine::Pipeline;
use trackside_engine::stepped::{Stepped, set_clock};
use trackside_log::{Options, Random, SimulatedVfs, Vfs};

/// Small segments: a short life rolls.
const OPTIONS: Options = Options {
    segment_bytes: 96 << 10,
    first_segment_bytes: 32 << 10,
    max_frame_bytes: 64 << 10,
    max_undurable_bytes: 8 << 20,
};
/// The stream of the replayable source.
const STREAM: &str = "f";
const SECOND: i64 = 1_000_000_000;
/// Rounds after which everything must have come to rest.
const MAX_ROUNDS: usize = 64;

/// What clients were told, by delivery.
pub(super) type Answers = Arc<Mutex<Vec<(usize, Outcome)>>>;

/// Tells what happens, when a human plays a seed again with SIM_TRACE set.
pub(super) fn trace(what: impl FnOnce() -> String) {
    static ON: LazyLock<bool> = LazyLock::new(|| std::env::var_os("SIM_TRACE").is_some());
    if *ON {
        eprintln!("{}", what());
    }
}

/// The data directory.
pub(super) fn data() -> PathBuf {
    PathBuf::from("/sim/data")
}

/// The machine. See the module's text.
pub(super) struct World {
    pub(super) random: Random,
    pub(super) disk: SimulatedVfs,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) run: Option<Stepped>,
    pub(super) clock: i64,
    pub(super) events: Events,
    /// Ids of each delivery, and whether the client was told that it is durable.
    deliveries: Vec<Vec<i64>>,
    answers: Answers,
    answered: usize,
    pub(super) acked: BTreeSet<i64>,
    pub(super) refused: BTreeSet<i64>,
    /// Taken by the door at least once.
    handed: BTreeSet<i64>,
    /// Sent without a final answer: may be sent again.
    unknown: VecDeque<i64>,
    /// Ids of the replayable stream, by position.
    stream: Vec<i64>,
    stream_at: u64,
    /// Undecodable payloads that were acknowledged, by number.
    pub(super) payloads: u64,
    pub(super) payloads_acked: BTreeSet<u64>,
    payload_of: Vec<Option<u64>>,
    /// By partition, what `received` holds, with its offsets.
    pub(super) history: Vec<Vec<Row>>,
    /// By partition, how far `history` was read.
    looked: Vec<u64>,
    /// Whether failures of a step are expected: the disk is made to fail.
    pub(super) failing: bool,
    /// Whether the power went since the last start.
    pub(super) power: bool,
    /// What the wall clock does beside running.
    pub(super) clock_mode: ClockMode,
}

/// What the wall clock does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClockMode {
    Runs,
    /// Now and then it jumps by so many seconds, and back again.
    Jumps(i64),
    Stands,
}

impl World {
    pub(super) fn new(seed: u64, pipeline: Arc<Pipeline>) -> Self {
        let disk = SimulatedVfs::new(seed);
        let partitions = pipeline.pipeline.partitions as usize;
        Self {
            random: Random(seed),
            disk,
            pipeline,
            run: None,
            clock: 1_700_000_000 * SECOND + (seed % 86_400) as i64 * SECOND,
            events: Events::default(),
            deliveries: Vec::new(),
            answers: Answers::default(),
            answered: 0,
            acked: BTreeSet::new(),
            refused: BTreeSet::new(),
            handed: BTreeSet::new(),
            unknown: VecDeque::new(),
            stream: Vec::new(),
            stream_at: 0,
            payloads: 0,
            payloads_acked: BTreeSet::new(),
            payload_of: Vec::new(),
            history: vec![Vec::new(); partitions],
            looked: vec![0; partitions],
            failing: false,
            power: false,
            clock_mode: ClockMode::Runs,
        }
    }

    /// Makes the data directory, as an installation does.
    pub(super) fn format(&self) -> Result<()> {
        self.disk.create_dir_all(&data())?;
        self.disk.sync_dir(Path::new("/"))?;
        self.disk.sync_dir(Path::new("/sim"))?;
        Ok(())
    }

    /// Starts the pipeline.
    pub(super) fn start(&mut self) -> Result<()> {
        self.pass(0);
        let vfs: Arc<dyn Vfs> = Arc::new(self.disk.clone());
        let log = Embedded::over(vfs.clone(), &data(), OPTIONS)?;
        let run = Stepped::start(&self.pipeline, log, &Files::new(vfs), &data())?;
        self.stream_at = run.door().resume().start(STREAM);
        self.run = Some(run);
        Ok(())
    }

    /// Time passes, in either direction.
    pub(super) fn pass(&mut self, nanos: i64) {
        let jump = match self.clock_mode {
            ClockMode::Runs => nanos,
            ClockMode::Stands => 0,
            ClockMode::Jumps(seconds) if self.random.once_in(4) => {
                self.clock_mode = ClockMode::Jumps(-seconds);
                seconds * SECOND
            }
            ClockMode::Jumps(_) => nanos,
        };
        self.clock = self.clock.saturating_add(jump);
        set_clock(Some(self.clock));
    }

    /// Some steps in an order that the seed draws; ends early when the process was stopped.
    pub(super) fn live(&mut self, steps: u64) -> Result<()> {
        for _ in 0..steps {
            if self.disk.stopped() {
                return Ok(());
            }
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        let Some(run) = &mut self.run else { return Ok(()) };
        let partition = self.random.below(u64::from(run.partitions())) as u32;
        match self.random.below(100) {
            0..20 => self.deliver()?,
            20..28 => self.deliver_stream()?,
            28..30 => self.send_again()?,
            30..44 => self.commit(partition)?,
            44..60 => {
                let done = run.clean_step(partition);
                self.excuse(done)?;
            }
            60..67 => run.snapshot(partition),
            67..76 => run.sync_derived(),
            76..90 => {
                let sink = self.random.below(run.sinks() as u64) as usize;
                let all = self.random.once_in(24);
                let done = run.sink_step(sink, all);
                self.excuse(done)?;
            }
            90..93 => {
                self.look()?;
                if let Some(run) = &self.run {
                    run.trim();
                }
            }
            93..96 => self.look()?,
            _ => {
                let nanos = self.random.below(2_000_000_000) as i64;
                self.pass(nanos);
            }
        }
        self.hear();
        Ok(())
    }

    /// A step may fail where the disk is made to fail or the process is as good as dead.
    fn excuse(&self, done: Result<bool, Failure>) -> Result<()> {
        match done {
            Err(failure) if !self.disk.stopped() && !self.failing => bail!("a step failed on a sound disk: {failure}"),
            _ => Ok(()),
        }
    }

    fn ack(&self) -> Ack {
        let (answers, disk, delivery) = (self.answers.clone(), self.disk.clone(), self.deliveries.len());
        Box::new(move |outcome| {
            // A dead process answers nobody.
            if !disk.stopped() {
                answers.lock().unwrap_or_else(PoisonError::into_inner).push((delivery, outcome));
            }
        })
    }

    /// One delivery with an answer.
    fn prepare(&mut self, ids: Vec<i64>) -> Delivery {
        let layout = self.pipeline.layout.clone();
        let mut dead = Vec::new();
        let mut payload = None;
        if self.random.once_in(10) {
            dead.push(DeadLetter::payload("simulated", "not JSON", format!("bad-{}", self.payloads).as_bytes()));
            payload = Some(self.payloads);
            self.payloads += 1;
        }
        let rows = (!ids.is_empty()).then(|| self.events.batch(&layout, &ids));
        let delivery = Delivery { rows, dead, span: None, ack: Some(self.ack()) };
        self.deliveries.push(ids);
        self.payload_of.push(payload);
        delivery
    }

    fn deliver(&mut self) -> Result<()> {
        let count = 1 + self.random.below(8);
        let ids = (0..count).map(|_| self.events.make(&mut self.random, self.clock, false)).collect();
        self.hand_over(ids)
    }

    fn send_again(&mut self) -> Result<()> {
        let Some(id) = self.unknown.pop_front() else { return Ok(()) };
        self.refused.remove(&id);
        // What is further back is taken for a repeat by design: a client gives up before.
        if self.events.fresh(id) { self.hand_over(vec![id]) } else { Ok(()) }
    }

    fn hand_over(&mut self, ids: Vec<i64>) -> Result<()> {
        let delivery = self.prepare(ids.clone());
        let Some(run) = &self.run else { return Ok(()) };
        match run.deliver(delivery) {
            Ok(()) => {
                self.handed.extend(&ids);
                self.unknown.extend(ids);
            }
            Err(Refused::Full { .. }) if self.failing || self.disk.stopped() => {
                // What was taken at an earlier try may well be there.
                self.refused.extend(ids.iter().filter(|id| !self.handed.contains(id)));
                self.unknown.extend(ids);
            }
            Err(refused) => bail!("a delivery was refused on a sound disk: {refused}"),
        }
        Ok(())
    }

    fn deliver_stream(&mut self) -> Result<()> {
        let Some(run) = &self.run else { return Ok(()) };
        let from = self.stream_at;
        let mut to = from + 1 + self.random.below(6);
        if let Some(limit) = run.door().resume().limit(STREAM, from) {
            to = to.min(limit);
        }
        while (self.stream.len() as u64) < to {
            let id = self.events.make(&mut self.random, self.clock, true);
            self.stream.push(id);
        }
        let ids = self.stream[from as usize..to as usize].to_vec();
        let rows = Some(self.events.batch(&self.pipeline.layout, &ids));
        let span = Some(Span { stream: STREAM.into(), from, to, check: None });
        let delivery = Delivery { rows, dead: Vec::new(), span, ack: Some(self.ack()) };
        self.deliveries.push(ids);
        self.payload_of.push(None);
        match run.deliver(delivery) {
            Ok(()) => self.stream_at = to,
            // It reads the span again; partitions that hold it leave it out.
            Err(Refused::Full { .. }) if self.failing || self.disk.stopped() => {}
            Err(refused) => bail!("a span was refused on a sound disk: {refused}"),
        }
        Ok(())
    }

    /// A group commit; now and then more is delivered while its fsync runs.
    fn commit(&mut self, partition: u32) -> Result<()> {
        if self.random.once_in(6) {
            let ids: Vec<i64> = (0..3).map(|_| self.events.make(&mut self.random, self.clock, false)).collect();
            let delivery = self.prepare(ids.clone());
            let Some(run) = &self.run else { return Ok(()) };
            let (door, mut waiting) = (run.door(), Some(delivery));
            let running = Arc::new(AtomicBool::new(true));
            let still = running.clone();
            self.disk.meanwhile(move |_| {
                // Only while this very fsync runs: at others, locks are held that the door needs.
                if let Some(delivery) = waiting.take().filter(|_| still.load(Relaxed)) {
                    _ = door.deliver(delivery); // a refusal stores nothing: not there, which is right as well
                }
            });
            run.commit(partition);
            running.store(false, Relaxed);
            self.handed.extend(&ids);
            self.unknown.extend(ids);
        } else if let Some(run) = &self.run {
            run.commit(partition);
        }
        Ok(())
    }

    /// Notes what clients were told.
    pub(super) fn hear(&mut self) {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        for (delivery, outcome) in &answers[self.answered..] {
            if *outcome == Outcome::Durable {
                self.acked.extend(&self.deliveries[*delivery]);
                self.payloads_acked.extend(self.payload_of[*delivery]);
            }
        }
        self.answered = answers.len();
    }

    /// Reads what is new in `received`, as a reader does who keeps what he was given.
    pub(super) fn look(&mut self) -> Result<()> {
        let Some(run) = &self.run else { return Ok(()) };
        if self.disk.stopped() {
            return Ok(());
        }
        for partition in 0..run.partitions() {
            let mut reader = run.log().reader(RECEIVED, partition)?;
            let from = &mut self.looked[partition as usize];
            loop {
                let budget = Budget { bytes: u64::MAX, frames: 1000 };
                let frames = match reader.read(*from, budget, End::Published) {
                    Ok(frames) => frames,
                    Err(_) if self.failing => break,
                    Err(error) => return Err(error.into()),
                };
                let Some(last) = frames.last() else { break };
                *from = last.end;
                for frame in &frames {
                    if let Some(location) = &frame.location {
                        self.disk.note_read(&location.path, location.at..location.at + location.length);
                    }
                    self.history[partition as usize].extend(Row::of(frame)?);
                }
            }
        }
        Ok(())
    }

    /// The process is gone. What it had published is remembered: the truth of which a power loss may take the end.
    pub(super) fn die(&mut self) -> Result<Vec<u64>> {
        self.hear();
        self.run = None;
        self.disk.heal();
        let received = read_received(&self.disk, OPTIONS, &self.looked)?;
        for ((rows, end), (history, looked)) in received.into_iter().zip(self.history.iter_mut().zip(&mut self.looked))
        {
            history.extend(rows);
            *looked = end.max(*looked);
        }
        Ok(self.looked.clone())
    }

    /// The power goes and comes back.
    pub(super) fn lose_power(&mut self) {
        self.disk = self.disk.lose_power(&mut self.random);
    }

    /// After a start: what is found must be what there was, up to an end that no acknowledged event lies beyond.
    pub(super) fn compare(&mut self, found: &mut Found, power: bool) -> Result<()> {
        let Some(run) = &self.run else { return Ok(()) };
        for partition in 0..run.partitions() {
            let index = partition as usize;
            let mut reader = run.log().reader(RECEIVED, partition)?;
            let (first, end) = (reader.oldest()?, reader.published());
            let budget = Budget { bytes: u64::MAX, frames: usize::MAX };
            let mut rows = Vec::new();
            for frame in reader.read(first, budget, End::Published)? {
                rows.extend(Row::of(&frame)?);
            }
            trace(|| {
                let Ok(mut clean) = run.log().reader(trackside_core::position::CLEAN, partition) else {
                    return String::new();
                };
                let all = Budget { bytes: u64::MAX, frames: usize::MAX };
                let frames = clean.oldest().and_then(|from| clean.read(from, all, End::Published)).unwrap_or_default();
                let frames: Vec<String> = frames
                    .iter()
                    .map(|f| {
                        format!(
                            "e{} {}..{} of {:?}",
                            f.epoch,
                            f.first,
                            f.end,
                            f.meta.input.map(|i| (i.epoch, i.from, i.to))
                        )
                    })
                    .collect();
                let input = reader.epochs();
                format!("clean: epochs {:?}, {frames:?}; received: {input:?}", clean.epochs())
            });
            trace(|| {
                let last = self.history[index].last().map(|row| row.offset);
                format!(
                    "compare {partition}: {first}..{end}, looked {}, history to {last:?}, power {power}",
                    self.looked[index]
                )
            });
            let history = &mut self.history[index];
            let known: Vec<&Row> = history.iter().filter(|row| row.offset >= first && row.offset < end).collect();
            // What was written in the very moment of the end was not published, and may be there as a whole.
            let unheard = rows.split_off(rows.iter().take_while(|row| row.offset < self.looked[index]).count());
            if !known.iter().copied().eq(rows.iter()) {
                let differs = known.iter().zip(&rows).find(|(known, row)| **known != *row);
                found.lost(format!(
                    "partition {partition}: offsets {first}..{end} are not what was appended: {} rows of {}, {differs:?}",
                    rows.len(),
                    known.len()
                ));
            }
            let gone: Vec<Row> = history.iter().filter(|row| row.offset >= end).cloned().collect();
            for row in &gone {
                let still = row.id.is_some_and(|id| history.iter().any(|h| h.id == Some(id) && h.offset < end));
                let acked = row.id.is_some_and(|id| self.acked.contains(&id))
                    || row.payload.is_some_and(|payload| self.payloads_acked.contains(&payload));
                if acked && !still {
                    found.lost(format!("partition {partition}: {row:?} was acknowledged, and the log ends at {end}"));
                }
            }
            if !power && !gone.is_empty() {
                found.lost(format!("partition {partition}: a kill took {} rows that were written", gone.len()));
            }
            history.retain(|row| row.offset < end);
            history.extend(unheard);
            self.looked[index] = end;
        }
        Ok(())
    }

    /// Brings everything to rest, on a disk that works.
    pub(super) fn drain(&mut self) -> Result<()> {
        for _ in 0..MAX_ROUNDS {
            let Some(run) = &mut self.run else { return Err(anyhow!("nothing runs")) };
            let mut any = false;
            for partition in 0..run.partitions() {
                run.commit(partition);
                any |= run.clean_step(partition).map_err(|error| anyhow!("cleaning does not recover: {error}"))?;
            }
            run.sync_derived();
            for sink in 0..run.sinks() {
                any |= run.sink_step(sink, true).map_err(|error| anyhow!("a sink does not recover: {error}"))?;
            }
            if !any {
                self.hear();
                return self.look();
            }
        }
        bail!("no rest after {MAX_ROUNDS} rounds")
    }

    /// Flips a bit of a snapshot: the newest, the state's or the head's.
    pub(super) fn rot_a_snapshot(&mut self) -> Result<()> {
        let partition = self.random.below(u64::from(self.pipeline.pipeline.partitions));
        let folder = data().join("snapshots/clean").join(partition.to_string());
        let mut names = self.disk.list(&folder).unwrap_or_default();
        names.sort();
        if let Some(newest) = names.last() {
            let path = folder.join(newest);
            let bits = 8 * self.disk.open(&path, trackside_log::Mode::Read)?.len()?;
            let bit = self.random.below(bits);
            self.disk.rot(&path, bit);
        }
        Ok(())
    }
}
