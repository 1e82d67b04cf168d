//! The exam of everything that keeps snapshots: files, JetStream, and whatever comes next.
//!
//! ```
//! use trackside_connectors::snapshots::testing::{Candidate, sit};
//!
//! fn examine(mine: &dyn Candidate) {
//!     sit(mine);
//! }
//! ```

use super::{Shelf, Snapshot, Snapshots, Store, encode};
use std::sync::Arc;
use trackside_core::position::Position;

/// A state that no store keeps in one piece.
const LARGE: usize = (5 << 19) + 7;
/// A position that nothing stands behind.
const ANYWHERE: Position = Position { epoch: 9, offset: u64::MAX };

/// What sits the exam.
pub trait Candidate {
    /// The store, as a process that starts now finds it.
    fn open(&self) -> Arc<dyn Store>;
    /// Puts other bytes in place of what lies there, behind the store's back.
    fn spoil(&self, shelf: &Shelf, name: &str, bytes: &[u8]);
    /// Leaves what a process leaves that was killed while it wrote this.
    fn half(&self, shelf: &Shelf, name: &str, bytes: &[u8]);
}

/// One question: its name, and how it is asked on a shelf of its own.
type Question = (&'static str, fn(&dyn Candidate, &str));

const QUESTIONS: &[Question] = &[
    ("two-generations", two_generations),
    ("what-fits", what_fits),
    ("sizes", sizes),
    ("damage", damage),
    ("half-written", half_written),
    ("saved-again", saved_again),
    ("apart", apart),
];

/// Asks every question.
pub fn sit(candidate: &dyn Candidate) {
    for (name, ask) in QUESTIONS {
        eprintln!("question: {name}");
        ask(candidate, &format!("scores.{name}"));
    }
}

fn of(candidate: &dyn Candidate, stage: &str) -> Snapshots {
    Snapshots::new(&candidate.open(), stage, 1, "{}")
}

fn save(snapshots: &Snapshots, snapshot: &Snapshot) {
    snapshots.save(snapshot).expect("a snapshot can be saved");
}

fn newest(snapshots: &Snapshots) -> Option<Snapshot> {
    snapshots.newest().expect("the newest snapshot can be read")
}

fn at(offset: u64) -> Snapshot {
    sized(offset, 100)
}

fn sized(offset: u64, length: usize) -> Snapshot {
    let state = (0..length).map(|at| (at as u64 * 31 + offset) as u8).collect();
    Snapshot { position: Position { epoch: 1, offset }, state }
}

fn shelf(stage: &str) -> Shelf {
    Shelf { stage: stage.to_owned(), partition: 1 }
}

/// The name under which a snapshot of these exams lies.
fn name(candidate: &dyn Candidate, stage: &str, offset: u64) -> String {
    let ending = format!("{offset:020}.snap");
    let names = candidate.open().list(&shelf(stage)).expect("names can be listed");
    names.into_iter().find(|name| name.ends_with(&ending)).expect("it was saved")
}

fn two_generations(candidate: &dyn Candidate, stage: &str) {
    let snapshots = of(candidate, stage);
    assert_eq!((newest(&snapshots), snapshots.oldest()), (None, None));
    save(&snapshots, &at(10));
    assert_eq!((newest(&snapshots), snapshots.oldest()), (Some(at(10)), None));
    for offset in [20, 30, 40] {
        save(&snapshots, &at(offset));
    }
    let later = of(candidate, stage);
    assert_eq!((newest(&later), later.oldest()), (Some(at(40)), Some(at(30))));
    assert_eq!(candidate.open().list(&shelf(stage)).expect("names can be listed").len(), 2);
}

fn what_fits(candidate: &dyn Candidate, stage: &str) {
    let snapshots = of(candidate, stage);
    [10, 20].iter().for_each(|offset| save(&snapshots, &at(*offset)));
    let load = |epoch, offset| snapshots.load(Position { epoch, offset }).expect("snapshots can be read");
    assert_eq!((load(1, 20), load(1, 19), load(1, 9)), (Some(at(20)), Some(at(10)), None));
    assert_eq!((load(0, 100), load(2, 0)), (None, Some(at(20))));
}

fn sizes(candidate: &dyn Candidate, stage: &str) {
    let snapshots = of(candidate, stage);
    for (offset, length) in [(1, 0), (2, 1), (3, 1 << 19), (4, LARGE)] {
        save(&snapshots, &sized(offset, length));
        assert_eq!(newest(&of(candidate, stage)), Some(sized(offset, length)), "{length} bytes");
    }
}

fn damage(candidate: &dyn Candidate, stage: &str) {
    let snapshots = of(candidate, stage);
    [10, 20].iter().for_each(|offset| save(&snapshots, &at(*offset)));
    let (name, whole) = (name(candidate, stage, 20), encode(&at(20)).expect("a head has a form in JSON"));
    for bit in (0..whole.len() * 8).step_by(61) {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        candidate.spoil(&shelf(stage), &name, &bytes);
        let found = of(candidate, stage).load(ANYWHERE).expect("snapshots can be read");
        // A bit of the head may mean the same as before.
        assert!(found == Some(at(10)) || found == Some(at(20)), "bit {bit}: {found:?}");
    }
    candidate.spoil(&shelf(stage), &name, &whole[..whole.len() - 1]);
    assert_eq!(newest(&snapshots), Some(at(10)));
    save(&snapshots, &at(30));
    assert_eq!(newest(&snapshots), Some(at(30)));
    assert_eq!(snapshots.oldest(), Some(at(10)), "a damaged one does not take a sound one's place");
}

fn half_written(candidate: &dyn Candidate, stage: &str) {
    let snapshots = of(candidate, stage);
    [10, 20].iter().for_each(|offset| save(&snapshots, &sized(*offset, LARGE)));
    let other = name(candidate, stage, 20).replace("00020.snap", "00030.snap");
    candidate.half(&shelf(stage), &other, &encode(&sized(30, LARGE)).expect("a head has a form in JSON"));
    let later = of(candidate, stage);
    assert_eq!((newest(&later), later.oldest()), (Some(sized(20, LARGE)), Some(sized(10, LARGE))));
    // It comes to the same position once more, now to the end.
    save(&later, &sized(30, LARGE));
    assert_eq!((newest(&later), later.oldest()), (Some(sized(30, LARGE)), Some(sized(20, LARGE))));
}

fn saved_again(candidate: &dyn Candidate, stage: &str) {
    let snapshots = of(candidate, stage);
    [10, 20].iter().for_each(|offset| save(&snapshots, &sized(*offset, LARGE)));
    let again = Snapshot { state: vec![7; LARGE - 100], ..sized(20, 0) };
    save(&snapshots, &again);
    assert_eq!((newest(&snapshots), snapshots.oldest()), (Some(again), Some(sized(10, LARGE))));
}

fn apart(candidate: &dyn Candidate, stage: &str) {
    let store = candidate.open();
    save(&Snapshots::new(&store, stage, 1, "{}"), &at(10));
    for (stage, partition, settings) in [(stage, 1, "others"), (stage, 2, "{}"), ("clean", 1, "{}")] {
        let others = Snapshots::new(&store, stage, partition, settings);
        assert_eq!(newest(&others), None, "{stage} {partition} {settings}");
    }
}
