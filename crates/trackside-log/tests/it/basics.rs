//! Append, read, roll, restart, retain.

use std::time::Duration;

use trackside_log::{Draft, Error, FrameInfo};

use crate::support::*;

#[test]
fn frames_come_back_over_many_segments_and_restarts() {
    let dir = tempdir();
    let mut expected = 0;
    for round in 1..=3 {
        let store = store(dir.path());
        let mut writer = writer(&store);
        assert_eq!((writer.epoch(), writer.published(), writer.durable()), (round, expected, expected));
        append_all(&mut writer, 100);
        expected += 200;
        assert_eq!(writer.newest().unwrap().end, expected);
    }
    assert!(segments(dir.path()).len() > 6);
    let store = store(dir.path());
    assert_eq!(offsets(&store), twos(300));
    let mut writer = writer(&store);
    assert_eq!(writer.newest().unwrap().first, expected - 2);
    assert_eq!(writer.recovery().cut_bytes, 0);
    assert_eq!(writer.epochs().iter().map(|e| e.first_offset).collect::<Vec<_>>(), [0, 200, 400, 600]);
    append_all(&mut writer, 1);
    assert_eq!(offsets(&store), twos(301));
    assert_eq!(store.topics().unwrap(), [("received".to_owned(), vec![0])]);
}

#[test]
fn a_read_starts_at_the_frame_that_holds_the_offset_and_keeps_to_its_budget() {
    let dir = tempdir();
    let store = store(dir.path());
    let mut writer = writer(&store);
    append_all(&mut writer, 50);
    let mut reader = store.reader("received", 0).unwrap();
    assert_eq!(reader.read(51, u64::MAX, 2).unwrap().iter().map(offset_of).collect::<Vec<_>>(), [50, 52]);
    assert_eq!(reader.read(0, 1, 100).unwrap().len(), 1);
    let some = reader.read(0, 2000, 100).unwrap();
    assert!(some.len() > 1 && some.iter().map(|f| f.location.length).sum::<u64>() <= 2000);
    assert!(reader.read(100, u64::MAX, 10).unwrap().is_empty());
    assert!(reader.read_durable(0, u64::MAX, 10).unwrap().is_empty());
    writer.syncer().sync().unwrap();
    assert_eq!(reader.read_durable(0, u64::MAX, 100).unwrap().len(), 50);
    assert_eq!(offset_of(&reader.newest().unwrap().unwrap()), 98);
    assert_eq!(reader.first_offset().unwrap(), 0);
}

#[test]
fn what_the_owner_does_not_keep_is_outlived_by_the_next_epoch() {
    let dir = tempdir();
    append_all(&mut writer(&store(dir.path())), 60);
    let old = store(dir.path());
    let mut asked = Vec::new();
    let mut keep = |info: &FrameInfo<'_>| {
        asked.push(info.first);
        info.end <= 40
    };
    let mut writer = old.writer("received", 0, &mut keep).unwrap();
    assert_eq!(asked, (38..=118).rev().step_by(2).collect::<Vec<_>>());
    assert_eq!((writer.published(), writer.recovery().dropped_frames), (40, 40));
    assert_eq!(offsets(&old), twos(20));
    append_all(&mut writer, 5);
    drop(writer);
    let again = store(dir.path());
    let writer = crate::support::writer(&again);
    assert_eq!((writer.published(), offsets(&again)), (50, twos(25)));
    assert_eq!(
        writer.epochs().iter().map(|e| (e.epoch, e.first_offset)).collect::<Vec<_>>(),
        [(1, 0), (2, 40), (3, 50)]
    );
}

#[test]
fn nothing_kept_means_starting_over_at_the_first_offset() {
    let dir = tempdir();
    append_all(&mut writer(&store(dir.path())), 60);
    let store = store(dir.path());
    let mut writer = store.writer("received", 0, &mut |_| false).unwrap();
    assert_eq!((writer.published(), writer.newest()), (0, None));
    append_all(&mut writer, 3);
    assert_eq!(offsets(&store), twos(3));
}

