//! The shape of the lines before, learnt: a device sends the same keys in the same order, so a line is compared with
//! that shape and only its values are read.
//!
//! Guarantee: a shape accepts only what it fully understood: the same bytes between the values, plain texts, plain
//! numbers of at most 18 digits, of the types that the columns have. On anything else it says no, the row is rolled
//! back and the general parser decides; so answers do not depend on it, as a test asserts for every cut and change of
//! a line.

use super::json_scan::{Cursor, POWERS};
use super::mapping::{Mapping, Row, Target};
use trackside_core::schema::FieldType;

/// Lines that fit give a shape credit, up to here; each that does not takes one. Without credit it is learnt anew.
const MAX_CREDIT: u8 = 64;
/// Credit of a new shape.
const NEW_CREDIT: u8 = 8;
/// Longest shape; wider objects go the general way.
const MAX_STEPS: usize = 64;

/// Keys in the order in which they are expected.
#[derive(Debug, Default)]
pub(super) struct Template {
    /// Empty: the last line that was looked at cannot be learnt.
    steps: Vec<Step>,
    closing: Literal,
    credit: u8,
}

#[derive(Debug)]
struct Step {
    /// All from the value before to this one, such as `, "key": `.
    literal: Literal,
    target: Target,
}

/// Bytes that are compared 16 at once.
#[derive(Debug, Default)]
struct Literal {
    bytes: Vec<u8>,
    head: u128,
    mask: u128,
}

impl Literal {
    fn new(text: &str) -> Self {
        let mut head = [0; 16];
        let length = text.len().min(16);
        head[..length].copy_from_slice(&text.as_bytes()[..length]);
        let mask = u128::MAX.checked_shr(8 * (16 - length as u32)).unwrap_or(0);
        Self { bytes: text.into(), head: u128::from_le_bytes(head), mask }
    }

    #[inline]
    fn take(&self, cursor: &mut Cursor<'_>) -> bool {
        let here = self.begins(&cursor.text.as_bytes()[cursor.at..]);
        cursor.at += if here { self.bytes.len() } else { 0 };
        here
    }

    #[inline]
    fn begins(&self, text: &[u8]) -> bool {
        match text.first_chunk::<16>() {
            Some(chunk) => {
                (u128::from_le_bytes(*chunk) ^ self.head) & self.mask == 0
                    && (self.bytes.len() <= 16 || text.starts_with(&self.bytes))
            }
            None => text.starts_with(&self.bytes),
        }
    }
}

impl Template {
    /// Whether there is a shape to try.
    #[inline]
    pub(super) fn is_ready(&mut self) -> bool {
        let ready = !self.steps.is_empty();
        self.credit -= u8::from(!ready && self.credit > 0);
        ready
    }

    /// Reads an object of the learnt shape into the row; false when it has another, and the row holds part of it.
    #[inline]
    pub(super) fn read(&mut self, cursor: &mut Cursor<'_>, row: &mut Row<'_>) -> bool {
        let mut steps = self.steps.iter();
        let fits = steps.all(|step| step.literal.take(cursor) && fill(step.target, cursor, row).is_some())
            && self.closing.take(cursor);
        self.credit = if fits { (self.credit + 1).min(MAX_CREDIT) } else { self.credit.saturating_sub(1) };
        fits
    }

    /// Whether the next line that the general parser understands should be learnt.
    pub(super) fn is_wanted(&self) -> bool {
        self.credit == 0
    }

    /// Takes over the shape of an object: the number of each key, and where the gaps between its values lie. One with
    /// keys that the schema does not name, or values that are neither text nor number, is not learnt.
    #[cold]
    pub(super) fn learn(&mut self, cursor: &Cursor<'_>, order: &[usize], gaps: &[(usize, usize)], mapping: &Mapping) {
        self.steps.clear();
        self.credit = NEW_CREDIT;
        let literal = |(from, to): (usize, usize)| Literal::new(&cursor.text[from..to]);
        let Some((closing, gaps)) = gaps.split_last().filter(|(_, gaps)| gaps.len() <= MAX_STEPS) else { return };
        self.closing = literal(*closing);
        for (place, gap) in gaps.iter().enumerate() {
            match order.get(place).and_then(|key| mapping.only_target(*key)) {
                Some(target) => self.steps.push(Step { literal: literal(*gap), target }),
                None => return self.steps.clear(),
            }
        }
    }
}

/// The value here, if it is a plain one for its target.
#[inline]
fn fill(target: Target, cursor: &mut Cursor<'_>, row: &mut Row<'_>) -> Option<()> {
    match target {
        Target::Tag(tag) => row.put_tag(tag, cursor.plain_text()?),
        Target::Field(field, FieldType::String) => row.put_string(field, cursor.plain_text()?),
        Target::Field(field, FieldType::Float) => row.put_float(field, float(plain_number(cursor)?)?),
        Target::Field(field, FieldType::Integer) => row.put_integer(field, integer(plain_number(cursor)?)?),
        Target::Time => return row.put_time(integer(plain_number(cursor)?)?),
        Target::Field(_, FieldType::Boolean) | Target::EventId => return None,
    }
    Some(())
}

