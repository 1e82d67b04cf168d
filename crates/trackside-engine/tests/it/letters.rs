//! Dead letters that are sent round again: each goes on once, from the stage that rejected it, and every sum holds.

use crate::models::{Poison, options};
use crate::support::*;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use trackside_core::batch::row_json;
use trackside_core::dead_letter::{LetterAction, LetterId, Stage};
use trackside_core::log::{Budget, End};
use trackside_engine::{Answered, Engine, Filter, Letter, Retry};

const BLOCKS: &str = r#"
[[source]]
type = "file"
path = "events.jsonl"

[[clean]]
type = "dedupe"
by = "seq"

[[clean]]
type = "range"
name = "bounds"
field = "value"
max = 15.0
action = "reject"
"#;

fn open(engine: &Engine) -> Vec<Letter> {
    engine.letters().list(&Filter::default()).unwrap()
}

fn closed(engine: &Engine) -> Vec<Letter> {
    engine.letters().list(&Filter { closed: true, ..Filter::default() }).unwrap()
}

/// The letters of a stage, once they are durable (a word is taken on no other).
fn letters(engine: &Engine, stage: Stage, count: usize) -> Vec<Letter> {
    wait("the letters", || {
        let all = open(engine);
        let there = all.iter().filter(|letter| letter.stage == stage).count() == count;
        // Asking for nothing says whether it could be asked for.
        there && engine.status().sums.in_flight() == 0
    });
    open(engine).into_iter().filter(|letter| letter.stage == stage).collect()
}

fn retry(engine: &Engine, id: &LetterId, row: Option<Value>) -> Answered {
    let row: Option<Map<String, Value>> = row.map(|row| row.as_object().unwrap().clone());
    let retry = [Retry { id: id.clone(), row }];
    // What was rejected a moment ago is durable a moment later.
    loop {
        let answer = engine.retry_letters(&retry).unwrap().remove(0);
        if answer.error.as_ref().is_none_or(|error| !error.contains("not durable yet")) {
            return answer;
        }
    }
}

fn settle(engine: &Engine) {
    wait("everything to be worked through", || engine.status().sums.in_flight() == 0);
    let sums = engine.status().sums;
    assert!(sums.balanced(), "{sums:?}");
}

fn rows(folder: &Path, topic: &str) -> Vec<Value> {
    let log = trackside_engine::open_log(&folder.join("data")).unwrap();
    let mut rows = Vec::new();
    for (name, partitions) in log.topics().unwrap() {
        for partition in partitions.into_iter().filter(|_| name == topic) {
            let mut reader = log.reader(topic, partition).unwrap();
            let frames = reader.read(0, Budget { bytes: u64::MAX, frames: usize::MAX }, End::Published).unwrap();
            for batch in frames.iter().filter_map(|frame| frame.rows().unwrap()) {
                rows.extend((0..batch.num_rows()).map(|row| Value::Object(row_json(batch, row))));
            }
        }
    }
    rows
}

/// Ends the engine and gives its directory back.
fn rest(engine: Arc<Engine>) {
    engine.drain(PATIENCE);
    drop(engine);
}

fn event(ts: u64, device: &str, value: f64, seq: u64) -> String {
    format!("{{\"ts\":{ts},\"device\":\"{device}\",\"value\":{value},\"seq\":{seq}}}\n")
}

#[test]
fn a_row_goes_back_to_the_cleaner_that_rejected_it_and_once() {
    for partitions in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let lines = event(1, "a", 1.0, 1) + &event(2, "a", 20.0, 2) + &event(3, "b", 30.0, 1) + &event(4, "c", 40.0, 1);
        fs::write(folder.path().join("events.jsonl"), lines).unwrap();
        let engine = start(folder.path(), &text(partitions, BLOCKS));
        assert_eq!(letters(&engine, Stage::Clean, 3).len(), 3);
        settle(&engine);
        rest(engine);

        // The bound was too narrow. What is sent back passes `dedupe`, which has seen it, untouched.
        let engine = start(folder.path(), &text(partitions, &BLOCKS.replace("15.0", "35.0")));
        let all = letters(&engine, Stage::Clean, 3);
        let of = |value: f64| {
            all.iter().find(|letter| letter.row.as_ref().unwrap().contains(&format!(":{value:.1}"))).unwrap()
        };
        let answer = retry(&engine, &of(20.0).id, None);
        assert_eq!((answer.done, answer.rows, &answer.error), (Some(LetterAction::Retry), 1, &None));
        assert!(retry(&engine, &of(20.0).id, None).error.unwrap().contains("sent round again"));
        let corrected = json!({"time": "2026-03-02T08:00:00Z", "device": "b", "value": 3.0, "seq": 1});
        assert_eq!(retry(&engine, &of(30.0).id, Some(corrected)).error, None);
        // Still above: a letter again, of a name of its own.
        assert_eq!(retry(&engine, &of(40.0).id, None).error, None);
        let new = letters(&engine, Stage::Clean, 1);
        assert!(new[0].id != of(40.0).id && new[0].row == of(40.0).row);
        wait("the new letter to be durable and dropped", || {
            engine.drop_letters(&[new[0].id.clone()]).unwrap()[0].done == Some(LetterAction::Drop)
        });
        assert!(retry(&engine, &new[0].id, None).error.unwrap().contains("it was dropped"));
        settle(&engine);
        let sums = engine.status().sums;
        assert_eq!((sums.clean.received, sums.clean.retried, sums.clean.clean, sums.clean.dead), (4, 3, 3, 4));
        assert_eq!((open(&engine).len(), closed(&engine).len()), (0, 4));
        let before = rows(folder.path(), "clean");
        rest(engine);

        let again = start(folder.path(), &text(partitions, &BLOCKS.replace("15.0", "35.0")));
        settle(&again);
        assert_eq!((again.status().sums, open(&again).len()), (sums, 0));
        assert_eq!(rows(folder.path(), "clean"), before, "a restart sends nothing again");
        assert_eq!(rows(folder.path(), "received").len(), 4, "the event itself was received once");
        let mut values: Vec<f64> = before.iter().map(|row| row["value"].as_f64().unwrap()).collect();
        values.sort_by(f64::total_cmp);
        assert_eq!(values, [1.0, 3.0, 20.0]);
    }
}

