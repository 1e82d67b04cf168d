//! A batch on its way through the chain of cleaners: what they found is noted beside the columns.
//!
//! Nothing is copied while the chain runs. A cleaner that drops a row clears its bit, one that marks a value sets a
//! bit in the field's quality column, one that replaces writes into a copy of the field made on first use. At the end
//! [`Work::finish`] makes the clean batch in one pass.

use crate::batch::{floats, row_json, times};
use crate::dead_letter::{DeadLetter, Stage};
use crate::quality;
use crate::schema::{FieldType, Layout};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt16Array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Name of the column that tells a clean row's offset in `received`.
pub const RECEIVED_OFFSET: &str = "received_offset";

/// Which columns the chain adds for a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Touches {
    /// Some cleaner looks at it: it gets `<field>_quality`.
    pub marks: bool,
    /// Some cleaner may replace it: it gets `<field>_original`.
    pub replaces: bool,
}

/// The layout of `clean`: the columns of `received`, then quality and original columns, then the offset in `received`.
#[derive(Debug, Clone)]
pub struct CleanLayout {
    /// The layout of `received`.
    pub layout: Arc<Layout>,
    /// By field, what the chain adds.
    pub touches: Vec<Touches>,
    /// The Arrow schema of `clean`.
    pub schema: SchemaRef,
}

impl CleanLayout {
    /// The layout behind a chain that touches the fields in this way.
    pub fn new(layout: Arc<Layout>, touches: Vec<Touches>) -> Arc<Self> {
        let mut columns: Vec<Arc<Field>> = layout.schema.fields().iter().cloned().collect();
        for (name, touch) in layout.config.fields.keys().zip(&touches) {
            if touch.marks {
                columns.push(Arc::new(Field::new(format!("{name}_quality"), DataType::UInt16, false)));
            }
            if touch.replaces {
                columns.push(Arc::new(Field::new(format!("{name}_original"), DataType::Float64, true)));
            }
        }
        columns.push(Arc::new(Field::new(RECEIVED_OFFSET, DataType::Int64, true)));
        Arc::new(Self { layout, touches, schema: Arc::new(Schema::new(columns)) })
    }
}

/// A float field that a cleaner may change.
#[derive(Debug, Clone)]
pub struct FloatColumn {
    /// Its values; 0 or anything where null.
    pub values: Vec<f64>,
    /// Which are there.
    pub valid: Option<Vec<bool>>,
}

impl FloatColumn {
    /// Whether the row has a value.
    #[inline]
    pub fn is_valid(&self, row: usize) -> bool {
        self.valid.as_ref().is_none_or(|valid| valid[row])
    }
}

/// Everything the chain knows of a batch.
#[derive(Debug)]
pub struct Work {
    /// The batch as received, never changed.
    pub rows: RecordBatch,
    /// Offset of each row in `received`.
    pub offsets: Vec<u64>,
    /// The number of each row's series.
    pub series: Vec<u32>,
    /// False: dropped or rejected by an earlier cleaner; later ones leave the row alone.
    pub keep: Vec<bool>,
    /// Rows dropped by name of the rule.
    pub filtered: BTreeMap<String, u64>,
    /// Rows rejected.
    pub dead: Vec<DeadLetter>,
    layout: Arc<CleanLayout>,
    quality: Vec<Option<Vec<u16>>>,
    floats: Vec<Option<FloatColumn>>,
    strings: Vec<Option<ArrayRef>>,
    originals: Vec<Option<Vec<Option<f64>>>>,
}

impl Work {
    /// A batch at the head of the chain.
    pub fn new(layout: Arc<CleanLayout>, rows: RecordBatch, offsets: Vec<u64>, series: Vec<u32>) -> Self {
        let fields = layout.touches.len();
        let keep = vec![true; rows.num_rows()];
        Self {
            rows,
            offsets,
            series,
            keep,
            filtered: BTreeMap::new(),
            dead: Vec::new(),
            layout,
            quality: vec![None; fields],
            floats: vec![None; fields],
            strings: vec![None; fields],
            originals: vec![None; fields],
        }
    }

