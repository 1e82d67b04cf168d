//! Bugs on purpose: the faults' test build (feature `planted`) breaks a promise of the log, one at a time, to see that
//! the suite notices. Without the feature [`planted`] is a constant `false`, and nothing of this is in the product.

/// A promise that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// The directory of a new segment is not fsynced.
    SkipDirFsync = 1,
    /// A failed fsync is taken for success.
    SwallowEio,
    /// Frames are believed without a look at their checksum.
    AcceptBadCrc,
}

/// The bugs with their names.
pub const BUGS: &[(&str, Bug)] =
    &[("skip-dir-fsync", Bug::SkipDirFsync), ("swallow-eio", Bug::SwallowEio), ("accept-bad-crc", Bug::AcceptBadCrc)];

#[cfg(feature = "planted")]
mod planting {
    use super::Bug;
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    static PLANTED: AtomicU8 = AtomicU8::new(0);

    /// Plants a bug, or with `None` takes it out again; for the whole process.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.store(bug.map_or(0, |bug| bug as u8), Relaxed);
    }

    /// Whether this bug is planted.
    pub(crate) fn planted(bug: Bug) -> bool {
        PLANTED.load(Relaxed) == bug as u8
    }
}

#[cfg(feature = "planted")]
pub use planting::plant;
#[cfg(feature = "planted")]
pub(crate) use planting::planted;

/// Whether this bug is planted: never, in the product.
#[cfg(not(feature = "planted"))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}
