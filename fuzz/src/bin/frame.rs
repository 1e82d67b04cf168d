//! Frames: as messages, and as the bytes of a segment that a log is opened over, recovered, verified and read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::Arc;
use trackside_connectors::logs::embedded::Embedded;
use trackside_core::log::{Budget, End, FrameDraft, Log, SectionKind};
use trackside_core::testing::events;
use trackside_fuzz::choice;
use trackside_log::{HEADER_BYTES, Mode, Options, SEGMENT_HEADER_BYTES, SimulatedVfs, Vfs, message};

const OPTIONS: Options = Options {
    segment_bytes: 1 << 16,
    first_segment_bytes: 1 << 14,
    max_frame_bytes: 1 << 20,
    max_undurable_bytes: 1 << 20,
};
/// Where the checksums lie in a frame's header: `docs/reference/log-format.md`.
const HEADER_CRC: usize = 120;
const CRC: usize = 124;

fuzz_target!(|data: &[u8]| {
    let (number, bytes) = choice(data);
    let mut bytes = bytes.to_vec();
    if number & 1 == 1 {
        repair(&mut bytes);
    }
    if let Ok(frame) = message::open(&bytes, "fuzz") {
        assert!(frame.info.end > frame.info.first || frame.info.first == u64::MAX);
        frame.sections.iter().for_each(|section| assert!(section.range.end <= bytes.len()));
    }
    segment(&bytes, number & 1 == 1, number & 2 == 2);
});

/// Makes checksums right: of every frame that begins where the one before ended, or at the next boundary.
fn repair(bytes: &mut [u8]) {
    let mut at = 0;
    while at + HEADER_BYTES <= bytes.len() {
        let frame = &mut bytes[at..];
        frame[..4].copy_from_slice(b"TSFR");
        let crc = crc32c::crc32c(&frame[..HEADER_CRC]);
        frame[HEADER_CRC..CRC].copy_from_slice(&crc.to_le_bytes());
        let length = u32::from_le_bytes([frame[8], frame[9], frame[10], frame[11]]) as usize;
        let length = if (HEADER_BYTES..=frame.len()).contains(&length) { length } else { frame.len() };
        let crc = crc32c::crc32c_append(crc32c::crc32c(&frame[..CRC]), &frame[CRC + 4..length]);
        frame[CRC..CRC + 4].copy_from_slice(&crc.to_le_bytes());
        at += length.next_multiple_of(64);
    }
}

/// Gives all frames the mark and the reign of the segment that they are put in, else they are strangers there.
fn adopt(bytes: &mut [u8], epoch: [u8; 4], tag: [u8; 8]) {
    for at in (0..bytes.len().saturating_sub(HEADER_BYTES - 1)).step_by(64) {
        if !bytes[at..].starts_with(b"TSFR") {
            continue;
        }
        bytes[at + 16..at + 20].copy_from_slice(&epoch);
        bytes[at + 72..at + 80].copy_from_slice(&tag);
    }
}

/// A log whose newest segment holds these bytes, behind a sound frame or in its place.
fn segment(bytes: &[u8], repaired: bool, behind: bool) {
    let (disk, data) = (SimulatedVfs::new(1), Path::new("/fuzz"));
    let open = || Embedded::over(Arc::new(disk.clone()), data, OPTIONS).expect("the bounds are sound");
    let mut writer = open().writer("received", 0, &mut |_| true).expect("an empty disk has room");
    let sections = vec![(SectionKind::Rows, events(&[(5, "a", 1.0), (6, "b", 2.0)]))];
    writer.append(&FrameDraft { sections, ..FrameDraft::default() }).expect("an empty disk has room");
    writer.syncer().sync().expect("no fault is planned");
    drop(writer);
    let folder = data.join("log/received/0");
    let names = disk.list(&folder).expect("it was made");
    let name = names.iter().find(|name| name.ends_with(".seg")).expect("a segment");
    let file = disk.open(&folder.join(name), Mode::ReadWrite).expect("it was made");
    let mut head = [0; SEGMENT_HEADER_BYTES as usize + HEADER_BYTES];
    file.read_at(&mut head, 0).expect("it can be read");
    let mut bytes = bytes.to_vec();
    if repaired {
        let word = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
        let tag = [word(40), word(44)].concat();
        adopt(&mut bytes, word(12), tag.try_into().expect("eight bytes"));
        repair(&mut bytes);
    }
    let frame = &head[SEGMENT_HEADER_BYTES as usize..];
    let length = u32::from_le_bytes([frame[8], frame[9], frame[10], frame[11]]);
    let at = SEGMENT_HEADER_BYTES + if behind { u64::from(length) } else { 0 };
    file.write_at(&bytes, at).expect("it can be written");
    read(&open());
    let writer = open().writer("received", 0, &mut |_| true);
    if let Ok(writer) = &writer {
        assert!(writer.durable() <= writer.published());
    }
    drop(writer);
    read(&open());
}

/// Reads all that is given out; every frame's sections are batches or errors.
fn read(log: &Embedded) {
    let Ok(mut reader) = log.reader("received", 0) else { return };
    let Ok(mut from) = reader.oldest() else { return };
    while let Ok(frames) = reader.read(from, Budget { bytes: 1 << 20, frames: 16 }, End::Published) {
        let Some(last) = frames.last() else { break };
        assert!(last.end > from, "a reader that does not move");
        from = last.end;
        for frame in &frames {
            for section in &frame.sections {
                _ = section.batch();
            }
        }
    }
}
