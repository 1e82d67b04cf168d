//! The exam of the [`Log`] contract: what an embedded file, JetStream and whatever comes next must all do alike.
//!
//! A log sits it by saying how it is opened ([`Candidate`]); [`sit`] goes through every question and names the one that
//! failed. Each question takes a topic of its own, so that they do not depend on each other.
//!
//! ```
//! use trackside_connectors::logs::testing::{Candidate, sit};
//!
//! fn examine(mine: &dyn Candidate) {
//!     sit(mine);
//! }
//! ```

use arrow::array::RecordBatch;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use trackside_core::log::{
    Appended, Budget, End, EpochStart, Frame, FrameDraft, FrameHead, FrameKind, FrameMeta, Log, LogError, LogReader,
    LogWriter, SectionKind,
};
use trackside_core::position::InputRange;
use trackside_core::testing::events;

/// Longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Logs that begin while somebody looks.
const BEGINNINGS: usize = 20;
/// Read everything.
const ALL: Budget = Budget { bytes: u64::MAX, frames: usize::MAX };

/// A log that sits the exam.
pub trait Candidate: Sync {
    /// The log as a new process finds it that wants to own partitions; an error where one alone may have it open.
    fn open(&self) -> Result<Arc<dyn Log>, LogError>;
    /// The log as the exam's first owner would look to somebody who takes it for dead and takes over, though it lives:
    /// it was stopped for longer than its lease. None where that cannot be, for a lock of the system guards the log.
    fn take_over(&self) -> Option<Arc<dyn Log>>;
    /// Spoils stored bytes of the frame that holds this offset, behind the log's back.
    fn damage(&self, topic: &str, partition: u32, offset: u64);
    /// Frames of so many bytes must fit.
    fn largest(&self) -> usize;
}

/// One question: its name, and how it is asked.
type Question = (&'static str, fn(&dyn Candidate, &str));

/// All of them.
const QUESTIONS: &[Question] = &[
    ("order", order),
    ("beginning", beginning),
    ("what-a-frame-says", what_a_frame_says),
    ("any-offset", any_offset),
    ("budget", budget),
    ("ends", ends),
    ("wait", wait),
    ("resume", resume),
    ("recovery", recovery),
    ("hand-over", hand_over),
    ("fencing", fencing),
    ("readers", readers),
    ("retention", retention),
    ("full", full),
    ("large", large),
    ("damage", damage),
    ("topics", topics),
];

/// Asks every question; panics at the first wrong answer.
pub fn sit(candidate: &dyn Candidate) {
    for (name, ask) in QUESTIONS {
        tracing::info!(question = name, "exam of the log");
        ask(candidate, &format!("exam.{name}"));
    }
}

fn open(candidate: &dyn Candidate) -> Arc<dyn Log> {
    candidate.open().expect("a log that nobody owns can be opened")
}

fn writer(log: &dyn Log, topic: &str) -> Box<dyn LogWriter> {
    log.writer(topic, 0, &mut |_| true).expect("a partition that nobody owns gets its writer")
}

fn reader(log: &dyn Log, topic: &str) -> Box<dyn LogReader> {
    log.reader(topic, 0).expect("a partition that was written can be read")
}

/// So many rows that say which frame they are of.
fn rows(number: u64, count: usize) -> RecordBatch {
    let rows: Vec<_> = (0..count).map(|row| (number as i64 * 1000 + row as i64, "pump", row as f64)).collect();
    events(&rows)
}

/// The `number`th frame of a topic: one of three has no rows, the others have one to seven.
fn draft(number: u64) -> FrameDraft {
    let count = if number % 3 == 2 { 0 } else { 1 + number as usize % 7 };
    let sections = if count == 0 { Vec::new() } else { vec![(SectionKind::Rows, rows(number, count))] };
    let meta = FrameMeta {
        input: Some(InputRange { epoch: 1, from: number, to: number + 1 }),
        counts: BTreeMap::from([("frames".to_owned(), number + 1)]),
        ..FrameMeta::default()
    };
    FrameDraft { meta, ingest_time: number as i64, sections }
}

fn append(writer: &mut dyn LogWriter, numbers: std::ops::Range<u64>) -> Vec<Appended> {
    numbers.map(|number| writer.append(&draft(number)).expect("a frame of a few rows is taken")).collect()
}

fn read(reader: &mut dyn LogReader, from: u64) -> Vec<Frame> {
    reader.read(from, ALL, End::Published).expect("what was published can be read")
}

/// The number that [`draft`] gave a frame.
fn number(frame: &Frame) -> u64 {
    frame.meta.counts["frames"] - 1
}

fn assert_is(frame: &Frame, number: u64) {
    let expected = draft(number);
    assert_eq!((&frame.meta, frame.ingest_time), (&expected.meta, expected.ingest_time));
    assert_eq!((frame.num_rows, frame.end - frame.first), (expected.rows(), expected.rows().max(1) as u64));
    let rows = frame.rows().expect("sound bytes are decoded");
    assert_eq!(rows, expected.sections.first().map(|(_, rows)| rows));
}

/// A log that begins this moment begins at 0, also for a sink that asks while its first frames are appended.
fn beginning(candidate: &dyn Candidate, topic: &str) {
    let log = open(candidate);
    for round in 0..BEGINNINGS {
        let topic = format!("{topic}.{round}");
        let (mut writer, mut reader) = (writer(&*log, &topic), reader(&*log, &topic));
        let (looks, done) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let until = Instant::now() + PATIENCE;
                while !done.load(Relaxed) && Instant::now() < until {
                    assert_eq!(reader.oldest().expect("a new log can be asked"), 0);
                    looks.fetch_add(1, Relaxed);
                }
            });
            let until = Instant::now() + PATIENCE;
            while looks.load(Relaxed) == 0 && Instant::now() < until {
                std::thread::yield_now();
            }
            append(&mut *writer, 0..3);
            done.store(true, Relaxed);
        });
        assert!(looks.into_inner() > 0, "nobody looked");
    }
}

