//! Files: read once, replayed, followed; resumed anywhere.

use crate::sources::{build, plant, resume_exam, run, spawn};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use trackside_connectors::testing::{MemoryDoor, layout};
use trackside_core::error::Action;
use trackside_core::position::Resume;
use trackside_core::schema::Layout;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn line(n: u64) -> String {
    format!(
        "{{\"ts\":{},\"device\":\"pump-{}\",\"sensor\":\"temp\",\"value\":{n},\"seq\":{n}}}\n",
        1_700_000_000_000 + n * 1000,
        n % 7
    )
}

fn ndjson(rows: u64) -> String {
    (0..rows).map(line).collect()
}

fn machine() -> Arc<Layout> {
    layout(json!({"time": {"field": "timestamp"}, "fields": {"value": "float"}}))
}

fn seqs(door: &MemoryDoor) -> Vec<i64> {
    door.look(|seen| seen.rows.iter().map(|row| row["seq"].as_i64().unwrap()).collect())
}

fn once(path: &str, layout: &Arc<Layout>, folder: &TempDir) -> Arc<MemoryDoor> {
    run("file", json!({"path": path}), layout, folder.path(), Resume::default())
}

#[test]
fn every_line_becomes_a_row_or_a_letter_wherever_it_was_resumed() {
    let mut text = String::new();
    for n in 0..15_000 {
        match n % 500 {
            1 => text.push_str("{\"broken\n"),
            2 => text.push('\n'),
            _ => text.push_str(&line(n)),
        }
    }
    text.push_str(line(15_000).trim_end());
    let folder = folder(&[("events.ndjson", &text)]);
    let seen = once("events.ndjson", &plant(), &folder).take();
    assert_eq!((seen.rows.len(), seen.dead.len()), (15_001 - 60, 30));
    assert_eq!(seen.dead[1].detail.as_deref(), Some("line 502"));
    assert!(seen.spans.len() > 2);
    assert!(seen.spans.windows(2).all(|two| two[0].to == two[1].from), "deliveries join");
    resume_exam("file", &json!({"path": "events.ndjson"}), &plant(), folder.path());
}

#[test]
fn csv_is_resumed_behind_its_header() {
    let mut text = "timestamp,value\n".to_string();
    (0..20_000).for_each(|n| writeln!(text, "2013-12-02 21:15:{:02},{n}.5", n % 60).unwrap());
    let folder = folder(&[("machine.csv", &text)]);
    let seen = once("machine.csv", &machine(), &folder).take();
    assert_eq!((seen.rows.len(), seen.dead.len()), (20_000, 0));
    assert_eq!((seen.spans[0].from, seen.spans.last().unwrap().to), (0, text.len() as u64));
    resume_exam("file", &json!({"path": "machine.csv"}), &machine(), folder.path());
}