    /// Rows of the batch, kept or not.
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether the batch has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Event times, ns since 1970.
    pub fn times(&self) -> &[i64] {
        times(&self.rows).map_or(&[], |times| times.values())
    }

    /// The field as it stands now, as floats (integers are converted), to read and to change.
    pub fn float_mut(&mut self, field: usize) -> &mut FloatColumn {
        let (rows, layout) = (&self.rows, &self.layout);
        self.floats[field].get_or_insert_with(|| {
            let name = layout.layout.config.fields.get_index(field).map_or("", |(name, _)| name.as_str());
            let column = floats(rows, name).unwrap_or_else(|| Float64Array::new_null(rows.num_rows()));
            let valid = column.nulls().map(|nulls| nulls.iter().collect());
            FloatColumn { values: column.values().to_vec(), valid }
        })
    }

    /// The field, its quality column, and which rows are kept, all at once: what a marking cleaner's loop needs.
    pub fn marking(&mut self, field: usize) -> Marking<'_> {
        self.float_mut(field);
        let rows = self.rows.num_rows();
        let quality = self.quality[field].get_or_insert_with(|| vec![0; rows]);
        let times = times(&self.rows).map_or(&[][..], |times| times.values());
        Marking { column: self.floats[field].as_mut(), quality, keep: &mut self.keep, series: &self.series, times }
    }

    /// The quality column of a field.
    pub fn quality_mut(&mut self, field: usize) -> &mut [u16] {
        let rows = self.rows.num_rows();
        self.quality[field].get_or_insert_with(|| vec![0; rows])
    }

    /// An integer field as received; none for other types.
    pub fn integers(&self, field: usize) -> Option<&Int64Array> {
        self.column(field).as_primitive_opt::<Int64Type>()
    }

    /// A text field as it stands now; none for other types.
    pub fn text(&self, field: usize) -> Option<&StringArray> {
        self.strings[field].as_ref().unwrap_or_else(|| self.column(field)).as_string_opt::<i32>()
    }

    /// Puts other texts in place of a text field (a unit after conversion).
    pub fn set_text(&mut self, field: usize, texts: StringArray) {
        self.strings[field] = Some(Arc::new(texts));
    }

    /// The column of a field as received.
    pub fn column(&self, field: usize) -> &ArrayRef {
        self.rows.column(self.layout.layout.first_field() + field)
    }

    /// Replaces one value, keeps the first original beside it and marks it as replaced.
    pub fn replace(&mut self, field: usize, row: usize, value: f64) {
        let rows = self.len();
        let column = self.float_mut(field);
        let before = std::mem::replace(&mut column.values[row], value);
        if self.layout.touches[field].replaces {
            self.originals[field].get_or_insert_with(|| vec![None; rows])[row].get_or_insert(before);
        }
        self.quality_mut(field)[row] |= quality::REPLACED;
    }

    /// Drops a row by a rule; it is counted under the rule's name.
    pub fn drop_row(&mut self, row: usize, rule: &str) {
        if std::mem::replace(&mut self.keep[row], false) {
            match self.filtered.get_mut(rule) {
                Some(count) => *count += 1,
                None => _ = self.filtered.insert(rule.to_owned(), 1),
            }
        }
    }

    /// Rejects a row: it becomes a dead letter.
    pub fn reject(&mut self, row: usize, component: &str, reason: impl Into<String>) {
        if std::mem::replace(&mut self.keep[row], false) {
            let time = self.times().get(row).copied();
            let json = serde_json::Value::Object(row_json(&self.rows, row)).to_string();
            self.dead.push(DeadLetter {
                stage: Stage::Clean,
                component: component.to_owned(),
                reason: reason.into(),
                time,
                offset: self.offsets.get(row).copied(),
                row: Some(json),
                payload: None,
                detail: None,
            });
        }
    }

    /// The rows that are left, in the layout of `clean`.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let rows = self.len();
        let layout = Arc::clone(&self.layout);
        let mut columns: Vec<ArrayRef> = self.rows.columns().to_vec();
        let first = layout.layout.first_field();
        for (field, kind) in layout.layout.config.fields.values().enumerate() {
            if let Some(column) =
                self.floats[field].take().filter(|_| layout.touches[field].marks || layout.touches[field].replaces)
            {
                columns[first + field] = from_floats(column, *kind, &columns[first + field]);
            }
            if let Some(texts) = self.strings[field].take() {
                columns[first + field] = texts;
            }
        }
        for (field, touch) in layout.touches.iter().enumerate() {
            if touch.marks {
                columns.push(Arc::new(UInt16Array::from(self.quality[field].take().unwrap_or_else(|| vec![0; rows]))));
            }
            if touch.replaces {
                let originals = self.originals[field].take();
                columns.push(originals.map_or_else(
                    || Arc::new(Float64Array::new_null(rows)) as ArrayRef,
                    |o| Arc::new(Float64Array::from(o)),
                ));
            }
        }
        columns.push(Arc::new(Int64Array::from_iter_values(self.offsets.iter().map(|o| *o as i64))));
        let batch = RecordBatch::try_new(layout.schema.clone(), columns)?;
        if self.keep.iter().all(|keep| *keep) {
            Ok(batch)
        } else {
            filter_record_batch(&batch, &BooleanArray::from(std::mem::take(&mut self.keep)))
        }
    }
}

