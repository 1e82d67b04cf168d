//! Followed files that begin again, over restarts: no event is taken for one that is held, and what is gone is forgotten.

use crate::support::*;
use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::path::Path;
use trackside_engine::Engine;

const BLOCKS: &str = "[[source]]\ntype = \"file\"\npath = \"*.jsonl\"\nmode = \"follow\"\npoll = \"5ms\"\n";

/// An event of one of seven devices, so that both partitions get some.
fn line(n: u64) -> String {
    format!("{{\"ts\":{},\"device\":\"d{}\",\"value\":1.5,\"seq\":{n}}}\n", 1_700_000_000_000 + n, n % 7)
}

fn lines(range: std::ops::Range<u64>) -> String {
    range.map(line).collect()
}

fn wait_for(engine: &Engine, received: u64) {
    wait("the rows", || engine.status().sums.ingest.received >= received);
}

/// By partition, the streams that its newest frame names.
fn streams(engine: &Engine, source: &str) -> Vec<Vec<String>> {
    let newest = |partition| engine.log().reader("received", partition).unwrap().newest().unwrap().unwrap();
    (0..2)
        .map(|p| newest(p).meta.sources.get(source).into_iter().flat_map(|held| held.keys().cloned()).collect())
        .collect()
}

fn append(path: &Path, text: &str) {
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn what_begins_again_is_read_and_what_is_gone_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let text = text(2, BLOCKS);
    fs::write(&path, lines(0..100)).unwrap();
    let engine = start(folder.path(), &text);
    wait_for(&engine, 100);
    // Truncated while it is followed: shorter, with the same beginning.
    fs::write(&path, lines(0..40)).unwrap();
    wait_for(&engine, 140);
    assert_eq!(engine.drain(PATIENCE).received, 140);
    drop(engine);
    // Truncated while nobody looks, again with the same beginning.
    fs::write(&path, lines(0..30)).unwrap();
    let engine = start(folder.path(), &text);
    wait_for(&engine, 170);
    // Rotated away for good: the next frames name the new file only.
    fs::remove_file(&path).unwrap();
    fs::write(folder.path().join("next.jsonl"), lines(0..10)).unwrap();
    wait_for(&engine, 180);
    let count = Cell::new(180);
    wait("the old ones to be forgotten", || {
        let forgotten = streams(&engine, "file").iter().all(|held| held.len() == 1);
        if !forgotten && engine.status().sums.ingest.received == count.get() {
            append(&folder.path().join("next.jsonl"), &line(count.replace(count.get() + 1)));
        }
        forgotten
    });
    let (known, count) = (streams(&engine, "file"), count.get());
    wait_for(&engine, count);
    assert_eq!(engine.drain(PATIENCE).received, count);
    drop(engine);
    // Nothing is read again for that, and no name is used again.
    let engine = start(folder.path(), &text);
    append(&folder.path().join("next.jsonl"), &line(0));
    wait_for(&engine, count + 1);
    assert_eq!(streams(&engine, "file"), known);
    assert!(known[0][0].ends_with("/4"), "{known:?}");
    let summary = engine.drain(PATIENCE);
    assert!(summary.balanced, "{summary:?}");
    assert_eq!(summary.received, count + 1);
}
