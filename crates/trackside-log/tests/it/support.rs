//! What the tests share: a small log, and frames that tell their own offset.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use trackside_log::{Draft, Frame, Options, RealVfs, Result, Store, Vfs, Writer};

/// A directory in memory where there is such a thing: these tests sync thousands of times.
pub(crate) fn tempdir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Small segments, so that a short test rolls often.
pub(crate) fn small() -> Options {
    Options {
        segment_bytes: 16 << 10,
        first_segment_bytes: 4 << 10,
        max_frame_bytes: 8 << 10,
        max_undurable_bytes: 64 << 10,
    }
}

pub(crate) fn store(dir: &Path) -> Store {
    store_over(Arc::new(RealVfs), dir, small())
}

pub(crate) fn store_over(vfs: Arc<dyn Vfs>, dir: &Path, options: Options) -> Store {
    Store::open(vfs, &dir.join("log"), options).unwrap()
}

pub(crate) fn partition_dir(dir: &Path) -> PathBuf {
    dir.join("log/received/0")
}

pub(crate) fn writer(store: &Store) -> Writer {
    store.writer("received", 0, &mut |_| true).unwrap()
}

/// A section that can be told from every other: the frame's first offset, over and over, of a length of its own.
pub(crate) fn body(first: u64) -> Vec<u8> {
    let length = 100 + (first as usize * 37) % 300;
    first.to_le_bytes().iter().copied().cycle().take(length).collect()
}

/// Appends a frame of two rows whose content follows from its offset.
pub(crate) fn append(writer: &mut Writer) -> Result<u64> {
    let first = writer.published();
    let meta = format!("{{\"first\":{first}}}");
    let rows = body(first);
    let draft = Draft {
        rows: 2,
        ingest_time: first as i64,
        meta: meta.as_bytes(),
        sections: &[(1, &rows)],
        ..Draft::default()
    };
    writer.append(&draft).map(|appended| {
        assert_eq!(appended.first, first);
        appended.end
    })
}

pub(crate) fn append_all(writer: &mut Writer, count: usize) {
    for _ in 0..count {
        append(writer).unwrap();
    }
}

/// Checks a frame's content and gives its offset.
pub(crate) fn offset_of(frame: &Frame) -> u64 {
    let first = frame.info.first;
    assert_eq!(frame.info.meta, format!("{{\"first\":{first}}}").as_bytes());
    assert_eq!(frame.section(1), Some(&body(first)[..]));
    first
}

/// The offsets of all frames, each checked.
pub(crate) fn offsets(store: &Store) -> Vec<u64> {
    let mut reader = store.reader("received", 0).unwrap();
    reader.read(0, u64::MAX, usize::MAX).unwrap().iter().map(offset_of).collect()
}

/// Offsets of so many frames of two rows.
pub(crate) fn twos(count: u64) -> Vec<u64> {
    (0..count).map(|k| 2 * k).collect()
}

/// A copy of a log as a crash would leave it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The partition's segments, in the order of their names.
pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(partition_dir(dir))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "seg"))
        .collect();
    paths.sort();
    paths
}
