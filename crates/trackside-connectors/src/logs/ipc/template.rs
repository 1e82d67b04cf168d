//! A topic's messages as they were written last, to be filled in anew.
//!
//! Batches of one schema differ in a few numbers of their messages' flatbuffers (rows, nulls, places and lengths of buffers)
//! and in the buffers. A small frame's way to the disk is mostly the building of those flatbuffers, with cold caches many
//! times what it takes warm; here they are copied, and the numbers written over. The bytes are those that Arrow's own writer
//! comes to, to the last one: the tests compare.

use super::{ALIGNMENT, CONTINUATION, END, Message, root};
use arrow::array::{Array, AsArray, GenericByteArray, PrimitiveArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, BinaryType, ByteArrayType, DataType, Float64Type, Int32Type, Int64Type, TimeUnit,
    TimestampNanosecondType, UInt16Type, Utf8Type,
};
use std::ops::Range;

/// The messages of one schema: dictionaries in the order of their columns, then the rows.
#[derive(Debug)]
pub(super) struct Template {
    dictionaries: Vec<Head>,
    rows: Head,
}

/// A message's flatbuffer with its prefix, and where its numbers stand in it.
#[derive(Debug)]
struct Head {
    bytes: Vec<u8>,
    body_length: usize,
    length: usize,
    nodes: Range<usize>,
    buffers: Range<usize>,
}

impl Template {
    /// Of the messages that Arrow wrote behind the schema; none where one of them lacks a number, as those of no rows do.
    pub(super) fn of(messages: &[Message]) -> Option<Self> {
        let mut heads = messages.iter().map(Head::of).collect::<Option<Vec<_>>>()?;
        let rows = heads.pop()?;
        Some(Self { dictionaries: heads, rows })
    }

    /// Appends the batch's messages to `out`; false when it is none for this template, and `out` is as it was.
    pub(super) fn write(&self, batch: &RecordBatch, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let written = self.fill(batch, out);
        if written.is_none() {
            out.truncate(start);
        }
        written.is_some()
    }

    fn fill(&self, batch: &RecordBatch, out: &mut Vec<u8>) -> Option<()> {
        let mut dictionaries = self.dictionaries.iter();
        for column in batch.columns() {
            if let Some(tags) = column.as_dictionary_opt::<Int32Type>() {
                let values = tags.values();
                dictionaries.next()?.write(values.len(), out, |body| body.column(&**values))?;
            }
        }
        let columns = |body: &mut Body<'_>| batch.columns().iter().try_for_each(|column| body.column(&**column));
        self.rows.write(batch.num_rows(), out, columns)?;
        out.extend_from_slice(&END);
        dictionaries.next().is_none().then_some(())
    }
}

impl Head {
    fn of(message: &Message) -> Option<Self> {
        use arrow::ipc::{Message as Fields, RecordBatch as Rows};
        let root = root(&message.head).ok()?;
        let dictionary = || root.header_as_dictionary_batch()?.data();
        let rows = root.header_as_record_batch().or_else(dictionary)?;
        let prefix = CONTINUATION.len() + size_of::<u32>();
        let within = |bytes: &[u8]| {
            let from = bytes.as_ptr().addr() - message.head.as_ptr().addr() + prefix;
            from..from + bytes.len()
        };
        // A number that is zero is left out of a flatbuffer, and there is no place to write another.
        let place = |at: usize, field: u16| (field > 0).then(|| prefix + at + usize::from(field));
        let mut bytes = CONTINUATION.to_vec();
        bytes.extend_from_slice(&u32::try_from(message.head.len()).ok()?.to_le_bytes());
        bytes.extend_from_slice(&message.head);
        Some(Self {
            bytes,
            body_length: place(root._tab.loc(), root._tab.vtable().get(Fields::VT_BODYLENGTH))?,
            length: place(rows._tab.loc(), rows._tab.vtable().get(Rows::VT_LENGTH))?,
            nodes: within(rows.nodes()?.bytes()),
            buffers: within(rows.buffers()?.bytes()),
        })
    }

