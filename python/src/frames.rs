//! `Batch`: one Arrow record batch in Python's hands, and `Update`, which maps it out of the log.
//!
//! Guarantee: rows of a single frame are the segment's own bytes, mapped read-only; so are NumPy arrays and Arrow
//! streams made of them. Several frames, or rows left out between others, cost one copy.
//!
//! ```python
//! [batch] = _native.Update(message).batches(apart=False)
//! value = numpy.asarray(batch.numpy("value"))
//! ```

use crate::array::{Array, kinds};
use crate::series::SeriesIndex;
use crate::{columns, wrong};
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, StructArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use pyo3::exceptions::{PyKeyError, PyOSError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyCapsule, PyList};
use pyo3_arrow::error::PyArrowResult;
use pyo3_arrow::ffi::{ArrayIterator, to_schema_pycapsule, to_stream_pycapsule};
use pyo3_arrow::input::AnyRecordBatch;
use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use trackside_connectors::logs::ipc::Encoded;
use trackside_connectors::logs::mapped::MappedReader;
use trackside_core::error::suggestion;
use trackside_core::log::LogError;
use trackside_core::schema::tag_type;
use trackside_engine::worker;
use trackside_engine::worker::update::Place;

/// Segments that this process has mapped; shared, so that models in process do not map each for itself.
static MAPS: LazyLock<Mutex<MappedReader>> = LazyLock::new(Mutex::default);

/// Where the rows of a batch stand in their partition.
#[derive(Debug, Clone)]
pub(crate) enum Offsets {
    /// One after another, the first one here.
    From(u64),
    /// All at the frame that holds them: dead letters and forecasts, which offsets do not count.
    At(u64),
    /// Each for itself.
    Each(ScalarBuffer<i64>),
}

impl Offsets {
    fn values(&self, rows: usize) -> ScalarBuffer<i64> {
        match self {
            Self::From(first) => (*first as i64..).take(rows).collect(),
            Self::At(frame) => vec![*frame as i64; rows].into(),
            Self::Each(offsets) => offsets.clone(),
        }
    }

    fn slice(&self, start: usize, length: usize) -> Self {
        match self {
            Self::From(first) => Self::From(first + start as u64),
            Self::At(frame) => Self::At(*frame),
            Self::Each(offsets) => Self::Each(offsets.slice(start, length)),
        }
    }
}

/// One Arrow record batch, mapped read-only where it can be.
#[pyclass(subclass, frozen, module = "trackside._native")]
pub(crate) struct Batch {
    held: Held,
    offsets: Offsets,
}

/// Rows at hand, or rows of one frame whose columns are decoded when they are asked for: a model looks at one or two.
pub(crate) enum Held {
    Rows(RecordBatch),
    Frame { section: Encoded, from: usize, length: usize, columns: Vec<OnceLock<ArrayRef>> },
}

impl Held {
    fn frame(section: Encoded, from: usize, length: usize) -> Self {
        let columns = section.schema().fields().iter().map(|_| OnceLock::new()).collect();
        Self::Frame { section, from, length, columns }
    }

    fn schema(&self) -> &SchemaRef {
        match self {
            Self::Rows(rows) => rows.schema_ref(),
            Self::Frame { section, .. } => section.schema(),
        }
    }

    fn num_rows(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.num_rows(),
            Self::Frame { length, .. } => *length,
        }
    }

    fn column(&self, number: usize) -> PyResult<ArrayRef> {
        match self {
            Self::Rows(rows) => Ok(rows.column(number).clone()),
            Self::Frame { section, from, length, columns } => {
                if let Some(column) = columns[number].get() {
                    return Ok(column.clone());
                }
                let column = section.column(number).map_err(unreadable)?.slice(*from, *length);
                Ok(columns[number].get_or_init(|| column).clone())
            }
        }
    }

    fn rows(&self) -> PyResult<RecordBatch> {
        match self {
            Self::Rows(rows) => Ok(rows.clone()),
            Self::Frame { section, from, length, .. } => Ok(section.batch().map_err(unreadable)?.slice(*from, *length)),
        }
    }
}

impl Batch {
    pub(crate) fn new(rows: RecordBatch, offsets: Offsets) -> Self {
        Self { held: Held::Rows(rows), offsets }
    }

    /// The rows; OSError when the section that holds them cannot be decoded.
    pub(crate) fn rows(&self) -> PyResult<RecordBatch> {
        self.held.rows()
    }

    fn column(&self, name: &str) -> PyResult<ArrayRef> {
        match self.held.schema().index_of(name) {
            Ok(number) => self.held.column(number),
            Err(_) => {
                let names = self.schema_names();
                let choices: Vec<&str> = names.iter().map(String::as_str).collect();
                Err(PyKeyError::new_err(format!("unknown column `{name}`{}", suggestion(name, &choices))))
            }
        }
    }

    /// The tag columns alone, in the type that the index reads.
    fn tags(&self, names: &[String]) -> PyResult<RecordBatch> {
        let column = |name: &String| cast(&self.column(name)?, &tag_type()).map_err(wrong);
        let columns = names.iter().map(column).collect::<PyResult<Vec<_>>>()?;
        let fields: Vec<Field> = names.iter().map(|name| Field::new(name, tag_type(), true)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.held.num_rows()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).map_err(wrong)
    }
}

#[pymethods]
impl Batch {
    /// Take anything with `__arrow_c_stream__`; several record batches become one.
    #[staticmethod]
    fn from_arrow(obj: AnyRecordBatch) -> PyArrowResult<Self> {
        let (batches, schema) = obj.into_table()?.into_inner();
        let rows = match batches.as_slice() {
            [one] => one.clone(),
            several => concat_batches(&schema, several)?,
        };
        Ok(Self::new(rows, Offsets::From(0)))
    }

