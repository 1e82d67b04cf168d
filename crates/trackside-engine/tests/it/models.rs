//! Models that fail: exactly the poison row is a dead letter, everything else is scored, ingest never notices.
//!
//! The runtime is a Rust one that keeps the contract (it maps frames, has state, dies on command); Python workers are
//! driven by the same loop in the end-to-end tests.

use crate::support::*;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use trackside_connectors::logs::mapped::read_mapped;
use trackside_core::batch::floats;
use trackside_core::log::{Budget, End, SectionKind};
use trackside_core::model::{ModelCard, ModelFault, ModelReply, ModelRequest, ModelRuntime};
use trackside_engine::{Options, Summary};

/// Scores a row by the running sum of all values before it: any row lost, doubled or reordered changes all later ones.
pub(crate) struct RunningSum {
    pub(crate) sum: f64,
    pub(crate) poison: Poison,
    pub(crate) calls: Arc<AtomicU64>,
}

impl RunningSum {
    pub(crate) fn score(&mut self, values: impl Iterator<Item = f64>) -> Result<ModelReply, ModelFault> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let mut reply = ModelReply::default();
        for value in values {
            reply.score.push(self.sum);
            self.sum += value;
            match self.poison {
                Poison::Raises(poison) if value == poison => {
                    return Err(ModelFault::Raised {
                        error: format!("ValueError: {value}"),
                        traceback: "line 1".into(),
                    });
                }
                Poison::Dies(poison) if value == poison => {
                    return Err(ModelFault::Died("signal: 11 (SIGSEGV)".into()));
                }
                _ => {}
            }
        }
        if matches!(self.poison, Poison::KilledAt(at) if at == call) {
            return Err(ModelFault::Died("signal: 9 (SIGKILL)".into()));
        }
        reply.rows = reply.score.len();
        reply.anomaly = vec![false; reply.rows];
        reply.ready = vec![true; reply.rows];
        Ok(reply)
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Poison {
    None,
    /// Raises on this value.
    Raises(f64),
    /// Dies on this value.
    Dies(f64),
    /// Dies once, at this call, whatever the rows are.
    KilledAt(u64),
}

impl ModelRuntime for RunningSum {
    fn start(&mut self, state: Option<&[u8]>) -> Result<ModelCard, ModelFault> {
        self.sum = state.map_or(0.0, |state| f64::from_le_bytes(state.try_into().unwrap()));
        Ok(ModelCard { version: "1".into(), fields: vec!["value".into()], warm_up: 0, split: false })
    }

    fn update(&mut self, request: &ModelRequest) -> Result<ModelReply, ModelFault> {
        let mut values = Vec::new();
        for slice in &request.frames {
            let rows = read_mapped(&slice.location.path, slice.location.rows_at, slice.location.rows_length).unwrap();
            let held = floats(&rows, "value").unwrap();
            let asked = |row: &usize| !request.skip.contains(&(slice.base + *row as u64));
            values.extend((slice.from..slice.to).filter(asked).map(|row| held.value(row)));
        }
        self.score(values.into_iter())
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, ModelFault> {
        Ok(self.sum.to_le_bytes().to_vec())
    }

    fn stop(&mut self) {}
}

pub(crate) const BLOCKS: &str = r#"
[[source]]
type = "file"
path = "events.jsonl"

[[model]]
name = "sum"
use = "test:Sum"
field = "value"
mode = "in_process"
max_batch = 500
"#;

/// Cannot be loaded, until it can.
struct Unloadable {
    loads: Arc<AtomicBool>,
    then: RunningSum,
}

impl ModelRuntime for Unloadable {
    fn start(&mut self, state: Option<&[u8]>) -> Result<ModelCard, ModelFault> {
        if self.loads.load(Ordering::Relaxed) {
            return self.then.start(state);
        }
        Err(ModelFault::CannotLoad { error: "ImportError: no".into(), traceback: "line 7".into() })
    }

