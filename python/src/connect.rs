//! `connect`: topics of a data directory as batches, past and live, beside a running engine or without one.
//!
//! Waiting is done detached from the interpreter, in pieces, so that Ctrl-C breaks in.

use crate::frames::{Batch, Offsets};
use pyo3::exceptions::{PyFileNotFoundError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use trackside_core::log::LogError;
use trackside_engine::{Cursor, Step, TopicRows, Topics};

/// How long one wait lasts before signals are looked at.
const WAIT: Duration = Duration::from_millis(100);

/// Open a data directory, or the one that a pipeline file names, for reading.
#[pyfunction]
pub(crate) fn connect(path: PathBuf) -> PyResult<Reader> {
    Ok(Reader { topics: Topics::open(&path).map_err(raised)? })
}

/// A data directory, opened for reading; needs no lock.
#[pyclass(frozen, module = "trackside._native")]
pub(crate) struct Reader {
    topics: Topics,
}

#[pymethods]
impl Reader {
    /// The tags that name a series, in order; empty when nothing was received yet.
    #[getter]
    fn tags(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        py.detach(|| self.topics.tags()).map_err(raised)
    }

    /// The topics that there are.
    fn topics(&self) -> PyResult<Vec<String>> {
        self.topics.names().map_err(raised)
    }

    /// Batches that may hold rows with start <= time < stop (event time, ns; None = open).
    ///
    /// With `follow` the iterator waits for new ones, at most `timeout` s for each (None = for ever), Ctrl-C breaks in;
    /// without `start` it begins with what comes now.
    fn batches(
        &self,
        topic: &str,
        start: Option<i64>,
        stop: Option<i64>,
        follow: bool,
        timeout: Option<f64>,
    ) -> PyResult<Batches> {
        let cursor = self.topics.read(topic, start, stop, follow).map_err(raised)?;
        // A time that no Duration can hold is longer than anyone waits.
        let timeout = timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        Ok(Batches { topic: topic.to_owned(), cursor: Mutex::new(cursor), timeout })
    }
}

/// What a `Reader` yields.
#[pyclass(extends = Batch, frozen, module = "trackside._native")]
pub(crate) struct TopicBatch {
    topic: String,
    place: Place,
}

/// Where the rows came from; the rows themselves are the base class's.
struct Place {
    origin: String,
    partition: u32,
    epoch: u32,
    first: u64,
    end: u64,
}

#[pymethods]
impl TopicBatch {
    #[getter]
    fn partition(&self) -> u32 {
        self.place.partition
    }

    /// Where the batch stands: topic, origin (the topic in the log that holds it), partition, epoch, from, to.
    #[getter]
    fn positions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let positions = PyDict::new(py);
        positions.set_item("topic", &self.topic)?;
        positions.set_item("origin", &self.place.origin)?;
        positions.set_item("partition", self.place.partition)?;
        positions.set_item("epoch", self.place.epoch)?;
        positions.set_item("from", self.place.first)?;
        positions.set_item("to", self.place.end)?;
        Ok(positions)
    }
}

/// Batches of a topic, one after another.
#[pyclass(frozen, module = "trackside._native")]
pub(crate) struct Batches {
    topic: String,
    /// Two Python threads that share the iterator take turns.
    cursor: Mutex<Cursor>,
    timeout: Option<Duration>,
}

#[pymethods]
impl Batches {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, TopicBatch>>> {
        let began = Instant::now();
        loop {
            py.check_signals()?;
            let left = self.timeout.map(|timeout| timeout.saturating_sub(began.elapsed()));
            let wait = left.unwrap_or(WAIT).min(WAIT);
            let step = py.detach(|| self.cursor.lock().unwrap_or_else(PoisonError::into_inner).step(wait));
            match step.map_err(raised)? {
                Step::Rows(rows) => return self.batch(py, rows).map(Some),
                Step::End => return Ok(None),
                Step::Looked => {}
                Step::Waited if left.is_some_and(|left| left.is_zero()) => return Ok(None),
                Step::Waited => {}
            }
        }
    }
}

impl Batches {
    fn batch<'py>(&self, py: Python<'py>, rows: TopicRows) -> PyResult<Bound<'py, TopicBatch>> {
        let TopicRows { origin, partition, epoch, first, end, rows, counted } = rows;
        let offsets = if counted { Offsets::From(first) } else { Offsets::At(first) };
        let place = Place { origin, partition, epoch, first, end };
        let batch = PyClassInitializer::from(Batch::new(rows, offsets));
        Bound::new(py, batch.add_subclass(TopicBatch { topic: self.topic.clone(), place }))
    }
}

fn raised(error: LogError) -> PyErr {
    match error {
        LogError::NotFound(what) => PyFileNotFoundError::new_err(what),
        other => PyOSError::new_err(other.to_string()),
    }
}
