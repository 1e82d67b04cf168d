//! The log in NATS JetStream: the exam of all logs, and what only a broker can do to one.

use crate::nats_server::Servers;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};
use trackside_connectors::logs::nats::{Config, Home, Nats};
use trackside_connectors::logs::testing::{Candidate, sit};
use trackside_core::log::{Budget, End, FrameDraft, FrameMeta, Log, LogError, LogWriter, SectionKind};
use trackside_core::position::InputRange;
use trackside_core::testing::events;

const PATIENCE: Duration = Duration::from_secs(30);

/// A pipeline on servers.
struct Pipeline {
    config: Config,
    /// Data directories so far.
    directories: AtomicU32,
}

fn home(id: u32) -> Home {
    Home { id: format!("directory {id}"), spool: std::env::temp_dir().join("trackside-test-spool") }
}

impl Pipeline {
    fn new(servers: &Servers, replicas: u8) -> Self {
        let config =
            Config { servers: servers.addresses(), prefix: "exam.1".into(), replicas, lease_s: 5, ..Config::default() };
        Self { config, directories: AtomicU32::new(0) }
    }

    fn log(&self, id: u32) -> Result<Nats, LogError> {
        Nats::open(self.config.clone(), home(id), PATIENCE)
    }
}

impl Candidate for Pipeline {
    fn open(&self) -> Result<Arc<dyn Log>, LogError> {
        Ok(Arc::new(self.log(self.directories.fetch_add(1, Relaxed))?))
    }

    fn take_over(&self) -> Option<Arc<dyn Log>> {
        // The next process of the same data directory: the last one is taken for dead.
        Some(Arc::new(self.log(self.directories.load(Relaxed) - 1).unwrap()))
    }

    fn damage(&self, topic: &str, partition: u32, offset: u64) {
        self.log(u32::MAX).unwrap().lose(topic, partition, offset).unwrap();
    }

    fn largest(&self) -> usize {
        3 << 20
    }
}

#[test]
fn the_exam_on_one_server() {
    let Some(servers) = Servers::start(1, true) else { return };
    sit(&Pipeline::new(&servers, 1));
}

#[test]
fn the_exam_on_three_servers() {
    let Some(servers) = Servers::start(3, true) else { return };
    sit(&Pipeline::new(&servers, 3));
}

fn draft(number: u64) -> FrameDraft {
    let meta = FrameMeta { input: Some(InputRange { epoch: 1, from: number, to: number + 1 }), ..FrameMeta::default() };
    let rows = events(&[(number as i64, "pump", number as f64)]);
    FrameDraft { meta, ingest_time: 0, sections: vec![(SectionKind::Rows, rows)] }
}

