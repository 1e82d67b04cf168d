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
//! assert_eq!(ipc::Decoder::default().decode(section.into())?, batch);
//! # Ok::<(), trackside_core::log::LogError>(())
//! ```

mod template;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{read_dictionary, read_record_batch};
use arrow::ipc::writer::{
    DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, StreamWriter, write_message,
};
use arrow::ipc::{MessageHeader, MetadataVersion, root_as_message};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use template::Template;
use trackside_core::log::LogError;

/// Alignment of every message and buffer, from the start of the section.
pub const ALIGNMENT: usize = 64;

/// Writes the batch into `out`, whose old content goes and whose memory is used again. Whoever writes many keeps an
/// [`Encoder`].
pub fn encode(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), LogError> {
    Encoder::default().encode(batch, out)
}

/// Rows up to which writing the schema anew costs more than copying the rows once more.
const SMALL: usize = 1024;

/// Encodes batches of one topic. It remembers the last schema's messages and fills them in anew.
#[derive(Default)]
pub struct Encoder {
    known: Option<Written>,
    generator: IpcDataGenerator,
    context: IpcWriteContext,
}

/// A schema that was written: its message, and how many dictionaries it speaks of.
struct Written {
    schema: SchemaRef,
    message: Vec<u8>,
    dictionaries: usize,
    template: Option<Template>,
}

impl Encoder {
    /// Writes the batch into `out`, whose old content goes and whose memory is used again.
    pub fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), LogError> {
        out.clear();
        let flat = batch.schema_ref().fields().iter().all(|field| !field.data_type().is_nested());
        let written = if batch.num_rows() <= SMALL && flat { self.small(batch, out) } else { whole(batch, out) };
        written.map_err(|error| {
            LogError::Other(format!("cannot encode a batch of {} rows as Arrow IPC: {error}", batch.num_rows()))
        })
    }

    fn small(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        if let Some(known) = self.known.as_ref().filter(|known| known.schema == *batch.schema_ref())
            && let Some(template) = &known.template
        {
            out.extend_from_slice(&known.message);
            if template.write(batch, out) {
                return Ok(());
            }
            out.clear();
        }
        self.anew(batch, out)
    }

    /// By Arrow's own writer; what it wrote becomes the template.
    fn anew(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let options = options()?;
        let mut tracker = DictionaryTracker::new(false);
        match self.known.as_ref().filter(|known| known.schema == *batch.schema_ref()) {
            Some(known) => {
                out.extend_from_slice(&known.message);
                // Dictionaries are numbered in the schema's order, as its message says.
                (0..known.dictionaries).for_each(|_| _ = tracker.next_dict_id());
            }
            None => {
                let schema = batch.schema();
                let message = self.generator.schema_to_bytes_with_dictionary_tracker(&schema, &mut tracker, &options);
                write_message(&mut *out, message, &options)?;
                let dictionaries = tracker.dict_id().len();
                self.known = Some(Written { schema, message: out.clone(), dictionaries, template: None });
            }
        }
        let behind_schema = out.len();
        let (dictionaries, rows) = self.generator.encode(batch, &mut tracker, &options, &mut self.context)?;
        for message in dictionaries.into_iter().chain([rows]) {
            write_message(&mut *out, message, &options)?;
        }
        out.extend_from_slice(&END);
        if let Some(known) = self.known.as_mut().filter(|known| known.template.is_none() && batch.num_rows() > 0) {
            let mut messages = Messages { rest: Buffer::from(&out[behind_schema..]) };
            let messages = std::iter::from_fn(|| messages.next().transpose()).collect::<Result<Vec<_>, _>>()?;
            known.template = Template::of(&messages);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("known", &self.known.as_ref().map(|known| &known.schema)).finish()
    }
}

fn whole(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let mut writer = StreamWriter::try_new_with_options(out, batch.schema_ref(), options()?)?;
    writer.write(batch)?;
    writer.finish()
}

fn options() -> Result<IpcWriteOptions, ArrowError> {
    IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)
}

/// Decodes sections of one topic. It remembers the last schema: a topic's frames all carry the same, and reading it
/// anew would cost more than all the rest of a small frame. Batches of frames alike share one schema, then.
#[derive(Debug, Default)]
pub struct Decoder {
    known: Mutex<Option<Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    /// The schema's message as it stands in a section.
    message: Buffer,
    schema: SchemaRef,
}

