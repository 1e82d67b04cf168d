//! A partition looked over: sound ones are found sound also while they are written, and each flipped byte is found.

use std::fs;
use std::path::Path;

use trackside_log::Verified;

use crate::support::*;

fn verify(dir: &Path) -> Verified {
    let mut next = 0;
    let mut each = |info: &trackside_log::FrameInfo<'_>, _: &Path, at: u64| {
        assert!(info.first >= next && at.is_multiple_of(64));
        assert_eq!(info.meta, format!("{{\"first\":{}}}", info.first).as_bytes());
        next = info.end;
    };
    store(dir).verify("received", 0, &mut each, &mut |_| {}).unwrap()
}

/// Three reigns over several segments, all durable.
fn log(dir: &Path) {
    for _ in 0..3 {
        let mut writer = writer(&store(dir));
        append_all(&mut writer, 40);
        writer.syncer().sync().unwrap();
    }
}

#[test]
fn a_sound_log_is_sound_and_its_survey_says_what_there_is() {
    let dir = tempdir();
    log(dir.path());
    let verified = verify(dir.path());
    assert_eq!((verified.frames, verified.rows, verified.end, verified.damaged), (120, 240, 240, 0));
    assert!(verified.torn.is_none() && verified.flaws.is_empty());
    let survey = store(dir.path()).survey("received", 0).unwrap();
    assert_eq!((survey.first, survey.published, survey.durable, survey.epochs.len()), (0, 240, 240, 3));
    assert!(survey.segments.iter().all(|segment| segment.format == Some(trackside_log::FORMAT)));
    assert_eq!(survey.segments.last().unwrap().end, None);
    assert!(store(dir.path()).survey("received", 7).is_err());
}

#[test]
fn every_flipped_byte_of_a_frame_is_found_with_its_place() {
    let dir = tempdir();
    log(dir.path());
    let frames = store(dir.path()).reader("received", 0).unwrap().read(0, u64::MAX, 1000).unwrap();
    for frame in frames.iter().step_by(7) {
        let (path, at) = (&frame.location.path, frame.location.at);
        let whole = fs::read(path).unwrap();
        for byte in (at..at + frame.location.length).step_by(61) {
            let mut bad = whole.clone();
            bad[byte as usize] ^= 4;
            fs::write(path, &bad).unwrap();
            let verified = verify(dir.path());
            let damage = &verified.damage[0];
            assert_eq!((verified.damaged, verified.frames), (1, 119), "byte {byte}");
            assert_eq!((&*damage.path, damage.at, &damage.offsets), (&**path, at, &(frame.info.first..frame.info.end)));
        }
        fs::write(path, whole).unwrap();
    }
}

#[test]
fn a_missing_segment_is_damage_wherever_it_was() {
    let dir = tempdir();
    log(dir.path());
    for segment in segments(dir.path()) {
        let aside = dir.path().join("aside");
        fs::rename(&segment, &aside).unwrap();
        let verified = verify(dir.path());
        let lost: u64 = verified.damage.iter().map(|damage| damage.offsets.end - damage.offsets.start).sum();
        assert!(verified.damaged == 1 && verified.rows + lost == 240, "{segment:?}: {verified:?}");
        fs::rename(&aside, &segment).unwrap();
    }
}

#[test]
fn what_was_not_durable_is_a_torn_tail_and_no_damage() {
    let dir = tempdir();
    log(dir.path());
    let mut writer = writer(&store(dir.path()));
    append_all(&mut writer, 5);
    assert_eq!((verify(dir.path()).damaged, verify(dir.path()).end), (0, 250));
    let last = segments(dir.path()).pop().unwrap();
    let frames = store(dir.path()).reader("received", 0).unwrap().read(244, u64::MAX, 1).unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes[frames[0].location.at as usize + 200] ^= 1;
    fs::write(&last, bytes).unwrap();
    let verified = verify(dir.path());
    assert_eq!((verified.damaged, verified.torn.unwrap().offsets.start), (0, 244));
}

#[test]
fn the_list_of_epochs_is_made_anew_and_the_broken_one_kept() {
    let dir = tempdir();
    log(dir.path());
    let epochs = partition_dir(dir.path()).join("epochs");
    let text = fs::read(&epochs).unwrap();
    assert_eq!(store(dir.path()).restore_epochs("received", 0).unwrap(), None);
    fs::write(&epochs, b"trackside epochs 1\nfirst 9\n").unwrap();
    let verified = verify(dir.path());
    assert_eq!((verified.damaged, verified.flaws.len(), verified.frames), (0, 1, 120));
    assert_eq!(store(dir.path()).restore_epochs("received", 0).unwrap().as_ref(), Some(&epochs));
    assert_eq!(fs::read(&epochs).unwrap(), text);
    assert!(verify(dir.path()).flaws.is_empty());
    assert!(partition_dir(dir.path()).join("quarantine/epochs").exists());
}

#[test]
fn a_log_is_sound_at_every_moment_while_it_is_written() {
    let dir = tempdir();
    let store = store(dir.path());
    let mut writer = writer(&store);
    append_all(&mut writer, 1);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for k in 0..4000 {
                append_all(&mut writer, 1);
                if k % 50 == 0 {
                    writer.syncer().sync().unwrap();
                    writer.retain(writer.durable().saturating_sub(2000)).unwrap();
                }
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            let verified = verify(dir.path());
            assert_eq!((verified.damaged, &verified.torn, &verified.flaws), (0, &None, &Vec::new()));
        }
    });
    assert!(verify(dir.path()).end >= 8000);
}