/// Appends until it is stored, as a stage does: after a failure it goes on from what the newest frame says.
fn append(writer: &mut dyn LogWriter, next: &mut u64, to: u64) {
    let until = Instant::now() + PATIENCE * 3;
    while *next < to {
        if let Err(error) = writer.append(&draft(*next)) {
            assert!(Instant::now() < until, "{error}");
            assert!(matches!(error, LogError::Full(_) | LogError::Other(_)), "{error:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        *next = writer.newest().and_then(|head| head.meta.input).map_or(0, |input| input.to);
    }
}

fn assert_once_in_order(log: &dyn Log, to: u64) {
    let mut reader = log.reader("received", 0).unwrap();
    let (mut from, mut seen) = (0, 0);
    let until = Instant::now() + PATIENCE;
    while seen < to {
        assert!(Instant::now() < until, "only {seen} frames of {to}");
        for frame in reader.read(from, Budget { bytes: 1 << 20, frames: 100 }, End::Published).unwrap_or_default() {
            assert_eq!((frame.first, frame.meta.input.unwrap().from), (from, seen));
            (from, seen) = (frame.end, seen + 1);
        }
    }
    assert_eq!(reader.published(), from);
}

#[test]
fn a_server_that_is_killed_again_and_again_has_every_append_once() {
    let Some(mut servers) = Servers::start(1, true) else { return };
    let pipeline = Pipeline::new(&servers, 1);
    let log = pipeline.log(0).unwrap();
    let mut writer = log.writer("received", 0, &mut |_| true).unwrap();
    let mut next = 0;
    for round in 1..=4 {
        append(&mut *writer, &mut next, round * 50 - 25);
        std::thread::scope(|scope| {
            let appending = scope.spawn(|| append(&mut *writer, &mut next, round * 50));
            servers.kill(0);
            servers.resume(0);
            appending.join().unwrap();
        });
    }
    assert_once_in_order(&log, 200);
    drop(writer);
    let elsewhere = pipeline.log(1).unwrap();
    assert_once_in_order(&elsewhere, 200);
}

#[test]
fn without_a_server_room_is_refused_at_once_and_comes_back() {
    let Some(mut servers) = Servers::start(1, true) else { return };
    let log = Pipeline::new(&servers, 1).log(0).unwrap();
    let mut writer = log.writer("received", 0, &mut |_| true).unwrap();
    writer.reserve(1000).unwrap();
    servers.kill(0);
    let until = Instant::now() + PATIENCE;
    while writer.reserve(1000).is_ok() {
        assert!(Instant::now() < until, "the loss of the server is not noticed");
    }
    let asked = Instant::now();
    assert!(matches!(writer.append(&draft(0)), Err(LogError::Full(_))));
    assert!(asked.elapsed() < Duration::from_secs(1));
    servers.resume(0);
    append(&mut *writer, &mut 0, 1);
    assert_once_in_order(&log, 1);
}

#[test]
fn three_servers_lose_one_after_the_other() {
    let Some(mut servers) = Servers::start(3, true) else { return };
    let log = Pipeline::new(&servers, 3).log(0).unwrap();
    let mut writer = log.writer("received", 0, &mut |_| true).unwrap();
    let mut next = 0;
    for number in 0..3 {
        let to = next + 100;
        std::thread::scope(|scope| {
            let appending = scope.spawn(|| append(&mut *writer, &mut next, to));
            servers.kill(number);
            appending.join().unwrap();
            servers.resume(number);
        });
    }
    assert_once_in_order(&log, 300);
}

#[test]
fn a_reader_elsewhere_is_woken_and_stands_by_the_owner() {
    let Some(servers) = Servers::start(1, true) else { return };
    let pipeline = Pipeline::new(&servers, 1);
    let (here, there) = (pipeline.log(0).unwrap(), pipeline.log(1).unwrap());
    let mut writer = here.writer("received", 0, &mut |_| true).unwrap();
    append(&mut *writer, &mut 0, 3);
    let mut reader = there.reader("received", 0).unwrap();
    assert_eq!((reader.published(), reader.durable(), reader.oldest().unwrap()), (3, 3, 0));
    assert_eq!(reader.epochs().unwrap(), writer.epochs());
    std::thread::scope(|scope| {
        let reader = &mut reader;
        let waiting = scope.spawn(move || reader.wait(3, End::Durable, PATIENCE));
        append(&mut *writer, &mut 3, 4);
        assert!(waiting.join().unwrap());
    });
    assert_eq!(reader.read(0, Budget { bytes: u64::MAX, frames: 10 }, End::Durable).unwrap().len(), 4);
}

#[test]
fn what_an_acknowledgement_is_worth_is_found_out() {
    for (sync_always, replicas) in [(true, 1), (false, 1), (false, 3)] {
        let Some(servers) = Servers::start(1, sync_always) else { return };
        let config = Config { monitor: Some(servers.monitor()), replicas, ..Pipeline::new(&servers, 1).config };
        let promise = Nats::open(config, home(0), PATIENCE).unwrap().promise();
        assert_eq!((promise.sync_always, promise.weakness().is_some()), (Some(sync_always), !sync_always));
        assert_eq!(
            promise.weakness().is_some_and(|words| words.contains("replicas = 3")),
            !sync_always && replicas == 1
        );
    }
}

#[test]
fn a_server_that_is_not_there_or_too_plain_is_named() {
    let config = Config { servers: vec!["nats://127.0.0.1:1".into()], ..Config::default() };
    let refused = Nats::open(config, home(0), Duration::ZERO).err().unwrap().to_string();
    assert!(refused.contains("nats://127.0.0.1:1") && refused.contains("cannot be reached"), "{refused}");
}
