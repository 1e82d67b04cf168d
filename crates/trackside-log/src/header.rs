//! The fixed head of a frame: 128 bytes, little-endian, with a checksum of its own.
//!
//! Two checksums, both CRC32C: `header_crc` makes the lengths and offsets trustworthy, so that a log can be walked without reading
//! bodies and a damaged body still tells which offsets it held; `crc` covers the whole frame and is checked before a
//! byte is given out. The layout is in `docs/reference/log-format.md`.

use std::ops::Range;

use crate::bytes::{ALIGN, padded};
use crate::planted::{Bug, planted};

/// The first bytes of every frame.
pub(crate) const MAGIC: [u8; 4] = *b"TSFR";
/// The format that this build writes, and the newest it reads.
pub const FORMAT: u16 = 1;
/// The length of the fixed header.
pub const HEADER_BYTES: usize = 128;
/// How many sections the header has room for.
pub const MAX_SECTIONS: usize = 5;

const TABLE: usize = 80;
const HEADER_CRC: usize = 120;
const CRC: usize = 124;
const HAS_EVENT_TIME: u16 = 1;

/// A section's kind and length, as the table in the header tells them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: u16,
    pub(crate) length: u32,
}

/// A frame's header, parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    /// Of the whole frame, a multiple of 64.
    pub(crate) length: u32,
    pub(crate) meta: u32,
    pub(crate) epoch: u32,
    pub(crate) first: u64,
    pub(crate) rows: u64,
    pub(crate) event_time: Option<(i64, i64)>,
    pub(crate) ingest_time: i64,
    /// Everything below this offset was durable when the frame was written.
    pub(crate) durable: u64,
    /// The epoch's random mark: bytes that someone sent us cannot pass for a frame.
    pub(crate) tag: u64,
    pub(crate) sections: [Entry; MAX_SECTIONS],
    pub(crate) section_count: u16,
    pub(crate) crc: u32,
}

impl Header {
    /// The offset after the frame: a frame without rows takes one.
    pub(crate) fn end(&self) -> u64 {
        self.first.saturating_add(self.rows.max(1))
    }

    /// Where the meta lies in the frame.
    pub(crate) fn meta_range(&self) -> Range<usize> {
        HEADER_BYTES..HEADER_BYTES + self.meta as usize
    }

