//! Arrow columns as what Python reads: NumPy's arrays and lists of text.
//!
//! Guarantee: numbers and times without nulls are looked at where they lie. With nulls they are a copy: a float column
//! has NaN there, a time column NaT, integers and booleans become floats.

use crate::array::{Array, Make, kinds};
use crate::wrong;
use arrow::array::{Array as _, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use std::iter::repeat_n;

/// A column of numbers, booleans or times; anything else is a TypeError.
pub(crate) fn numbers(name: &str, column: &ArrayRef) -> PyResult<Array> {
    let nulls = column.null_count() > 0;
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Ok(times(column)),
        DataType::Timestamp(_, zone) => {
            cast(column, &DataType::Timestamp(TimeUnit::Nanosecond, zone.clone())).map(|ns| times(&ns)).map_err(wrong)
        }
        DataType::Boolean | DataType::Float32 if nulls => with_nan(column),
        DataType::Boolean => Ok(Array::booleans(column.as_boolean().values().iter())),
        kind if kind.is_numeric() && nulls => with_nan(column),
        DataType::Float64 => Ok(view::<Float64Type>(column, kinds::F8)),
        DataType::Float32 => Ok(view::<Float32Type>(column, kinds::F4)),
        DataType::Int64 => Ok(view::<Int64Type>(column, kinds::I8)),
        DataType::Int32 => Ok(view::<Int32Type>(column, kinds::I4)),
        DataType::Int16 => Ok(view::<Int16Type>(column, kinds::I2)),
        DataType::Int8 => Ok(view::<Int8Type>(column, kinds::I1)),
        DataType::UInt64 => Ok(view::<UInt64Type>(column, kinds::U8)),
        DataType::UInt32 => Ok(view::<UInt32Type>(column, kinds::U4)),
        DataType::UInt16 => Ok(view::<UInt16Type>(column, kinds::U2)),
        DataType::UInt8 => Ok(view::<UInt8Type>(column, kinds::U1)),
        other => Err(PyTypeError::new_err(format!("column `{name}` holds {other}; read it with strings({name:?})"))),
    }
}

fn view<T: ArrowPrimitiveType>(column: &ArrayRef, kind: Make) -> Array {
    Array::new(column.as_primitive::<T>().values().clone(), kind)
}

fn with_nan(column: &ArrayRef) -> PyResult<Array> {
    let floats = cast(column, &DataType::Float64).map_err(wrong)?;
    let filled: Vec<f64> = floats.as_primitive::<Float64Type>().iter().map(|v| v.unwrap_or(f64::NAN)).collect();
    Ok(Array::new(filled, kinds::F8))
}

fn times(column: &ArrayRef) -> Array {
    let stamps = column.as_primitive::<TimestampNanosecondType>();
    if stamps.null_count() == 0 {
        return Array::new(stamps.values().clone(), kinds::TIME);
    }
    Array::new(stamps.iter().map(|v| v.unwrap_or(i64::MIN)).collect::<Vec<_>>(), kinds::TIME)
}

/// A column of text as a list with None for null; a text that repeats in a dictionary is one Python object. Bytes are
/// read as UTF-8, with a replacement character for what is none.
pub(crate) fn texts<'py>(py: Python<'py>, name: &str, column: &ArrayRef) -> PyResult<Bound<'py, PyList>> {
    if let Some(dictionary) = column.as_any_dictionary_opt() {
        let values: Vec<Option<Bound<'py, PyString>>> = texts(py, name, dictionary.values())?.extract()?;
        if values.is_empty() {
            return PyList::new(py, repeat_n(None::<&str>, column.len()));
        }
        let keys = dictionary.normalized_keys();
        let text = |(row, key): (usize, &usize)| if column.is_null(row) { None } else { values[*key].as_ref() };
        return PyList::new(py, keys.iter().enumerate().map(text));
    }
    match column.data_type() {
        DataType::Utf8 => PyList::new(py, column.as_string::<i32>().iter()),
        DataType::LargeUtf8 | DataType::Utf8View => texts(py, name, &cast(column, &DataType::Utf8).map_err(wrong)?),
        DataType::Binary => {
            PyList::new(py, column.as_binary::<i32>().iter().map(|bytes| bytes.map(String::from_utf8_lossy)))
        }
        DataType::Null => PyList::new(py, repeat_n(None::<&str>, column.len())),
        other => {
            Err(PyTypeError::new_err(format!("column `{name}` holds {other}, not text; read it with numpy({name:?})")))
        }
    }
}