    fn update(&mut self, request: &ModelRequest) -> Result<ModelReply, ModelFault> {
        self.then.update(request)
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, ModelFault> {
        self.then.snapshot()
    }

    fn stop(&mut self) {}
}

#[test]
fn a_model_that_cannot_be_loaded_says_so_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 1.0);
    let loads: Arc<AtomicBool> = Arc::default();
    let flag = loads.clone();
    let factory: trackside_engine::RuntimeFactory = Arc::new(move |_, _, _, _| {
        let then = RunningSum { sum: 0.0, poison: Poison::None, calls: Arc::default() };
        Box::new(Unloadable { loads: flag.clone(), then }) as Box<dyn ModelRuntime>
    });
    let engine =
        try_start(folder.path(), &text(1, BLOCKS), Options { in_process: Some(factory), ..Options::default() })
            .unwrap();
    wait("the failure to be told", || engine.status().models[0].cannot_load);
    assert!(engine.status().models[0].last_error.as_ref().unwrap().contains("line 7"));
    loads.store(true, Ordering::Relaxed);
    wait("the model", || engine.status().models[0].state == "running");
    assert!(!engine.status().models[0].cannot_load);
    let summary = finish(&engine);
    assert_eq!((summary.scored, summary.in_flight), (summary.clean, 0));
}

pub(crate) fn options(poison: Poison) -> Options {
    let calls: Arc<AtomicU64> = Arc::default();
    let factory: trackside_engine::RuntimeFactory = Arc::new(move |_, _, _, _| {
        Box::new(RunningSum { sum: 0.0, poison, calls: calls.clone() }) as Box<dyn ModelRuntime>
    });
    Options { in_process: Some(factory), ..Options::default() }
}

fn run(folder: &Path, poison: Poison) -> Summary {
    finish(&try_start(folder, &text(1, BLOCKS), options(poison)).unwrap())
}

pub(crate) fn write(folder: &Path, poison: f64) {
    let mut lines: Vec<String> = events(3000).lines().filter(|line| line.len() > 20).map(str::to_owned).collect();
    lines[1777] = format!("{{\"ts\":1700000001777,\"device\":\"d1\",\"value\":{poison},\"seq\":1}}");
    fs::write(folder.join("events.jsonl"), lines.join("\n")).unwrap();
}

/// The values in the file, in order.
fn all_values(folder: &Path) -> Vec<f64> {
    let text = fs::read_to_string(folder.join("events.jsonl")).unwrap();
    let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["value"].as_f64().unwrap();
    text.lines().map(value).collect()
}

/// (offset in clean, score) of every scored row.
pub(crate) fn scores(folder: &Path) -> Vec<(i64, f64)> {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    let log = trackside_engine::open_log(&folder.join("data")).unwrap();
    let mut reader = log.reader("scores.sum", 0).unwrap();
    let (mut at, mut all) = (0, Vec::new());
    loop {
        let frames = reader.read(at, Budget { bytes: 1 << 20, frames: 100 }, End::Published).unwrap();
        let Some(last) = frames.last() else { return all };
        at = last.end;
        for rows in frames.iter().filter_map(|frame| frame.section(SectionKind::Rows).unwrap()) {
            let offsets = rows.column_by_name("offset").unwrap().as_primitive::<Int64Type>();
            all.extend(offsets.values().iter().copied().zip(floats(rows, "score").unwrap().values().iter().copied()));
        }
    }
}

#[test]
fn a_row_that_raises_or_kills_is_the_only_one_lost_to_the_model() {
    for poison in [Poison::Raises(-1.25), Poison::Dies(-1.25)] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), -1.25);
        let summary = run(folder.path(), poison);
        assert!(summary.balanced && summary.in_flight == 0, "{summary:?}");
        assert_eq!((summary.dead, summary.scored), (1, summary.clean - 1));
        let scores = scores(folder.path());
        assert!(scores.iter().all(|(offset, _)| *offset != 1777));
        assert_eq!(scores.len() as u64, summary.scored);
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 0.0);
        run(folder.path(), Poison::None);
        let mut straight = self::scores(folder.path());
        straight.retain(|(offset, _)| *offset != 1777);
        assert!(scores == straight, "the model never learnt from the dead row, and from every other once");
    }
}

/// Cannot be saved once it has learnt something.
struct Unsaved(RunningSum);

impl ModelRuntime for Unsaved {
    fn start(&mut self, state: Option<&[u8]>) -> Result<ModelCard, ModelFault> {
        self.0.start(state)
    }

    fn update(&mut self, request: &ModelRequest) -> Result<ModelReply, ModelFault> {
        self.0.update(request)
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, ModelFault> {
        if self.0.sum == 0.0 {
            return self.0.snapshot();
        }
        Err(ModelFault::Raised { error: "TypeError: no".into(), traceback: String::new() })
    }

    fn stop(&mut self) {}
}

#[test]
fn a_model_that_cannot_be_saved_still_loses_the_poison_row_only() {
    for poison in [Poison::Raises(-1.25), Poison::Dies(-1.25)] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), -1.25);
        let factory: trackside_engine::RuntimeFactory = Arc::new(move |_, _, _, _| {
            Box::new(Unsaved(RunningSum { sum: 0.0, poison, calls: Arc::default() })) as Box<dyn ModelRuntime>
        });
        let options = Options { in_process: Some(factory), ..Options::default() };
        let summary = finish(&try_start(folder.path(), &text(1, BLOCKS), options).unwrap());
        assert!(summary.balanced && summary.in_flight == 0, "{summary:?}");
        assert_eq!((summary.dead, summary.scored), (1, summary.clean - 1));
    }
}