/// The parts of a batch that a marking cleaner's loop touches, borrowed at once.
#[derive(Debug)]
pub struct Marking<'a> {
    /// Values of the field, to read and to change; there always, once [`Work::marking`] gave this out.
    pub column: Option<&'a mut FloatColumn>,
    /// Quality codes of the field.
    pub quality: &'a mut [u16],
    /// Which rows are still there.
    pub keep: &'a mut [bool],
    /// The number of each row's series.
    pub series: &'a [u32],
    /// Event times, ns since 1970.
    pub times: &'a [i64],
}

impl Marking<'_> {
    /// Values of the field, and which are there.
    pub fn values(&self) -> (&[f64], Option<&[bool]>) {
        self.column.as_ref().map_or((&[], None), |column| (&column.values, column.valid.as_deref()))
    }
}

fn from_floats(column: FloatColumn, kind: FieldType, received: &ArrayRef) -> ArrayRef {
    let nulls = column.valid.map(Into::into);
    match kind {
        // A replaced integer is rounded: the column keeps its type for the tables' sake. One that no cleaner changed is
        // taken as received, for a float cannot hold every integer beyond 2^53.
        FieldType::Integer => {
            let received = received.as_primitive::<Int64Type>().values();
            let integer = |(v, before): (&f64, &i64)| if *v == *before as f64 { *before } else { v.round() as i64 };
            Arc::new(Int64Array::new(column.values.iter().zip(received).map(integer).collect(), nulls))
        }
        _ => Arc::new(Float64Array::new(column.values.into(), nulls)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{events, layout};
    use serde_json::json;

    fn work() -> Work {
        let touches = vec![Touches { marks: true, replaces: true }];
        let rows = events(&[(0, "a", 1.0), (1, "a", 99.0), (2, "b", 3.0)]);
        Work::new(CleanLayout::new(layout(), touches), rows, vec![10, 11, 12], vec![0, 0, 1])
    }

    #[test]
    fn what_was_found_stands_beside_the_values() {
        let mut work = work();
        work.quality_mut(0)[1] |= quality::SPIKE;
        work.replace(0, 1, 1.5);
        work.drop_row(2, "range");
        work.drop_row(2, "range");
        let filtered = work.filtered.clone();
        let clean = work.finish().unwrap();
        assert_eq!(filtered, [("range".to_string(), 1)].into());
        assert_eq!(
            json!(row_json(&clean, 1)),
            json!({"time":"1970-01-01T00:00:00.000000001Z","device":"a","value":1.5,"extra":null,"value_quality":66,"value_original":99.0,"received_offset":11})
        );
        assert_eq!(clean.num_rows(), 2);
    }

    #[test]
    fn a_rejected_row_is_a_letter_with_its_offset() {
        let mut work = work();
        work.reject(1, "range", "value 99 is above 50");
        let letter = &work.dead[0];
        assert_eq!((letter.offset, letter.time), (Some(11), Some(1)));
        assert_eq!(work.finish().unwrap().num_rows(), 2);
    }
}
