//! Torn tails and flipped bits: what is whole is kept, what is not is never given out.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use trackside_log::{Options, SEGMENT_HEADER_BYTES};

use crate::support::*;

/// What stands after the cut: of the whole bytes and where they are cut.
type Fill = fn(&[u8], usize) -> Vec<u8>;

/// Ten frames in one segment; gives the segment and the place of each frame. With `synced` the last seven of them by one sync.
fn ten(dir: &Path, synced: bool) -> (PathBuf, Vec<Range<usize>>) {
    let options = Options { first_segment_bytes: 8 << 10, ..small() };
    let store = store_over(std::sync::Arc::new(trackside_log::RealVfs), dir, options);
    let mut writer = writer(&store);
    append_all(&mut writer, 3);
    writer.syncer().sync().unwrap();
    append_all(&mut writer, 7);
    if synced {
        writer.syncer().sync().unwrap();
    }
    let frames = store.reader("received", 0).unwrap().read(0, u64::MAX, 100).unwrap();
    let place =
        |frame: &trackside_log::Frame| frame.location.at as usize..(frame.location.at + frame.location.length) as usize;
    (frames[0].location.path.to_path_buf(), frames.iter().map(place).collect())
}

#[test]
fn a_tail_torn_at_any_byte_ends_at_the_last_whole_frame() {
    let dir = tempdir();
    let (segment, frames) = ten(dir.path(), false);
    let whole = fs::read(&segment).unwrap();
    let end = frames[9].end;
    let fills: [(&str, Fill); 4] = [
        ("nothing", |whole, cut| whole[..cut].to_vec()),
        ("zeros", |whole, cut| filled(whole, cut, |_| 0)),
        ("ones", |whole, cut| filled(whole, cut, |_| 0xFF)),
        ("old bytes", |whole, cut| filled(whole, cut, |at| whole[64 + at % 600])),
    ];
    for (name, fill) in fills {
        for cut in (frames[6].start..end).rev().step_by(7).chain(frames[8].start - 2..frames[8].start + 2) {
            let crashed = tempdir();
            copy(dir.path(), crashed.path());
            let torn = fill(&whole, cut);
            let path = partition_dir(crashed.path()).join(segment.file_name().unwrap());
            fs::write(&path, &torn).unwrap();

            let store = store(crashed.path());
            let mut writer = writer(&store);
            // A fill may happen to be what was there; then more than the cut tells is whole.
            let intact =
                frames.iter().take_while(|frame| torn.get((*frame).clone()) == Some(&whole[(*frame).clone()])).count();
            assert_eq!(writer.published(), 2 * intact as u64, "{name}, cut at {cut}");
            append_all(&mut writer, 1);
            assert_eq!(offsets(&store), twos(intact as u64 + 1), "{name}, cut at {cut}");
        }
    }
}