/// Frames come back equal, in order, with offsets that leave no gap; one without rows takes one.
fn order(candidate: &dyn Candidate, topic: &str) {
    let log = open(candidate);
    let mut writer = writer(&*log, topic);
    let appended = append(&mut *writer, 0..60);
    let mut next = 0;
    for (number, receipt) in (0..).zip(&appended) {
        let end = next + draft(number).rows().max(1) as u64;
        assert_eq!(receipt, &Appended { epoch: writer.epoch(), first: next, end });
        next = end;
    }
    assert_eq!(writer.published(), next);
    let mut reader = reader(&*log, topic);
    let (mut from, mut seen) = (0, 0);
    while from < next {
        for frame in reader.read(from, Budget { bytes: 4096, frames: 7 }, End::Published).expect("readable") {
            assert_eq!((frame.first, frame.epoch), (from, writer.epoch()));
            assert_is(&frame, seen);
            (from, seen) = (frame.end, seen + 1);
        }
    }
    assert_eq!(seen, 60);
    assert!(read(&mut *reader, next).is_empty());
}

/// Meta, ingest time and all sections come back as they were handed in, and the newest head says the same.
fn what_a_frame_says(candidate: &dyn Candidate, topic: &str) {
    let log = open(candidate);
    let mut writer = writer(&*log, topic);
    assert!(writer.newest().is_none());
    let mut meta = FrameMeta {
        input: Some(InputRange { epoch: 3, from: 5, to: 9 }),
        counts: BTreeMap::from([("filtered.dedupe".into(), 7), ("taken".into(), 12)]),
        ..FrameMeta::default()
    };
    meta.sources.entry("file".into()).or_default().insert("a/b c".into(), u64::MAX.into());
    let sections = vec![
        (SectionKind::Forecasts, rows(3, 2)),
        (SectionKind::Rows, rows(1, 4)),
        (SectionKind::DeadLetters, rows(2, 1)),
    ];
    writer.append(&FrameDraft { meta: meta.clone(), ingest_time: -5, sections: sections.clone() }).expect("taken");
    let mut reader = reader(&*log, topic);
    let frame = read(&mut *reader, 0).remove(0);
    assert_eq!((&frame.meta, frame.ingest_time, frame.num_rows, frame.end), (&meta, -5, 4, 4));
    for (kind, batch) in &sections {
        assert_eq!(frame.section(*kind).expect("sound bytes"), Some(batch));
    }
    for kind in [FrameKind::Tick, FrameKind::End, FrameKind::Skipped] {
        let meta = FrameMeta { kind, ..FrameMeta::default() };
        writer.append(&FrameDraft { meta: meta.clone(), ..FrameDraft::default() }).expect("taken");
        let newest = reader.newest().expect("readable").expect("there is one");
        assert_eq!((&newest.meta, newest.end), (&meta, writer.published()));
        assert_eq!(writer.newest().map(|head| head.meta), Some(meta));
    }
}

