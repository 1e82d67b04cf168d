//! `SeriesIndex`: series as dense numbers, for models that keep an array slot for each.

use crate::array::{Array, kinds};
use crate::wrong;
use arrow::array::RecordBatch;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use trackside_core::series;

/// Dense ids of series, 0, 1, 2 … in order of first appearance.
#[pyclass(module = "trackside._native")]
pub(crate) struct SeriesIndex {
    tags: Vec<String>,
    index: series::SeriesIndex,
}

impl SeriesIndex {
    /// Names of the tags that together name a series.
    pub(crate) fn tags(&self) -> &[String] {
        &self.tags
    }

    /// The id of each row, new ones for series never seen; `rows` has the index's tags in their usual type.
    pub(crate) fn number(&mut self, rows: &RecordBatch) -> Array {
        let mut ids = Vec::with_capacity(rows.num_rows());
        self.index.rows(rows, &mut ids);
        // Ids are dense, so that far fewer than 2³¹ exist and the sign bit is free.
        Array::new(ids, kinds::I4)
    }
}

#[pymethods]
impl SeriesIndex {
    #[new]
    fn new(tags: Vec<String>) -> Self {
        Self { index: series::SeriesIndex::new(&tags), tags }
    }

    fn __len__(&self) -> usize {
        self.index.len()
    }

    /// The tags of each series from number `start` on.
    #[pyo3(signature = (start = 0))]
    fn keys<'py>(&self, py: Python<'py>, start: u32) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        (start..self.index.len() as u32).map(|series| PyTuple::new(py, self.index.key(series))).collect()
    }

    /// Give the same ids as the index that had these keys; ValueError when they do not fit the tags.
    fn restore(&mut self, keys: Vec<Vec<Option<String>>>) -> PyResult<()> {
        let mut index = series::SeriesIndex::new(&self.tags);
        for (number, key) in keys.iter().enumerate() {
            let (wanted, given) = (self.tags.len(), key.len());
            if given != wanted {
                return Err(wrong(format!("key {number} has {given} tags, but the series have {wanted}")));
            }
            let key: Vec<Option<&str>> = key.iter().map(Option::as_deref).collect();
            if index.number(&key) as usize != number {
                return Err(wrong(format!("key {number} stands twice in the list; give each series once")));
            }
        }
        self.index = index;
        Ok(())
    }
}
