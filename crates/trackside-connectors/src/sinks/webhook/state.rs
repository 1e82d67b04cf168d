//! How far a webhook has come, and which request it is about to make.
//!
//! Guarantee: what a request will cover is on disk before it is sent. After a crash the same request, with the same rows
//! and the same key, is made again: whoever gets it can tell that it is the same one.

use crate::sinks::files::Files;
use serde::{Deserialize, Serialize};
use std::path::Path;
use trackside_core::error::Failure;
use trackside_core::position::Position;

const VERSION: u32 = 1;

/// What is remembered of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Format of this file.
    pub version: u32,
    /// First position that is not delivered.
    pub position: Option<Position>,
    /// End of the rows that may have been sent and are not known to have arrived.
    pub sending: Option<u64>,
    /// Rows delivered.
    pub rows: u64,
    /// Requests that delivered them.
    pub requests: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows that the receiver refused and that were set aside.
    pub rejected: u64,
}

impl State {
    /// Reads it; an empty one if there is none yet.
    pub fn load(files: &Files, path: &Path) -> Result<Self, Failure> {
        let Some(bytes) = files.read(path)? else { return Ok(Self { version: VERSION, ..Self::default() }) };
        let state: Self = serde_json::from_slice(&bytes).map_err(|error| {
            Failure::stop(format!(
                "`{}` is damaged ({error}); remove it to send everything again that the log still holds",
                path.display()
            ))
        })?;
        if state.version > VERSION {
            return Err(Failure::stop(format!(
                "`{}` was written by a newer Trackside (format {}, this one reads up to {VERSION}); use that one",
                path.display(),
                state.version
            )));
        }
        Ok(state)
    }

    /// Makes this what is remembered.
    pub fn store(&self, files: &Files, path: &Path) -> Result<(), Failure> {
        let text = serde_json::to_vec(self).map_err(|error| Failure::stop(format!("a webhook's state: {error}")))?;
        files.replace(path, &text)
    }
}
