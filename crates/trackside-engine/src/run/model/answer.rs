//! A model's answer joined with the rows that it was asked about: the frames of `scores.<model>`.

use arrow::array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use std::sync::Arc;
use trackside_core::batch::floats;
use trackside_core::model::{ModelCard, ModelReply};
use trackside_core::schema::{TIME, tag_type, time_type};

/// The layouts of a model's two sections.
#[derive(Debug, Clone)]
pub(crate) struct AnswerLayout {
    tags: Vec<String>,
    pub(crate) scores: SchemaRef,
    pub(crate) forecasts: SchemaRef,
}

impl AnswerLayout {
    pub(crate) fn new(tags: &[String]) -> Self {
        let tag_columns = || tags.iter().map(|tag| Field::new(tag, tag_type(), true));
        let float = |name: &str| Field::new(name, DataType::Float64, true);
        let mut scores = vec![
            Field::new("partition", DataType::Int32, false),
            Field::new("offset", DataType::Int64, false),
            Field::new(TIME, time_type(), false),
        ];
        scores.extend(tag_columns());
        scores.push(Field::new("field", tag_type(), false));
        scores.extend([float("value"), float("score")]);
        scores.extend([Field::new("anomaly", DataType::Boolean, false), Field::new("ready", DataType::Boolean, false)]);
        scores.extend([float("expected"), float("lower"), float("upper")]);
        scores.extend([Field::new("reason", DataType::Utf8, true), Field::new("version", tag_type(), false)]);
        let mut forecasts: Vec<Field> = tag_columns().collect();
        forecasts.push(Field::new("field", tag_type(), false));
        forecasts.extend([Field::new("made_at", time_type(), false), Field::new("for_time", time_type(), false)]);
        forecasts.extend([float("mean"), float("lower"), float("upper"), Field::new("version", tag_type(), false)]);
        Self { tags: tags.to_vec(), scores: Arc::new(Schema::new(scores)), forecasts: Arc::new(Schema::new(forecasts)) }
    }

    /// One row per clean row and field.
    pub(super) fn score_rows(
        &self,
        partition: u32,
        rows: &RecordBatch,
        offsets: &[u64],
        card: &ModelCard,
        reply: &ModelReply,
    ) -> Result<RecordBatch, ArrowError> {
        let fields = card.fields.len();
        let answers = offsets.len() * fields;
        let spread = Spread::new(offsets.len(), fields);
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from_value(partition as i32, answers)),
            Arc::new(
                offsets.iter().flat_map(|offset| std::iter::repeat_n(*offset as i64, fields)).collect::<Int64Array>(),
            ),
            spread.column(rows.column_by_name(TIME), rows)?,
        ];
        for tag in &self.tags {
            columns.push(spread.column(rows.column_by_name(tag), rows)?);
        }
        columns.push(cycle(&card.fields, (0..answers).map(|answer| (answer % fields) as i32)));
        columns.push(Arc::new(values(rows, &card.fields)));
        columns.push(nullable(&reply.score, answers));
        columns.push(Arc::new(BooleanArray::from(reply.anomaly.clone())));
        columns.push(Arc::new(BooleanArray::from(reply.ready.clone())));
        for optional in [&reply.expected, &reply.lower, &reply.upper] {
            columns.push(nullable(optional, answers));
        }
        let mut reasons: Vec<Option<&str>> = vec![None; answers];
        for (answer, text) in &reply.reasons {
            reasons.get_mut(*answer).into_iter().for_each(|reason| *reason = Some(text));
        }
        columns.push(Arc::new(StringArray::from(reasons)));
        columns.push(cycle(std::slice::from_ref(&card.version), std::iter::repeat_n(0, answers)));
        RecordBatch::try_new(self.scores.clone(), columns)
    }

    /// The forecasts of an answer; none when it made none.
    pub(super) fn forecast_rows(
        &self,
        rows: &RecordBatch,
        card: &ModelCard,
        reply: &ModelReply,
    ) -> Result<Option<RecordBatch>, ArrowError> {
        let made = &reply.forecasts;
        if made.row.is_empty() {
            return Ok(None);
        }
        if made.field.iter().any(|field| usize::try_from(*field).map_or(true, |field| field >= card.fields.len())) {
            return Err(ArrowError::InvalidArgumentError(
                "a forecast names a field that the model does not score".into(),
            ));
        }
        let of = UInt32Array::from_iter_values(made.row.iter().map(|row| *row as u32));
        let mut columns: Vec<ArrayRef> = Vec::new();
        for tag in &self.tags {
            let column = rows.column_by_name(tag).ok_or_else(|| missing(tag))?;
            columns.push(take(column, &of, None)?);
        }
        let times =
            |nanos: &[i64]| Arc::new(TimestampNanosecondArray::from(nanos.to_vec()).with_timezone("UTC")) as ArrayRef;
        columns.push(cycle(&card.fields, made.field.iter().copied()));
        columns.extend([times(&made.made_at), times(&made.for_time)]);
        columns.extend([&made.mean, &made.lower, &made.upper].map(|column| nullable(column, column.len())));
        columns.push(cycle(std::slice::from_ref(&card.version), std::iter::repeat_n(0, made.row.len())));
        RecordBatch::try_new(self.forecasts.clone(), columns).map(Some)
    }
}

/// Each row once for every field; with one field, the column itself.
struct Spread(Option<UInt32Array>);

impl Spread {
    fn new(rows: usize, fields: usize) -> Self {
        Self((fields != 1).then(|| (0..rows as u32).flat_map(|row| std::iter::repeat_n(row, fields)).collect()))
    }

    fn column(&self, column: Option<&ArrayRef>, rows: &RecordBatch) -> Result<ArrayRef, ArrowError> {
        let column = column.ok_or_else(|| missing(&format!("{:?}", rows.schema_ref().fields())))?;
        self.0.as_ref().map_or_else(|| Ok(column.clone()), |indices| take(column, indices, None))
    }
}

fn missing(name: &str) -> ArrowError {
    ArrowError::SchemaError(format!("a column is missing in `clean`: {name}"))
}

fn cycle(texts: &[String], keys: impl Iterator<Item = i32>) -> ArrayRef {
    let keys: Int32Array = keys.collect::<Vec<_>>().into();
    Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(StringArray::from_iter_values(texts))))
}

fn nullable(values: &[f64], length: usize) -> ArrayRef {
    if values.is_empty() {
        return Arc::new(Float64Array::new_null(length));
    }
    if values.iter().any(|value| value.is_nan()) {
        return Arc::new(values.iter().map(|value| (!value.is_nan()).then_some(*value)).collect::<Float64Array>());
    }
    Arc::new(Float64Array::from(values.to_vec()))
}

fn values(rows: &RecordBatch, fields: &[String]) -> Float64Array {
    let columns: Vec<Option<Float64Array>> = fields.iter().map(|field| floats(rows, field)).collect();
    if let [Some(only)] = columns.as_slice() {
        return only.clone();
    }
    let value = |row: usize, column: &Option<Float64Array>| {
        column.as_ref().filter(|column| column.is_valid(row)).map(|column| column.value(row))
    };
    (0..rows.num_rows()).flat_map(|row| columns.iter().map(move |column| value(row, column))).collect()
}
