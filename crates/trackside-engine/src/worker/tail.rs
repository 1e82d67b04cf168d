//! The question that a worker is asked when there is nothing to ask about: wait at the end of the partition, and score
//! what comes next.
//!
//! A row then wakes the worker itself, and not the engine that would tell the worker. Which rows make a batch is decided by
//! the same code in both processes ([`wait`] here, and the engine when the answer is there), so the worker need only say how
//! far it went. Numbers are little-endian:
//!
//! ```text
//! u64 offset   u64 most rows   u32 most frames   u32 longest wait in ms   u32 name length   u32 path length   name   path
//! ```

use crate::run::model::BUDGET;
use crate::run::model::batch::{Batch, sent_back};
use arrow::buffer::Buffer;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use trackside_core::log::{End, LogError, LogReader};
use trackside_core::model::TailRequest;

/// The request as bytes.
pub fn encode(request: &TailRequest) -> Vec<u8> {
    let (name, path) = (request.model.as_bytes(), request.place.as_os_str().as_bytes());
    let mut out = Vec::with_capacity(32 + name.len() + path.len());
    for number in [request.offset, request.max_rows as u64] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let frames = u32::try_from(request.max_frames).unwrap_or(u32::MAX);
    let wait = u32::try_from(request.wait.as_millis()).unwrap_or(u32::MAX);
    for number in [frames, wait, name.len() as u32, path.len() as u32] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(name);
    out.extend_from_slice(path);
    out
}

/// Reads what [`encode`] wrote; none when it is something else.
pub fn decode(bytes: &[u8]) -> Option<TailRequest> {
    let (head, rest) = bytes.split_first_chunk::<32>()?;
    let u64_at = |at: usize| head.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let u32_at = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let (name, path) = rest.split_at_checked(u32_at(24)? as usize)?;
    (path.len() == u32_at(28)? as usize).then_some(())?;
    Some(TailRequest {
        place: Path::new(OsStr::from_bytes(path)).into(),
        model: std::str::from_utf8(name).ok()?.to_owned(),
        offset: u64_at(0)?,
        max_rows: usize::try_from(u64_at(8)?).ok()?,
        max_frames: u32_at(16)? as usize,
        wait: Duration::from_millis(u32_at(20)?.into()),
    })
}

/// What came next.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Offset after it; the request's own when nothing came.
    pub to: u64,
    /// Its rows, a run of each frame.
    pub runs: Vec<Run>,
}

/// Rows `from..to` of a frame.
#[derive(Debug, Clone)]
pub struct Run {
    /// Offset of the frame's first row.
    pub base: u64,
    /// The section that holds the frame's rows, its checksum verified.
    pub section: Buffer,
    /// First row taken.
    pub from: usize,
    /// First row not taken.
    pub to: usize,
}

/// Waits for the rows that the request asks for. `reader` is one of its place.
pub fn wait(reader: &mut dyn LogReader, request: &TailRequest) -> Result<Found, LogError> {
    let nothing = Found { to: request.offset, runs: Vec::new() };
    if !reader.wait(request.offset, End::Published, request.wait) {
        return Ok(nothing);
    }
    let frames = reader.read(request.offset, BUDGET, End::Published)?;
    let frames: Vec<_> = frames.into_iter().map(|frame| Arc::new(sent_back(frame, &request.model))).collect();
    let batch = Batch::gather(&frames, request.offset, request.max_rows, request.max_frames, u64::MAX)?;
    Ok(batch.map_or(nothing, |batch| Found { to: batch.range.to, runs: batch.runs() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_is_what_is_read_and_no_cut_of_it_is() {
        let request = TailRequest {
            place: "/data/log/clean/0/ü".into(),
            model: "anomaly".into(),
            offset: 1 << 40,
            max_rows: 4096,
            max_frames: u32::MAX as usize,
            wait: Duration::from_millis(100),
        };
        let bytes = encode(&request);
        assert_eq!(decode(&bytes), Some(request));
        assert!((0..bytes.len()).all(|end| decode(&bytes[..end]).is_none()));
        assert_eq!(decode(&[&bytes[..], b"x"].concat()), None);
        assert_eq!(decode(&[0xFF; 64]), None);
    }
}
