//! `trackside log`: beside a running pipeline, on a sound directory, and on one with a flipped byte.

use crate::running::{FLEET, HTTP, Running, last_line, output};
use std::path::{Path, PathBuf};

/// A finite run's folder.
fn finished() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pipeline.toml"), FLEET).unwrap();
    let run = output(folder.path(), &["up", "--until-idle", "--json", "--listen", "127.0.0.1:0"]);
    assert_eq!(run.status.code(), Some(0), "{}", String::from_utf8_lossy(&run.stderr));
    folder
}

fn segment(folder: &Path, topic: &str) -> PathBuf {
    let files = std::fs::read_dir(folder.join("data/log").join(topic).join("0")).unwrap();
    let segments = files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "seg"));
    segments.min().unwrap()
}

/// Flips a byte of the segment's first frame, behind its header.
fn flip(segment: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(segment).unwrap();
    bytes[64 + 128 + 40] ^= 1;
    std::fs::write(segment, &bytes).unwrap();
    bytes
}

#[test]
fn a_finished_run_is_sound_and_told_in_full() {
    let folder = finished();
    let info = last_line(&output(folder.path(), &["log", "info", "--json"]));
    let received = info["partitions"].as_array().unwrap().iter().find(|p| p["topic"] == "received").unwrap();
    assert_eq!((&received["published"], received["formats"][0].as_u64()), (&received["durable"], Some(1)));
    let verify = output(folder.path(), &["log", "verify", "--json"]);
    let report = last_line(&verify);
    assert_eq!((verify.status.code(), &report["findings"]), (Some(0), &serde_json::json!([])), "{report}");
    assert!(report["rows"].as_u64() > Some(5000) && report["tables"].as_u64() > Some(0), "{report}");
    let words = String::from_utf8_lossy(&output(folder.path(), &["log", "verify", "data"]).stdout).into_owned();
    assert!(words.starts_with("sound: "), "{words}");
}

#[test]
fn a_running_pipeline_is_verified_beside_its_work() {
    let running = Running::start(HTTP);
    for n in 0..20 {
        running.post("/ingest", &format!("{{\"device\":\"d{n}\",\"value\":{n}}}"));
        let verify = output(running.folder.path(), &["log", "verify", "--json"]);
        assert_eq!(verify.status.code(), Some(0), "{}", last_line(&verify));
    }
    let repair = output(running.folder.path(), &["log", "repair", "--apply"]);
    assert_eq!(repair.status.code(), Some(3), "an engine runs on it");
}

#[test]
fn damage_is_named_set_aside_and_then_known() {
    let folder = finished();
    let file = segment(folder.path(), "clean");
    let bytes = flip(&file);
    let verify = output(folder.path(), &["log", "verify", "--json"]);
    let report = last_line(&verify);
    let finding = &report["findings"][0];
    assert_eq!((verify.status.code(), &report["damaged"]), (Some(1), &1.into()), "{report}");
    assert_eq!((&finding["at"], &finding["severity"]), (&64.into(), &"damage".into()));
    assert!(finding["file"].as_str().unwrap().ends_with(file.file_name().unwrap().to_str().unwrap()));
    assert!(finding["lost"][1].as_u64() > finding["lost"][0].as_u64());

    let told = output(folder.path(), &["log", "repair"]);
    let words = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.status.code() == Some(1) && words.contains("nothing was changed: `--apply` does it"), "{words}");
    assert!(!file.parent().unwrap().join("quarantine").exists());

    let done = output(folder.path(), &["log", "repair", "--apply", "--json"]);
    assert_eq!((done.status.code(), &last_line(&done)["actions"][0]["done"]), (Some(0), &true.into()));
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "the segment itself is not touched");
    let copy =
        file.parent().unwrap().join("quarantine").join(format!("{}@64", file.file_name().unwrap().to_str().unwrap()));
    assert!(bytes[64..].starts_with(&std::fs::read(copy).unwrap()));
    let again = output(folder.path(), &["log", "verify", "--json"]);
    assert_eq!((again.status.code(), &last_line(&again)["findings"][0]["severity"]), (Some(0), &"known".into()));

    // More damage is not covered by the note.
    flip(&segment(folder.path(), "received"));
    assert_eq!(output(folder.path(), &["log", "verify"]).status.code(), Some(1));
}

#[test]
fn a_broken_snapshot_and_a_cut_table_are_found() {
    let folder = finished();
    let tables = folder.path().join("data/tables/clean");
    let day = std::fs::read_dir(tables).unwrap().map(|day| day.unwrap().path()).find(|day| day.is_dir()).unwrap();
    let file = std::fs::read_dir(day).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 10]).unwrap();
    let snapshots = folder.path().join("data/snapshots/clean/0");
    std::fs::create_dir_all(&snapshots).unwrap();
    let snapshot = snapshots.join("0000000000000000-000001-00000000000000000010.snap");
    std::fs::write(&snapshot, "{\"version\":1,\"epoch\":1,\"offset\":10,\"length\":1,\"hash\":\"x\"}\na").unwrap();
    let report = last_line(&output(folder.path(), &["log", "verify", "--json"]));
    let kinds: Vec<_> = report["findings"].as_array().unwrap().iter().map(|f| f["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"snapshot") && kinds.contains(&"table"), "{report}");
    output(folder.path(), &["log", "repair", "--apply"]);
    assert!(!snapshot.exists());
    assert!(folder.path().join("data/quarantine/snapshots/clean/0").join(snapshot.file_name().unwrap()).exists());
}
