//! One event, its line of JSON, and what the verifier needs to know it by.
//!
//! The id is run ⊕ connection ⊕ device ⊕ sequence. The hash covers id, device, sequence, number and payload; the float
//! field is the number's quarter, so nothing of a row can change unseen. Payload lengths sit on the boundaries that
//! buffers are made of.

use std::fmt::Write;

/// 2023-11-14, and a millisecond more each event: event time is data, not the clock.
const FIRST_MS: u64 = 1_700_000_000_000;
/// Numbers are below it; a quarter of it is the bound that the pipelines of these tests give `value`.
pub(crate) const NUMBERS: u64 = 4000;
/// Added to a value that cleaning is to reject.
const FAR_OUT: f64 = 1e9;
/// Longest payload of an event that may be sent again.
const MAX_REPEATED: usize = 1024;

/// Payload lengths around pages and batch buffers; the large ones are rare.
const LENGTHS: [&[usize]; 4] = [
    &[0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32],
    &[63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513],
    &[4095, 4096, 4097, 8191, 8192, 8193],
    &[65_535, 65_536, 65_537],
];
/// Of a thousand events, how many are at least of this class.
const LARGER: [usize; 4] = [1000, 100, 10, 1];
/// What short payloads are written with: all that JSON escapes, and letters of one to four bytes.
const LETTERS: [char; 16] =
    ['a', 'b', 'z', '0', '9', ' ', '"', '\\', '\n', '\t', '/', '\u{1}', 'é', '温', '😀', '\u{2028}'];

/// What becomes of it if all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A row of the table.
    Row,
    /// A dead letter of cleaning.
    Outlier,
    /// A dead letter of the door.
    Broken,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Outlier => "outlier",
            Self::Broken => "broken",
        }
    }
}

/// An event as it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) id: u128,
    pub(crate) device: String,
    pub(crate) seq: u64,
    pub(crate) kind: Kind,
    /// CRC-32 of what the table must hold; of a broken line, of its bytes.
    pub(crate) hash: u32,
    /// With its line feed.
    pub(crate) line: Vec<u8>,
}

impl Event {
    /// Whether it has an id to be recognized by, and is small enough to be kept for later.
    pub(crate) fn repeatable(&self) -> bool {
        self.kind != Kind::Broken && self.line.len() <= MAX_REPEATED * 2
    }
}

/// Shares of events that are to become dead letters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mix {
    pub(crate) outliers: f64,
    pub(crate) broken: f64,
}

/// Makes the events of one connection's devices, in turn.
#[derive(Debug)]
pub(crate) struct Maker {
    seed: u32,
    lane: u32,
    fleet: String,
    devices: Vec<u32>,
    made: u64,
    lot: u64,
}

impl Maker {
    pub(crate) fn new(seed: u32, lane: u32, fleet: &str, devices: Vec<u32>) -> Self {
        Self { seed, lane, fleet: fleet.to_owned(), devices, made: 0, lot: (u64::from(seed) << 32) | u64::from(lane) }
    }