impl Decoder {
    /// The batch of a section, pointing into `section`. The caller has checked the bytes against their checksum: Arrow's
    /// reader validates what it reads, but not every torn header gently.
    pub fn decode(&self, section: Buffer) -> Result<RecordBatch, LogError> {
        self.open(section)?.batch()
    }

    /// The section taken apart but not yet decoded, for whoever wants some of its columns, or one before the others.
    pub fn open(&self, section: Buffer) -> Result<Encoded, LogError> {
        let length = section.len();
        self.take_apart(section).map_err(|error| damaged(length, &error))
    }

    fn take_apart(&self, section: Buffer) -> Result<Encoded, ArrowError> {
        let length = section.len();
        let mut rest = Messages { rest: section };
        let schema = rest.next()?.ok_or_else(|| unfit("it is empty"))?;
        let (schema, mut dictionaries, mut rows) = (self.schema(&schema.head)?, Vec::new(), None);
        while let Some(message) = rest.next()? {
            match root(&message.head)?.header_type() {
                MessageHeader::DictionaryBatch => dictionaries.push(message),
                MessageHeader::RecordBatch if rows.is_none() => rows = Some(message),
                MessageHeader::RecordBatch => return Err(unfit("it holds more than one batch")),
                _ => return Err(unfit("it holds a message that is neither dictionary nor batch")),
            }
        }
        if !rest.rest.is_empty() {
            return Err(unfit("it goes on behind its end"));
        }
        let rows = rows.ok_or_else(|| unfit("it ends before its batch"))?;
        for Message { head, body } in &dictionaries {
            let batch = root(head)?.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
            lies_inside(batch, body.len(), [&DataType::Utf8].into_iter())?;
        }
        let types = schema.fields().iter().map(|field| field.data_type());
        let num_rows = lies_inside(root(&rows.head)?.header_as_record_batch(), rows.body.len(), types)?;
        Ok(Encoded { length, schema, dictionaries, rows, num_rows })
    }

    fn schema(&self, message: &Buffer) -> Result<SchemaRef, ArrowError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|known| known.message.as_slice() == message.as_slice()) {
            return Ok(known.schema.clone());
        }
        let read = root(message)?.header_as_schema().ok_or_else(|| unfit("it does not begin with a schema"))?;
        known_types(read)?;
        let schema: SchemaRef = Arc::new(fb_to_schema(read));
        // Copied: a slice would keep the whole frame, or its segment's map, alive.
        *known = Some(Known { message: Buffer::from(message.as_slice()), schema: schema.clone() });
        Ok(schema)
    }
}

/// A section taken apart: its schema, and messages whose columns are still to be decoded.
#[derive(Debug, Clone)]
pub struct Encoded {
    length: usize,
    schema: SchemaRef,
    dictionaries: Vec<Message>,
    rows: Message,
    num_rows: usize,
}

impl Encoded {
    /// Its columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Its rows.
    pub fn num_rows(&self) -> usize {
        self.num_rows
    }

    /// All columns, pointing into the section.
    pub fn batch(&self) -> Result<RecordBatch, LogError> {
        self.read(None).map_err(|error| damaged(self.length, &error))
    }

    /// One column; a number beyond the last one is an error.
    pub fn column(&self, number: usize) -> Result<ArrayRef, LogError> {
        let read = self.schema.fields().get(number).map(|_| self.read(Some(&[number])));
        let read = read.unwrap_or_else(|| Err(unfit(format!("it has no column {number}"))));
        read.map(|batch| batch.column(0).clone()).map_err(|error| damaged(self.length, &error))
    }

    fn read(&self, columns: Option<&[usize]>) -> Result<RecordBatch, ArrowError> {
        let plain = |number: &usize| !matches!(self.schema.field(*number).data_type(), DataType::Dictionary(_, _));
        let mut dictionaries = HashMap::new();
        if !columns.is_some_and(|columns| columns.iter().all(plain)) {
            for Message { head, body } in &self.dictionaries {
                let message = root(head)?;
                let batch = message.header_as_dictionary_batch().ok_or_else(|| unfit("a dictionary is none"))?;
                read_dictionary(body, batch, &self.schema, &mut dictionaries, &message.version())?;
            }
        }
        let message = root(&self.rows.head)?;
        let batch = message.header_as_record_batch().ok_or_else(|| unfit("a batch is none"))?;
        let (body, version) = (&self.rows.body, message.version());
        read_record_batch(body, batch, self.schema.clone(), &dictionaries, columns, &version)
    }
}

