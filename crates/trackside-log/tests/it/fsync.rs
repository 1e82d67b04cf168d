//! An fsync that fails: never tried again on the same file; made good in another one, or the log goes read-only.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use trackside_log::{Error, Fault, FaultyVfs, OpKind, RealVfs};

use crate::support::*;

const FRAMES: u64 = 60;

/// What a run of appends and syncs saw.
struct Run {
    durable: u64,
    repairs: u64,
    poisoned: bool,
}

/// Appends frames and syncs now and then, until done or until the log is read-only.
fn run(vfs: FaultyVfs, dir: &std::path::Path) -> Option<Run> {
    let store = store_over(Arc::new(vfs), dir, small());
    let mut writer = store.writer("received", 0, &mut |_| true).ok()?;
    let mut poisoned = false;
    for k in 0..FRAMES {
        if let Err(error) = append(&mut writer) {
            assert!(matches!(error, Error::Poisoned { .. }), "{error}");
            poisoned = true;
            break;
        }
        if k % 7 == 6 {
            match writer.syncer().sync() {
                Ok(durable) => assert_eq!(durable, writer.published()),
                Err(error) => assert!(matches!(error, Error::Poisoned { .. }), "{error}"),
            }
        }
    }
    assert_eq!(offsets(&store), twos(writer.published() / 2), "all that is published can be read, read-only or not");
    Some(Run { durable: writer.durable(), repairs: writer.repairs(), poisoned })
}

#[test]
fn one_failed_fsync_is_made_good_whichever_it_is() {
    let mut repairs = 0;
    for k in 1.. {
        let dir = tempdir();
        let failed: Arc<Mutex<HashSet<PathBuf>>> = Arc::default();
        let again = Arc::new(Mutex::new(0));
        let (known, count) = (Arc::clone(&failed), Arc::clone(&again));
        let vfs = FaultyVfs::new(Arc::new(RealVfs), move |op| {
            if op.kind != OpKind::SyncData {
                return None;
            }
            *count.lock().unwrap() += u32::from(known.lock().unwrap().contains(&op.path));
            (op.nth == k && known.lock().unwrap().insert(op.path.clone())).then_some(Fault::Error(libc::EIO))
        });
        if let Some(run) = run(vfs.clone(), dir.path()) {
            assert!(!run.poisoned && run.durable == 2 * (FRAMES - FRAMES % 7), "{k}");
            repairs += run.repairs;
            assert_eq!(*again.lock().unwrap(), 0, "the same file was synced again after a failure");
            assert_eq!(offsets(&store(dir.path())), twos(FRAMES), "{k}");
            assert_eq!(writer(&store(dir.path())).published(), 2 * FRAMES, "{k}");
            assert_eq!(offsets(&store(dir.path())), twos(FRAMES), "{k}");
        }
        if vfs.count(OpKind::SyncData) < k {
            break;
        }
    }
    assert!(repairs >= 8);
}

#[test]
fn a_disk_that_never_syncs_again_makes_the_log_read_only() {
    for kind in [OpKind::SyncData, OpKind::SyncDir] {
        for k in 1.. {
            let dir = tempdir();
            let vfs = FaultyVfs::new(Arc::new(RealVfs), move |op| {
                (op.kind == kind && op.nth >= k).then_some(Fault::Error(libc::EIO))
            });
            let Some(run) = run(vfs.clone(), dir.path()) else { continue };
            // Restart on a disk that works: nothing that was called durable is missing, and what was read back past it
            // after a failed sync is not trusted.
            let store = store(dir.path());
            let recovered = writer(&store).published();
            assert!(recovered >= run.durable, "{kind:?} {k}: {recovered} < {}", run.durable);
            assert!(!run.poisoned || recovered == run.durable, "{kind:?} {k}");
            assert_eq!(offsets(&store), twos(recovered / 2));
            if vfs.count(kind) < k {
                break;
            }
        }
    }
}

#[test]
fn a_reader_follows_into_the_file_that_supersedes() {
    let dir = tempdir();
    let vfs = FaultyVfs::new(Arc::new(RealVfs), |op| {
        (op.kind == OpKind::SyncData && op.path.extension().is_some_and(|ext| ext == "seg") && op.nth % 3 == 0)
            .then_some(Fault::Error(libc::EIO))
    });
    let store = store_over(Arc::new(vfs), dir.path(), small());
    let mut writer = writer(&store);
    let mut reader = store.reader("received", 0).unwrap();
    let (mut next, mut seen) = (0, Vec::new());
    for k in 0..200 {
        append_all(&mut writer, 1);
        if k % 3 == 0 {
            writer.syncer().sync().unwrap();
        }
        for frame in reader.read(next, u64::MAX, 1).unwrap() {
            seen.push(offset_of(&frame));
            next = frame.info.end;
        }
    }
    assert!(writer.repairs() > 5);
    assert_eq!(seen, twos(200));
    assert_eq!(offsets(&store), twos(200));
}

#[test]
fn a_reader_keeps_up_with_a_writer_that_rolls_repairs_and_gives_up() {
    const FRAMES: u64 = 3000;
    let dir = tempdir();
    let vfs = FaultyVfs::new(Arc::new(RealVfs), |op| {
        (op.kind == OpKind::SyncData && op.path.extension().is_some_and(|ext| ext == "seg") && op.nth % 5 == 0)
            .then_some(Fault::Error(libc::EIO))
    });
    let store = store_over(Arc::new(vfs), dir.path(), small());
    let mut writer = writer(&store);
    let mut reader = store.reader("received", 0).unwrap();
    let position = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let told = Arc::clone(&position);
    let thread = std::thread::spawn(move || {
        let mut next = 0;
        while next < 2 * FRAMES {
            assert!(reader.wait(next, std::time::Duration::from_secs(60)));
            for frame in reader.read(next, 10_000, 100).unwrap() {
                assert_eq!(offset_of(&frame), next);
                next = frame.info.end;
            }
            told.store(next, std::sync::atomic::Ordering::Release);
        }
        assert!(reader.damage().is_empty());
    });
    let mut freed = 0;
    for k in 0..FRAMES {
        append_all(&mut writer, 1);
        if k % 10 == 0 {
            writer.syncer().sync().unwrap();
            freed += writer.retain(position.load(std::sync::atomic::Ordering::Acquire)).unwrap();
        }
    }
    thread.join().unwrap();
    freed += writer.syncer().sync().and_then(|_| writer.retain(u64::MAX)).unwrap();
    assert!(freed > 0 && writer.repairs() > 20);
}
