//! A disk that is full, at any write or allocation: nothing is published, nothing is lost, and it heals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use trackside_log::{Draft, Error, Fault, FaultyVfs, OpKind, RealVfs, Vfs};

use crate::support::*;

const FRAMES: u64 = 120;

/// Appends until all are in, trying again after each refusal; gives the number of refusals.
fn persist(vfs: Arc<dyn Vfs>, dir: &std::path::Path) -> usize {
    let store = store_over(vfs, dir, small());
    let mut refusals = 0;
    let mut writer = loop {
        match store.writer("received", 0, &mut |_| true) {
            Ok(writer) => break writer,
            Err(error) => assert!(matches!(error, Error::Full { .. }), "{error}"),
        }
        refusals += 1;
    };
    while writer.published() < 2 * FRAMES {
        let before = writer.published();
        if let Err(error) = append(&mut writer) {
            assert!(matches!(error, Error::Full { .. }), "{error}");
            assert_eq!((writer.published(), offsets(&store).len() as u64), (before, before / 2));
            refusals += 1;
        }
        if writer.published().is_multiple_of(20) {
            writer.syncer().sync().unwrap();
        }
    }
    writer.syncer().sync().unwrap();
    refusals
}

#[test]
fn the_kth_write_or_allocation_meets_a_full_disk_for_every_k() {
    let mut refused = 0;
    for kind in [OpKind::Write, OpKind::Allocate, OpKind::Create] {
        for k in 1.. {
            let dir = tempdir();
            let vfs = FaultyVfs::new(Arc::new(RealVfs), move |op| {
                (op.kind == kind && op.nth == k).then_some(Fault::Short(k * 13 % 200, libc::ENOSPC))
            });
            refused += persist(Arc::new(vfs.clone()), dir.path());
            assert_eq!(offsets(&store(dir.path())), twos(FRAMES), "{kind:?} {k}");
            let again = writer(&store(dir.path()));
            assert_eq!((again.published(), again.recovery().cut_bytes), (2 * FRAMES, 0), "{kind:?} {k}");
            if vfs.count(kind) < k {
                break;
            }
        }
    }
    assert!(refused > FRAMES as usize);
}

#[test]
fn a_disk_that_stays_full_leaves_no_heap_of_files_behind() {
    let dir = tempdir();
    let full = Arc::new(AtomicBool::new(false));
    let says = Arc::clone(&full);
    let vfs = FaultyVfs::new(Arc::new(RealVfs), move |op| {
        let grows = matches!(op.kind, OpKind::Write | OpKind::Allocate);
        (grows && says.load(Ordering::Relaxed)).then_some(Fault::Short(100, libc::ENOSPC))
    });
    let store = store_over(Arc::new(vfs), dir.path(), small());
    let mut writer = writer(&store);
    append_all(&mut writer, 10);
    let (files, bytes) = (segments(dir.path()).len(), writer.bytes());
    full.store(true, Ordering::Relaxed);
    for _ in 0..100 {
        assert!(matches!(append(&mut writer), Err(Error::Full { .. })));
        assert!(matches!(writer.reserve(8 << 10), Err(Error::Full { .. })));
    }
    assert_eq!((segments(dir.path()).len(), writer.bytes()), (files, bytes));
    assert_eq!(writer.syncer().sync().unwrap(), 20, "what was published before can still be made durable");
    full.store(false, Ordering::Relaxed);
    append_all(&mut writer, 10);
    assert_eq!(offsets(&store), twos(20));
}

#[test]
fn what_is_reserved_is_there_when_the_disk_is_full() {
    let dir = tempdir();
    let room = Arc::new(AtomicU64::new(u64::MAX));
    let left = Arc::clone(&room);
    let vfs = FaultyVfs::new(Arc::new(RealVfs), move |op| {
        (op.kind == OpKind::Allocate && op.bytes > left.load(Ordering::Relaxed)).then_some(Fault::Error(libc::ENOSPC))
    });
    let store = store_over(Arc::new(vfs), dir.path(), small());
    let mut writer = writer(&store);
    let rows = vec![7; 5000];
    let large = Draft { rows: 1, sections: &[(1, &rows)], ..Draft::default() };
    writer.reserve(large.length()).unwrap();
    room.store(0, Ordering::Relaxed);
    assert_eq!(writer.append(&large).unwrap().end, 1);
    assert!(matches!(writer.reserve(large.length()), Err(Error::Full { .. })));
    // Room for a small segment only: better than none.
    room.store(8 << 10, Ordering::Relaxed);
    writer.reserve(large.length()).unwrap();
    assert_eq!(writer.append(&large).unwrap().end, 2);
}

#[test]
fn a_torn_write_leaves_nothing_that_recovery_stumbles_over() {
    let dir = tempdir();
    let vfs = FaultyVfs::new(Arc::new(RealVfs), |op| {
        (op.kind == OpKind::Write && op.bytes > 2000).then_some(Fault::Short(1900, libc::EIO))
    });
    let store = store_over(Arc::new(vfs), dir.path(), small());
    let mut writer = writer(&store);
    append_all(&mut writer, 3);
    let rows = vec![7; 2500];
    let large = Draft { rows: 1, sections: &[(1, &rows)], ..Draft::default() };
    assert!(matches!(writer.append(&large), Err(Error::Io { op: "write", .. })));
    append_all(&mut writer, 1); // shorter than what the large one left
    drop(writer);
    let writer = crate::support::writer(&store);
    assert_eq!((writer.recovery().cut_bytes, writer.published()), (0, 8));
    assert_eq!(offsets(&store), twos(4));
}
