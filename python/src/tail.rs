//! `Tail`: a worker's own eye on the end of the log. It waits for the next rows without the engine's help and without
//! the interpreter, and hands them over as batches.
//!
//! Guarantee: the log is mapped for reading only, so that a model's wild native code cannot harm it. The rows are a copy whose
//! checksum was verified.

use crate::frames::{Batch, joined, part, unreadable};
use crate::wrong;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use trackside_connectors::logs::embedded;
use trackside_connectors::logs::ipc::Decoder;
use trackside_core::log::LogReader;
use trackside_engine::worker::tail::{self, Run};

/// Waits at the end of a partition; one for a worker.
#[pyclass(frozen, module = "trackside._native")]
#[derive(Default)]
pub(crate) struct Tail {
    /// The partition that was waited at last, and its reader.
    reader: Mutex<Option<(PathBuf, Box<dyn LogReader>)>>,
    decoder: Decoder,
}

#[pymethods]
impl Tail {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Wait as the engine's message says. ValueError for bytes that are no such message, OSError when the log cannot be read.
    fn wait(&self, py: Python<'_>, message: PyBackedBytes) -> PyResult<Found> {
        let unknown = || wrong("the engine sent a question that cannot be read; is it of another version?");
        let request = tail::decode(&message).ok_or_else(unknown)?;
        let found = py.detach(|| {
            let mut held = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            let (_, reader) = match held.take_if(|(place, _)| *place == request.place) {
                Some(known) => held.insert(known),
                None => held.insert((request.place.clone(), embedded::guest(&request.place)?)),
            };
            tail::wait(&mut **reader, &request)
        });
        let tail::Found { to, runs } = found.map_err(unreadable)?;
        let part = |run: Run| part(self.decoder.open(run.section).map_err(unreadable)?, run.base, run.from, run.to);
        let parts = runs.into_iter().map(part).collect::<PyResult<Vec<_>>>()?;
        let rows = if parts.is_empty() { None } else { Some(Py::new(py, joined(parts, &HashSet::new())?)?) };
        Ok(Found { to, rows })
    }
}

/// What came next in the log.
#[pyclass(frozen, module = "trackside._native")]
pub(crate) struct Found {
    /// The offset after it; the one that was asked from when nothing came.
    #[pyo3(get)]
    to: u64,
    /// Its rows; None when there are none.
    #[pyo3(get)]
    rows: Option<Py<Batch>>,
}