/// A read from any offset begins with the frame that holds it, also from the middle of one, and also in a new reader.
fn any_offset(candidate: &dyn Candidate, topic: &str) {
    let log = open(candidate);
    let mut writer = writer(&*log, topic);
    append(&mut *writer, 0..40);
    let mut used = reader(&*log, topic);
    let all = read(&mut *used, 0);
    let offsets: Vec<u64> = (0..writer.published()).collect();
    for from in offsets.iter().rev().chain(&offsets) {
        let holds = all.iter().find(|frame| frame.end > *from).expect("all offsets are held");
        let frame = used.read(*from, Budget { bytes: 1, frames: 1 }, End::Published).expect("readable").remove(0);
        assert_eq!((frame.first, frame.end), (holds.first, holds.end), "from {from}");
        if from % 17 == 0 {
            let mut fresh = reader(&*log, topic);
            assert_eq!(read(&mut *fresh, *from)[0].first, holds.first, "from {from}, in a new reader");
        }
    }
    for beyond in [0, 1, 1000] {
        assert!(read(&mut *used, writer.published() + beyond).is_empty());
    }
}

/// At least one frame if there is one, and no more than asked for.
fn budget(candidate: &dyn Candidate, topic: &str) {
    let log = open(candidate);
    let mut writer = writer(&*log, topic);
    append(&mut *writer, 0..20);
    let mut reader = reader(&*log, topic);
    let mut count = |bytes, frames| reader.read(0, Budget { bytes, frames }, End::Published).expect("readable").len();
    assert_eq!((count(0, 5), count(u64::MAX, 3), count(u64::MAX, 1000)), (1, 3, 20));
    let some = count(6000, 1000);
    assert!(some > 1 && some < 20, "6000 bytes are {some} frames");
}

/// `durable` follows `published` after a sync, never beyond what is allowed, and bounds durable reads.
fn ends(candidate: &dyn Candidate, topic: &str) {
    let log = open(candidate);
    let mut writer = writer(&*log, topic);
    let sync = writer.syncer();
    sync.allow(0);
    let appended = append(&mut *writer, 0..3);
    let (middle, end) = (appended[1].end, appended[2].end);
    sync.sync().expect("syncs");
    assert_eq!((sync.published(), sync.durable(), writer.durable()), (end, 0, 0));
    let mut reader = reader(&*log, topic);
    assert!(reader.read(0, ALL, End::Durable).expect("readable").is_empty());
    assert_eq!((reader.published(), reader.durable(), read(&mut *reader, 0).len()), (end, 0, 3));
    sync.allow(middle);
    sync.sync().expect("syncs");
    assert!(sync.durable() <= middle && writer.durable() == sync.durable());
    let durable = reader.read(0, ALL, End::Durable).expect("readable");
    assert_eq!(durable.last().map_or(0, |frame| frame.end), sync.durable(), "reads end where durable does");
    sync.allow(end);
    assert_eq!((sync.sync().expect("syncs"), sync.durable(), writer.durable()), (end, end, end));
    assert!(reader.wait(middle, End::Durable, PATIENCE) && reader.durable() == end);
}

/// A wait ends at its timeout without news, and with news at once.
fn wait(candidate: &dyn Candidate, topic: &str) {
    let log = open(candidate);
    let mut writer = writer(&*log, topic);
    append(&mut *writer, 0..1);
    let reader = reader(&*log, topic);
    let end = writer.published();
    assert!(reader.wait(end - 1, End::Published, Duration::ZERO));
    let started = Instant::now();
    assert!(!reader.wait(end, End::Published, Duration::from_millis(50)));
    assert!(started.elapsed() >= Duration::from_millis(50));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            let news = reader.wait(end, End::Published, PATIENCE) && reader.wait(end, End::Durable, PATIENCE);
            (news, started.elapsed())
        });
        append(&mut *writer, 1..2);
        writer.syncer().sync().expect("syncs");
        let (news, waited) = waiting.join().expect("the waiting thread");
        assert!(news && waited < PATIENCE / 2, "woken after {waited:?}");
    });
}

