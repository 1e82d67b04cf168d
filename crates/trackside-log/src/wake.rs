//! Waking a reader in this or another process without polling: a futex in the control page.
//!
//! The writer pays for a system call only when somebody waits. Both sides of the race:
//!
//! ```text
//!   writer                               waiter
//!   publish the new end                  read `sequence`
//!   fence                                waiting = 1, fence
//!   waiting was 1? then waiting = 0,     the end is far enough? then done
//!     sequence += 1, wake all            sleep while `sequence` is unchanged
//! ```
//!
//! Whoever fences second sees the other's store, so the waiter sees the new end, or the writer sees `waiting`. A waiter
//! that was killed leaves one needless wake-up behind, no more. Elsewhere than on Linux, and on a page that may only be
//! read, the waiter looks every [`POLL`].
//!
//! A guest ([`Waiter::Guest`]) may only read the page, and somebody who may write it sets `waiting` for him ([`Wake::arm`])
//! before the guest begins to wait: the next wake-up is then his, for the writer moves the end before it wakes.

use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::{Duration, Instant};

/// How often a waiter looks that cannot be woken.
pub(crate) const POLL: Duration = Duration::from_micros(500);

/// The longest single sleep: far below what overflows the kernel's time, and a bound on any wake-up that went missing.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// How somebody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiter {
    /// It may write the page and asks to be woken.
    Own,
    /// Another asked for it.
    Guest,
    /// Nobody can ask: it looks now and then.
    Onlooker,
}

/// The two words of a wake-up, as they lie in the control page.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Wake {
    sequence: AtomicU32,
    waiting: AtomicU32,
}

impl Wake {
    /// Wakes all who wait. To be called after the store that they wait for.
    pub(crate) fn notify(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) != 0 {
            self.waiting.store(0, Ordering::SeqCst);
            self.sequence.fetch_add(1, Ordering::SeqCst);
            wake_all(&self.sequence);
        }
    }

    /// Asks for the next wake-up in another's name.
    pub(crate) fn arm(&self) {
        self.waiting.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Waits until `ready` or until `timeout` has passed; returns what `ready` said last.
    pub(crate) fn wait(&self, waiter: Waiter, timeout: Duration, ready: impl Fn() -> bool) -> bool {
        let start = Instant::now();
        loop {
            let seen = self.sequence.load(Ordering::SeqCst);
            if waiter == Waiter::Own {
                self.arm();
            }
            if ready() {
                return true;
            }
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                return false;
            }
            match waiter {
                Waiter::Own | Waiter::Guest => sleep(&self.sequence, seen, left.min(LONGEST_SLEEP)),
                Waiter::Onlooker => std::thread::sleep(left.min(POLL)),
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn sleep(word: &AtomicU32, seen: u32, timeout: Duration) {
    // Seconds are at most those of LONGEST_SLEEP, and nanoseconds below 10⁹: both fit.
    let timeout = libc::timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos() as _ };
    // SAFETY: the word is a live, aligned u32 and the time outlives the call. The kernel only compares the word; a
    // wrong, early or interrupted return is harmless, because the caller looks again. No PRIVATE flag: the word may be
    // in a page that is shared with another process.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, seen, &raw const timeout, 0usize, 0u32) };
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn wake_all(word: &AtomicU32) {
    // SAFETY: the word is a live, aligned u32; the kernel uses only its address.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX, 0usize, 0usize, 0u32) };
}

#[cfg(not(target_os = "linux"))]
fn sleep(_word: &AtomicU32, _seen: u32, timeout: Duration) {
    std::thread::sleep(timeout.min(POLL));
}

#[cfg(not(target_os = "linux"))]
fn wake_all(_word: &AtomicU32) {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn no_wake_up_is_lost_between_two_threads() {
        let shared = Arc::new((Wake::default(), Wake::default(), AtomicU64::new(0), AtomicU64::new(0)));
        let other = Arc::clone(&shared);
        let echo = std::thread::spawn(move || {
            for round in 1..=20_000 {
                assert!(other.0.wait(Waiter::Own, LONG, || other.2.load(Ordering::Acquire) >= round));
                other.3.store(round, Ordering::Release);
                other.1.notify();
            }
        });
        let start = Instant::now();
        for round in 1..=20_000 {
            shared.2.store(round, Ordering::Release);
            shared.0.notify();
            assert!(shared.1.wait(Waiter::Own, LONG, || shared.3.load(Ordering::Acquire) >= round));
        }
        echo.join().unwrap();
        // One lost wake-up would have cost a whole LONGEST_SLEEP.
        assert!(start.elapsed() < LONGEST_SLEEP, "{:?}", start.elapsed());
    }

    #[test]
    fn a_wait_ends_in_time_and_a_read_only_waiter_sees_the_end() {
        let wake = Wake::default();
        for waiter in [Waiter::Own, Waiter::Guest, Waiter::Onlooker] {
            assert!(!wake.wait(waiter, Duration::from_millis(5), || false));
            assert!(wake.wait(waiter, Duration::ZERO, || true));
        }
    }

    #[test]
    fn a_guest_is_woken_once_for_each_time_that_another_asked() {
        let shared = Arc::new((Wake::default(), AtomicU64::new(0)));
        let start = Instant::now();
        for round in 1..=2_000 {
            shared.0.arm();
            let guest = Arc::clone(&shared);
            let waits = move || guest.0.wait(Waiter::Guest, LONG, || guest.1.load(Ordering::Acquire) >= round);
            let waiting = std::thread::spawn(waits);
            if round % 2 == 0 {
                std::thread::yield_now();
            }
            shared.1.store(round, Ordering::Release);
            shared.0.notify();
            assert!(waiting.join().unwrap());
        }
        assert!(start.elapsed() < LONGEST_SLEEP, "{:?}", start.elapsed());
    }
}
