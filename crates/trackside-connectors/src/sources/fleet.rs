//! The simulated fleet behind `generate`: what event number `k` says, as a pure function of the seed and `k`.
//!
//! A fleet is `devices` × `sensors` series that take turns: event `k` belongs to series `k mod n` and is its reading
//! number `k div n`. A value is the series' own level, a day's and a quarter-hour's wave, slow drift and noise. Dirt
//! and true anomalies are drawn by hash, so that any event can be made without those before it.

use std::f64::consts::TAU;

/// Readings that one true anomaly lasts.
pub(crate) const ANOMALY_READINGS: u64 = 20;
/// Each series has at most one anomaly in so many readings.
const ANOMALY_BLOCK: u64 = 120;
/// How long the anomaly lasts that `first_anomaly_after` asks for, ns.
const FIRST_ANOMALY: i64 = 10_000_000_000;

/// A kind of sensor: name, unit, level and its spread over devices, noise, limits.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    base: f64,
    spread: f64,
    sigma: f64,
    low: f64,
    high: f64,
}

/// The kinds, in turn.
pub(crate) const KINDS: [Kind; 5] = [
    Kind { name: "temp", unit: "C", base: 22.0, spread: 8.0, sigma: 0.1, low: -40.0, high: 85.0 },
    Kind { name: "humidity", unit: "%", base: 50.0, spread: 10.0, sigma: 0.3, low: 0.0, high: 100.0 },
    Kind { name: "pressure", unit: "hPa", base: 1000.0, spread: 15.0, sigma: 0.5, low: 300.0, high: 1100.0 },
    Kind { name: "vibration", unit: "mm/s", base: 10.0, spread: 3.0, sigma: 0.2, low: 0.0, high: 50.0 },
    Kind { name: "voltage", unit: "V", base: 13.0, spread: 1.0, sigma: 0.05, low: 0.0, high: 32.0 },
];

/// The kind of sensor or field number `channel`.
pub(crate) fn kind(channel: usize) -> &'static Kind {
    &KINDS[channel % KINDS.len()]
}

/// Shares of events that are dirty or anomalous, each 0..=1.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shares {
    pub(crate) duplicates: f64,
    pub(crate) disorder: f64,
    pub(crate) out_of_range: f64,
    pub(crate) spikes: f64,
    pub(crate) malformed: f64,
    pub(crate) anomalies: f64,
}

/// A fleet.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) seed: u64,
    /// Sensors that are series of their own.
    pub(crate) sensors: u64,
    pub(crate) series: u64,
    /// Time of event 0, ns since 1970.
    pub(crate) origin: i64,
    /// Between two events, ns.
    pub(crate) step: f64,
    pub(crate) shares: Shares,
    /// When series 0 shows its sure anomaly, ns since 1970.
    pub(crate) first_anomaly: Option<i64>,
}

/// What an event tells, but for the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) series: u64,
    pub(crate) number: u64,
    pub(crate) time: i64,
    /// Arrives broken, in this way.
    pub(crate) broken: Option<u64>,
}

/// What a draw is for: equal arguments with another purpose are another draw.
#[derive(Clone, Copy)]
enum Draw {
    Duplicate = 1,
    Swap,
    Broken,
    OutOfRange,
    Spike,
    Anomaly,
    Level,
    Phase,
    Noise,
    Drift,
}

impl Fleet {
    /// Event number `k`.
    pub(crate) fn reading(&self, k: u64) -> Reading {
        let (series, turn) = (k % self.series, k / self.series);
        let mut number = turn;
        // Two neighbours of a series change places; the time of a reading stays with it.
        if self.chance(Draw::Swap, series, turn / 2, self.shares.disorder) {
            number = turn ^ 1;
        }
        // A device that repeats itself sends its reading before instead of the new one.
        if number > 0 && self.chance(Draw::Duplicate, series, turn, self.shares.duplicates) {
            number -= 1;
        }
        let broken = self.chance(Draw::Broken, series, turn, self.shares.malformed);
        let broken = broken.then(|| self.draw(Draw::Broken, turn, series) % 3);
        Reading { series, number, time: self.time(number.saturating_mul(self.series).saturating_add(series)), broken }
    }

    /// When reading `k` was due, but for disorder.
    pub(crate) fn time(&self, k: u64) -> i64 {
        self.origin.saturating_add((k as f64 * self.step) as i64)
    }

    /// Events due until then, at most.
    pub(crate) fn due(&self, time: i64) -> u64 {
        // Before the first event that is at most 0, where the cast ends too.
        ((time.saturating_sub(self.origin)) as f64 / self.step + 1.0).floor() as u64
    }

    /// One value of a reading: of its sensor, or of field number `channel` where a row holds several.
    pub(crate) fn value(&self, reading: &Reading, channel: usize) -> f64 {
        let kind = kind(channel);
        let (series, n) = (reading.series * 64 + channel as u64, reading.number);
        let seconds = reading.time as f64 / 1e9;
        let phase = TAU * self.unit(Draw::Phase, series, 0);
        let level = kind.base + kind.spread * self.spread(Draw::Level, series, 0);
        let waves = 20.0 * (TAU * seconds / 86_400.0 + phase).sin() + 6.0 * (TAU * seconds / 900.0 + 3.0 * phase).sin();
        let mut sigmas = waves + 2.0 * self.drift(series, n) + self.noise(series, n);
        sigmas += self.anomaly(reading, series);
        let value = level + kind.sigma * sigmas;
        if self.chance(Draw::OutOfRange, series, n, self.shares.out_of_range) {
            let beyond = (kind.high - kind.low) * (0.2 + self.unit(Draw::OutOfRange, n, series));
            return round(if value > level { kind.high + beyond } else { kind.low - beyond });
        }
        if self.chance(Draw::Spike, series, n, self.shares.spikes) {
            let height = kind.sigma * (40.0 + 20.0 * self.unit(Draw::Spike, n, series));
            let up = value + height <= kind.high;
            return round((if up { value + height } else { value - height }).clamp(kind.low, kind.high));
        }
        round(value.clamp(kind.low, kind.high))
    }