#[test]
fn what_the_door_rejected_is_decoded_again_or_replaced_by_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let lines = event(1, "a", 1.0, 1) + "{\"ts\":2,\"device\":\"a\",\"value\":\"warm\",\"seq\":2}\n{\"ts\":3\n";
    fs::write(folder.path().join("events.jsonl"), lines).unwrap();
    let engine = start(folder.path(), &text(2, BLOCKS));
    let dead = letters(&engine, Stage::Ingest, 2);
    assert!(retry(&engine, &dead[0].id, None).error.unwrap().contains("rejected again"));
    assert_eq!(open(&engine).len(), 2, "nothing was done");
    let event = |device: &str| json!({"ts": 1_700_000_000_002u64, "device": device, "value": 2.0, "seq": 2});
    assert_eq!(retry(&engine, &dead[0].id, Some(event("b"))).rows, 1);
    assert_eq!(retry(&engine, &dead[1].id, Some(event("c"))).rows, 1);
    settle(&engine);
    let sums = engine.status().sums;
    assert_eq!((sums.ingest.taken, sums.ingest.retried, sums.ingest.received, sums.ingest.dead), (3, 2, 3, 2));
    assert_eq!((sums.clean.clean, open(&engine).len(), closed(&engine).len()), (3, 0, 2));
    assert_eq!(rows(folder.path(), "received").len(), 3);
    assert!(retry(&engine, &dead[0].id, Some(event("d"))).error.unwrap().contains("closed"));
    assert!(retry(&engine, &"received/0/99/0".parse().unwrap(), None).error.unwrap().contains("no such letter"));
}

const MODEL: &str = r#"
[[source]]
type = "file"
path = "events.jsonl"

[[model]]
name = "sum"
use = "test:Sum"
field = "value"
mode = "in_process"

[[model]]
name = "other"
use = "test:Sum"
field = "value"
mode = "in_process"
"#;

#[test]
fn a_model_is_handed_its_row_again_and_its_state_knows_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let begin = |poison| -> Arc<Engine> { try_start(folder.path(), &text(1, MODEL), options(poison)).unwrap() };
    let lines: String = [1.0, 2.0, 64.0, 4.0].iter().zip(1..).map(|(value, ts)| event(ts, "a", *value, ts)).collect();
    fs::write(folder.path().join("events.jsonl"), &lines).unwrap();
    let engine = begin(Poison::Raises(64.0));
    let dead = letters(&engine, Stage::Model, 2);
    let mine = dead.iter().find(|letter| letter.component == "sum").unwrap();
    // It fails again: a new letter takes the old one's place.
    assert_eq!(retry(&engine, &mine.id, None).error, None);
    wait("the new letter", || open(&engine).iter().any(|letter| letter.component == "sum" && letter.id != mine.id));
    settle(&engine);
    rest(engine);

    for snapshots in [true, false] {
        let engine = begin(Poison::None);
        let before = rows(folder.path(), "scores.sum");
        if snapshots {
            let dead = letters(&engine, Stage::Model, 2);
            let mine = dead.iter().find(|letter| letter.component == "sum").unwrap();
            let mut row: Value = serde_json::from_str(mine.row.as_ref().unwrap()).unwrap();
            row["valeu"] = 1.into();
            assert!(retry(&engine, &mine.id, Some(row)).error.unwrap().contains("did you mean `value`?"));
            assert_eq!(retry(&engine, &mine.id, None).error, None);
            settle(&engine);
            let sums = engine.status().sums.models;
            assert_eq!((sums["sum"].retried, sums["sum"].scored, sums["sum"].dead), (2, 4, 2));
            assert_eq!((sums["other"].retried, sums["other"].scored, sums["other"].dead), (0, 3, 1));
            let scores = rows(folder.path(), "scores.sum");
            let last = scores.last().unwrap();
            assert_eq!((last["offset"].as_u64(), last["score"].as_f64()), (Some(2), Some(7.0)), "{last}");
            assert_eq!(rows(folder.path(), "clean").len(), 4, "its clean row is not written twice");
        } else {
            settle(&engine);
            assert_eq!(rows(folder.path(), "scores.sum"), before);
        }
        rest(engine);
        // From nothing but the log the state comes out the same: the next row's score tells.
        _ = fs::remove_dir_all(folder.path().join("data/snapshots"));
    }
    fs::write(folder.path().join("events.jsonl"), lines + &event(9, "a", 8.0, 9)).unwrap();
    finish(&begin(Poison::None));
    let scores = rows(folder.path(), "scores.sum");
    assert_eq!(scores.last().unwrap()["score"].as_f64(), Some(71.0), "1 + 2 + 4, and 64 once");
}
