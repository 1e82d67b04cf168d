//! Other processes: they map, read, are woken, and never hold the owner up.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use trackside_log::mapped::Map;
use trackside_log::{DirLock, Error};

use crate::support::*;

const ROLE: &str = "TRACKSIDE_LOG_TEST_ROLE";
const DIR: &str = "TRACKSIDE_LOG_TEST_DIR";
const LONG: Duration = Duration::from_secs(60);

/// Runs this very binary once more, as the given role.
fn spawn(role: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::child", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(DIR, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The next line that the child says to us (the test harness talks, too).
fn hear(child: &mut BufReader<std::process::ChildStdout>) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(child.read_line(&mut line).unwrap() > 0, "the child has ended");
        if let Some((_, said)) = line.trim_end().split_once("SAYS ") {
            return said.to_owned();
        }
    }
}

/// Not a test of its own: what the other process does.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let dir = std::env::var(DIR).unwrap();
    match role.as_str() {
        "map" => map_all(Path::new(&dir)),
        "own" => own(Path::new(&dir)),
        other => panic!("{other}"),
    }
}

/// Reads each frame as soon as it is published: by a reader for the place, by a map for the bytes.
fn map_all(dir: &Path) {
    let store = store(dir);
    let mut reader = store.reader("received", 0).unwrap();
    println!("SAYS ready");
    let mut next = 0;
    while next < 400 {
        assert!(reader.wait(next, LONG));
        for frame in reader.read(next, u64::MAX, 1000).unwrap() {
            let map = Map::open(&frame.location.path).unwrap();
            let mapped = map.frame(frame.location.at, frame.location.length).unwrap();
            let rows = &map.as_slice()[mapped.section(1).unwrap()];
            assert_eq!((rows, mapped.info.first), (&body(next)[..], next));
            assert_eq!(rows.as_ptr() as usize % 64, 0);
            assert!(map.frame(frame.location.at + 64, frame.location.length).is_err());
            next = mapped.info.end;
        }
        println!("SAYS {next}");
    }
}

fn own(dir: &Path) {
    let _lock = DirLock::acquire(dir).unwrap();
    let store = store(dir);
    let mut writer = writer(&store);
    append_all(&mut writer, 25);
    println!("SAYS {}", writer.syncer().sync().unwrap());
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap(); // until killed
}

#[test]
fn another_process_is_woken_and_maps_what_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let mut writer = writer(&store);
    let mut process = spawn("map", dir.path());
    let mut heard = BufReader::new(process.stdout.take().unwrap());
    assert_eq!(hear(&mut heard), "ready");
    let (mut longest, mut slow) = (Duration::ZERO, 0);
    for k in 1..=200 {
        let start = Instant::now();
        append_all(&mut writer, 1);
        assert_eq!(hear(&mut heard), (2 * k).to_string());
        longest = longest.max(start.elapsed());
        slow += u32::from(start.elapsed() > Duration::from_secs(5)); // a wake-up that was lost costs ten
    }
    assert_eq!(slow, 0, "{longest:?}");
    assert!(process.wait().unwrap().success());
}

#[test]
fn a_killed_owner_leaves_its_lock_and_its_log_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = spawn("own", dir.path());
    let mut heard = BufReader::new(process.stdout.take().unwrap());
    assert_eq!(hear(&mut heard), "50");
    match DirLock::acquire(dir.path()) {
        Err(Error::Locked { pid, .. }) => assert_eq!(pid, process.id()),
        other => panic!("{other:?}"),
    }
    process.kill().unwrap();
    process.wait().unwrap();
    let _ = process.stdin.take().map(|mut stdin| stdin.write_all(b"\n"));
    let _lock = DirLock::acquire(dir.path()).unwrap();
    let store = store(dir.path());
    assert_eq!(offsets(&store), twos(25), "a reader needs no owner");
    assert_eq!(writer(&store).published(), 50);
}