#[test]
fn packed_files_and_patterns_are_read_in_order() {
    let folder = folder(&[("b.ndjson", &line(2)), ("c.txt", "no"), ("d.ndjson", "")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all((line(0) + &line(1)).as_bytes()).unwrap();
    std::fs::write(folder.path().join("a.ndjson.gz"), gzip.finish().unwrap()).unwrap();
    std::fs::write(folder.path().join("c.jsonl.zst"), zstd::encode_all(line(3).as_bytes(), 1).unwrap()).unwrap();
    assert_eq!(seqs(&once("?.*json*", &plant(), &folder)), [0, 1, 2, 3]);
    resume_exam("file", &json!({"path": "a.ndjson.gz", "rate": 1000.0}), &plant(), folder.path());
}

#[test]
fn a_line_that_never_ends_is_one_letter() {
    let text = line(0) + "{\"value\":\"" + &"x".repeat(3 << 20) + "\"}\n" + &line(1);
    let folder = folder(&[("events.ndjson", &text)]);
    let door = once("events.ndjson", &plant(), &folder);
    assert_eq!(seqs(&door), [0, 1]);
    let dead = door.take().dead;
    assert_eq!((dead.len(), dead[0].reason.as_str()), (1, "the line is longer than 1048576 bytes"));
    assert_eq!(dead[0].detail.as_deref(), Some("line 2"));
    assert_eq!(dead[0].payload.as_ref().unwrap().len(), 1 << 20);
}

#[test]
fn an_event_without_its_time_is_a_letter() {
    let folder = folder(&[("events.ndjson", "{\"device\":\"a\",\"value\":1}\n")]);
    assert_eq!(once("events.ndjson", &plant(), &folder).take().dead[0].reason, "no time; expected it in `ts`");
}

#[test]
fn a_rate_and_a_replay_take_their_time() {
    let folder = folder(&[("events.ndjson", &ndjson(21))]);
    for block in [json!({"rate": 100.0}), json!({"mode": "replay", "speed": 100.0})] {
        let mut block = block;
        block["path"] = json!("events.ndjson");
        let start = Instant::now();
        let door = run("file", block, &plant(), folder.path(), Resume::default());
        assert!(start.elapsed() >= Duration::from_millis(190), "{:?}", start.elapsed());
        assert_eq!(seqs(&door), (0..21).collect::<Vec<_>>());
        assert!(door.look(|seen| seen.deliveries > 3));
    }
    resume_exam("file", &json!({"path": "events.ndjson", "rate": 1000.0}), &plant(), folder.path());
}

fn follow(
    folder: &Path,
    path: &str,
    resume: Resume,
) -> (Arc<MemoryDoor>, std::thread::JoinHandle<Result<(), trackside_core::error::Failure>>) {
    let door = MemoryDoor::resuming(plant(), resume);
    let block = json!({"path": path, "mode": "follow", "poll": "5ms"});
    let running = spawn(build("file", block, &plant(), folder).unwrap(), &door);
    (door, running)
}

fn append(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_growing_file_is_followed_through_rotation_and_truncation() {
    let folder = folder(&[]);
    let path = folder.path().join("events.ndjson");
    let (door, running) = follow(folder.path(), "events.ndjson", Resume::default());
    door.wait_until("word that there is no file", |seen| {
        seen.states.iter().any(|(_, detail)| detail.as_deref().is_some_and(|text| text.contains("yet")))
    });
    append(&path, &ndjson(3));
    door.wait_until("three rows", |seen| seen.rows.len() == 3);
    let four = line(3);
    append(&path, &four[..20]);
    append(&path, &four[20..]);
    door.wait_until("the fourth row, whole", |seen| seen.rows.len() == 4);
    // Rotated: the old file's rest, also what its writer adds before it notices, and the new one.
    let (rest, end) = (line(4), 40);
    append(&path, &rest[..end]);
    std::fs::rename(&path, folder.path().join("events.1")).unwrap();
    append(&path, &line(5));
    door.wait_until("the new file", |seen| seen.rows.len() == 5);
    append(&folder.path().join("events.1"), rest[end..].trim_end());
    door.wait_until("both files", |seen| seen.rows.len() == 6);
    // Truncated and written anew, longer than before.
    std::fs::write(&path, line(6) + &line(7)).unwrap();
    door.wait_until("the new beginning", |seen| seen.rows.len() == 8);
    door.stop();
    running.join().unwrap().unwrap();
    let mut all = seqs(&door);
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert!(door.take().dead.is_empty());
}

#[test]
fn a_followed_file_is_resumed_though_it_has_grown_and_was_renamed() {
    let folder = folder(&[("a.ndjson", &ndjson(3))]);
    let (door, running) = follow(folder.path(), "*.ndjson", Resume::default());
    door.wait_until("three rows", |seen| seen.rows.len() == 3);
    door.stop();
    running.join().unwrap().unwrap();
    let span = door.take().spans.pop().unwrap();
    append(&folder.path().join("a.ndjson"), &(line(3) + &line(4)));
    std::fs::rename(folder.path().join("a.ndjson"), folder.path().join("b.ndjson")).unwrap();
    let resume = Resume { stands: [(span.stream.clone(), vec![span.to])].into() };
    let (door, running) = follow(folder.path(), "*.ndjson", resume);
    door.wait_until("the two new rows", |seen| seen.rows.len() == 2);
    door.stop();
    running.join().unwrap().unwrap();
    assert_eq!(seqs(&door), [3, 4]);
}

#[test]
fn what_makes_no_sense_is_said_before_the_start() {
    let folder = folder(&[("events.txt", ""), ("events.csv", "a,b\n1,2\n")]);
    let error = |block: Value| build("file", block, &plant(), folder.path()).err().unwrap();
    assert!(error(json!({"path": "missing.csv"})).message.starts_with("there is no file"));
    assert!(error(json!({"path": "events.txt"})).message.contains("cannot tell the format"));
    assert_eq!(error(json!({"path": "events.csv", "speed": 2.0})).message, "`speed` is for `mode = \"replay\"`");
    assert_eq!(error(json!({"path": "x.csv.gz", "mode": "follow"})).message, "a packed file cannot be followed");
    assert!(error(json!({"path": ".", "format": "csv"})).message.contains("is a folder"));
    let door = MemoryDoor::new(plant());
    let mut source = build("file", json!({"path": "events.csv"}), &plant(), folder.path()).unwrap();
    let failure = source.run(door).unwrap_err();
    assert_eq!(failure.action, Action::Stop);
    assert!(failure.message.contains("no column is a field of the schema"), "{failure}");
}