#[test]
fn retention_gives_up_whole_segments_but_never_the_newest_frame() {
    let dir = tempdir();
    let store = store(dir.path());
    let mut writer = writer(&store);
    append_all(&mut writer, 50); // below the bound of what may wait for a sync
    assert_eq!(writer.retain(u64::MAX).unwrap(), 0, "nothing is durable yet");
    append_all(&mut writer, 150);
    writer.syncer().sync().unwrap();
    let mut behind = store.reader("received", 0).unwrap();
    assert_eq!(behind.read(0, 1, 1).unwrap()[0].info.first, 0);

    let before = writer.bytes();
    let freed = writer.retain(150).unwrap();
    assert!(freed > 0 && writer.bytes() == before - freed);
    let first = behind.first_offset().unwrap();
    assert!(first > 0 && first <= 150);
    assert_eq!(behind.read(2, u64::MAX, usize::MAX).unwrap()[0].info.first, first);

    writer.reserve(8 << 10).unwrap();
    writer.retain(u64::MAX).unwrap();
    assert_eq!(writer.newest().unwrap().first, 398);
    assert_eq!(offset_of(&behind.newest().unwrap().unwrap()), 398);
    drop(writer);
    let writer = crate::support::writer(&store);
    assert_eq!((writer.newest().unwrap().first, writer.published()), (398, 400));
}

#[test]
fn idle_restarts_leave_no_files_behind() {
    let dir = tempdir();
    append_all(&mut writer(&store(dir.path())), 3);
    for _ in 0..10 {
        writer(&store(dir.path()));
    }
    assert!(segments(dir.path()).len() <= 2, "{:?}", segments(dir.path()));
    assert_eq!(offsets(&store(dir.path())), twos(3));
}

#[test]
fn odd_requests_are_refused_in_words() {
    let dir = tempdir();
    let store = store(dir.path());
    assert!(matches!(store.reader("received", 0), Err(Error::NotFound { .. })));
    assert!(matches!(store.writer("../x", 0, &mut |_| true), Err(Error::Invalid { .. })));
    let mut writer = writer(&store);
    assert!(matches!(store.writer("received", 0, &mut |_| true), Err(Error::Owned { .. })));
    let large = vec![0; 9 << 10];
    let refused = writer.append(&Draft { rows: 1, sections: &[(1, &large)], ..Draft::default() });
    assert!(matches!(refused, Err(Error::TooLarge { .. })));
    assert!(matches!(writer.reserve(1 << 30), Err(Error::TooLarge { .. })));
    append_all(&mut writer, 1);
    assert!(store.reader("received", 0).unwrap().wait(1, Duration::ZERO));
}

#[test]
fn syncs_from_many_threads_are_shared_and_none_returns_early() {
    let dir = tempdir();
    let store = store(dir.path());
    let mut writer = writer(&store);
    let (sender, receiver) = std::sync::mpsc::sync_channel::<u64>(64);
    let receiver = std::sync::Arc::new(std::sync::Mutex::new(receiver));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (syncer, receiver) = (writer.syncer(), std::sync::Arc::clone(&receiver));
            std::thread::spawn(move || {
                loop {
                    let Ok(end) = receiver.lock().unwrap().recv() else { return };
                    assert!(syncer.sync().unwrap() >= end && syncer.durable() >= end);
                }
            })
        })
        .collect();
    for _ in 0..300 {
        sender.send(append(&mut writer).unwrap()).unwrap();
    }
    drop(sender);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(writer.durable(), 600);
    assert_eq!(offsets(&store), twos(300));
}

#[test]
fn durable_waits_for_what_the_owner_allows() {
    let dir = tempdir();
    let store = store(dir.path());
    let mut writer = writer(&store);
    let syncer = writer.syncer();
    syncer.allow(0);
    append_all(&mut writer, 3);
    assert_eq!((syncer.sync().unwrap(), syncer.durable()), (0, 0), "fsynced, but its input is not");
    syncer.allow(4);
    assert_eq!(syncer.durable(), 4);
    syncer.allow(2);
    assert_eq!(syncer.durable(), 4, "what was durable stays durable");
    syncer.allow(u64::MAX);
    assert_eq!(syncer.sync().unwrap(), 6);
}
