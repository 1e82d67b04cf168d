//! `Array`: a column that NumPy looks at where it lies.
//!
//! Guarantee: read-only, one dimension, contiguous; the memory (a mapped segment, a frame, a result of the detectors)
//! lives as long as any NumPy array that looks at it, for the array holds on to its [`Memory`]. The array is made by
//! NumPy's own constructor: going by `__array_interface__` costs a dictionary and several times as long.

use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::ArrowNativeType;
use numpy::datetime::{Datetime, units::Nanoseconds};
use numpy::ndarray::ArrayView1;
use numpy::npyffi::flags::NPY_ARRAY_WRITEABLE;
use numpy::{Element, PyArray1, PyUntypedArrayMethods};
use pyo3::prelude::*;

/// Makes the NumPy array of so many values of one type.
pub(crate) type Make = for<'py> fn(Bound<'py, Memory>, usize) -> Bound<'py, PyAny>;

/// The types of columns. Arrow's memory is in the machine's byte order, as the log is: little-endian.
pub(crate) mod kinds {
    use super::{Datetime, Make, Nanoseconds, look};

    pub(crate) const F8: Make = look::<f64>;
    pub(crate) const F4: Make = look::<f32>;
    pub(crate) const I8: Make = look::<i64>;
    pub(crate) const I4: Make = look::<i32>;
    pub(crate) const I2: Make = look::<i16>;
    pub(crate) const I1: Make = look::<i8>;
    pub(crate) const U8: Make = look::<u64>;
    pub(crate) const U4: Make = look::<u32>;
    pub(crate) const U2: Make = look::<u16>;
    pub(crate) const U1: Make = look::<u8>;
    /// A byte of 0 or 1 each; Arrow's own packed bits mean nothing to NumPy.
    pub(crate) const BOOL: Make = look::<bool>;
    /// ns since 1970; NaT is the smallest integer.
    pub(crate) const TIME: Make = look::<Datetime<Nanoseconds>>;
}

/// What a NumPy array holds on to.
#[pyclass(frozen, module = "trackside._native")]
pub(crate) struct Memory(Buffer);

/// A read-only column on its way to Python, where it arrives as a NumPy array; nothing is copied.
pub(crate) struct Array {
    buffer: Buffer,
    length: usize,
    kind: Make,
}

impl Array {
    /// `values` as the kind, which is as wide as `T`.
    pub(crate) fn new<T: ArrowNativeType>(values: impl Into<ScalarBuffer<T>>, kind: Make) -> Self {
        let values: ScalarBuffer<T> = values.into();
        Self { length: values.len(), buffer: values.into_inner(), kind }
    }

    /// Truth values, a byte each.
    pub(crate) fn booleans(values: impl IntoIterator<Item = bool>) -> Self {
        Self::new(values.into_iter().map(u8::from).collect::<Vec<_>>(), kinds::BOOL)
    }
}

impl<'py> IntoPyObject<'py> for Array {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok((self.kind)(Bound::new(py, Memory(self.buffer))?, self.length))
    }
}

#[allow(unsafe_code)]
fn look<T: Element>(memory: Bound<'_, Memory>, length: usize) -> Bound<'_, PyAny> {
    let start = memory.get().0.as_ptr();
    debug_assert!(length * size_of::<T>() <= memory.get().0.len() && start.addr().is_multiple_of(align_of::<T>()));
    // SAFETY: every `Array` is made of a `ScalarBuffer` of `length` values that are as wide and aligned as `T`, and each
    // bit pattern in it is a value of `T` (booleans are made of `bool`s). The buffer never moves or changes while the array
    // lives, which holds `memory`; Arrow's buffers are immutable, so the array is made read-only before anyone has it.
    unsafe {
        let view = ArrayView1::from_shape_ptr(length, start.cast::<T>());
        let array = PyArray1::borrow_from_array(&view, memory.into_any());
        (*array.as_array_ptr()).fields.flags &= !NPY_ARRAY_WRITEABLE;
        array.into_any()
    }
}