    /// A number by lot (splitmix64).
    pub(crate) fn draw(&mut self) -> usize {
        self.lot = self.lot.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.lot;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 1) as usize
    }

    /// True so often.
    pub(crate) fn chance(&mut self, share: f64) -> bool {
        (self.draw() % 1_000_000) as f64 / 1e6 < share
    }

    pub(crate) fn next(&mut self, mix: Mix) -> Event {
        let number_of_device = self.devices[self.made as usize % self.devices.len()];
        let device = format!("{}{number_of_device}", self.fleet);
        let seq = self.made / self.devices.len() as u64;
        self.made += 1;
        let id = u128::from(self.seed) << 96
            | u128::from(self.lane) << 80
            | u128::from(number_of_device) << 64
            | u128::from(seq);
        let number = self.draw() as u64 % NUMBERS;
        let payload = self.payload();
        let outlier = self.chance(mix.outliers);
        let value = number as f64 / 4.0 + if outlier { FAR_OUT } else { 0.0 };
        let text = serde_json::Value::from(payload.as_str());
        let ts = FIRST_MS + self.made;
        let mut line = String::with_capacity(payload.len() + 128);
        // Writing to a String cannot fail.
        _ = write!(
            line,
            r#"{{"id":"{id:032x}","ts":{ts},"device":"{device}","seq":{seq},"n":{number},"value":{value:?},"payload":{text}}}"#
        );
        let mut kind = if outlier { Kind::Outlier } else { Kind::Row };
        let mut hash = crc32(format!("{id:032x}|{device}|{seq}|{number}|{payload}").as_bytes());
        if payload.len() < MAX_REPEATED && self.chance(mix.broken) {
            // Behind the id and before the end, wherever a letter begins.
            let at = 60 + self.draw() % (line.len() - 60);
            line.truncate(line.floor_char_boundary(at));
            // The door takes white space at the end of a line for none of it.
            line.truncate(line.trim_end().len());
            kind = Kind::Broken;
            hash = crc32(line.as_bytes());
        }
        line.push('\n');
        Event { id, device, seq, kind, hash, line: line.into_bytes() }
    }

    fn payload(&mut self) -> String {
        let lot = self.draw() % 1000;
        let class = LARGER.iter().rposition(|larger| lot < *larger).unwrap_or(0);
        let length = LENGTHS[class][self.draw() % LENGTHS[class].len()];
        if class > 0 {
            return "payload of one byte a letter, ".chars().cycle().skip(lot).take(length).collect();
        }
        (0..length).map(|_| LETTERS[self.draw() % LETTERS.len()]).collect()
    }
}

/// CRC-32 as zlib, gzip and Python's `zlib.crc32` have it (IEEE, reflected).
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ CRC[((crc ^ u32::from(*byte)) & 0xFF) as usize])
}

/// The remainders of all bytes.
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn events(mix: Mix) -> Vec<Event> {
        let mut maker = Maker::new(7, 1, "d", vec![1, 5]);
        (0..3000).map(|_| maker.next(mix)).collect()
    }

    #[test]
    fn a_line_is_json_that_says_what_the_hash_covers() {
        for event in events(Mix { outliers: 0.1, broken: 0.0 }) {
            let line: serde_json::Value = serde_json::from_slice(&event.line).unwrap();
            let text = |key: &str| line[key].as_str().unwrap();
            let covered =
                format!("{}|{}|{}|{}|{}", text("id"), text("device"), line["seq"], line["n"], text("payload"));
            assert_eq!(crc32(covered.as_bytes()), event.hash);
            assert_eq!(line["value"].as_f64().unwrap() > NUMBERS as f64, event.kind == Kind::Outlier);
        }
    }

    #[test]
    fn a_broken_line_keeps_its_id_and_is_no_json() {
        let broken = events(Mix { outliers: 0.0, broken: 0.5 });
        let broken: Vec<_> = broken.iter().filter(|event| event.kind == Kind::Broken).collect();
        assert!(broken.len() > 1000);
        for event in broken {
            assert!(serde_json::from_slice::<serde_json::Value>(&event.line).is_err());
            assert!(String::from_utf8_lossy(&event.line).contains(&format!("{:032x}", event.id)));
            assert!(!event.repeatable());
        }
    }

    #[test]
    fn every_id_is_there_once_and_every_length_comes() {
        let made = events(Mix { outliers: 0.0, broken: 0.0 });
        let ids: std::collections::HashSet<u128> = made.iter().map(|event| event.id).collect();
        assert_eq!(ids.len(), made.len());
        assert!(made.iter().any(|event| event.line.len() > 65_535));
        assert!(made.iter().any(|event| event.line.len() < 150));
    }

    #[test]
    fn the_checksum_is_zlibs() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }
}
