//! The decoders' target: events are written value by value straight into columns.
//!
//! A decoder sets what it finds, in any order, and then finishes the row, which fills the rest with nulls, or rolls it
//! back, which leaves no trace. Setting a value twice keeps the last. Nothing is allocated for an event.

use crate::schema::{FieldType, Layout};
use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::Int32Type;
use hashbrown::HashTable;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Builds batches of one layout.
#[derive(Debug)]
pub struct EventBuilder {
    layout: Arc<Layout>,
    rows: usize,
    time: Vec<i64>,
    tags: Vec<TagColumn>,
    fields: Vec<FieldColumn>,
    event_id: Option<TextColumn>,
    extra: Option<TextColumn>,
}

impl EventBuilder {
    /// An empty builder.
    pub fn new(layout: Arc<Layout>) -> Self {
        let tags = layout.tags().iter().map(|_| TagColumn::default()).collect();
        let fields = layout.config.fields.values().map(|kind| FieldColumn::new(*kind)).collect();
        let event_id = layout.event_id_column().map(|_| TextColumn::default());
        let extra = layout.extra_column().map(|_| TextColumn::default());
        Self { layout, rows: 0, time: Vec::new(), tags, fields, event_id, extra }
    }

    /// The layout of the batches.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Finished rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether no row is finished.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The open row's time, ns since 1970.
    pub fn time(&mut self, nanos: i64) {
        self.time.truncate(self.rows);
        self.time.push(nanos);
    }

    /// The open row's tag number `tag`.
    pub fn tag(&mut self, tag: usize, text: &str) {
        self.tags[tag].set(self.rows, text);
    }

    /// The open row's float field number `field`. A type that does not fit is a decoder's mistake and sets nothing.
    pub fn float(&mut self, field: usize, value: f64) {
        if let FieldColumn::Float(values, nulls) = &mut self.fields[field] {
            set(values, nulls, self.rows, value);
        }
    }

    /// The open row's integer field number `field`.
    pub fn integer(&mut self, field: usize, value: i64) {
        if let FieldColumn::Integer(values, nulls) = &mut self.fields[field] {
            set(values, nulls, self.rows, value);
        }
    }

    /// The open row's boolean field number `field`.
    pub fn boolean(&mut self, field: usize, value: bool) {
        if let FieldColumn::Boolean(values, nulls) = &mut self.fields[field] {
            set(values, nulls, self.rows, value);
        }
    }

    /// The open row's text field number `field`.
    pub fn string(&mut self, field: usize, value: &str) {
        if let FieldColumn::Text(column) = &mut self.fields[field] {
            column.set(self.rows, value);
        }
    }

    /// The open row's event id, where the layout keeps one.
    pub fn event_id(&mut self, id: &str) {
        if let Some(column) = &mut self.event_id {
            column.set(self.rows, id);
        }
    }

    /// The open row's unknown keys as a JSON object, where the layout keeps them.
    pub fn extra(&mut self, json: &str) {
        if let Some(column) = &mut self.extra {
            column.set(self.rows, json);
        }
    }

    /// Whether the open row has a time.
    pub fn has_time(&self) -> bool {
        self.time.len() > self.rows
    }

    /// Whether the open row has at least one field: an event without any says nothing.
    pub fn has_field(&self) -> bool {
        self.fields.iter().any(|column| column.len() > self.rows)
    }

    /// Ends the open row. A missing time becomes `arrival`; what else is missing becomes null.
    pub fn finish_row(&mut self, arrival: i64) {
        if !self.has_time() {
            self.time.push(arrival);
        }
        let rows = self.rows + 1;
        self.tags.iter_mut().for_each(|column| column.fill(rows));
        self.fields.iter_mut().for_each(|column| column.fill(rows));
        self.event_id.iter_mut().chain(&mut self.extra).for_each(|column| column.fill(rows));
        self.rows = rows;
    }

    /// Takes back what was set of the open row.
    pub fn rollback(&mut self) {
        let rows = self.rows;
        self.time.truncate(rows);
        self.tags.iter_mut().for_each(|column| truncate(&mut column.keys, &mut column.nulls, rows));
        self.fields.iter_mut().for_each(|column| column.truncate(rows));
        self.event_id.iter_mut().chain(&mut self.extra).for_each(|column| column.truncate(rows));
    }

    /// The finished rows as a batch; the builder is empty again, with room for about as many rows.
    pub fn finish(&mut self) -> RecordBatch {
        self.rollback();
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(TimestampNanosecondArray::from(taken(&mut self.time)).with_timezone("UTC"))];
        columns.extend(self.tags.iter_mut().map(TagColumn::finish));
        columns.extend(self.fields.iter_mut().map(FieldColumn::finish));
        columns.extend(self.event_id.iter_mut().chain(&mut self.extra).map(TextColumn::finish));
        self.rows = 0;
        // Every column was made for this schema and filled to the same length by `finish_row`.
        RecordBatch::try_new(self.layout.schema.clone(), columns).expect("columns fit the layout")
    }
}

