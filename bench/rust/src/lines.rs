//! Lines of a shape that is known by heart: keys in one order, names of at most 15 bytes, numbers of at most 8 digits.
//!
//! The ceiling's parser. It says no to whatever it does not fully understand, and then a general parser decides; so its
//! answers are exact. Eight bytes are looked at in one go (SWAR); nothing is looked for but each value's own end.

/// A line's values; names are their bytes, padded with zeros.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Line {
    pub(crate) ts: i64,
    pub(crate) device: u128,
    pub(crate) sensor: u128,
    pub(crate) value: f64,
    pub(crate) unit: u128,
    pub(crate) seq: i64,
}

/// Bytes behind the last line that loads may run over.
pub(crate) const PADDING: usize = 256;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = ONES << 7;
const POWERS: [f64; 9] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8];

/// The line at the beginning of `bytes`, and its length with the newline.
#[inline]
pub(crate) fn parse(bytes: &[u8]) -> Option<(Line, usize)> {
    let head = bytes.first_chunk::<32>()?;
    if head[..6] != *b"{\"ts\":" || head[19..30] != *b",\"device\":\"" || head[6] == b'0' {
        return None;
    }
    let ts = digits(load(bytes, 6)?, 8)? * 100_000 + digits(load(bytes, 14)?, 5)?;
    let (device, at) = name(bytes, 30)?;
    let (sensor, at) = name(bytes, literal(bytes, at, b"\",\"sensor\":\"")?)?;
    let at = literal(bytes, at, b"\",\"value\":")?;
    let (value, at) = float(bytes, at)?;
    let (unit, at) = name(bytes, literal(bytes, at, b",\"unit\":\"")?)?;
    let at = literal(bytes, at, b"\",\"seq\":")?;
    let word = load(bytes, at)?;
    let length = (zero_bytes(word ^ (ONES * u64::from(b'}'))).trailing_zeros() / 8) as usize;
    if length == 0 || length > 7 || (length > 1 && word as u8 == b'0') {
        return None;
    }
    let seq = digits(word, length)?;
    let at = literal(bytes, at + length, b"}\n")?;
    Some((Line { ts: ts as i64, device, sensor, value, unit, seq: seq as i64 }, at))
}

#[inline]
fn load(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[inline]
fn literal<const N: usize>(bytes: &[u8], at: usize, text: &[u8; N]) -> Option<usize> {
    (bytes.get(at..)?.first_chunk::<N>()? == text).then_some(at + N)
}

/// A high bit for each zero byte; above the lowest one there may be false ones.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH
}

/// The bytes up to the closing quote. Escapes, control characters and what is not ASCII are not for us.
#[inline]
fn name(bytes: &[u8], at: usize) -> Option<(u128, usize)> {
    let ends = |word: u64| {
        zero_bytes(word ^ (ONES * u64::from(b'"')))
            | zero_bytes(word ^ (ONES * u64::from(b'\\')))
            | (word.wrapping_sub(ONES * 0x20) & !word & HIGH)
            | (word & HIGH)
    };
    let (low, high) = (load(bytes, at)?, load(bytes, at + 8)?);
    let length = match ends(low) {
        0 => 8 + ends(high).trailing_zeros() as usize / 8,
        found => found.trailing_zeros() as usize / 8,
    };
    if length > 15 || bytes[at + length] != b'"' {
        return None;
    }
    let text = u128::from(low) | u128::from(high) << 64;
    Some((text & ((1u128 << (8 * length)) - 1), at + length))
}

/// The number of the first `count` bytes, if all of them are digits; 1 to 8 of them.
#[inline]
fn digits(word: u64, count: usize) -> Option<u64> {
    let shift = 64 - 8 * count as u32;
    // Leading zeros take the place of what is not ours; the first digit ends up in the lowest byte.
    let number = (word << shift) ^ (0x3030_3030_3030_3030 << shift);
    if (number.wrapping_add(0x7676_7676_7676_7676) | number) & HIGH != 0 {
        return None;
    }
    let pairs = (number * 10 + (number >> 8)) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_FFFF_0000_FFFF;
    Some((fours * 10_000 + (fours >> 32)) & 0xFFFF_FFFF)
}

/// A number of at most 8 characters behind its sign, up to a comma. The one division is correctly rounded.
#[inline]
fn float(bytes: &[u8], at: usize) -> Option<(f64, usize)> {
    let negative = *bytes.get(at)? == b'-';
    let at = at + usize::from(negative);
    let word = load(bytes, at)?;
    let length = (zero_bytes(word ^ (ONES * u64::from(b','))).trailing_zeros() / 8) as usize;
    if length == 0 {
        return None;
    }
    let dot = (zero_bytes(word ^ (ONES * u64::from(b'.'))).trailing_zeros() / 8) as usize;
    let (whole, places, count, text) = if dot < length {
        let below = (1u64 << (8 * dot)) - 1;
        (dot, length - dot - 1, length - 1, word & below | (word >> 8) & !below)
    } else {
        (length, 0, length, word)
    };
    if whole == 0 || (dot < length && places == 0) || (whole > 1 && word as u8 == b'0') {
        return None;
    }
    let number = digits(text, count)? as f64 / POWERS[places];
    Some((if negative { -number } else { number }, at + length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::Event;

    fn padded(line: &str) -> Vec<u8> {
        [line.as_bytes(), &[0; PADDING]].concat()
    }

    #[test]
    fn what_is_accepted_is_what_the_general_parser_reads() {
        for (value, seq) in [("12.308", "0"), ("-0.5", "7"), ("0.0", "1234567"), ("1000.123", "42"), ("7", "10")] {
            let text = format!(
                "{{\"ts\":1700000000123,\"device\":\"truck-00019\",\"sensor\":\"vibration\",\"value\":{value},\"unit\":\"mm/s\",\"seq\":{seq}}}\n"
            );
            let (line, length) = parse(&padded(&text)).unwrap();
            let event: Event<'_> = serde_json::from_str(&text).unwrap();
            assert_eq!((line.ts, line.seq, length), (event.ts, event.seq, text.len()));
            assert_eq!(line.value.to_bits(), event.value.to_bits());
            assert_eq!(&line.device.to_le_bytes()[..11], event.device.as_bytes());
            assert_eq!((line.device >> 88, &line.unit.to_le_bytes()[..4]), (0, event.unit.as_bytes()));
            assert_eq!(&line.sensor.to_le_bytes()[..9], event.sensor.as_bytes());
            for cut in 0..text.len() - 1 {
                assert_eq!(parse(&padded(&format!("{}\n", &text[..cut]))), None, "{}", &text[..cut]);
            }
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_general_parser() {
        let line = |device: &str, value: &str, seq: &str| {
            let text = format!(
                "{{\"ts\":1700000000123,\"device\":\"{device}\",\"sensor\":\"temp\",\"value\":{value},\"unit\":\"C\",\"seq\":{seq}}}\n"
            );
            parse(&padded(&text))
        };
        assert!(line("a", "1.5", "3").is_some());
        for device in ["a\\n", "ä", "a\u{1}", "sixteen bytes!!!", "a name that is too long"] {
            assert_eq!(line(device, "1.5", "3"), None, "{device}");
        }
        for value in ["", "1.", ".5", "01.5", "1e5", "1.5.5", "1234567.9", "--1", "+1", "null"] {
            assert_eq!(line("a", value, "3"), None, "{value}");
        }
        for seq in ["", "03", "-3", "3.0", "12345678"] {
            assert_eq!(line("a", "1.5", seq), None, "{seq}");
        }
    }
}
