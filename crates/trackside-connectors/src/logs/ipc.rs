//! Sections of a frame: one record batch as a complete, uncompressed Arrow IPC stream.
//!
//! Guarantee: a section that starts on a 64-byte boundary has all its buffers on 64-byte boundaries, and decoding it
//! copies none of them: the batch points into the bytes it was decoded from and keeps them alive. Any Arrow library
//! reads a section as it stands, for it carries its own schema and its own small dictionaries.
//!
//! ```
//! use trackside_connectors::logs::ipc;
//!
//! let batch = trackside_core::testing::events(&[(1, "pump", 2.5)]);
//! let mut section = Vec::new();
//! ipc::encode(&batch, &mut section)?;
//! assert_eq!(ipc::decode(section.into())?, batch);
//! # Ok::<(), trackside_core::log::LogError>(())
//! ```

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::MetadataVersion;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use trackside_core::log::LogError;

/// Alignment of every message and buffer, from the start of the section.
pub const ALIGNMENT: usize = 64;

/// Writes the batch into `out`, whose old content goes and whose memory is used again.
pub fn encode(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), LogError> {
    out.clear();
    write(batch, out).map_err(|error| {
        LogError::Other(format!("cannot encode a batch of {} rows as Arrow IPC: {error}", batch.num_rows()))
    })
}

fn write(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)?;
    let mut writer = StreamWriter::try_new_with_options(out, batch.schema_ref(), options)?;
    writer.write(batch)?;
    writer.finish()
}

/// The batch of a section, pointing into `section`. The caller has checked the bytes against their checksum: Arrow's
/// reader validates what it reads, but not every torn header gently.
pub fn decode(section: Bytes) -> Result<RecordBatch, LogError> {
    let length = section.len();
    let mut buffer = Buffer::from(section);
    let mut decoder = StreamDecoder::new();
    let batch = match decoder.decode(&mut buffer) {
        Ok(Some(batch)) => batch,
        Ok(None) => return Err(damaged(length, "it ends before its batch")),
        Err(error) => return Err(damaged(length, error)),
    };
    // What follows must be the end of the stream and nothing else.
    match decoder.decode(&mut buffer).and_then(|more| decoder.finish().map(|()| more)) {
        Ok(None) => Ok(batch),
        Ok(Some(_)) => Err(damaged(length, "it holds more than one batch")),
        Err(error) => Err(damaged(length, error)),
    }
}

fn damaged(length: usize, what: impl std::fmt::Display) -> LogError {
    LogError::Damaged(format!(
        "a section of {length} bytes is not an Arrow IPC stream of one batch: {what}; it was not written by this log"
    ))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, StringArray,
        TimestampNanosecondArray, UInt16Array,
    };
    use arrow::datatypes::Int32Type;
    use std::sync::Arc;

    /// Every type that a topic may hold, with nulls.
    pub(crate) fn all_types() -> RecordBatch {
        let tags: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("b"), Some("a")].into_iter().collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("time", Arc::new(TimestampNanosecondArray::from(vec![4, 1, 2, 3]).with_timezone("UTC"))),
            ("device", Arc::new(tags.clone())),
            ("field", Arc::new(tags)),
            ("value", Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::NAN), Some(-0.0)]))),
            ("count", Arc::new(Int64Array::from(vec![1, 2, 3, i64::MIN]))),
            ("partition", Arc::new(Int32Array::from(vec![0, 0, 0, 1]))),
            ("text", Arc::new(StringArray::from(vec![Some(""), Some("ä"), None, Some("long enough to matter")]))),
            ("ok", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true)]))),
            ("value_quality", Arc::new(UInt16Array::from(vec![0, 1, 2, 66]))),
            ("payload", Arc::new(BinaryArray::from(vec![Some(&b"\xff\x00"[..]), None, Some(b""), Some(b"x")]))),
        ];
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, name != "time")),
        )
        .unwrap()
    }

    /// Asserts that every buffer of the batch lies in `bytes`, on a boundary.
    pub(crate) fn assert_inside(batch: &RecordBatch, bytes: std::ops::Range<*const u8>) {
        fn buffers(data: &arrow::array::ArrayData, out: &mut Vec<Buffer>) {
            out.extend(data.buffers().iter().cloned());
            out.extend(data.nulls().map(|nulls| nulls.buffer().clone()));
            data.child_data().iter().for_each(|child| buffers(child, out));
        }
        let mut all = Vec::new();
        batch.columns().iter().for_each(|column| buffers(&column.to_data(), &mut all));
        assert!(!all.is_empty());
        for buffer in all.iter().filter(|buffer| !buffer.is_empty()) {
            let start = buffer.as_ptr();
            assert!(bytes.contains(&start) && start.wrapping_add(buffer.len()) <= bytes.end, "a buffer was copied");
            assert_eq!(start as usize % ALIGNMENT, 0, "a buffer is not aligned");
        }
    }

    #[test]
    fn all_types_survive_slices_as_well() {
        let batch = all_types();
        let mut section = Vec::new();
        for part in [batch.clone(), batch.slice(1, 2), batch.slice(0, 0), batch.slice(3, 1)] {
            encode(&part, &mut section).unwrap();
            assert_eq!(decode(Bytes::copy_from_slice(&section)).unwrap(), part);
        }
    }

    #[test]
    fn what_is_not_one_batch_is_an_error() {
        let mut section = Vec::new();
        encode(&all_types(), &mut section).unwrap();
        let twice = [&section[..], &section[..]].concat();
        for broken in [&b""[..], &section[..section.len() / 2], &section[..100], b"hello, world, how are you?", &twice]
        {
            let error = decode(Bytes::copy_from_slice(broken)).unwrap_err();
            assert!(matches!(error, LogError::Damaged(_)), "{error}");
        }
    }
}
