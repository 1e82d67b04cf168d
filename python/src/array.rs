//! `Array`: a column that NumPy looks at where it lies.
//!
//! Guarantee: read-only, one dimension, contiguous; the memory (a mapped segment, a frame, a result of the detectors)
//! lives as long as any NumPy array that looks at it, for NumPy keeps the object that told it the address.

use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::ArrowNativeType;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The types of columns, in NumPy's words. Arrow's memory is in the machine's byte order, as the log is: little-endian.
pub(crate) mod kinds {
    pub(crate) const F8: &str = "<f8";
    pub(crate) const I8: &str = "<i8";
    pub(crate) const I4: &str = "<i4";
    /// A byte of 0 or 1 each; Arrow's own packed bits mean nothing to NumPy.
    pub(crate) const BOOL: &str = "|b1";
    /// ns since 1970; NaT is the smallest integer.
    pub(crate) const TIME: &str = "<M8[ns]";
}

/// A read-only column for `numpy.asarray`; nothing is copied.
#[pyclass(frozen, module = "trackside._native")]
pub(crate) struct Array {
    buffer: Buffer,
    length: usize,
    kind: &'static str,
}

impl Array {
    /// `values` under NumPy's name for their type, which is as wide as `T`.
    pub(crate) fn new<T: ArrowNativeType>(values: impl Into<ScalarBuffer<T>>, kind: &'static str) -> Self {
        let values: ScalarBuffer<T> = values.into();
        Self { length: values.len(), buffer: values.into_inner(), kind }
    }

    /// Truth values, a byte each.
    pub(crate) fn booleans(values: impl IntoIterator<Item = bool>) -> Self {
        Self::new(values.into_iter().map(u8::from).collect::<Vec<_>>(), kinds::BOOL)
    }
}

#[pymethods]
impl Array {
    /// NumPy's array interface, version 3.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("typestr", self.kind)?;
        interface.set_item("shape", (self.length,))?;
        interface.set_item("data", (self.buffer.as_ptr() as usize, true))?;
        Ok(interface)
    }

    fn __len__(&self) -> usize {
        self.length
    }

    fn __repr__(&self) -> String {
        format!("<Array of {} {}; numpy.asarray looks at it>", self.length, self.kind)
    }
}
