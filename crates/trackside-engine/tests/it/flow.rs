//! Events flow from a file to tables, and every sum holds.

use crate::support::*;
use std::fs;
use trackside_connectors::logs::embedded::Embedded;
use trackside_core::log::{Budget, End, Log};

const BLOCKS: &str = r#"
[[source]]
type = "file"
path = "events.jsonl"

[[clean]]
type = "dedupe"
by = "seq"

[[clean]]
type = "range"
field = "value"
max = 15.0
action = "reject"

[[sink]]
type = "parquet"
topic = "clean"
"#;

#[test]
fn every_row_is_accounted_for_also_over_restarts_and_partitions() {
    for partitions in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("events.jsonl"), events(10_000)).unwrap();
        let text = text(partitions, BLOCKS);
        let summary = finish(&start(folder.path(), &text));
        assert!(summary.balanced, "{summary:?}");
        assert_eq!((summary.taken, summary.received), (10_300, 10_200));
        assert_eq!((summary.filtered, summary.in_flight), (200, 0));
        assert_eq!(summary.table_rows, summary.clean);
        assert_eq!(summary.dead, 100 + (10_000 - summary.clean), "broken lines and values above 15");
        let again = finish(&start(folder.path(), &text));
        assert_eq!(again.sums, summary.sums, "a restart at the end changes nothing");
        assert_eq!(again.table_rows, summary.table_rows);
    }
}

#[test]
fn a_new_field_and_a_new_cleaner_go_on_with_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let all = events(4000);
    let half = all[..all.len() / 2].rfind('\n').unwrap() + 1;
    let before = "[[source]]\ntype = \"file\"\npath = \"events.jsonl\"\n\n[[sink]]\ntype = \"parquet\"\n";
    fs::write(folder.path().join("events.jsonl"), &all[..half]).unwrap();
    let first = finish(&start(folder.path(), &text(2, before)));
    fs::write(folder.path().join("events.jsonl"), &all).unwrap();
    let after = text(2, &format!("{before}\n[[clean]]\ntype = \"hampel\"\nfield = \"value\"\n"))
        .replace("seq = \"integer\"", "seq = \"integer\", unit = \"string\"");
    let second = finish(&start(folder.path(), &after));
    assert!(second.balanced && second.in_flight == 0, "{second:?}");
    assert_eq!((second.taken, second.table_rows), (4120, second.clean));
    assert!(second.clean > first.clean);
}

#[test]
fn a_table_of_another_log_is_not_waited_upon_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("events.jsonl"), events(2000)).unwrap();
    let text = text(1, &BLOCKS.replace("topic = \"clean\"", "topic = \"clean\"\npath = \"tables\""));
    let whole = finish(&start(folder.path(), &text));
    fs::remove_dir_all(folder.path().join("data")).unwrap();
    fs::write(folder.path().join("events.jsonl"), events(100)).unwrap();
    let engine = start(folder.path(), &text);
    let stopped = || engine.status().stages.iter().find(|s| s.name == "parquet").and_then(|s| s.detail.clone());
    wait("the sink to say so", || stopped().is_some_and(|detail| detail.contains("belongs to another data directory")));
    assert!(engine.drain(PATIENCE).clean < whole.clean);
}

#[test]
fn rows_in_a_damaged_frame_are_counted_as_lost_and_all_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("events.jsonl"), events(30_000)).unwrap();
    let text = text(1, BLOCKS);
    let before = finish(&start(folder.path(), &text));
    // Cleaning begins anew, over a log whose second frame of rows has a flipped bit.
    let data = folder.path().join("data");
    for gone in ["log/clean", "snapshots", "tables"] {
        _ = fs::remove_dir_all(data.join(gone));
    }
    let log = Embedded::open(&data, Default::default()).unwrap();
    let all = Budget { bytes: u64::MAX, frames: usize::MAX };
    let frames = log.reader("received", 0).unwrap().read(0, all, End::Durable).unwrap();
    let hit = frames.iter().filter(|frame| frame.num_rows > 0).nth(1).unwrap();
    let place = hit.location.clone().unwrap();
    let mut bytes = fs::read(&*place.path).unwrap();
    bytes[(place.rows_at + place.rows_length / 2) as usize] ^= 1;
    fs::write(&*place.path, bytes).unwrap();
    drop(log);

    let after = finish(&start(folder.path(), &text));
    assert_eq!((after.received, after.sums.clean.lost), (before.received, hit.num_rows as u64));
    assert!(after.balanced && after.in_flight == 0, "{:?}", after.sums);
    assert_eq!(after.table_rows, after.clean);
    assert!(after.clean > before.clean / 3 && after.clean < before.clean, "{} of {}", after.clean, before.clean);
}