    /// What a true anomaly adds, in units of the noise: a step, a drift or a burst.
    fn anomaly(&self, reading: &Reading, series: u64) -> f64 {
        if let Some(start) = self.first_anomaly {
            let since = reading.time.saturating_sub(start);
            // Also where events are rare the anomaly shows in some of them.
            let lasts = FIRST_ANOMALY.max((self.step * self.series as f64 * 12.0) as i64);
            if reading.series == 0 && (0..lasts).contains(&since) {
                return 25.0;
            }
        }
        let (block, at) = (reading.number / ANOMALY_BLOCK, reading.number % ANOMALY_BLOCK);
        let share = self.shares.anomalies * ANOMALY_BLOCK as f64 / ANOMALY_READINGS as f64;
        // A series needs a past before it can deviate from it.
        if block == 0 || !self.chance(Draw::Anomaly, series, block, share) {
            return 0.0;
        }
        let draw = self.draw(Draw::Anomaly, block, series);
        let Some(into) = at.checked_sub(draw % (ANOMALY_BLOCK - ANOMALY_READINGS)).filter(|n| *n < ANOMALY_READINGS)
        else {
            return 0.0;
        };
        match draw >> 32 & 3 {
            0 => 15.0,
            1 => -15.0,
            2 => (into + 1) as f64,
            _ => 10.0 * self.noise(series, reading.number),
        }
    }

    /// Roughly normal: the sum of twelve bytes' worth of dice, mean 0, deviation 1.
    fn noise(&self, series: u64, n: u64) -> f64 {
        let draw = self.draw(Draw::Noise, series, n);
        let sum: u64 = (0..4).map(|part| draw >> (16 * part) & 0xFFFF).sum();
        (sum as f64 / 65_535.0 - 2.0) * 3f64.sqrt()
    }

    /// Slow wandering in -1..1: smooth between a draw every 64 readings.
    fn drift(&self, series: u64, n: u64) -> f64 {
        let (knot, at) = (n / 64, (n % 64) as f64 / 64.0);
        let (from, to) = (self.spread(Draw::Drift, series, knot), self.spread(Draw::Drift, series, knot + 1));
        from + (to - from) * at * at * (3.0 - 2.0 * at)
    }

    fn chance(&self, draw: Draw, a: u64, b: u64, share: f64) -> bool {
        share > 0.0 && self.unit(draw, a, b) < share
    }

    /// Evenly in 0..1.
    fn unit(&self, draw: Draw, a: u64, b: u64) -> f64 {
        (self.draw(draw, a, b) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Evenly in -1..1.
    fn spread(&self, draw: Draw, a: u64, b: u64) -> f64 {
        2.0 * self.unit(draw, a, b) - 1.0
    }

    fn draw(&self, draw: Draw, a: u64, b: u64) -> u64 {
        [draw as u64, a, b].into_iter().fold(mix(self.seed), |state, word| mix(state ^ word))
    }
}

/// Three decimals, as a device would send.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// SplitMix64's step (Steele, Lea, Flood 2014): every bit of the input moves every bit of the output.
fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(shares: Shares) -> Fleet {
        Fleet { seed: 1, sensors: 2, series: 10, origin: 0, step: 1e8, shares, first_anomaly: None }
    }

    #[test]
    fn shares_come_out_as_asked() {
        let shares = Shares { duplicates: 0.05, disorder: 0.1, malformed: 0.02, ..Shares::default() };
        let fleet = fleet(shares);
        let all: Vec<Reading> = (0..20_000).map(|k| fleet.reading(k)).collect();
        let near =
            |count: usize, share: f64| assert!((count as f64 / 20_000.0 - share).abs() < 0.01, "{count} {share}");
        near(all.iter().filter(|r| r.broken.is_some()).count(), 0.02);
        let distinct: std::collections::HashSet<_> = all.iter().map(|r| (r.series, r.number)).collect();
        near(20_000 - distinct.len(), 0.05);
        near(all.windows(11).filter(|w| w[10].time < w[0].time).count(), 0.05);
    }

    #[test]
    fn values_stay_in_range_but_for_the_dirt() {
        let clean = fleet(Shares { spikes: 0.1, anomalies: 0.1, ..Shares::default() });
        let dirty = fleet(Shares { out_of_range: 0.1, ..Shares::default() });
        let inside =
            |fleet: &Fleet| (0..10_000).filter(|k| (0.0..=100.0).contains(&fleet.value(&fleet.reading(*k), 1))).count();
        assert_eq!(inside(&clean), 10_000);
        assert!((8_700..9_300).contains(&inside(&dirty)));
    }

    #[test]
    fn the_first_anomaly_stands_out() {
        let fleet = Fleet { first_anomaly: Some(60_000_000_000), ..fleet(Shares::default()) };
        let at = |second: u64| fleet.value(&fleet.reading(second * 10), 0);
        assert!((at(59) - at(58)).abs() < 1.0);
        assert!(at(60) - at(59) > 1.5);
        assert!(at(74) - at(58) < 1.5);
    }

    #[test]
    fn due_counts_events_until_a_time() {
        let fleet = fleet(Shares::default());
        assert_eq!((fleet.due(0), fleet.due(99_999_999), fleet.due(100_000_000)), (1, 1, 2));
        assert_eq!(fleet.due(-1), 0);
    }
}
