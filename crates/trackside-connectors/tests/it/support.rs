//! Small batches and the context that sinks are built in.

use arrow::array::RecordBatch;
use std::path::Path;
use trackside_core::sink::{SinkContext, SinkRows};
use trackside_core::testing::events;

/// Events of one device at these times; each value is its time in seconds.
pub(crate) fn batch(times: &[i64]) -> RecordBatch {
    events(&times.iter().map(|time| (time * 1_000_000_000, "pump", *time as f64)).collect::<Vec<_>>())
}

/// Rows from this offset on.
pub(crate) fn rows(epoch: u32, first: u64, batch: RecordBatch) -> SinkRows {
    SinkRows { epoch, first, end: first + batch.num_rows().max(1) as u64, ingest_time: 0, rows: Some(batch) }
}

/// A context in a data directory.
pub(crate) fn context<'a>(data: &'a Path, topic: &'a str, origin: &'a str) -> SinkContext<'a> {
    SinkContext { name: "table", topic, origin, partition: 0, data, base: data, schema: None }
}