/// One message of a stream: its flatbuffer, and the buffers that it speaks of.
#[derive(Debug, Clone)]
struct Message {
    head: Buffer,
    body: Buffer,
}

/// The messages of a stream up to its end mark.
struct Messages {
    rest: Buffer,
}

impl Messages {
    fn next(&mut self) -> Result<Option<Message>, ArrowError> {
        let Some(([mark, size], _)) = self.rest.as_slice().as_chunks::<4>().0.split_first_chunk::<2>() else {
            return Err(unfit("it has no end mark"));
        };
        if *mark != CONTINUATION {
            return Err(unfit("a message does not begin with its mark"));
        }
        let size = u32::from_le_bytes(*size) as usize;
        self.rest.advance(8);
        if size == 0 {
            return Ok(None);
        }
        let head = self.take(size)?;
        let body = usize::try_from(root(&head)?.bodyLength()).map_err(|_| unfit("a message has a negative length"))?;
        Ok(Some(Message { head, body: self.take(body)? }))
    }

    fn take(&mut self, size: usize) -> Result<Buffer, ArrowError> {
        if size > self.rest.len() {
            return Err(unfit("it is cut short"));
        }
        let taken = self.rest.slice_with_length(0, size);
        self.rest.advance(size);
        Ok(taken)
    }
}

const CONTINUATION: [u8; 4] = [0xFF; 4];
/// The mark, and no length: nothing follows.
const END: [u8; 8] = [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];

fn root(head: &[u8]) -> Result<arrow::ipc::Message<'_>, ArrowError> {
    root_as_message(head).map_err(|error| unfit(format!("a message cannot be read: {error}")))
}

/// Arrow's own reading of a schema panics at what it does not know; sections hold these types, and no others.
fn known_types(schema: arrow::ipc::Schema<'_>) -> Result<(), ArrowError> {
    use arrow::ipc::{Field, Int, Precision, TimeUnit, Type};
    let width = |int: Option<Int<'_>>| int.is_some_and(|int| matches!(int.bitWidth(), 8 | 16 | 32 | 64));
    let known = |field: Field<'_>| {
        let keys = field.dictionary().is_none_or(|dictionary| width(dictionary.indexType()));
        let values = match field.type_type() {
            Type::Bool | Type::Utf8 | Type::Binary => true,
            Type::Int => width(field.type_as_int()),
            Type::FloatingPoint => field.type_as_floating_point().is_some_and(|float| {
                matches!(float.precision(), Precision::HALF | Precision::SINGLE | Precision::DOUBLE)
            }),
            Type::Timestamp => field.type_as_timestamp().is_some_and(|timestamp| {
                let unit = timestamp.unit();
                [TimeUnit::SECOND, TimeUnit::MILLISECOND, TimeUnit::MICROSECOND, TimeUnit::NANOSECOND].contains(&unit)
            }),
            _ => false,
        };
        keys && values && field.name().is_some()
    };
    match schema.fields() {
        Some(fields) if fields.iter().all(known) => Ok(()),
        Some(_) => Err(unfit("it has a column of a type that no topic has")),
        None => Err(unfit("its schema has no columns")),
    }
}

/// Arrow's reading of a batch panics where numbers point out of its body; here they are looked at first. How many rows it
/// has.
fn lies_inside<'a>(
    batch: Option<arrow::ipc::RecordBatch<'_>>,
    body: usize,
    types: impl Iterator<Item = &'a DataType>,
) -> Result<usize, ArrowError> {
    let batch = batch.ok_or_else(|| unfit("a batch is none"))?;
    let rows = usize::try_from(batch.length()).ok().filter(|rows| *rows <= body.saturating_mul(8));
    let rows = rows.ok_or_else(|| unfit("it has a number of rows that cannot be"))?;
    let (mut columns, mut wanted) = (0, 0);
    for kind in types {
        columns += 1;
        wanted += if matches!(kind, DataType::Utf8 | DataType::Binary) { 3 } else { 2 };
    }
    let nodes = batch.nodes().into_iter().flatten();
    let fits = |node: &arrow::ipc::FieldNode| {
        node.length() == batch.length() && (0..=node.length()).contains(&node.null_count())
    };
    let inside = |buffer: &arrow::ipc::Buffer| {
        let (from, length) = (usize::try_from(buffer.offset()).ok()?, usize::try_from(buffer.length()).ok()?);
        from.checked_add(length).filter(|end| *end <= body)
    };
    let buffers = batch.buffers().into_iter().flatten();
    let whole = nodes.clone().count() == columns && nodes.into_iter().all(fits);
    if whole && buffers.clone().count() == wanted && buffers.into_iter().all(|buffer| inside(buffer).is_some()) {
        return Ok(rows);
    }
    Err(unfit("its columns do not lie in it"))
}