/// Which rows are null; empty as long as none is, which is the usual case and costs nothing.
#[derive(Debug, Default)]
struct Nulls(Vec<bool>);

impl Nulls {
    fn set(&mut self, row: usize, valid: bool) {
        if valid && self.0.is_empty() {
            return;
        }
        self.0.resize(row, true);
        self.0.push(valid);
    }

    fn finish(&mut self, rows: usize) -> Option<NullBuffer> {
        let mut valid = std::mem::take(&mut self.0);
        (!valid.is_empty()).then(|| {
            valid.resize(rows, true);
            NullBuffer::from(valid)
        })
    }
}

/// What was gathered; in its place comes as much room, so that the next batch does not grow to it step by step.
fn taken<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
}

#[inline]
fn set<T>(values: &mut Vec<T>, nulls: &mut Nulls, row: usize, value: T) {
    truncate(values, nulls, row);
    values.push(value);
    nulls.set(row, true);
}

fn truncate<T>(values: &mut Vec<T>, nulls: &mut Nulls, rows: usize) {
    values.truncate(rows);
    nulls.0.truncate(rows);
}

fn fill<T: Default>(values: &mut Vec<T>, nulls: &mut Nulls, rows: usize) {
    if values.len() < rows {
        values.push(T::default());
        nulls.set(rows - 1, false);
    }
}

#[derive(Debug)]
enum FieldColumn {
    Float(Vec<f64>, Nulls),
    Integer(Vec<i64>, Nulls),
    Boolean(Vec<bool>, Nulls),
    Text(TextColumn),
}

impl FieldColumn {
    fn new(kind: FieldType) -> Self {
        match kind {
            FieldType::Float => Self::Float(Vec::new(), Nulls::default()),
            FieldType::Integer => Self::Integer(Vec::new(), Nulls::default()),
            FieldType::Boolean => Self::Boolean(Vec::new(), Nulls::default()),
            FieldType::String => Self::Text(TextColumn::default()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Float(values, _) => values.len(),
            Self::Integer(values, _) => values.len(),
            Self::Boolean(values, _) => values.len(),
            Self::Text(column) => column.ends.len(),
        }
    }

    fn fill(&mut self, rows: usize) {
        match self {
            Self::Float(values, nulls) => fill(values, nulls, rows),
            Self::Integer(values, nulls) => fill(values, nulls, rows),
            Self::Boolean(values, nulls) => fill(values, nulls, rows),
            Self::Text(column) => column.fill(rows),
        }
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            Self::Float(values, nulls) => truncate(values, nulls, rows),
            Self::Integer(values, nulls) => truncate(values, nulls, rows),
            Self::Boolean(values, nulls) => truncate(values, nulls, rows),
            Self::Text(column) => column.truncate(rows),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        let rows = self.len();
        match self {
            Self::Float(values, nulls) => Arc::new(Float64Array::new(taken(values).into(), nulls.finish(rows))),
            Self::Integer(values, nulls) => Arc::new(Int64Array::new(taken(values).into(), nulls.finish(rows))),
            Self::Boolean(values, nulls) => Arc::new(BooleanArray::new(taken(values).into(), nulls.finish(rows))),
            Self::Text(column) => column.finish(),
        }
    }
}

#[derive(Debug, Default)]
struct TextColumn {
    ends: Vec<i32>,
    bytes: Vec<u8>,
    nulls: Nulls,
}

impl TextColumn {
    fn set(&mut self, row: usize, text: &str) {
        self.truncate(row);
        self.bytes.extend_from_slice(text.as_bytes());
        self.ends.push(self.bytes.len() as i32);
        self.nulls.set(row, true);
    }

    fn fill(&mut self, rows: usize) {
        if self.ends.len() < rows {
            self.ends.push(self.bytes.len() as i32);
            self.nulls.set(rows - 1, false);
        }
    }

    fn get(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.bytes[start..self.ends[row] as usize]
    }

    fn truncate(&mut self, rows: usize) {
        if self.ends.len() > rows {
            truncate(&mut self.ends, &mut self.nulls, rows);
            self.bytes.truncate(self.ends.last().map_or(0, |end| *end as usize));
        }
    }

    fn finish(&mut self) -> ArrayRef {
        let rows = self.ends.len();
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        offsets.append(&mut self.ends);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let bytes = Buffer::from_vec(taken(&mut self.bytes));
        // SAFETY-free route: `new` checks UTF-8 again, at memory speed; the decoders' own check is not trusted here.
        Arc::new(StringArray::new(offsets, bytes, self.nulls.finish(rows)))
    }
}

/// Texts by number; the numbers are local to the batch.
#[derive(Debug, Default)]
struct TagColumn {
    keys: Vec<i32>,
    nulls: Nulls,
    table: HashTable<i32>,
    texts: TextColumn,
    /// By key, the text's code.
    codes: Vec<Code>,
}

/// Stands for a text in the look-up. A short one is told by it alone; long ones are compared as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Code(u64, u64);

impl Code {
    /// In the highest byte of the second word stands a short text's length; this stands there for a long one.
    const LONG: u64 = 0xFF << 56;

