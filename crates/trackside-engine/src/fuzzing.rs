//! For the fuzzers only (`--cfg fuzzing`): ways in to parsers that the engine keeps to itself.

use crate::catalog::snapshots::{self, Snapshot};
use crate::worker::{self, wire};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use trackside_core::log::FileLocation;
use trackside_core::model::{FrameSlice, ModelReply, ModelRequest, TailReply, TailRequest};
use trackside_core::position::Position;

/// What a worker's bytes say, as the answer to an update of so many rows.
pub fn reply(bytes: &[u8], rows: usize, fields: usize, replay: bool) -> Option<ModelReply> {
    let (prefix, rest) = bytes.split_first_chunk::<{ wire::PREFIX }>()?;
    let (header, body) = wire::lengths(prefix)?;
    let (header, rest) = rest.split_at_checked(header)?;
    let header: serde_json::Value = serde_json::from_slice(header).ok()?;
    _ = wire::fault(&header);
    let location = FileLocation { path: Arc::new(PathBuf::new()), at: 0, length: 0, rows_at: 0, rows_length: 0 };
    let frames = vec![FrameSlice { location, base: 10, from: 0, to: rows }];
    let request = ModelRequest { frames, skip: Vec::new(), replay };
    wire::reply(header, rest.get(..body)?, &request, fields).ok()
}

/// What a worker's bytes say, as the answer to a question about the next rows, at most so many.
pub fn tail_reply(bytes: &[u8], max_rows: usize, fields: usize) -> Option<TailReply> {
    let (prefix, rest) = bytes.split_first_chunk::<{ wire::PREFIX }>()?;
    let (header, body) = wire::lengths(prefix)?;
    let (header, rest) = rest.split_at_checked(header)?;
    let header: serde_json::Value = serde_json::from_slice(header).ok()?;
    let (place, model, wait) = (PathBuf::new(), String::new(), Duration::ZERO);
    let request = TailRequest { place, model, offset: 10, max_rows, max_frames: 1, wait };
    wire::tail_reply(header, rest.get(..body)?, &request, fields).ok()
}

/// Whether a question about the next rows is either refused or comes out as it went in.
pub fn tail_request_survives(bytes: &[u8]) -> bool {
    worker::tail::decode(bytes).is_none_or(|request| worker::tail::encode(&request) == bytes)
}

/// The state in a snapshot file's bytes.
pub fn snapshot(bytes: &[u8]) -> Option<Vec<u8>> {
    snapshots::parse(bytes).map(|snapshot| snapshot.state)
}

/// The file of a state at this position.
pub fn snapshot_file(epoch: u32, offset: u64, state: &[u8]) -> Vec<u8> {
    let position = Position { epoch, offset };
    snapshots::encode(&Snapshot { position, state: state.to_vec() }).unwrap_or_default()
}
