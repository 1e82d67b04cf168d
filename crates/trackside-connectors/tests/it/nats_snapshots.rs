//! Snapshots in JetStream: the exam of all stores, and pieces that are missing.

use crate::nats_server::Servers;
use std::sync::Arc;
use std::time::Duration;
use trackside_connectors::logs::nats::{Config, Home, Nats, States};
use trackside_connectors::snapshots::testing::{Candidate, sit};
use trackside_connectors::snapshots::{Shelf, Snapshot, Snapshots, Store};
use trackside_core::log::{End, Log};
use trackside_core::position::Position;

struct Pipeline(Config);

impl Pipeline {
    fn new(servers: &Servers, replicas: u8) -> Self {
        Self(Config { servers: servers.addresses(), prefix: "exam.1".into(), replicas, ..Config::default() })
    }

    fn log(&self, id: &str) -> Nats {
        let home = Home { id: id.into(), spool: std::env::temp_dir().join("trackside-test-spool") };
        Nats::open(self.0.clone(), home, Duration::from_secs(30)).unwrap()
    }

    fn states(&self) -> States {
        self.log("any").snapshots().unwrap()
    }
}

impl Candidate for Pipeline {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.states())
    }

    fn spoil(&self, shelf: &Shelf, name: &str, bytes: &[u8]) {
        self.states().write(shelf, name, bytes).unwrap();
    }

    fn half(&self, shelf: &Shelf, name: &str, bytes: &[u8]) {
        self.states().write(shelf, name, bytes).unwrap();
        self.states().lose(shelf, name, true).unwrap();
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

#[test]
fn a_snapshot_without_one_of_its_pieces_is_passed_over() {
    let Some(servers) = Servers::start(1, true) else { return };
    let states = Pipeline::new(&servers, 1).states();
    let store: Arc<dyn Store> = Arc::new(Pipeline::new(&servers, 1).states());
    let snapshots = Snapshots::new(&store, "clean", 0, "{}");
    let at = |offset| Snapshot { position: Position { epoch: 1, offset }, state: vec![offset as u8; 2 << 20] };
    [1, 2].iter().for_each(|offset| snapshots.save(&at(*offset)).unwrap());
    let shelf = Shelf { stage: "clean".into(), partition: 0 };
    let newest = store.list(&shelf).unwrap().pop().unwrap();
    states.lose(&shelf, &newest, false).unwrap();
    assert_eq!(snapshots.newest().unwrap(), Some(at(1)));
}

#[test]
fn without_a_server_it_is_an_error_and_not_an_empty_shelf() {
    let Some(mut servers) = Servers::start(1, true) else { return };
    let store: Arc<dyn Store> = Arc::new(Pipeline::new(&servers, 1).states());
    let snapshots = Snapshots::new(&store, "clean", 0, "{}");
    servers.kill(0);
    assert!(snapshots.newest().is_err());
    assert_eq!(snapshots.oldest(), None);
}

#[test]
fn a_partition_is_prepared_for_whoever_owns_it_and_a_stage_is_claimed_once() {
    let Some(servers) = Servers::start(1, true) else { return };
    let pipeline = Pipeline::new(&servers, 1);
    let (one, other) = (pipeline.log("one"), pipeline.log("other"));
    assert!(one.reader("clean", 0).is_err());
    one.prepare("clean", 0).unwrap();
    one.prepare("clean", 0).unwrap();
    let mut reader = one.reader("clean", 0).unwrap();
    assert_eq!((reader.published(), reader.newest().unwrap().is_none()), (0, true));
    let mut writer = other.writer("clean", 0, &mut |_| true).unwrap();
    writer.append(&trackside_core::log::FrameDraft::default()).unwrap();
    assert!(reader.wait(0, End::Published, Duration::from_secs(30)));
    let claim = one.claim("sinks").unwrap();
    assert!(other.claim("sinks").err().unwrap().to_string().contains("owned by process"));
    drop(claim);
    other.claim("sinks").unwrap();
}
