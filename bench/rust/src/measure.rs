//! Clocks: CPU-seconds for throughput, since a neighbour on the core takes wall time but not these, and the monotonic
//! clock, which all processes share, for latencies.

use rustix::time::{ClockId, clock_gettime};

/// CPU-seconds (user and system) that this process has taken so far.
pub(crate) fn cpu_seconds() -> f64 {
    nanos(ClockId::ProcessCPUTime) as f64 / 1e9
}

/// CLOCK_MONOTONIC in ns; Python reads the same one as `time.monotonic_ns()`.
pub(crate) fn monotonic_ns() -> i64 {
    nanos(ClockId::Monotonic)
}

fn nanos(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// CPU-seconds of a call, and its answer.
pub(crate) fn timed<T>(call: impl FnOnce() -> T) -> (f64, T) {
    let before = cpu_seconds();
    let answer = call();
    (cpu_seconds() - before, answer)
}