    /// Appends the message of so many rows; `fill` writes its columns.
    fn write(&self, length: usize, out: &mut Vec<u8>, fill: impl FnOnce(&mut Body<'_>) -> Option<()>) -> Option<()> {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let at = |range: &Range<usize>| start + range.start..start + range.end;
        let from = out.len();
        let mut body = Body { nodes: at(&self.nodes), buffers: at(&self.buffers), from, out };
        fill(&mut body)?;
        // Of another shape than the batch that the template was made of: Arrow writes it.
        let whole = body.nodes.is_empty() && body.buffers.is_empty() && length > 0 && body.out.len() > from;
        let body_length = (out.len() - from) as i64;
        out[start + self.length..][..8].copy_from_slice(&(length as i64).to_le_bytes());
        out[start + self.body_length..][..8].copy_from_slice(&body_length.to_le_bytes());
        whole.then_some(())
    }
}

/// A message's body while it grows.
struct Body<'a> {
    out: &'a mut Vec<u8>,
    /// Where it begins.
    from: usize,
    /// Places of the next node and the next buffer in the head.
    nodes: Range<usize>,
    buffers: Range<usize>,
}

impl Body<'_> {
    /// A column's node and buffers; none for a type that no topic has.
    fn column(&mut self, column: &dyn Array) -> Option<()> {
        match column.data_type() {
            DataType::Float64 => self.numbers::<Float64Type>(column.as_primitive_opt()?),
            DataType::Int64 => self.numbers::<Int64Type>(column.as_primitive_opt()?),
            DataType::Int32 => self.numbers::<Int32Type>(column.as_primitive_opt()?),
            DataType::UInt16 => self.numbers::<UInt16Type>(column.as_primitive_opt()?),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                self.numbers::<TimestampNanosecondType>(column.as_primitive_opt()?)
            }
            DataType::Dictionary(_, _) => self.numbers::<Int32Type>(column.as_dictionary_opt::<Int32Type>()?.keys()),
            DataType::Utf8 => self.texts::<Utf8Type>(column.as_bytes_opt()?),
            DataType::Binary => self.texts::<BinaryType>(column.as_bytes_opt()?),
            DataType::Boolean => {
                let truths = column.as_boolean_opt()?;
                self.node(truths.len(), truths.nulls())?;
                self.buffer(&truths.values().sliced())
            }
            _ => None,
        }
    }

    fn numbers<T: ArrowPrimitiveType>(&mut self, column: &PrimitiveArray<T>) -> Option<()> {
        self.node(column.len(), column.nulls())?;
        self.buffer(column.values().inner())
    }

    fn texts<T: ByteArrayType<Offset = i32>>(&mut self, column: &GenericByteArray<T>) -> Option<()> {
        self.node(column.len(), column.nulls())?;
        let (offsets, values) = (column.value_offsets(), column.value_data());
        let (&first, &last) = (offsets.first()?, offsets.last()?);
        if first == 0 {
            self.buffer(column.offsets().inner().inner())?;
        } else {
            let moved: Vec<u8> = offsets.iter().flat_map(|offset| (offset - first).to_le_bytes()).collect();
            self.buffer(&moved)?;
        }
        self.buffer(values.get(first as usize..last as usize)?)
    }

    /// A column's rows and nulls, and the buffer that says which they are: an empty one where there are none.
    fn node(&mut self, rows: usize, nulls: Option<&NullBuffer>) -> Option<()> {
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        self.nodes = self.pair(self.nodes.clone(), rows, nulls.map_or(0, NullBuffer::null_count))?;
        match nulls {
            Some(nulls) => self.buffer(&nulls.inner().sliced()),
            None => self.buffer(&[]),
        }
    }

    fn buffer(&mut self, bytes: &[u8]) -> Option<()> {
        self.buffers = self.pair(self.buffers.clone(), self.out.len() - self.from, bytes.len())?;
        self.out.extend_from_slice(bytes);
        self.out.resize(self.from + (self.out.len() - self.from).next_multiple_of(ALIGNMENT), 0);
        Some(())
    }

    /// Writes two numbers at the beginning of a range; what is left of it.
    fn pair(&mut self, place: Range<usize>, one: usize, two: usize) -> Option<Range<usize>> {
        let (first, second) = self.out.get_mut(place.clone())?.split_first_chunk_mut::<16>()?.0.split_at_mut(8);
        first.copy_from_slice(&(one as i64).to_le_bytes());
        second.copy_from_slice(&(two as i64).to_le_bytes());
        Some(place.start + 16..place.end)
    }
}
