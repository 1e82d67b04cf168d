//! The wall clock. The engine reads it and logs it with the data; operators and models never do.

use std::time::{SystemTime, UNIX_EPOCH};

/// ns since 1970.
pub(crate) fn now() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
    }
}