    #[inline]
    fn of(text: &[u8]) -> Self {
        let length = (text.len() as u64) << 56;
        // The first and the last bytes overlap; with the length that is no ambiguity.
        match (text.len(), text.first_chunk::<8>(), text.last_chunk::<8>()) {
            (8..=15, Some(first), Some(last)) => {
                let rest = u64::from_le_bytes(*last).checked_shr(8 * (16 - text.len() as u32)).unwrap_or(0);
                Self(u64::from_le_bytes(*first), rest | length)
            }
            (0..8, ..) => match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
                (Some(first), Some(last)) => {
                    Self(u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32, length)
                }
                _ => Self(text.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), length),
            },
            _ => Self(xxh3_64(text), Self::LONG),
        }
    }

    #[inline]
    fn hash(self) -> u64 {
        let mixed = u128::from(self.0 ^ 0x9E37_79B9_7F4A_7C15) * u128::from(self.1 ^ 0xD6E8_FEB8_6659_FD93);
        mixed as u64 ^ (mixed >> 64) as u64
    }
}

impl TagColumn {
    #[inline]
    fn set(&mut self, row: usize, text: &str) {
        let code = Code::of(text.as_bytes());
        let (codes, texts) = (&self.codes, &self.texts);
        let same = |key: &i32| {
            codes[*key as usize] == code && (code.1 != Code::LONG || texts.get(*key as usize) == text.as_bytes())
        };
        let key = match self.table.find(code.hash(), same) {
            Some(key) => *key,
            None => self.add(code, text),
        };
        set(&mut self.keys, &mut self.nulls, row, key);
    }

    fn add(&mut self, code: Code, text: &str) -> i32 {
        let key = self.texts.ends.len() as i32;
        self.texts.set(key as usize, text);
        self.codes.push(code);
        let codes = &self.codes;
        self.table.insert_unique(code.hash(), key, |key| codes[*key as usize].hash());
        key
    }

    fn fill(&mut self, rows: usize) {
        fill(&mut self.keys, &mut self.nulls, rows);
    }

    fn finish(&mut self) -> ArrayRef {
        let rows = self.keys.len();
        let keys =
            arrow::array::PrimitiveArray::<Int32Type>::new(taken(&mut self.keys).into(), self.nulls.finish(rows));
        self.table.clear();
        self.codes.clear();
        // Every key was given out for a text in the same column, so they are in range.
        Arc::new(DictionaryArray::new(keys, self.texts.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{row_json, tag};
    use serde_json::json;

    fn layout() -> Arc<Layout> {
        let config = json!({"series": ["device"], "fields": {"value": "float", "unit": "string", "n": "integer", "ok": "boolean"}});
        Layout::new(serde_json::from_value(config).unwrap()).unwrap()
    }

    #[test]
    fn texts_of_every_length_are_told_apart() {
        let mut builder = EventBuilder::new(layout());
        let texts: Vec<String> = (0..40)
            .flat_map(|length| {
                let other = |at: usize| (0..length).map(|i| if i == at { 'b' } else { 'a' }).collect::<String>();
                (0..=length).map(other).collect::<Vec<_>>()
            })
            .collect();
        for text in texts.iter().chain(&texts) {
            builder.tag(0, text);
            builder.finish_row(0);
        }
        let batch = builder.finish();
        let (column, values) = tag(&batch, "device").unwrap();
        assert_eq!(values.iter().count(), texts.len());
        let read = (0..batch.num_rows()).map(|row| crate::batch::tag_value(column, values, row).unwrap());
        assert!(read.eq(texts.iter().chain(&texts)));
    }

    #[test]
    fn rows_in_any_order_with_gaps_and_rollbacks() {
        let mut builder = EventBuilder::new(layout());
        builder.string(1, "mm");
        builder.tag(0, "pump");
        builder.float(0, 1.5);
        builder.float(0, 2.5);
        builder.time(1_000_000_000);
        builder.finish_row(0);
        builder.tag(0, "rolled back");
        builder.integer(2, 7);
        builder.rollback();
        builder.boolean(3, true);
        builder.tag(0, "pump");
        builder.finish_row(2_000_000_000);
        let batch = builder.finish();
        assert_eq!(
            json!(row_json(&batch, 0)),
            json!({"time":"1970-01-01T00:00:01Z","device":"pump","value":2.5,"unit":"mm","n":null,"ok":null,"extra":null})
        );
        assert_eq!(
            json!(row_json(&batch, 1)),
            json!({"time":"1970-01-01T00:00:02Z","device":"pump","value":null,"unit":null,"n":null,"ok":true,"extra":null})
        );
        assert!(builder.is_empty());
        assert_eq!(builder.finish().num_rows(), 0);
        assert_eq!(tag(&batch, "device").unwrap().0.keys().values().as_ref(), &[0, 0]);
    }
}
