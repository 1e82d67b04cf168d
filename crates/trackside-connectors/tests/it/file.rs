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
use trackside_core::source::Door;

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
    let resume = Resume { stands: [(span.stream.clone(), vec![span.to])].into(), ..Resume::default() };
    let (door, running) = follow(folder.path(), "*.ndjson", resume);
    door.wait_until("the two new rows", |seen| seen.rows.len() == 2);
    door.stop();
    running.join().unwrap().unwrap();
    assert_eq!(seqs(&door), [3, 4]);
}

/// Follows until so many rows are there in all, and stops; what it brought, and where the log stands.
fn follow_until(folder: &Path, path: &str, resume: Resume, rows: usize) -> (Vec<i64>, Resume) {
    let (door, running) = follow(folder, path, resume);
    door.wait_until("the rows", |seen| seen.rows.len() >= rows);
    stop(&door, running);
    (seqs(&door), door.resume())
}

fn stop(door: &MemoryDoor, running: std::thread::JoinHandle<Result<(), trackside_core::error::Failure>>) {
    door.stop();
    running.join().unwrap().unwrap();
    door.look(|seen| assert!(seen.dead.is_empty(), "{:?}", seen.dead));
}

/// Streams without their fingerprints: which generations are known.
fn generations(resume: &Resume) -> Vec<u64> {
    let generation = |stream: &String| stream.rsplit_once('/').unwrap().1.parse().unwrap();
    let mut all: Vec<u64> = resume.stands.keys().map(generation).collect();
    all.sort_unstable();
    all
}

