//! Runtimes that wait at the end of `clean` by themselves: each row is scored once, whatever they answer and whenever they
//! die.

use crate::models::{BLOCKS, Poison, RunningSum, scores, write};
use crate::support::*;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use trackside_connectors::logs::embedded;
use trackside_connectors::logs::ipc::Decoder;
use trackside_core::batch::floats;
use trackside_core::model::{ModelCard, ModelFault, ModelReply, ModelRequest, ModelRuntime, TailReply, TailRequest};
use trackside_engine::worker::tail;
use trackside_engine::{Options, Summary};

/// What goes wrong in its own waits, now and then.
#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    None,
    /// It says that it came further than it did.
    TooFar,
    /// It leaves a row out of its answer.
    TooFew,
    /// It dies with rows in its hands.
    Dies,
    /// It dies before any came.
    DiesIdle,
    /// It cannot read the log.
    Unable,
}

/// Waits as a worker process does.
struct Waiting {
    then: RunningSum,
    trouble: Trouble,
    tails: Arc<AtomicU64>,
    /// Rows that it took by itself, and how often something went wrong.
    taken: Arc<AtomicU64>,
    troubles: Arc<AtomicU64>,
}

impl ModelRuntime for Waiting {
    fn start(&mut self, state: Option<&[u8]>) -> Result<ModelCard, ModelFault> {
        self.then.start(state)
    }

    fn update(&mut self, request: &ModelRequest) -> Result<ModelReply, ModelFault> {
        self.then.update(request)
    }

    fn tail(&mut self, request: &TailRequest) -> Option<Result<TailReply, ModelFault>> {
        let trouble = if self.tails.fetch_add(1, Ordering::Relaxed) % 5 == 3 { self.trouble } else { Trouble::None };
        if trouble == Trouble::Unable {
            self.troubles.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.wait(request, trouble))
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, ModelFault> {
        self.then.snapshot()
    }

    fn stop(&mut self) {}
}

impl Waiting {
    fn wait(&mut self, request: &TailRequest, trouble: Trouble) -> Result<TailReply, ModelFault> {
        let died = || ModelFault::Died("signal: 9 (SIGKILL)".into());
        let went_wrong = || self.troubles.fetch_add(1, Ordering::Relaxed);
        if trouble == Trouble::DiesIdle {
            went_wrong();
            return Err(died());
        }
        let mut reader = embedded::guest(&request.place).unwrap();
        let found = tail::wait(&mut *reader, request).unwrap();
        let mut values = Vec::new();
        for run in found.runs {
            let rows = Decoder::default().decode(run.section).unwrap().slice(run.from, run.to - run.from);
            values.extend(floats(&rows, "value").unwrap().iter().flatten());
        }
        self.taken.fetch_add(values.len() as u64, Ordering::Relaxed);
        if values.is_empty() {
            return Ok(TailReply { to: found.to, reply: ModelReply::default() });
        }
        let mut to = found.to;
        if trouble != Trouble::None {
            went_wrong();
        }
        match trouble {
            Trouble::Dies => return Err(died()),
            Trouble::TooFar => to += 1,
            Trouble::TooFew => _ = values.pop(),
            _ => {}
        }
        Ok(TailReply { to, reply: self.then.score(values.into_iter())? })
    }
}

/// How a paced file was scored, how many rows the runtime took by itself, and how often that went wrong.
fn run(folder: &Path, poison: Poison, trouble: Trouble) -> (Summary, u64, u64) {
    let [calls, tails, taken, troubles]: [Arc<AtomicU64>; 4] = Default::default();
    let shared = (taken.clone(), troubles.clone());
    let factory: trackside_engine::RuntimeFactory = Arc::new(move |_, _, _, _| {
        let then = RunningSum { sum: 0.0, poison, calls: calls.clone() };
        let (taken, troubles) = shared.clone();
        Box::new(Waiting { then, trouble, tails: tails.clone(), taken, troubles }) as Box<dyn ModelRuntime>
    });
    let blocks = BLOCKS.replace("path = \"events.jsonl\"", "path = \"events.jsonl\"\nrate = 20000");
    let options = Options { in_process: Some(factory), ..Options::default() };
    let summary = finish(&try_start(folder, &text(1, &blocks), options).unwrap());
    (summary, taken.load(Ordering::Relaxed), troubles.load(Ordering::Relaxed))
}

#[test]
fn rows_are_scored_once_whatever_goes_wrong_in_the_wait() {
    let straight = tempfile::tempdir().unwrap();
    write(straight.path(), 0.0);
    let (summary, taken, _) = run(straight.path(), Poison::None, Trouble::None);
    assert!(summary.balanced && summary.dead == 0 && summary.scored == summary.clean, "{summary:?}");
    assert!(taken > 0, "nothing came by itself");
    let wanted = scores(straight.path());
    for trouble in [Trouble::TooFar, Trouble::TooFew, Trouble::Dies, Trouble::DiesIdle, Trouble::Unable] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 0.0);
        let (summary, _, troubles) = run(folder.path(), Poison::None, trouble);
        assert!(troubles > 0, "nothing went wrong");
        assert!(summary.balanced && summary.dead == 0 && summary.scored == summary.clean, "{summary:?}");
        assert!(scores(folder.path()) == wanted, "the scores differ from those of a straight run");
    }
}

#[test]
fn a_poison_row_met_in_a_wait_is_the_only_one_lost() {
    for poison in [Poison::Raises(-1.25), Poison::Dies(-1.25)] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), -1.25);
        let (summary, ..) = run(folder.path(), poison, Trouble::None);
        assert!(summary.balanced && summary.in_flight == 0, "{summary:?}");
        assert_eq!((summary.dead, summary.scored), (1, summary.clean - 1));
    }
}