    #[getter]
    fn num_rows(&self) -> usize {
        self.held.num_rows()
    }

    /// The names of the columns, in order.
    fn schema_names(&self) -> Vec<String> {
        self.held.schema().fields().iter().map(|field| field.name().clone()).collect()
    }

    /// Numbers, booleans and times, for `numpy.asarray`. TypeError for text, KeyError for an unknown name.
    fn numpy(&self, name: &str) -> PyResult<Array> {
        columns::numbers(name, &self.column(name)?)
    }

    /// Text, None for null. TypeError for numbers, KeyError for an unknown name.
    fn strings<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyList>> {
        columns::texts(py, name, &self.column(name)?)
    }

    /// int32, one for each row; series seen first get the next ids of `index`.
    fn series_ids(&self, mut index: PyRefMut<'_, SeriesIndex>) -> PyResult<Array> {
        let tags = self.tags(index.tags())?;
        Ok(index.number(&tags))
    }

    /// int64, one for each row: where it stands in its topic's partition.
    fn offsets(&self) -> Array {
        Array::new(self.offsets.values(self.held.num_rows()), kinds::I8)
    }

    /// Rows `start` to `stop`, not copied; both are cut to what there is.
    #[pyo3(signature = (start, stop, /))]
    fn slice(&self, start: usize, stop: usize) -> PyResult<Self> {
        let stop = stop.min(self.held.num_rows());
        let start = start.min(stop);
        Ok(Self::new(self.rows()?.slice(start, stop - start), self.offsets.slice(start, stop - start)))
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyArrowResult<Bound<'py, PyCapsule>> {
        to_schema_pycapsule(py, self.held.schema().as_ref())
    }

    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyCapsule>>,
    ) -> PyArrowResult<Bound<'py, PyCapsule>> {
        let field = Field::new_struct("", self.held.schema().fields().clone(), false);
        let rows: ArrayRef = Arc::new(StructArray::from(self.rows()?));
        to_stream_pycapsule(py, Box::new(ArrayIterator::new([Ok(rows)], Arc::new(field))), requested_schema)
    }

    fn __repr__(&self) -> String {
        format!("<Batch of {} rows: {}>", self.held.num_rows(), self.schema_names().join(", "))
    }
}

/// The engine's question which rows come next, read from its bytes.
#[pyclass(frozen, module = "trackside._native")]
pub(crate) struct Update(worker::update::Update);

#[pymethods]
impl Update {
    /// ValueError for bytes that are no such message.
    #[new]
    fn new(message: PyBackedBytes) -> PyResult<Self> {
        let update = worker::update::Update::decode(&message);
        update
            .map(Self)
            .ok_or_else(|| wrong("the engine sent an update that cannot be read; is it of another version?"))
    }

    /// Whether nobody reads the answer.
    #[getter]
    fn replay(&self) -> bool {
        self.0.replay
    }

    /// The rows: as one batch, or `apart`, one for each frame in the log. OSError when they cannot be read.
    fn batches(&self, py: Python<'_>, apart: bool) -> PyResult<Vec<Batch>> {
        py.detach(|| {
            let parts = self.0.places.iter().map(open).collect::<PyResult<Vec<_>>>()?;
            let skip = self.0.skip.iter().copied().collect();
            if apart {
                return parts.into_iter().map(|part| joined(vec![part], &skip)).collect();
            }
            Ok(vec![joined(parts, &skip)?])
        })
    }
}

/// Rows of one frame, and the offset of the first of them.
pub(crate) type Part = (u64, Held);

fn open(place: &Place) -> PyResult<Part> {
    let Place { path, section_at, section_length, base, from, to } = place;
    let opened = MAPS.lock().unwrap_or_else(PoisonError::into_inner).open(path, *section_at, *section_length);
    part(opened.map_err(unreadable)?, *base, *from as usize, *to as usize)
}

/// Rows `from..to` of a section whose first row stands at `base`.
pub(crate) fn part(section: Encoded, base: u64, from: usize, to: usize) -> PyResult<Part> {
    if from > to || to > section.num_rows() {
        return Err(wrong(format!("rows {from} to {to} of a frame that has {}", section.num_rows())));
    }
    Ok((base + from as u64, Held::frame(section, from, to - from)))
}

pub(crate) fn unreadable(error: LogError) -> PyErr {
    PyOSError::new_err(error.to_string())
}

/// Parts with the offset of their first row, as one batch.
pub(crate) fn joined(mut parts: Vec<Part>, skip: &HashSet<u64>) -> PyResult<Batch> {
    if parts.len() == 1
        && skip.is_empty()
        && let Some((first, held)) = parts.pop()
    {
        return Ok(Batch { held, offsets: Offsets::From(first) });
    }
    let Some((_, first)) = parts.first() else { return Err(wrong("no frames; name at least one")) };
    let schema = first.schema().clone();
    let offsets: Vec<u64> = parts.iter().flat_map(|(first, held)| (*first..).take(held.num_rows())).collect();
    let batches = parts.iter().map(|(_, held)| held.rows()).collect::<PyResult<Vec<_>>>()?;
    let rows = match batches.as_slice() {
        [one] => one.clone(),
        several => concat_batches(&schema, several).map_err(wrong)?,
    };
    let keep: Vec<bool> = offsets.iter().map(|offset| !skip.contains(offset)).collect();
    let kept = offsets.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(offset, _)| *offset as i64).collect();
    let rows = if keep.iter().all(|keep| *keep) {
        rows
    } else {
        filter_record_batch(&rows, &BooleanArray::from(keep)).map_err(wrong)?
    };
    Ok(Batch::new(rows, Offsets::Each(kept)))
}