#[test]
fn a_row_that_fails_only_now_does_not_keep_the_model_from_coming_back() {
    for poison in [Poison::Raises(-1.25), Poison::Dies(-1.25)] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), -1.25);
        let before = run(folder.path(), Poison::None);
        assert_eq!((before.dead, before.scored), (0, before.clean));
        // The model's code is another one now, and it learns anew from what the log holds.
        _ = fs::remove_dir_all(folder.path().join("data/snapshots"));
        let path = folder.path().join("events.jsonl");
        let more = "\n{\"ts\":1700000009000,\"device\":\"d1\",\"value\":2.0,\"seq\":100000}\n";
        fs::write(&path, fs::read_to_string(&path).unwrap() + more).unwrap();
        let after = run(folder.path(), poison);
        assert!(after.balanced && after.in_flight == 0, "{after:?}");
        assert_eq!((after.dead, after.clean, after.scored), (0, before.clean + 1, before.scored + 1));
        let scores = scores(folder.path());
        let (last, sum) = scores[scores.len() - 1];
        let (_, straight) = scores[scores.len() - 2];
        // The state has all rows but the one that it can no longer take: -1.25 is missing in the sum.
        let before_last = all_values(folder.path()).iter().rev().nth(1).copied().unwrap();
        assert_eq!(sum, straight + before_last + 1.25, "row {last}");
    }
}

#[test]
fn a_worker_that_is_killed_costs_nothing() {
    let straight = tempfile::tempdir().unwrap();
    write(straight.path(), 0.0);
    run(straight.path(), Poison::None);
    for at in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 0.0);
        let summary = run(folder.path(), Poison::KilledAt(at));
        assert!(summary.balanced && summary.dead == 0 && summary.scored == summary.clean, "{summary:?}");
        assert!(scores(folder.path()) == scores(straight.path()), "the scores differ from those of a straight run");
    }
}

#[test]
fn a_restart_goes_on_with_the_state_that_belongs_to_the_output() {
    let straight = tempfile::tempdir().unwrap();
    write(straight.path(), 0.0);
    run(straight.path(), Poison::None);
    let folder = tempfile::tempdir().unwrap();
    let all = fs::read_to_string(straight.path().join("events.jsonl")).unwrap();
    let lines: Vec<&str> = all.lines().collect();
    for share in [1000, 1500, 3000, lines.len()] {
        let whole: String = lines[..share].iter().flat_map(|line| [line, "\n"]).collect();
        fs::write(folder.path().join("events.jsonl"), whole).unwrap();
        let summary = run(folder.path(), Poison::None);
        assert!(summary.balanced && summary.in_flight == 0, "{summary:?}");
    }
    // Offsets differ: each run marked its end of input, and a frame without rows takes an offset.
    let values = |folder: &Path| scores(folder).into_iter().map(|(_, score)| score).collect::<Vec<_>>();
    assert!(values(folder.path()) == values(straight.path()), "the scores differ from those of a straight run");
}

#[test]
fn tables_follow_while_everything_is_busy() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 0.0);
    let blocks = BLOCKS.replace("path = \"events.jsonl\"", "path = \"events.jsonl\"\nrate = 1500")
        + "\n[[sink]]\ntype = \"parquet\"\ntopic = \"scores.sum\"\nage = \"50ms\"\n";
    let engine = try_start(folder.path(), &text(2, &blocks), options(Poison::None)).unwrap();
    let committed = || engine.status().tables.iter().find(|table| table.topic == "scores.sum").unwrap().rows;
    wait("a table to grow while the source runs", || committed() > 500);
    assert!(!engine.sources_ended(), "rows were committed only once the source had ended");
    let summary = finish(&engine);
    assert!(summary.balanced && summary.in_flight == 0, "{summary:?}");
    assert_eq!(committed(), summary.scored);
}

/// A model that cannot be loaded.
struct Broken;

impl ModelRuntime for Broken {
    fn start(&mut self, _: Option<&[u8]>) -> Result<ModelCard, ModelFault> {
        Err(ModelFault::CannotLoad { error: "no module named `nothing`".into(), traceback: String::new() })
    }

    fn update(&mut self, _: &ModelRequest) -> Result<ModelReply, ModelFault> {
        unreachable!("it was never started")
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, ModelFault> {
        unreachable!("it was never started")
    }

    fn stop(&mut self) {}
}

#[test]
fn a_broken_model_is_passed_over_beyond_its_backlog() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 0.0);
    let blocks = BLOCKS.replace("max_batch = 500", "max_backlog = 100");
    let factory: trackside_engine::RuntimeFactory = Arc::new(|_, _, _, _| Box::new(Broken) as Box<dyn ModelRuntime>);
    let options = Options { in_process: Some(factory), ..Options::default() };
    let engine = try_start(folder.path(), &text(1, &blocks), options).unwrap();
    let clean = engine_rows(folder.path());
    wait("rows to be skipped", || engine.status().models[0].skipped == clean - 100);
    let status = engine.status();
    assert_eq!((status.models[0].state, status.sums.models["sum"].in_flight), ("failed", 100));
    assert!(status.sums.balanced() && status.models[0].last_error.as_ref().unwrap().contains("no module"));
    engine.drain(std::time::Duration::from_secs(1));
}

fn engine_rows(folder: &Path) -> u64 {
    fs::read_to_string(folder.join("events.jsonl")).unwrap().lines().count() as u64
}