    /// Kind and place in the frame of each section, in order.
    pub(crate) fn sections(&self) -> impl Iterator<Item = (u16, Range<usize>)> + '_ {
        let mut at = HEADER_BYTES + padded(self.meta as usize);
        self.sections[..usize::from(self.section_count)].iter().map(move |entry| {
            let range = at..at + entry.length as usize;
            at += padded(entry.length as usize);
            (entry.kind, range)
        })
    }

    /// Writes the header over the first 128 bytes of a frame whose rest is in place, then both checksums.
    pub(crate) fn seal(&self, frame: &mut [u8]) {
        let event = self.event_time.unwrap_or_default();
        let flags = if self.event_time.is_some() { HAS_EVENT_TIME } else { 0 };
        frame[..HEADER_BYTES].fill(0);
        put(frame, 0, MAGIC);
        put(frame, 4, FORMAT.to_le_bytes());
        put(frame, 6, (HEADER_BYTES as u16).to_le_bytes());
        put(frame, 8, self.length.to_le_bytes());
        put(frame, 12, self.meta.to_le_bytes());
        put(frame, 16, self.epoch.to_le_bytes());
        put(frame, 20, self.section_count.to_le_bytes());
        put(frame, 22, flags.to_le_bytes());
        put(frame, 24, self.first.to_le_bytes());
        put(frame, 32, self.rows.to_le_bytes());
        put(frame, 40, event.0.to_le_bytes());
        put(frame, 48, event.1.to_le_bytes());
        put(frame, 56, self.ingest_time.to_le_bytes());
        put(frame, 64, self.durable.to_le_bytes());
        put(frame, 72, self.tag.to_le_bytes());
        for (k, entry) in self.sections[..usize::from(self.section_count)].iter().enumerate() {
            put(frame, TABLE + 8 * k, entry.kind.to_le_bytes());
            put(frame, TABLE + 8 * k + 4, entry.length.to_le_bytes());
        }
        let header_crc = crc32c::crc32c(&frame[..HEADER_CRC]);
        put(frame, HEADER_CRC, header_crc.to_le_bytes());
        let crc = checksum(frame);
        put(frame, CRC, crc.to_le_bytes());
    }

    /// Reads a header; `Err` says what is wrong with it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() < HEADER_BYTES || bytes[..4] != MAGIC {
            return Err("no frame starts here");
        }
        if crc32c::crc32c(&bytes[..HEADER_CRC]) != u32::from_le_bytes(take(bytes, HEADER_CRC)) {
            return Err("the frame's header does not match its checksum");
        }
        let flags = u16::from_le_bytes(take(bytes, 22));
        let event = (i64::from_le_bytes(take(bytes, 40)), i64::from_le_bytes(take(bytes, 48)));
        let mut header = Self {
            length: u32::from_le_bytes(take(bytes, 8)),
            meta: u32::from_le_bytes(take(bytes, 12)),
            epoch: u32::from_le_bytes(take(bytes, 16)),
            section_count: u16::from_le_bytes(take(bytes, 20)),
            first: u64::from_le_bytes(take(bytes, 24)),
            rows: u64::from_le_bytes(take(bytes, 32)),
            event_time: (flags & HAS_EVENT_TIME != 0).then_some(event),
            ingest_time: i64::from_le_bytes(take(bytes, 56)),
            durable: u64::from_le_bytes(take(bytes, 64)),
            tag: u64::from_le_bytes(take(bytes, 72)),
            crc: u32::from_le_bytes(take(bytes, CRC)),
            ..Self::default()
        };
        let version = u16::from_le_bytes(take(bytes, 4));
        let head = u16::from_le_bytes(take(bytes, 6));
        if version != FORMAT || usize::from(head) != HEADER_BYTES || usize::from(header.section_count) > MAX_SECTIONS {
            return Err("the frame is of a format that this build does not know");
        }
        for (k, entry) in header.sections[..usize::from(header.section_count)].iter_mut().enumerate() {
            entry.kind = u16::from_le_bytes(take(bytes, TABLE + 8 * k));
            entry.length = u32::from_le_bytes(take(bytes, TABLE + 8 * k + 4));
        }
        if frame_length(header.meta as usize, header.sections.iter().map(|e| e.length as usize))
            != u64::from(header.length)
        {
            return Err("the frame's lengths do not add up");
        }
        Ok(header)
    }

    /// Whether the whole frame is what was written.
    pub(crate) fn check(&self, frame: &[u8]) -> Result<(), &'static str> {
        let sized = frame.len() == self.length as usize && frame.len() >= HEADER_BYTES;
        if !sized || (checksum(frame) != self.crc && !planted(Bug::AcceptBadCrc)) {
            return Err("the frame does not match its checksum");
        }
        Ok(())
    }
}

/// The length of a frame with this meta and these sections.
pub(crate) fn frame_length(meta: usize, sections: impl Iterator<Item = usize>) -> u64 {
    (HEADER_BYTES + padded(meta)) as u64 + sections.map(|length| padded(length) as u64).sum::<u64>()
}

/// Over the whole frame but the four bytes that hold it.
fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..CRC]), &frame[CRC + 4..])
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}

const _: () = assert!(TABLE + 8 * MAX_SECTIONS == HEADER_CRC && HEADER_BYTES.is_multiple_of(ALIGN));

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> (Header, Vec<u8>) {
        let mut header =
            Header { meta: 5, epoch: 2, first: 10, rows: 3, tag: 77, section_count: 2, ..Header::default() };
        header.event_time = Some((-4, 9));
        header.sections[0] = Entry { kind: 1, length: 100 };
        header.sections[1] = Entry { kind: 3, length: 0 };
        header.length = frame_length(5, [100, 0].into_iter()) as u32;
        let mut bytes = vec![0xAB; header.length as usize];
        header.seal(&mut bytes);
        (header, bytes)
    }

    #[test]
    fn what_is_sealed_is_parsed() {
        let (header, bytes) = frame();
        let parsed = Header::parse(&bytes).unwrap();
        assert_eq!(Header { crc: 0, ..parsed }, header);
        assert_eq!((parsed.check(&bytes), parsed.end(), parsed.meta_range()), (Ok(()), 13, 128..133));
        assert_eq!(parsed.sections().collect::<Vec<_>>(), [(1, 192..292), (3, 320..320)]);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (_, mut bytes) = frame();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let verdict = Header::parse(&bytes).and_then(|header| header.check(&bytes));
            assert!(verdict.is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_frame_without_rows_takes_one_offset() {
        assert_eq!(Header { first: 7, ..Header::default() }.end(), 8);
    }
}
