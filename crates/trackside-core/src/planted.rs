//! Bugs on purpose: the faults' test build (feature `planted`) breaks a promise, one at a time, to see that the suite
//! notices. Without the feature [`planted`] is a constant `false`, and nothing of this is in the product. Those of the
//! log's own promises are in `trackside_log::planted`.

/// A promise that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// Sources are answered before their events are durable.
    AckBeforeFsync = 1,
    /// Retention does not ask how far readers have come.
    TrimBeforeReader,
    /// A table's files of a commit that did not happen stay.
    IgnorePosition,
    /// Events that find no room are dropped and acknowledged.
    DropWhenFull,
    /// After a restart cleaning sends its newest batch once more.
    SendTwice,
}

/// The bugs with their names.
pub const BUGS: &[(&str, Bug)] = &[
    ("ack-before-fsync", Bug::AckBeforeFsync),
    ("trim-before-reader", Bug::TrimBeforeReader),
    ("ignore-position", Bug::IgnorePosition),
    ("drop-when-full", Bug::DropWhenFull),
    ("send-twice", Bug::SendTwice),
];

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
    pub fn planted(bug: Bug) -> bool {
        PLANTED.load(Relaxed) == bug as u8
    }
}

#[cfg(feature = "planted")]
pub use planting::{plant, planted};

/// Whether this bug is planted: never, in the product.
#[cfg(not(feature = "planted"))]
pub const fn planted(_: Bug) -> bool {
    false
}