#[test]
fn a_file_begun_again_with_the_same_bytes_is_another_stream() {
    let folder = folder(&[("events.ndjson", &ndjson(1))]);
    let path = folder.path().join("events.ndjson");
    let (door, running) = follow(folder.path(), "events.ndjson", Resume::default());
    door.wait_until("one row", |seen| seen.rows.len() == 1);
    append(&path, &line(1));
    door.wait_until("two rows", |seen| seen.rows.len() == 2);
    // Shorter, the same first line. Then grown beyond, and begun again, longer, with the same first line.
    std::fs::write(&path, line(0)).unwrap();
    door.wait_until("the first row again", |seen| seen.rows.len() == 3);
    append(&path, &line(2));
    door.wait_until("the rest of the second file", |seen| seen.rows.len() == 4);
    std::fs::write(&path, line(0) + &line(3) + &line(4)).unwrap();
    door.wait_until("the third file", |seen| seen.rows.len() == 7);
    door.wait_until_held("only the newest to be known", |held| generations(held) == [3]);
    stop(&door, running);
    assert_eq!(seqs(&door), [0, 1, 0, 2, 0, 3, 4]);
    let door = door.take();
    let names: std::collections::BTreeSet<&String> = door.spans.iter().map(|span| &span.stream).collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn a_file_begun_again_while_nobody_looked_is_another_stream() {
    let folder = folder(&[("events.ndjson", &ndjson(3))]);
    let path = folder.path().join("events.ndjson");
    let (seen, resume) = follow_until(folder.path(), "events.ndjson", Resume::default(), 3);
    assert_eq!(seen, [0, 1, 2]);
    // Shorter than the position.
    std::fs::write(&path, ndjson(1)).unwrap();
    let (seen, resume) = follow_until(folder.path(), "events.ndjson", resume, 1);
    assert_eq!(seen, [0]);
    // Grown beyond the position, with the same beginning: the bytes before the position are others.
    std::fs::write(&path, line(0) + &line(5)).unwrap();
    let (seen, resume) = follow_until(folder.path(), "events.ndjson", resume, 1);
    assert_eq!(seen, [5], "one line is as long as it was, and the same: the file has grown");
    std::fs::write(&path, line(0) + &line(6) + &line(7)).unwrap();
    let (seen, resume) = follow_until(folder.path(), "events.ndjson", resume, 3);
    assert_eq!(seen, [0, 6, 7]);
    append(&path, &line(8));
    assert_eq!(follow_until(folder.path(), "events.ndjson", resume, 1).0, [8]);
}

#[test]
fn copied_and_truncated_logs_are_read_on_also_over_restarts() {
    let folder = folder(&[]);
    let path = folder.path().join("events.ndjson");
    let (mut resume, mut all) = (Resume::default(), Vec::new());
    for round in 0..4 {
        // Each time a banner with the same bytes, then lines of this round.
        append(&path, &line(1000));
        append(&path, &(line(round) + &line(10 + round)));
        let (seen, stands) = follow_until(folder.path(), "events.ndjson", resume, 3);
        (resume, all) = (stands, [all, seen].concat());
        std::fs::copy(&path, folder.path().join(format!("events.{round}"))).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    }
    assert_eq!(all, [1000, 0, 10, 1000, 1, 11, 1000, 2, 12, 1000, 3, 13]);
}

#[test]
fn a_deleted_file_is_forgotten_and_a_renamed_one_is_not() {
    let folder = folder(&[("a.ndjson", &ndjson(2))]);
    let path = folder.path().join("a.ndjson");
    let (door, running) = follow(folder.path(), "*.ndjson", Resume::default());
    door.wait_until("two rows", |seen| seen.rows.len() == 2);
    std::fs::rename(&path, folder.path().join("a.1")).unwrap();
    append(&path, &line(2));
    door.wait_until("the second file", |seen| seen.rows.len() == 3);
    std::fs::remove_file(&path).unwrap();
    append(&folder.path().join("c.ndjson"), &line(3));
    door.wait_until("the third file", |seen| seen.rows.len() == 4);
    door.wait_until_held("the second to be forgotten", |held| generations(held) == [1, 3]);
    // The first comes back after it was closed, and grows.
    append(&folder.path().join("a.1"), &line(4));
    std::fs::rename(folder.path().join("a.1"), folder.path().join("b.ndjson")).unwrap();
    door.wait_until("its new line", |seen| seen.rows.len() == 5);
    stop(&door, running);
    assert_eq!(seqs(&door), [0, 1, 2, 3, 4]);
    let resume = door.resume();
    append(&folder.path().join("b.ndjson"), &line(5));
    assert_eq!(follow_until(folder.path(), "*.ndjson", resume, 1).0, [5]);
}

#[test]
fn what_is_remembered_of_files_is_bounded_and_generations_go_on() {
    let folder = folder(&[("a.ndjson", &ndjson(1))]);
    let gone = |n: u64| (format!("inode {}#2-00000000000000ff/{n}", 1_000_000_000 + n), vec![n]);
    let resume = Resume { stands: (1..=200).map(gone).collect(), ..Resume::default() };
    let (door, running) = follow(folder.path(), "*.ndjson", resume);
    door.wait_until_held("all but the newest to be forgotten", |held| {
        generations(held) == (137..=201).collect::<Vec<_>>()
    });
    stop(&door, running);
    let read = |n: u64| (format!("old/{n:04}.ndjson#2-00000000000000ff"), vec![n]);
    let resume = Resume { stands: (1..=1200).map(read).collect(), ..Resume::default() };
    let door = run("file", json!({"path": "a.ndjson"}), &plant(), folder.path(), resume);
    let known = door.resume();
    assert_eq!(known.stands.len(), 1001);
    assert_eq!(
        (known.start("old/0200.ndjson#2-00000000000000ff"), known.start("old/0201.ndjson#2-00000000000000ff")),
        (0, 201)
    );
}

#[test]
fn a_file_that_changed_before_the_position_is_not_gone_on_with() {
    let folder = folder(&[("a.ndjson", &ndjson(100))]);
    let door = once("a.ndjson", &plant(), &folder);
    let text = ndjson(100).replacen("\"seq\":99", "\"seq\":77", 1);
    std::fs::write(folder.path().join("a.ndjson"), text + &line(100)).unwrap();
    let mut source = build("file", json!({"path": "a.ndjson"}), &plant(), folder.path()).unwrap();
    let failure = source.run(MemoryDoor::resuming(plant(), door.resume())).unwrap_err();
    assert_eq!(failure.action, Action::Stop);
    assert!(failure.message.contains("was changed before byte"), "{failure}");
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
