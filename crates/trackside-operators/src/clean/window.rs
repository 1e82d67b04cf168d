//! The last values of each series, and the question whether the newest stands out (Hampel's identifier).
//!
//! Both kinds of window answer alike to the bit: with median m of the window, the newest value v stands out when
//! `|v - m| > max(scale * MAD, floor)`, MAD the median of all `|w - m|`. A window that is not full never objects.
//!
//! [`Seven`], the usual length, does not sort. m is the 4th smallest of 7, so `m >= v - floor` holds when at least 4
//! values of the window are `>= v - floor`, and likewise on the other side: if both counts reach 4 then v is within
//! `floor` of the median and passes whatever the MAD is. Written as `w - v >= -floor` this is exact in floating point,
//! for rounding keeps the order of the differences and m's own difference is one of them. Nearly every value of a
//! healthy sensor ends there, after 14 comparisons without a branch. [`Any`] keeps a sorted copy beside the ring.

use crate::state::codec::{Reader, StateError, Writer};

/// When a value stands out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// Times the MAD.
    pub(super) scale: f64,
    /// Smallest distance from the median that can stand out.
    pub(super) floor: f64,
}

/// Windows of all series.
pub(super) trait Windows {
    /// Makes room for this many series.
    fn grow(&mut self, series: usize);

    /// Takes a value in; if it stands out, the median of the window, itself included. The value is finite.
    fn push(&mut self, series: usize, value: f64, rule: Rule) -> Option<f64>;

    /// Appends the windows to a snapshot.
    fn save(&self, writer: &mut Writer);
}

/// Room for 7 values in arrival order and one lane that stays NaN, which no comparison counts.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Lanes([f64; 8]);

/// Windows of 7.
#[derive(Debug, Default)]
pub(super) struct Seven {
    lanes: Vec<Lanes>,
    /// Values seen: 0–7 while filling, then 7 + the next lane to overwrite.
    seen: Vec<u8>,
}

impl Windows for Seven {
    fn grow(&mut self, series: usize) {
        if series > self.lanes.len() {
            self.lanes.resize(series, Lanes([f64::NAN; 8]));
            self.seen.resize(series, 0);
        }
    }

    #[inline]
    fn push(&mut self, series: usize, value: f64, rule: Rule) -> Option<f64> {
        let value = value + 0.0; // -0 becomes 0: they are equal, and the median must not depend on which of them it meets
        let (lanes, seen) = (&mut self.lanes[series].0, &mut self.seen[series]);
        lanes[(*seen % 7) as usize] = value;
        *seen = if *seen == 13 { 7 } else { *seen + 1 };
        if *seen < 7 {
            return None;
        }
        let above: u32 = lanes.iter().map(|w| u32::from(w - value >= -rule.floor)).sum();
        let below: u32 = lanes.iter().map(|w| u32::from(w - value <= rule.floor)).sum();
        if above >= 4 && below >= 4 { None } else { stands_out(lanes, value, rule) }
    }

    fn save(&self, writer: &mut Writer) {
        writer.bytes(&self.seen);
        self.lanes.iter().for_each(|lanes| writer.array(&lanes.0));
    }
}

impl Seven {
    pub(super) fn load(reader: &mut Reader<'_>) -> Result<Self, StateError> {
        let seen = reader.bytes()?.to_vec();
        if let Some(wrong) = seen.iter().find(|seen| **seen > 13) {
            return Err(StateError::Invalid(format!("a window of 7 cannot stand at {wrong}")));
        }
        let lanes = seen.iter().map(|_| reader.array().map(Lanes)).collect::<Result<_, _>>()?;
        Ok(Self { lanes, seen })
    }
}

/// The rare case, in full; kept out of the loop.
#[cold]
#[inline(never)]
fn stands_out(lanes: &[f64; 8], value: f64, rule: Rule) -> Option<f64> {
    let mut window = [0.0; 7];
    window.copy_from_slice(&lanes[..7]);
    let median = median7(window);
    let mad = median7(window.map(|w| (w - median).abs()));
    judge(value, median, mad, rule)
}

