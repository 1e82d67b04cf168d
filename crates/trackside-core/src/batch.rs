//! A batch of events is an Arrow record batch with a known layout; these are the views that the rooms share.

use crate::schema::TIME;
use arrow::array::{
    Array, AsArray, DictionaryArray, Float64Array, PrimitiveArray, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType};
use arrow::error::ArrowError;

/// The times of a batch, ns since 1970.
pub fn times(batch: &RecordBatch) -> Option<&TimestampNanosecondArray> {
    batch.column_by_name(TIME)?.as_primitive_opt::<TimestampNanosecondType>()
}

/// Smallest and largest time.
pub fn time_range(batch: &RecordBatch) -> Option<(i64, i64)> {
    let times = times(batch)?.values();
    Some((times.iter().copied().min()?, times.iter().copied().max()?))
}

/// A tag column: numbers and the texts behind them.
pub fn tag<'a>(batch: &'a RecordBatch, name: &str) -> Option<(&'a DictionaryArray<Int32Type>, &'a StringArray)> {
    let column = batch.column_by_name(name)?.as_dictionary_opt::<Int32Type>()?;
    Some((column, column.values().as_string_opt::<i32>()?))
}

/// The text of a tag in one row; none for null.
pub fn tag_value<'a>(column: &DictionaryArray<Int32Type>, values: &'a StringArray, row: usize) -> Option<&'a str> {
    let key = usize::try_from(*column.keys().values().get(row)?).ok()?;
    (column.is_valid(row) && values.is_valid(key)).then(|| values.value(key))
}

/// A numeric column as floats: floats as they are, integers converted.
pub fn floats(batch: &RecordBatch, name: &str) -> Option<Float64Array> {
    let column = batch.column_by_name(name)?;
    if let Some(floats) = column.as_primitive_opt::<Float64Type>() {
        return Some(floats.clone());
    }
    let integers: &PrimitiveArray<Int64Type> = column.as_primitive_opt::<Int64Type>()?;
    Some(integers.unary(|v| v as f64))
}

/// Batches of one schema as one batch; a single one is passed on as it is.
pub fn concat(batches: &[RecordBatch]) -> Result<Option<RecordBatch>, ArrowError> {
    match batches {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        [first, ..] => concat_batches(&first.schema(), batches).map(Some),
    }
}

/// One row as a JSON object, times as RFC 3339: how dead letters and alerts show a row.
pub fn row_json(batch: &RecordBatch, row: usize) -> serde_json::Map<String, serde_json::Value> {
    let fields = batch.schema_ref().fields();
    fields.iter().zip(batch.columns()).map(|(field, column)| (field.name().clone(), value_json(column, row))).collect()
}

/// One value as JSON; what JSON cannot say (NaN, infinities) is null.
pub fn value_json(column: &dyn Array, row: usize) -> serde_json::Value {
    use arrow::datatypes::{
        DataType, Int8Type, Int16Type, Int32Type as I32, TimeUnit, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    };
    use serde_json::Value;
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Int32 => column.as_primitive::<I32>().value(row).into(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int8 => column.as_primitive::<Int8Type>().value(row).into(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).into(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt16 => column.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt8 => column.as_primitive::<UInt8Type>().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Binary => String::from_utf8_lossy(column.as_binary::<i32>().value(row)).into(),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            crate::time::rfc3339(column.as_primitive::<TimestampNanosecondType>().value(row)).into()
        }
        DataType::Dictionary(_, _) => {
            let dictionary = column.as_dictionary::<Int32Type>();
            dictionary.values().as_string_opt::<i32>().and_then(|values| tag_value(dictionary, values, row)).into()
        }
        other => format!("<{other}>").into(),
    }
}