fn damaged(length: usize, error: &ArrowError) -> LogError {
    LogError::Damaged(format!(
        "a section of {length} bytes is not an Arrow IPC stream of one batch: {error}; it was not written by this log"
    ))
}

fn unfit(what: impl Into<String>) -> ArrowError {
    ArrowError::IpcError(what.into())
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
            assert_eq!(Decoder::default().decode(Buffer::from(section.as_slice())).unwrap(), part);
            let opened = Decoder::default().open(Buffer::from(section.as_slice())).unwrap();
            assert_eq!((opened.num_rows(), opened.schema()), (part.num_rows(), part.schema_ref()));
            for (number, column) in part.columns().iter().enumerate() {
                assert_eq!(&opened.column(number).unwrap(), column);
            }
            assert!(opened.column(part.num_columns()).is_err());
        }
    }

    #[test]
    fn what_is_remembered_changes_no_byte() {
        let (mut encoder, mut quick, mut plain) = (Encoder::default(), Vec::new(), Vec::new());
        let batch = all_types();
        let other = batch.project(&[1, 3]).unwrap();
        let mut same = |part: &RecordBatch| {
            encoder.encode(part, &mut quick).unwrap();
            plain.clear();
            whole(part, &mut plain).unwrap();
            assert!(quick == plain, "{part:?}");
            encoder.known.as_ref().is_some_and(|known| known.template.is_some())
        };
        for part in [&batch, &batch.slice(1, 2), &other, &batch, &batch, &other.slice(3, 1), &other.slice(0, 0)] {
            assert!(same(part) || part.num_rows() == 0);
        }
        // Without rows there is no template; then every piece of a larger batch, with bits that begin within a byte.
        assert!(!same(&batch.slice(0, 0)));
        let tags = DictionaryArray::<Int32Type>::from_iter((0..40).map(|row| (row % 3 > 0).then_some("pump")));
        let without: DictionaryArray<Int32Type> = vec![None::<&str>; 40].into_iter().collect();
        let large = RecordBatch::try_from_iter_with_nullable([
            ("tag", Arc::new(tags) as ArrayRef, true),
            ("value", Arc::new(Float64Array::from_iter((0..40).map(|row| (row != 9).then_some(f64::from(row))))), true),
            ("ok", Arc::new(BooleanArray::from_iter((0..40).map(|row| (row != 20).then_some(row % 5 == 0)))), true),
            ("text", Arc::new(StringArray::from_iter((0..40).map(|row| (row % 7 > 0).then(|| "x".repeat(row))))), true),
        ])
        .unwrap();
        for from in 0..40 {
            for rows in 1..=40 - from {
                assert!(same(&large.slice(from, rows)));
            }
        }
        let mut columns = large.columns().to_vec();
        columns[0] = Arc::new(without);
        same(&RecordBatch::try_new(large.schema(), columns).unwrap());
        assert!(same(&large));
    }

    #[test]
    fn a_type_that_no_topic_has_is_an_error() {
        use arrow::array::{Date32Array, ListArray};
        use arrow::datatypes::Float64Type;
        let days: ArrayRef = Arc::new(Date32Array::from(vec![1]));
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>([Some([Some(1.0)])]));
        for column in [days, lists] {
            let mut section = Vec::new();
            encode(&RecordBatch::try_from_iter([("x", column)]).unwrap(), &mut section).unwrap();
            let error = Decoder::default().decode(Buffer::from(section)).unwrap_err();
            assert!(error.to_string().contains("a type that no topic has"), "{error}");
        }
    }

    #[test]
    fn what_is_not_one_batch_is_an_error() {
        let mut section = Vec::new();
        encode(&all_types(), &mut section).unwrap();
        let twice = [&section[..], &section[..]].concat();
        for broken in [&b""[..], &section[..section.len() / 2], &section[..100], b"hello, world, how are you?", &twice]
        {
            let error = Decoder::default().decode(Buffer::from(broken)).unwrap_err();
            assert!(matches!(error, LogError::Damaged(_)), "{error}");
        }
    }
}
