//! From a JSON object back to a row: the inverse of [`crate::batch::row_json`], for rows that are sent round again.
//!
//! Columns are found by name and must have their type; what is missing is null, what is unknown is an error, so that a
//! slip of the pen in a corrected row does not become an event without a value.

use crate::error::suggestion;
use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt16Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, SchemaRef, TimeUnit};
use serde_json::{Map, Value};
use std::sync::Arc;

/// A batch of one row in this schema. The error names the column, the value and what it should be.
pub fn from_row_json(schema: &SchemaRef, row: &Map<String, Value>) -> Result<RecordBatch, String> {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    if let Some(unknown) = row.keys().find(|key| !names.contains(&key.as_str())) {
        return Err(format!("unknown column `{unknown}`{}", suggestion(unknown, &names)));
    }
    let column = |field: &Arc<Field>| match row.get(field.name()) {
        None | Some(Value::Null) if field.is_nullable() => null(field.data_type()),
        None | Some(Value::Null) => Err(format!("the row needs `{}`", field.name())),
        Some(value) => {
            value_array(field.data_type(), value).map_err(|what| format!("`{}`: {value} is {what}", field.name()))
        }
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema.clone(), columns).map_err(|error| format!("the row does not fit the schema: {error}"))
}

fn null(kind: &DataType) -> Result<ArrayRef, String> {
    Ok(match kind {
        // A dictionary of its own form: readers expect one without holes.
        DataType::Dictionary(_, _) => tag(None),
        other => arrow::array::new_null_array(other, 1),
    })
}

fn value_array(kind: &DataType, value: &Value) -> Result<ArrayRef, String> {
    let no = |what: &str| format!("no {what}");
    Ok(match kind {
        DataType::Float64 => Arc::new(Float64Array::from(vec![value.as_f64().ok_or_else(|| no("number"))?])),
        DataType::Int64 => Arc::new(Int64Array::from(vec![value.as_i64().ok_or_else(|| no("integer"))?])),
        DataType::UInt16 => {
            let code = value.as_u64().and_then(|code| u16::try_from(code).ok());
            Arc::new(UInt16Array::from(vec![code.ok_or_else(|| no("quality code (0 to 65535)"))?]))
        }
        DataType::Boolean => Arc::new(BooleanArray::from(vec![value.as_bool().ok_or_else(|| no("boolean"))?])),
        DataType::Utf8 => Arc::new(StringArray::from(vec![value.as_str().ok_or_else(|| no("text"))?])),
        DataType::Dictionary(_, _) => tag(Some(value.as_str().ok_or_else(|| no("text"))?)),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let stamp = value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
            let nanos = stamp.and_then(|stamp| i64::try_from(stamp.as_nanosecond()).ok());
            let nanos = nanos.ok_or_else(|| no("time; write it as in \"2026-03-02T08:00:00Z\""))?;
            Arc::new(TimestampNanosecondArray::from(vec![nanos]).with_timezone("UTC"))
        }
        other => return Err(format!("of a type that cannot be given as JSON ({other})")),
    })
}

fn tag(text: Option<&str>) -> ArrayRef {
    let keys = Int32Array::from(vec![text.map(|_| 0)]);
    Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(StringArray::from_iter_values(text))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::row_json;
    use crate::testing::{events, layout};
    use serde_json::json;

    #[test]
    fn a_row_comes_back_as_it_was() {
        let batch = events(&[(1_234_567_890_123, "a", 0.1)]);
        let row = row_json(&batch, 0);
        assert_eq!(row_json(&from_row_json(&layout().schema, &row).unwrap(), 0), row);
        let sparse = json!({"time": "2026-03-02T08:00:00Z"}).as_object().unwrap().clone();
        let batch = from_row_json(&layout().schema, &sparse).unwrap();
        assert!(row_json(&batch, 0)["device"].is_null() && batch.num_rows() == 1);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let said = |row: Value| from_row_json(&layout().schema, row.as_object().unwrap()).unwrap_err();
        let time = "2026-03-02T08:00:00Z";
        assert!(said(json!({"time": time, "valeu": 1})).contains("did you mean `value`?"));
        assert!(said(json!({"time": time, "value": "x"})).contains("`value`: \"x\" is no number"));
        assert!(said(json!({"value": 1})).contains("needs `time`"));
        assert!(said(json!({"time": "soon"})).contains("no time"));
    }
}
