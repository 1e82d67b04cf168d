//! Data directories of each format that was ever written: they open and go on, or are refused untouched.
//!
//! `testdata/format-<n>` holds one each, made by the product of its time. For the present format:
//! `TRACKSIDE_MAKE_TESTDATA=1 cargo test -p trackside-engine --test it formats` makes it where it does not exist yet.
//! What is there is never made anew: it stands for the directories that users have.

use crate::support::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use trackside_core::log::{Budget, End};
use trackside_engine::{Options, Pipeline, StartError, open_log};

/// Devices, two partitions, a cleaner with state, a table, dead letters; 600 deliveries.
const PIPELINE: &str = r#"[pipeline]
name = "format"
partitions = 2
snapshot_every = "10ms"

[schema]
series = ["device", "sensor"]
fields = { value = "float", seq = "integer" }

[[source]]
type = "generate"
rate = 0
count = 600
duplicates = 0.02
malformed = 0.01
start = "2026-03-02T08:00:00Z"

[[clean]]
type = "dedupe"
by = "seq"

[[sink]]
type = "parquet"
topic = "clean"
"#;
/// Comes in beside what is there.
const MORE: &str = "\n[[source]]\ntype = \"generate\"\nname = \"more\"\nrate = 0\ncount = 100\nseed = 7\nstart = \"2026-03-03T08:00:00Z\"\n";

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() { copy(&path, &target) } else { _ = fs::copy(&path, &target).unwrap() }
    }
}

/// Every file below a folder, with its bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(contents(&path)),
            false => _ = found.insert(path.clone(), fs::read(&path).unwrap()),
        }
    }
    found
}

fn opened(format: u32) -> tempfile::TempDir {
    let kept = testdata().join(format!("format-{format}"));
    if !kept.exists() && std::env::var_os("TRACKSIDE_MAKE_TESTDATA").is_some() {
        fs::create_dir_all(&kept).unwrap();
        fs::write(kept.join("pipeline.toml"), PIPELINE).unwrap();
        assert!(finish(&start(&kept, PIPELINE)).balanced);
    }
    let folder = tempfile::tempdir().unwrap();
    copy(&kept, folder.path());
    folder
}

#[test]
fn a_directory_of_format_1_opens_and_goes_on() {
    let folder = opened(1);
    let text = fs::read_to_string(folder.path().join("pipeline.toml")).unwrap();
    let log = open_log(&folder.path().join("data")).unwrap();
    let rows = |topic: &str| -> usize {
        let read = |partition| {
            let mut reader = log.reader(topic, partition).unwrap();
            let frames = reader.read(0, Budget { bytes: 1 << 30, frames: 100_000 }, End::Published).unwrap();
            frames.iter().map(|frame| frame.rows().unwrap().map_or(0, |rows| rows.num_rows())).sum::<usize>()
        };
        (0..2).map(read).sum()
    };
    let (received, clean) = (rows("received"), rows("clean"));
    assert!(received > 500 && clean > 500 && clean < received, "{received} {clean}");
    let same = finish(&start(folder.path(), &text));
    assert!(same.balanced && same.in_flight == 0, "{same:?}");
    assert_eq!((same.received, same.clean, same.table_rows), (received as u64, clean as u64, clean as u64));
    let more = finish(&start(folder.path(), &format!("{text}{MORE}")));
    assert!(more.balanced && more.in_flight == 0 && more.received > same.received, "{more:?}");
    assert_eq!(more.table_rows, more.clean);
}

#[test]
fn a_directory_of_another_format_is_refused_and_not_touched() {
    let folder = opened(1);
    let file = folder.path().join("pipeline.toml");
    let meta = folder.path().join("data/meta.json");
    let later = fs::read_to_string(&meta).unwrap().replace("\"format\": 1", "\"format\": 99");
    fs::write(&meta, later).unwrap();
    let before = contents(folder.path());
    let refused = Pipeline::load(&file).map(|pipeline| trackside_engine::Engine::start(pipeline, Options::default()));
    let Ok(Err(StartError::Mismatch(why))) = refused else { panic!("it was opened") };
    assert!(why.contains("has format 99") && why.contains("use the version that made it"), "{why}");
    assert!(contents(folder.path()) == before, "a refusal changes nothing");
}