/// The output alone says how far it had come: after a restart the newest head is the one that was appended last.
fn resume(candidate: &dyn Candidate, topic: &str) {
    let mut starts = Vec::new();
    for reign in 0..3u64 {
        let log = open(candidate);
        let mut writer = writer(&*log, topic);
        let newest = writer.newest();
        assert_eq!(newest.as_ref().and_then(|head| head.meta.input).map_or(0, |input| input.to), reign * 10);
        assert_eq!(newest.map_or(0, |head| head.end), writer.published());
        assert_eq!(writer.durable(), writer.published(), "what a restart finds is durable before it is built upon");
        starts.push(EpochStart { epoch: writer.epoch(), first: writer.published() });
        assert_eq!(writer.epochs(), starts);
        append(&mut *writer, reign * 10..reign * 10 + 10);
        writer.syncer().sync().expect("syncs");
    }
    assert!(starts.is_sorted_by(|left, right| left.epoch < right.epoch));
    let log = open(candidate);
    let mut reader = reader(&*log, topic);
    assert_eq!(reader.epochs().expect("readable"), starts);
    let frames = read(&mut *reader, 0);
    frames.iter().zip(0..30).for_each(|(frame, number)| assert_is(frame, number));
    for (frame, start) in frames.iter().zip(starts.iter().flat_map(|start| std::iter::repeat_n(start, 10))) {
        assert_eq!(frame.epoch, start.epoch);
    }
}

/// Newest frames whose owner gives them up are gone; their offsets come back in a new reign.
fn recovery(candidate: &dyn Candidate, topic: &str) {
    let log = open(candidate);
    let mut first = writer(&*log, topic);
    let appended = append(&mut *first, 0..10);
    first.syncer().sync().expect("syncs");
    drop((first, log));
    let log = open(candidate);
    let mut asked = Vec::new();
    let mut keep = |head: &FrameHead| {
        asked.push(head.first);
        head.end <= appended[6].end
    };
    let mut writer = log.writer(topic, 0, &mut keep).expect("nobody owns it");
    assert_eq!(asked, [appended[9].first, appended[8].first, appended[7].first, appended[6].first]);
    assert_eq!((writer.published(), writer.newest().map(|head| head.end)), (appended[6].end, Some(appended[6].end)));
    append(&mut *writer, 50..52);
    let mut reader = reader(&*log, topic);
    let numbers: Vec<u64> = read(&mut *reader, 0).iter().map(number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 50, 51]);
    let reigns = reader.epochs().expect("readable");
    assert_eq!(reigns.last(), Some(&EpochStart { epoch: writer.epoch(), first: appended[6].end }));
    drop((writer, reader, log));
    // Giving up everything is possible too.
    let log = open(candidate);
    let writer = log.writer(topic, 0, &mut |_| false).expect("nobody owns it");
    assert_eq!((writer.published(), writer.newest().is_none()), (0, true));
}

/// While one has a partition a second is refused; when the first is gone, it is let in, in a later reign.
fn hand_over(candidate: &dyn Candidate, topic: &str) {
    let log = open(candidate);
    let mut first = writer(&*log, topic);
    append(&mut *first, 0..5);
    first.syncer().sync().expect("syncs");
    assert!(log.writer(topic, 0, &mut |_| true).is_err(), "two writers in one process");
    let refused = candidate.open().and_then(|log| log.writer(topic, 0, &mut |_| true).map(|_| ()));
    let why = refused.expect_err("two writers in two processes").to_string();
    assert!(why.len() > 20, "a refusal says who is there and what to do: {why}");
    append(&mut *first, 5..6);
    let epoch = first.epoch();
    drop((first, log));
    let log = open(candidate);
    let mut second = writer(&*log, topic);
    assert!(second.epoch() > epoch);
    assert_eq!(second.newest().and_then(|head| head.meta.input).map(|input| input.to), Some(6));
    append(&mut *second, 6..7);
    assert_eq!(read(&mut *reader(&*log, topic), 0).len(), 7);
}

