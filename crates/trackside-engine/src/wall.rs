//! The wall clock. The engine reads it and logs it with the data; operators and models never do.

use std::time::{SystemTime, UNIX_EPOCH};

/// ns since 1970.
pub(crate) fn now() -> i64 {
    #[cfg(feature = "testing")]
    if let Some(now) = SET.get() {
        return now;
    }
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
    }
}

#[cfg(feature = "testing")]
thread_local! {
    static SET: std::cell::Cell<Option<i64>> = const { std::cell::Cell::new(None) };
}

/// Sets the clock of this thread, or with `None` lets it go again: for tests that want an hour to pass, or to be undone.
#[cfg(feature = "testing")]
pub(crate) fn set(now: Option<i64>) {
    SET.set(now);
}