fn judge(value: f64, median: f64, mad: f64, rule: Rule) -> Option<f64> {
    let threshold = if rule.scale * mad > rule.floor { rule.scale * mad } else { rule.floor };
    ((value - median).abs() > threshold).then_some(median)
}

/// Compare-exchanges after which the middle one of 7 is in its place; a test tries all 128 patterns of 0 and 1.
const MEDIAN_OF_7: [(usize, usize); 13] =
    [(0, 5), (0, 3), (1, 6), (2, 4), (0, 1), (3, 5), (2, 6), (2, 3), (3, 6), (4, 5), (1, 4), (1, 3), (3, 4)];

fn median7(mut v: [f64; 7]) -> f64 {
    for (a, b) in MEDIAN_OF_7 {
        if v[a] > v[b] {
            v.swap(a, b);
        }
    }
    v[3]
}

/// Windows of any odd length.
#[derive(Debug)]
pub(super) struct Any {
    length: usize,
    /// By series, `length` values in arrival order, a ring.
    ring: Vec<f64>,
    /// By series, the same values in ascending order.
    sorted: Vec<f64>,
    /// By series: values seen up to `length`, then `length` + the next place to overwrite.
    seen: Vec<u32>,
}

impl Any {
    pub(super) fn new(length: usize) -> Self {
        Self { length, ring: Vec::new(), sorted: Vec::new(), seen: Vec::new() }
    }

    pub(super) fn load(length: usize, reader: &mut Reader<'_>) -> Result<Self, StateError> {
        let seen = reader.u32s()?;
        let ring = reader.f64s()?;
        let fits = seen.len().checked_mul(length) == Some(ring.len());
        if !fits || seen.iter().any(|seen| *seen as usize >= 2 * length) || ring.iter().any(|value| value.is_nan()) {
            return Err(StateError::Invalid(format!("windows are not of length {length}")));
        }
        let mut windows = Self { length, sorted: ring.clone(), ring, seen };
        for (sorted, seen) in windows.sorted.chunks_exact_mut(length).zip(&windows.seen) {
            sorted[..length.min(*seen as usize)].sort_unstable_by(f64::total_cmp);
        }
        Ok(windows)
    }
}

impl Windows for Any {
    fn grow(&mut self, series: usize) {
        if series > self.seen.len() {
            self.ring.resize(series * self.length, 0.0);
            self.sorted.resize(series * self.length, 0.0);
            self.seen.resize(series, 0);
        }
    }

    fn push(&mut self, series: usize, value: f64, rule: Rule) -> Option<f64> {
        let value = value + 0.0; // as in `Seven`
        let sorted = self.take(series, value)?;
        let median = sorted[sorted.len() / 2];
        if (value - median).abs() <= rule.floor {
            return None;
        }
        judge(value, median, deviation(sorted, median), rule)
    }

    fn save(&self, writer: &mut Writer) {
        writer.u32s(&self.seen);
        writer.f64s(&self.ring);
    }
}

impl Any {
    /// Takes a value in, which is not -0; the window in ascending order, once it is full.
    fn take(&mut self, series: usize, value: f64) -> Option<&[f64]> {
        let (length, seen) = (self.length, self.seen[series] as usize);
        let window = series * length..(series + 1) * length;
        let (ring, sorted) = (&mut self.ring[window.clone()], &mut self.sorted[window]);
        let place = seen % length;
        // A full window gives its oldest value up; a filling one takes the first unused place, behind all values.
        let gone = if seen < length { seen } else { sorted.partition_point(|w| *w < ring[place]) };
        ring[place] = value;
        put_in_order(&mut sorted[..length.min(seen + 1)], gone, value);
        let seen = if seen + 1 == 2 * length { length } else { seen + 1 };
        self.seen[series] = seen as u32;
        (seen >= length).then_some(sorted)
    }

    /// Takes a value in; the median of the window, once it is full. The value is finite.
    pub(super) fn median(&mut self, series: usize, value: f64) -> Option<f64> {
        let length = self.length;
        self.take(series, value + 0.0).map(|sorted| sorted[length / 2])
    }
}