/// Digits as one whole number, how many of them stand behind the point, and the sign.
#[derive(Debug, Clone, Copy)]
struct Number {
    mantissa: u64,
    places: usize,
    negative: bool,
}

/// The same roundings as in `json_scan.rs`.
#[inline]
fn float(number: Number) -> Option<f64> {
    let Number { mantissa, places, negative } = number;
    if places > 0 && mantissa >= 1 << 53 {
        return None;
    }
    let value = mantissa as f64 / POWERS[places];
    Some(if negative { -value } else { value })
}

#[inline]
fn integer(number: Number) -> Option<i64> {
    let value = number.mantissa as i64; // at most 18 digits
    (number.places == 0).then_some(if number.negative { -value } else { value })
}

/// A number without exponent, of at most 18 digits. `-0` is left to the general parser.
#[inline]
fn plain_number(cursor: &mut Cursor<'_>) -> Option<Number> {
    let bytes = cursor.text.as_bytes();
    let negative = cursor.take(b'-');
    let first = cursor.peek();
    let (mut mantissa, mut digits) = run(bytes, cursor.at)?;
    if first == b'0' && digits > 1 {
        return None;
    }
    cursor.at += digits;
    let mut places = 0;
    if cursor.take(b'.') {
        let (fraction, length) = run(bytes, cursor.at)?;
        mantissa = mantissa.checked_mul(WHOLE_POWERS[length])?.checked_add(fraction)?;
        (places, digits) = (length, digits + length);
        cursor.at += length;
    }
    let ends = !matches!(cursor.peek(), b'e' | b'E' | b'.');
    (ends && digits <= 18 && !(negative && mantissa == 0)).then_some(Number { mantissa, places, negative })
}

/// The digits here, 1 to 18 of them: their number and how many. Eight at once: each byte less than 10 after `^ '0'`.
#[inline]
fn run(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (mut value, mut count) = (0u64, 0);
    while let Some(chunk) = bytes.get(at + count..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk) ^ ZEROS;
        // A carry can only reach bytes behind the first that is no digit.
        let others = (word.wrapping_add(0x7676_7676_7676_7676) | word) & HIGH;
        let length = (others.trailing_zeros() / 8) as usize;
        if count + length > 18 {
            return None;
        }
        if length > 0 {
            value = value * WHOLE_POWERS[length] + eight(word << (64 - 8 * length as u32));
        }
        count += length;
        if length < 8 {
            return (count > 0).then_some((value, count));
        }
    }
    while let Some(digit @ b'0'..=b'9') = bytes.get(at + count) {
        if count == 18 {
            return None;
        }
        (value, count) = (value * 10 + u64::from(digit - b'0'), count + 1);
    }
    (count > 0).then_some((value, count))
}

/// Eight digits, the first in the lowest byte, as a number.
#[inline]
fn eight(digits: u64) -> u64 {
    let pairs = (digits * 10 + (digits >> 8)) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_FFFF_0000_FFFF;
    (fours * 10_000 + (fours >> 32)) & 0xFFFF_FFFF
}

/// Powers of ten up to the most digits of a run.
const WHOLE_POWERS: [u64; 19] = {
    let mut powers = [1; 19];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Option<(Option<f64>, Option<i64>)> {
        let mut cursor = Cursor::new(text);
        plain_number(&mut cursor).map(|number| (float(number), integer(number)))
    }

    #[test]
    fn plain_numbers_are_read_as_the_standard_library_reads_them() {
        let whole = ["0", "7", "-1", "10", "1700000000000", "999999999999999999", "-123456789012345678", "12345678"];
        let fractions = ["0.5", "-0.25", "12.308", "1000.123", "0.1234567890123", "9007199254740.991", "100.0", "0.0"];
        for end in [",\"key\":1}", "}"] {
            for text in whole {
                let (float, integer) = number(&format!("{text}{end}")).unwrap();
                assert_eq!((float, integer), (text.parse().ok(), text.parse().ok()), "{text}");
            }
            for text in fractions {
                let (float, integer) = number(&format!("{text}{end}")).unwrap();
                assert_eq!((float.map(f64::to_bits), integer), (text.parse().ok().map(f64::to_bits), None), "{text}");
            }
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_general_parser() {
        for text in
            ["", "-", "-0", "-0.0", "01", "00.5", "1.", ".5", "1e5", "1E5", "1.5e3", "+1", "1234567890123456789"]
        {
            assert!(number(&format!("{text},")).is_none() && number(text).is_none(), "{text}");
        }
        assert_eq!(
            number("12345678901234567.8}").and_then(|(float, _)| float),
            None,
            "too many digits for one division"
        );
    }
}
