//! Quality codes: one bit a finding, kept beside the field in `<field>_quality`.
//!
//! 0 is a good value. Codes are added, never taken back, so a table tells everything any cleaner thought of a value.

/// Outside the limits that the range cleaner was given.
pub const OUT_OF_RANGE: u16 = 1;
/// Far from the median of its neighbours.
pub const SPIKE: u16 = 1 << 1;
/// The sensor repeats itself for too long.
pub const FLATLINE: u16 = 1 << 2;
/// Arrived behind its series' watermark.
pub const LATE: u16 = 1 << 3;
/// The device's clock cannot be right.
pub const CLOCK_SUSPECT: u16 = 1 << 4;
/// Made by an operator, not measured.
pub const FILLED: u16 = 1 << 5;
/// The value is a cleaner's; the original stands in `<field>_original`.
pub const REPLACED: u16 = 1 << 6;
/// The value was converted to another unit.
pub const CONVERTED: u16 = 1 << 7;
/// The device's sequence started again at this row.
pub const SEQUENCE_RESET: u16 = 1 << 8;

/// Every code with its name, in the order of the bits.
pub const NAMES: [(u16, &str); 9] = [
    (OUT_OF_RANGE, "out_of_range"),
    (SPIKE, "spike"),
    (FLATLINE, "flatline"),
    (LATE, "late"),
    (CLOCK_SUSPECT, "clock_suspect"),
    (FILLED, "filled"),
    (REPLACED, "replaced"),
    (CONVERTED, "converted"),
    (SEQUENCE_RESET, "sequence_reset"),
];

/// Bits that say "do not learn from this value": what later cleaners and windows leave out.
pub const BAD: u16 = OUT_OF_RANGE | SPIKE | FLATLINE | CLOCK_SUSPECT;

/// The codes of a mask in words; `good` for 0.
pub fn names(mask: u16) -> String {
    if mask == 0 {
        return "good".into();
    }
    NAMES.iter().filter(|(bit, _)| mask & bit != 0).map(|(_, name)| *name).collect::<Vec<_>>().join("+")
}

#[cfg(test)]
mod tests {
    #[test]
    fn masks_read_as_words() {
        assert_eq!(super::names(0), "good");
        assert_eq!(super::names(super::SPIKE | super::REPLACED), "spike+replaced");
    }
}
