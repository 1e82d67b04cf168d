//! A set of numbers that only reaches a fixed way below its highest: one word for up to 64, a ring of words for more.

use crate::state::codec::{Reader, StateError, Writer};

/// The numbers of a track, below a highest one that the track keeps.
pub(super) trait Seen: Clone {
    /// No number at all; `within` numbers will be remembered.
    fn none(within: u64) -> Self;

    /// Whether there is no number at all.
    fn is_none(&self) -> bool;

    /// The first number of a track.
    fn start(&mut self, number: i64);

    /// The highest number moves up.
    fn advance(&mut self, from: i64, to: i64);

    /// Notes a number at most `within` - 1 below the highest; false if it was there.
    fn insert(&mut self, highest: i64, number: i64) -> bool;

    fn save(&self, writer: &mut Writer);

    fn load(within: u64, reader: &mut Reader<'_>) -> Result<Self, StateError>;
}

/// Up to 64 numbers: bit j is the number j below the highest, so bit 0 is always set.
impl Seen for u64 {
    fn none(_: u64) -> Self {
        0
    }

    fn is_none(&self) -> bool {
        *self == 0
    }

    fn start(&mut self, _: i64) {
        *self = 1;
    }

    fn advance(&mut self, from: i64, to: i64) {
        let by = to.abs_diff(from);
        *self = if by < 64 { *self << by | 1 } else { 1 };
    }

    fn insert(&mut self, highest: i64, number: i64) -> bool {
        let bit = 1 << highest.abs_diff(number);
        let new = *self & bit == 0;
        *self |= bit;
        new
    }

    fn save(&self, writer: &mut Writer) {
        writer.u64(*self);
    }

    fn load(_: u64, reader: &mut Reader<'_>) -> Result<Self, StateError> {
        reader.u64()
    }
}

/// More numbers: a ring of bits, each number's place its lowest digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ring {
    bits: u64,
    /// Empty until the first number, so that a series that only ever has one track has one ring.
    words: Box<[u64]>,
}

impl Ring {
    fn place(&self, number: i64) -> (usize, u64) {
        let place = number as u64 & (self.bits - 1);
        ((place / 64) as usize, 1 << (place % 64))
    }
}

impl Seen for Ring {
    fn none(within: u64) -> Self {
        Self { bits: within.next_power_of_two().max(64), words: Box::default() }
    }

    fn is_none(&self) -> bool {
        self.words.is_empty()
    }

    fn start(&mut self, number: i64) {
        self.words = vec![0; (self.bits / 64) as usize].into();
        let (word, bit) = self.place(number);
        self.words[word] |= bit;
    }

    fn advance(&mut self, from: i64, to: i64) {
        if to.abs_diff(from) >= self.bits {
            self.words.fill(0);
        } else {
            // The places in between last stood for numbers a whole ring below.
            for skipped in from + 1..to {
                let (word, bit) = self.place(skipped);
                self.words[word] &= !bit;
            }
        }
        let (word, bit) = self.place(to);
        self.words[word] |= bit;
    }

    fn insert(&mut self, _: i64, number: i64) -> bool {
        let (word, bit) = self.place(number);
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    fn save(&self, writer: &mut Writer) {
        writer.u64(self.words.len() as u64);
        self.words.iter().for_each(|word| writer.u64(*word));
    }

    fn load(within: u64, reader: &mut Reader<'_>) -> Result<Self, StateError> {
        let empty = Self::none(within);
        let words = (0..reader.length(8)?).map(|_| reader.u64()).collect::<Result<Box<[u64]>, _>>()?;
        if !words.is_empty() && words.len() as u64 != empty.bits / 64 {
            return Err(StateError::Invalid(format!("{} words of sequence numbers", words.len())));
        }
        Ok(Self { words, ..empty })
    }
}