/// Puts `value` in the place of the one at `gone` and moves it to where it belongs.
fn put_in_order(sorted: &mut [f64], gone: usize, value: f64) {
    let mut at = gone;
    while at > 0 && sorted[at - 1] > value {
        sorted[at] = sorted[at - 1];
        at -= 1;
    }
    while at + 1 < sorted.len() && sorted[at + 1] < value {
        sorted[at] = sorted[at + 1];
        at += 1;
    }
    sorted[at] = value;
}

/// The MAD: from the middle of a sorted window the deviations grow to both sides, so the median deviation is reached by
/// taking the nearer of the two ends half a window's times.
fn deviation(sorted: &[f64], median: f64) -> f64 {
    let middle = sorted.len() / 2;
    let (mut left, mut right, mut nearest) = (middle, middle, 0.0);
    for _ in 0..middle {
        let below = left.checked_sub(1).map_or(f64::INFINITY, |at| median - sorted[at]);
        let above = sorted.get(right + 1).map_or(f64::INFINITY, |w| w - median);
        if below <= above {
            (left, nearest) = (left.saturating_sub(1), below);
        } else {
            (right, nearest) = (right + 1, above);
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, word by word.
    fn naive(history: &[f64], length: usize, rule: Rule) -> Option<f64> {
        let window = history.len().checked_sub(length).map(|from| &history[from..])?;
        let middle = |values: &mut Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values[length / 2]
        };
        let median = middle(&mut window.to_vec());
        let mad = middle(&mut window.iter().map(|w| (w - median).abs()).collect());
        let value = window[length - 1];
        ((value - median).abs() > (rule.scale * mad).max(rule.floor)).then_some(median)
    }

    fn agree(windows: &mut dyn Windows, values: &[f64], length: usize, rule: Rule) {
        windows.grow(2);
        let mut history = Vec::new();
        for value in values {
            history.push(value + 0.0);
            let expected = naive(&history, length, rule).map(f64::to_bits);
            assert_eq!(windows.push(1, *value, rule).map(f64::to_bits), expected, "after {history:?}");
        }
    }

    #[test]
    fn the_network_finds_the_middle_of_every_pattern() {
        for bits in 0u32..128 {
            let pattern: [f64; 7] = std::array::from_fn(|i| f64::from(bits >> i & 1));
            assert_eq!(median7(pattern), f64::from(u8::from(bits.count_ones() >= 4)), "{bits:b}");
        }
    }

    #[test]
    fn huge_and_tiny_values_do_not_overflow_the_shortcut() {
        let values = [f64::MAX, -f64::MAX, f64::MAX, 0.0, -0.0, 5e-324, -f64::MAX, f64::MAX, 1.0, 1.0, 1.0, 1.0, 2.0];
        for rule in [Rule { scale: 4.4478, floor: 0.0 }, Rule { scale: 0.5, floor: 1.0 }] {
            agree(&mut Seven::default(), &values, 7, rule);
            agree(&mut Any::new(5), &values, 5, rule);
        }
    }

    /// Values close together, on a grid, and far away, as sensors give them.
    fn values() -> impl Strategy<Value = Vec<f64>> {
        let value = prop_oneof![
            4 => -1.0..1.0f64,
            4 => (-5..5i32).prop_map(|i| f64::from(i) * 0.1),
            1 => Just(-0.0),
            1 => -1e300..1e300f64,
        ];
        prop::collection::vec(value, 0..60)
    }

    proptest! {
        #[test]
        fn every_window_answers_like_the_definition(values in values(), scale in 0.1..6.0f64, floor in prop_oneof![Just(0.0), Just(0.1), 0.0..2.0f64]) {
            let rule = Rule { scale, floor };
            agree(&mut Seven::default(), &values, 7, rule);
            for length in [3, 5, 7, 9, 21] {
                agree(&mut Any::new(length), &values, length, rule);
            }
        }
    }
}