fn filled(whole: &[u8], cut: usize, byte: impl Fn(usize) -> u8) -> Vec<u8> {
    whole.iter().enumerate().map(|(at, own)| if at < cut { *own } else { byte(at) }).collect()
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_and_costs_one_frame() {
    let dir = tempdir();
    let (segment, frames) = ten(dir.path(), true);
    let whole = fs::read(&segment).unwrap();
    // Every byte of two frames, then some of all; a different bit each time.
    let places = (frames[3].start..frames[5].end).chain((0..frames[9].end).step_by(11));
    for at in places {
        let crashed = tempdir();
        copy(dir.path(), crashed.path());
        let path = partition_dir(crashed.path()).join(segment.file_name().unwrap());
        let mut bad = whole.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(&path, &bad).unwrap();
        let hit = frames.iter().position(|frame| frame.contains(&at));
        let expected: Vec<u64> = (0..10).filter(|k| Some(*k as usize) != hit).map(|k| 2 * k).collect();

        // A reader alone, before the owner comes back.
        let store = store(crashed.path());
        let mut reader = store.reader("received", 0).unwrap();
        let read: Vec<_> = reader.read(0, u64::MAX, 100).unwrap().iter().map(offset_of).collect();
        assert_eq!((read, reader.damage().len()), (expected.clone(), usize::from(hit.is_some())), "byte {at}");
        assert_eq!(hit.map(|k| 2 * k as u64..2 * k as u64 + 2), reader.damage().first().map(|d| d.offsets.clone()));

        // The owner: in the middle a gap stays, at the end the log is shorter and the loss is told.
        let mut writer = writer(&store);
        let report = writer.recovery().clone();
        match hit {
            Some(9) => {
                assert_eq!((report.end, report.lost), (18, Some(18..20)), "byte {at}");
                assert!(report.cut_bytes > 0);
            }
            Some(k) => {
                assert_eq!((report.end, report.damage.len()), (20, 1), "byte {at}");
                let copied = fs::read(report.damage[0].quarantined.as_ref().unwrap()).unwrap();
                assert_eq!(copied, &bad[frames[k].clone()], "byte {at}");
            }
            None => assert_eq!((report.end, report.damage.len(), report.lost), (20, 0, None), "byte {at}"),
        }
        append_all(&mut writer, 1);
        assert_eq!(offsets(&store).last(), Some(&report.end));
    }
}

#[test]
fn damage_at_the_end_of_an_earlier_epoch_keeps_the_offsets_in_place() {
    let dir = tempdir();
    let (segment, frames) = ten(dir.path(), true);
    drop(writer(&store(dir.path()))); // an epoch without a frame
    let mut bytes = fs::read(&segment).unwrap();
    bytes[frames[9].end - 100] ^= 4;
    fs::write(&segment, &bytes).unwrap();

    let store = store(dir.path());
    let mut writer = writer(&store);
    assert_eq!((writer.published(), writer.newest().map(|info| info.first)), (20, Some(16)));
    assert_eq!(writer.recovery().damage[0].offsets, 18..20);
    assert_eq!(offset_of(&store.reader("received", 0).unwrap().newest().unwrap().unwrap()), 16);
    append_all(&mut writer, 1);
    assert_eq!(offsets(&store), [&twos(9)[..], &[20]].concat());
}

#[test]
fn damage_in_an_old_segment_is_stepped_over_by_every_reader() {
    let dir = tempdir();
    let store = store(dir.path());
    let mut writer = writer(&store);
    append_all(&mut writer, 120);
    writer.syncer().sync().unwrap();
    let second = &segments(dir.path())[1];
    let mut bytes = fs::read(second).unwrap();
    bytes[SEGMENT_HEADER_BYTES as usize..5000].fill(0x55); // several frames at once
    fs::write(second, &bytes).unwrap();

    let mut reader = store.reader("received", 0).unwrap();
    let read: Vec<_> = reader.read(0, u64::MAX, 1000).unwrap().iter().map(offset_of).collect();
    let [damage] = reader.damage() else { panic!("{:?}", reader.damage()) };
    let expected: Vec<_> = twos(120).into_iter().filter(|first| !damage.offsets.contains(first)).collect();
    assert!(expected.len() > 100 && expected.len() < 119);
    assert_eq!(read, expected);
    assert_eq!(&fs::read(damage.quarantined.as_ref().unwrap()).unwrap()[..], &bytes[64..64 + damage.length as usize]);
    // Once more: the same damage is not told twice.
    reader.read(0, u64::MAX, 1000).unwrap();
    assert_eq!(reader.damage().len(), 1);
}

#[test]
fn a_lost_segment_is_damage_and_the_rest_is_read() {
    let dir = tempdir();
    let first = store(dir.path());
    let mut old = writer(&first);
    append_all(&mut old, 120);
    old.syncer().sync().unwrap();
    drop(old);
    let files = segments(dir.path());
    fs::remove_file(&files[1]).unwrap();
    let mut reader = first.reader("received", 0).unwrap();
    let read: Vec<_> = reader.read(0, u64::MAX, 1000).unwrap().iter().map(offset_of).collect();
    let [damage] = reader.damage() else { panic!("{:?}", reader.damage()) };
    assert_eq!(read.len() as u64 * 2, 240 - (damage.offsets.end - damage.offsets.start));
    assert_eq!(writer(&store(dir.path())).published(), 240);
}

#[test]
fn the_list_of_epochs_and_the_control_page_can_be_lost() {
    for lost in ["epochs", "control"] {
        let dir = tempdir();
        for _ in 0..3 {
            append_all(&mut writer(&store(dir.path())), 30);
        }
        for damage in [&b"nonsense"[..], &[]] {
            fs::write(partition_dir(dir.path()).join(lost), damage).unwrap();
            let store = store(dir.path());
            let writer = writer(&store);
            assert!(writer.epoch() > 3 && writer.published() == 180, "{lost}");
            assert_eq!(offsets(&store), twos(90), "{lost}");
        }
    }
}
