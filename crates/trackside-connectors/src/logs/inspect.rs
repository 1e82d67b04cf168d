//! Looking over the embedded log of a data directory: beside its engine or without one, without a lock and read-only.
//!
//! What a frame says of itself is decoded here; what that means (is its input still there?) is the engine's business.
//! [`set_aside`] and [`restore_epochs`] write, and are for who holds the directory's lock.

use crate::logs::embedded::{FOLDER, head, in_words};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trackside_core::log::{FrameHead, LogError};
use trackside_log::{Options, RealVfs, Store};

pub use trackside_log::{Damage, FORMAT, Flaw, SegmentInfo, Survey, Verified};

/// What is shown of each sound frame: what it says of itself (an error, if that is not understood), its segment, and
/// its place in it.
pub type Each<'e> = dyn FnMut(Result<FrameHead, LogError>, &Path, u64) + 'e;

/// The log below a data directory.
#[derive(Debug)]
pub struct Inspector {
    store: Store,
}

impl Inspector {
    /// Opens nothing yet.
    pub fn new(data: &Path) -> Result<Self, LogError> {
        let store = Store::open(Arc::new(RealVfs), &data.join(FOLDER), Options::default()).map_err(in_words)?;
        Ok(Self { store })
    }

    /// The topics with their partitions.
    pub fn topics(&self) -> Result<Vec<(String, Vec<u32>)>, LogError> {
        self.store.topics().map_err(in_words)
    }

    /// What a partition consists of: quick, however long it is.
    pub fn survey(&self, topic: &str, partition: u32) -> Result<Survey, LogError> {
        self.store.survey(topic, partition).map_err(in_words)
    }

    /// Reads every frame of a partition; `progress` is told the bytes read.
    pub fn verify(
        &self,
        topic: &str,
        partition: u32,
        each: &mut Each<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Verified, LogError> {
        let mut show = |info: &trackside_log::FrameInfo<'_>, path: &Path, at: u64| each(head(info), path, at);
        self.store.verify(topic, partition, &mut show, progress).map_err(in_words)
    }

    /// Copies damaged bytes to `quarantine/` beside their segment; none if no copy could be made.
    pub fn set_aside(&self, topic: &str, partition: u32, damage: &Damage) -> Option<PathBuf> {
        self.store.set_aside(topic, partition, damage)
    }

    /// Writes a damaged or missing list of epochs anew, keeping the broken one; none if it is sound.
    pub fn restore_epochs(&self, topic: &str, partition: u32) -> Result<Option<PathBuf>, LogError> {
        self.store.restore_epochs(topic, partition).map_err(in_words)
    }
}
