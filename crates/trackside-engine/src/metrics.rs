//! What each stage measures of itself: rows, errors, latency, state in words. Cheap to write, read by anyone.

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Buckets of the latency histogram: powers of 2^(1/4) from 1 µs, up to about 18 minutes.
const BUCKETS: usize = 120;

/// Latencies since the start, in buckets that are 19 % wide.
#[derive(Debug)]
pub struct Latency {
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl Latency {
    /// Notes one, in ns.
    pub fn note(&self, nanos: i64) {
        let micros = (nanos.max(0) as f64 / 1e3).max(1.0);
        let bucket = ((micros.log2() * 4.0) as usize).min(BUCKETS - 1);
        self.buckets[bucket].fetch_add(1, Relaxed);
    }

    /// The quantile in ms; none before the first.
    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let target = (total as f64 * q).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = counts.iter().position(|count| {
            seen += count;
            seen >= target
        })?;
        Some(2f64.powf((bucket as f64 + 0.5) / 4.0) / 1e3)
    }
}

/// How a stage is doing, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// Not begun.
    #[default]
    Starting,
    /// At work.
    Running,
    /// Nothing to do.
    Waiting,
    /// Waiting before the next try.
    BackingOff,
    /// Slowed by a bound.
    Paused,
    /// Ended by an error; needs a human.
    Stopped,
    /// Came to its end.
    Finished,
    /// Run by another process on the same log.
    Elsewhere,
}

/// The measures of one stage (a source, cleaning, a model, a sink).
#[derive(Debug, Default)]
pub struct Meter {
    /// Rows it has passed on since the start of this process.
    pub rows: AtomicU64,
    /// Failures.
    pub errors: AtomicU64,
    /// Rows turned away.
    pub refused: AtomicU64,
    /// Rows that wait for it.
    pub lag: AtomicU64,
    /// From the arrival of the event to the stage's append.
    pub latency: Latency,
    state: Mutex<(StageState, Option<String>)>,
    rate: Mutex<Option<RateSample>>,
}

#[derive(Debug, Clone, Copy)]
struct RateSample {
    at: Instant,
    rows: u64,
    rate: f64,
}

impl Meter {
    /// A shared meter.
    pub fn shared() -> Arc<Self> {
        Arc::default()
    }

    /// Says how it is doing. The detail of an error stays until there is a new one or work goes on.
    pub fn state(&self, state: StageState, detail: Option<String>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = (state, detail);
    }

    /// How it is doing.
    pub fn read_state(&self) -> (StageState, Option<String>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Rows a second, over about the last two seconds between calls.
    pub fn rate(&self) -> f64 {
        let now = Instant::now();
        let rows = self.rows.load(Relaxed);
        let mut sample = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let old = *sample.get_or_insert(RateSample { at: now, rows, rate: 0.0 });
        let seconds = now.duration_since(old.at).as_secs_f64();
        if seconds < 0.5 {
            return old.rate;
        }
        let rate = (rows - old.rows) as f64 / seconds;
        *sample = Some(RateSample { at: now, rows, rate });
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket() {
        let latency = Latency::default();
        assert_eq!(latency.quantile_ms(0.5), None);
        (1..=100).for_each(|ms| latency.note(ms * 1_000_000));
        let p50 = latency.quantile_ms(0.5).unwrap();
        assert!((40.0..60.0).contains(&p50), "{p50}");
    }
}
