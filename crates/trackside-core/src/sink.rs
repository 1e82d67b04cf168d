//! The contract of sinks: where rows leave. Each sink instance serves one partition of one topic.
//!
//! A sink is asked how far it has come; nobody else remembers it. It is given durable rows only.

use crate::error::{ConfigError, Failure};
use crate::position::Position;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::path::Path;

/// Rows of one frame, or of a part of it.
#[derive(Debug, Clone)]
pub struct SinkRows {
    /// The reign that wrote them.
    pub epoch: u32,
    /// Offset of the first row; for dead letters and forecasts, of the frame.
    pub first: u64,
    /// Where the reader stands after them.
    pub end: u64,
    /// Wall clock of the frame, ns since 1970.
    pub ingest_time: i64,
    /// The rows; may be none (the position moves on).
    pub rows: Option<RecordBatch>,
}

/// What a sink is built from, beside its own configuration.
#[derive(Debug)]
pub struct SinkContext<'a> {
    /// Name of its block.
    pub name: &'a str,
    /// Topic that it reads.
    pub topic: &'a str,
    /// Topic in the log where the rows lie: `dead-letter` and `forecasts.x` are read over others.
    pub origin: &'a str,
    /// Its partition.
    pub partition: u32,
    /// The data directory: positions, tables.
    pub data: &'a Path,
    /// Folder of the pipeline file: relative paths start here.
    pub base: &'a Path,
    /// Schema of the rows, where it is known beforehand.
    pub schema: Option<SchemaRef>,
}

/// Sizes of what a sink keeps, for the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct SinkTotals {
    /// Committed rows over the data directory's life.
    pub rows: u64,
    /// Files or requests.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A sink at work on one partition.
pub trait Sink: Send {
    /// How far it had come: the first position that is not committed. None: from the oldest row held.
    fn resume(&mut self) -> Result<Option<Position>, Failure>;

    /// Whether a sink that remembers nothing begins with what comes after its start, not with the oldest row held.
    fn only_new(&self) -> bool {
        false
    }

    /// Takes rows, in order. It may hold them back until a commit is due. After an error nothing was taken.
    fn write(&mut self, rows: &SinkRows) -> Result<(), Failure>;

    /// Commits if it is due by rows, bytes or age; `now` is the wall clock, ns since 1970.
    /// Returns the committed position when it moved.
    fn poll(&mut self, now: i64) -> Result<Option<Position>, Failure>;

    /// Commits all that was taken.
    fn flush(&mut self, now: i64) -> Result<Option<Position>, Failure>;

    /// What it holds.
    fn totals(&self) -> SinkTotals;

    /// Sets the rows aside that [`Sink::write`] or a commit rejected; false when the sink cannot.
    fn skip_rejected(&mut self) -> bool {
        false
    }
}

/// How sinks are built: from the JSON of their block.
pub type BuildSink = fn(serde_json::Value, &SinkContext<'_>) -> Result<Box<dyn Sink>, ConfigError>;