/// An owner that was taken for dead can append nothing more once another has taken over.
fn fencing(candidate: &dyn Candidate, topic: &str) {
    let log = open(candidate);
    let mut stale = writer(&*log, topic);
    append(&mut *stale, 0..3);
    stale.syncer().sync().expect("syncs");
    let Some(other) = candidate.take_over() else { return };
    let mut owner = writer(&*other, topic);
    let refused = stale.append(&draft(3)).expect_err("a stale owner appends nothing");
    assert!(matches!(refused, LogError::ReadOnly(_)), "{refused:?}");
    append(&mut *owner, 3..5);
    assert!(matches!(stale.append(&draft(3)), Err(LogError::ReadOnly(_))));
    assert!(stale.reserve(10).is_err(), "who cannot append makes no room either");
    let numbers: Vec<u64> = read(&mut *reader(&*other, topic), 0).iter().map(number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    assert!(owner.epoch() > stale.epoch());
}

/// Readers that follow see every frame, once, in order, while the owner goes on.
fn readers(candidate: &dyn Candidate, topic: &str) {
    const FRAMES: u64 = 150;
    let log = open(candidate);
    let mut writer = writer(&*log, topic);
    std::thread::scope(|scope| {
        let follow = |mut reader: Box<dyn LogReader>| {
            let (mut from, mut seen, until) = (0, 0, Instant::now() + PATIENCE);
            while seen < FRAMES {
                assert!(Instant::now() < until, "a reader stands at frame {seen}");
                reader.wait(from, End::Published, Duration::from_millis(100));
                for frame in reader.read(from, Budget { bytes: 1 << 16, frames: 16 }, End::Published).expect("readable")
                {
                    assert_eq!((frame.first, number(&frame)), (from, seen));
                    (from, seen) = (frame.end, seen + 1);
                }
            }
        };
        for _ in 0..4 {
            let reader = reader(&*log, topic);
            scope.spawn(move || follow(reader));
        }
        append(&mut *writer, 0..FRAMES);
    });
}

/// What nobody needs may go, what somebody needs stays, and so does the newest frame whatever is said.
fn retention(candidate: &dyn Candidate, topic: &str) {
    let log = open(candidate);
    let mut writer = writer(&*log, topic);
    let appended = append(&mut *writer, 0..300);
    writer.syncer().sync().expect("syncs");
    let (keep_from, before) = (appended[200].first, writer.bytes());
    let freed = writer.retain(keep_from).expect("old frames can go");
    let mut reader = reader(&*log, topic);
    let oldest = reader.oldest().expect("readable");
    assert!(oldest <= keep_from && (freed > 0) == (oldest > 0), "freed {freed}, oldest {oldest}");
    assert!(freed == 0 || writer.bytes() < before);
    let frames = read(&mut *reader, 0);
    assert_eq!((frames[0].first, frames.last().map(|frame| frame.end)), (oldest, Some(writer.published())));
    let kept = read(&mut *reader, keep_from);
    assert_eq!((kept.len(), number(&kept[0])), (100, 200));
    writer.retain(u64::MAX).expect("old frames can go");
    assert_eq!(read(&mut *reader, 0).last().map(number), Some(299), "the newest frame stays");
    let end = writer.published();
    drop((writer, reader, log));
    let log = open(candidate);
    let writer = self::writer(&*log, topic);
    assert_eq!((writer.published(), writer.newest().map(|head| head.end)), (end, Some(end)));
}

/// What does not fit is refused and leaves nothing behind.
fn full(candidate: &dyn Candidate, topic: &str) {
    let log = open(candidate);
    let mut writer = writer(&*log, topic);
    append(&mut *writer, 0..1);
    writer.reserve(100_000).expect("there is room for a small frame");
    writer.reserve(1 << 55).expect_err("no log has 32 PiB for one frame");
    let end = writer.published();
    let huge = events(&vec![(1, "a", 0.0); 4 << 20]);
    let refused = writer.append(&FrameDraft { sections: vec![(SectionKind::Rows, huge)], ..FrameDraft::default() });
    let why = refused.expect_err("a frame of 64 MiB is above every limit").to_string();
    assert!(why.contains("limit"), "{why}");
    append(&mut *writer, 1..2);
    let frames = read(&mut *reader(&*log, topic), 0);
    assert_eq!((frames.len(), frames[1].first), (2, end));
}

/// Frames near the limit come back whole.
fn large(candidate: &dyn Candidate, topic: &str) {
    let log = open(candidate);
    let mut writer = writer(&*log, topic);
    let count = candidate.largest() / 32;
    let drafts: Vec<FrameDraft> = (0..4)
        .map(|number| FrameDraft { sections: vec![(SectionKind::Rows, rows(number, count))], ..FrameDraft::default() })
        .collect();
    for draft in &drafts {
        writer.append(draft).expect("a frame below the limit is taken");
    }
    let frames = read(&mut *reader(&*log, topic), 0);
    assert_eq!(frames.len(), drafts.len());
    for (frame, draft) in frames.iter().zip(&drafts) {
        assert_eq!(frame.rows().expect("sound bytes"), draft.sections.first().map(|(_, rows)| rows));
    }
}

/// A spoilt frame is an error or left out, never data; all others are still read.
fn damage(candidate: &dyn Candidate, topic: &str) {
    let log = open(candidate);
    let mut writer = writer(&*log, topic);
    let appended = append(&mut *writer, 0..12);
    writer.syncer().sync().expect("syncs");
    let end = writer.published();
    drop((writer, log)); // with what it remembers
    candidate.damage(topic, 0, appended[4].first);
    let log = open(candidate);
    let mut reader = reader(&*log, topic);
    let (mut from, mut seen) = (0, Vec::new());
    while from < end {
        match reader.read(from, Budget { bytes: u64::MAX, frames: 3 }, End::Published) {
            Ok(frames) if !frames.is_empty() => {
                for frame in frames {
                    assert_is(&frame, number(&frame));
                    seen.push(number(&frame));
                    from = frame.end;
                }
            }
            Ok(_) => break,
            // Reported with its place; whoever reads may step over it.
            Err(LogError::Damaged(why)) => {
                assert!(why.contains("damaged") || why.contains("checksum"), "{why}");
                from = appended[4].end;
            }
            Err(error) => panic!("damage is reported as such, not as {error:?}"),
        }
    }
    assert_eq!(seen, [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]);
}

/// What there is can be listed; what there is not is told from what cannot be read.
fn topics(candidate: &dyn Candidate, topic: &str) {
    let log = open(candidate);
    assert!(matches!(log.reader(topic, 0), Err(LogError::NotFound(_))));
    for partition in [0, 2, 11] {
        log.writer(topic, partition, &mut |_| true).expect("nobody owns it").append(&draft(0)).expect("taken");
    }
    let there = log.topics().expect("readable");
    assert!(there.contains(&(topic.to_owned(), vec![0, 2, 11])), "{there:?}");
    assert!(matches!(log.reader(topic, 1), Err(LogError::NotFound(_))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::embedded::{Embedded, lock};
    use std::os::unix::fs::FileExt;
    use trackside_log::{DirLock, Options};

    /// A data directory.
    struct Directory(tempfile::TempDir);

    /// As the engine has it: nobody else may own anything meanwhile.
    struct Locked(Embedded, #[expect(dead_code, reason = "held until the log is dropped")] DirLock);

    impl Log for Locked {
        fn writer(
            &self,
            topic: &str,
            partition: u32,
            keep: &mut dyn FnMut(&FrameHead) -> bool,
        ) -> Result<Box<dyn LogWriter>, LogError> {
            self.0.writer(topic, partition, keep)
        }

        fn reader(&self, topic: &str, partition: u32) -> Result<Box<dyn LogReader>, LogError> {
            self.0.reader(topic, partition)
        }

        fn topics(&self) -> Result<Vec<(String, Vec<u32>)>, LogError> {
            self.0.topics()
        }
    }

    impl Directory {
        fn log(&self) -> Embedded {
            let options = Options { segment_bytes: 64 << 10, first_segment_bytes: 8 << 10, ..Options::default() };
            Embedded::open(self.0.path(), options).unwrap()
        }
    }

    impl Candidate for Directory {
        fn open(&self) -> Result<Arc<dyn Log>, LogError> {
            let lock = lock(self.0.path())?;
            Ok(Arc::new(Locked(self.log(), lock)))
        }

        fn take_over(&self) -> Option<Arc<dyn Log>> {
            None
        }

        fn damage(&self, topic: &str, partition: u32, offset: u64) {
            let mut reader = self.log().reader(topic, partition).unwrap();
            let frame = read(&mut *reader, offset).remove(0);
            let place = frame.location.unwrap();
            let file = std::fs::File::options().write(true).open(&*place.path).unwrap();
            file.write_all_at(b"spoilt", place.at + place.length - 64).unwrap();
        }

        fn largest(&self) -> usize {
            700_000
        }
    }

    #[test]
    fn the_embedded_log_passes() {
        sit(&Directory(tempfile::tempdir().unwrap()));
    }
}
