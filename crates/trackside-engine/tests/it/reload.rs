//! A pipeline that was changed while it ran answers as one that was not: rows, sums, scores and tables.

use crate::models::{Poison, options, scores};
use crate::support::*;
use std::fs;
use std::path::Path;
use trackside_engine::{Engine, NotReloaded, Summary};

const SOURCE: &str = "[[source]]\ntype = \"file\"\npath = \"events.jsonl\"\n";
const DEDUPE: &str = "[[clean]]\ntype = \"dedupe\"\nby = \"seq\"\nwithin = 60000\n";
const TABLE: &str = "[[sink]]\ntype = \"parquet\"\ntopic = \"clean\"\n";
/// Finds nothing: the rows are the same with and without it.
const IDLE: &str = "[[clean]]\ntype = \"range\"\nfield = \"value\"\nmax = 1e9\n";

fn model(max_batch: u32) -> String {
    format!(
        "[[model]]\nname = \"sum\"\nuse = \"test:Sum\"\nfield = \"value\"\nmode = \"in_process\"\nmax_batch = {max_batch}\n"
    )
}

/// Each is a reload away from the one before; all of them mean the same rows.
fn variants() -> Vec<String> {
    let extra = "[[sink]]\nname = \"more\"\ntype = \"parquet\"\ntopic = \"received\"\n";
    vec![
        format!("{SOURCE}{DEDUPE}{}{TABLE}", model(500)),
        format!("{SOURCE}{IDLE}{DEDUPE}{}{TABLE}", model(300)),
        format!("{SOURCE}{DEDUPE}{IDLE}{}{TABLE}rows = 700\n", model(200)),
        format!("{SOURCE}poll = \"30ms\"\n{DEDUPE}{}{TABLE}{extra}", model(400)),
        format!("{SOURCE}{DEDUPE}{}{TABLE}age = \"1s\"\n", model(500)),
    ]
}

fn begin(folder: &Path, partitions: u32, blocks: &str) -> std::sync::Arc<Engine> {
    try_start(folder, &text(partitions, blocks), options(Poison::None)).unwrap()
}

/// Goes through the variants again and again while events come in.
fn run_and_reload(folder: &Path, partitions: u32) -> (Summary, usize) {
    let engine = begin(folder, partitions, &variants()[0]);
    let mut reloads = 0;
    for blocks in variants().iter().cycle().skip(1) {
        if engine.sources_ended() {
            break;
        }
        let before = engine.status().sums.ingest.received;
        engine.change(load(folder, &text(partitions, blocks))).unwrap();
        reloads += 1;
        wait("more rows", || engine.sources_ended() || engine.status().sums.ingest.received > before);
    }
    (finish(&engine), reloads)
}

#[test]
fn reloads_under_load_change_no_row_no_sum_and_no_score() {
    for partitions in [1, 3] {
        let (straight, reloaded) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in [&straight, &reloaded] {
            // All of it twice: the second half is clean only if no cleaner forgot the first.
            fs::write(folder.path().join("events.jsonl"), events(30_000).repeat(2)).unwrap();
        }
        let expected = finish(&begin(straight.path(), partitions, &variants()[0]));
        let (summary, reloads) = run_and_reload(reloaded.path(), partitions);
        assert!(reloads >= 3, "{reloads} reloads are no test");
        assert!(summary.balanced && summary.in_flight == 0, "{summary:?}");
        assert_eq!(summary.sums, expected.sums);
        assert_eq!((summary.table_rows, summary.scored), (expected.table_rows, expected.scored));
        if partitions == 1 {
            assert!(scores(reloaded.path()) == scores(straight.path()), "a score changed");
        }
        let again = finish(&begin(reloaded.path(), partitions, variants().last().unwrap()));
        assert_eq!(again.sums, summary.sums, "a restart after it changes nothing");
    }
}

#[test]
fn what_changed_is_told_and_what_did_not_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("events.jsonl"), events(500)).unwrap();
    let engine = begin(folder.path(), 1, &variants()[0]);
    wait("the end of the file", || engine.sources_ended() && engine.status().sums.in_flight() == 0);
    let change = |blocks: &str| -> Vec<String> {
        engine.change(load(folder.path(), &text(1, blocks))).unwrap().iter().map(ToString::to_string).collect()
    };
    assert!(change(&variants()[0]).is_empty());
    assert_eq!(
        change(&variants()[1]),
        ["clean range: added, remembers nothing yet", "model sum: `max_batch` changed, restarted from its snapshot"]
    );
    let without = format!("{SOURCE}{IDLE}{DEDUPE}{TABLE}");
    assert_eq!(change(&without), ["model sum: removed; its scores are kept"]);
    assert!(engine.status().models.is_empty());
    assert_eq!(change(&variants()[1]), ["model sum: added; it begins with the oldest rows held"]);
    wait("the model to be back", || engine.status().models[0].state == "running");
    let quicker = text(1, &without).replace("\"50ms\"", "\"70ms\"");
    let told = engine.change(load(folder.path(), &quicker)).unwrap();
    assert_eq!(told[0].to_string(), "pipeline: `snapshot_every` changed");
    assert!(engine.drain(PATIENCE).balanced);
    let late = engine.change(load(folder.path(), &quicker));
    assert!(matches!(late, Err(NotReloaded::Failed(why)) if why.contains("ending")));
}

#[test]
fn a_broken_or_impossible_file_changes_nothing_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipeline.toml");
    fs::write(folder.path().join("events.jsonl"), events(500)).unwrap();
    let good = text(1, &variants()[0]);
    fs::write(&file, &good).unwrap();
    let engine = begin(folder.path(), 1, &variants()[0]);
    let refused = |text: &str| {
        fs::write(&file, text).unwrap();
        let Err(error @ NotReloaded::File(_)) = engine.reload() else { panic!("it was taken") };
        let last = engine.status().reload.unwrap();
        assert!(!last.ok && last.text[0] == error.to_string());
        assert_eq!(engine.pipeline().cleaners.len(), 1);
        error.to_string()
    };
    let broken = refused(&good.replace("type = \"dedupe\"", "type = \"dedup\""));
    assert!(broken.contains("pipeline.toml:15:1:") && broken.contains("did you mean `dedupe`"), "{broken}");
    assert!(refused("[pipeline\n").contains("pipeline.toml:1:"));
    let parts = refused(&good.replace("partitions = 1", "partitions = 2"));
    assert!(parts.contains("pipeline.toml:3:1: the data was made with 1 partitions"), "{parts}");
    let schema = refused(&good.replace("value = \"float\"", "value = \"integer\""));
    assert!(schema.contains("`fields` of [schema] changed") && schema.contains("start it again"), "{schema}");
    let server = refused(&format!("{good}\n[server]\nlisten = \"127.0.0.1:1\"\n"));
    assert!(server.contains("keeps its port"), "{server}");
    fs::write(&file, &good).unwrap();
    assert!(engine.reload().unwrap().is_empty() && engine.status().reload.unwrap().ok);
    assert!(finish(&engine).balanced);
}
