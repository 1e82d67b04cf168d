//! The Python door: engine, command, cleaners, detectors and the reader of the log as `trackside._native`.
//!
//! There is no logic here. Each file hands one thing across: arguments in, the work to the room whose duty it is, the
//! answer out, without a copy where the bytes allow it. `trackside/_native.pyi` tells the same to Python's type checkers.
//!
//! What takes long runs detached from the interpreter, so that other Python threads go on meanwhile.

mod array;
mod clean;
mod columns;
mod command;
mod connect;
mod detectors;
mod frames;
mod in_process;
mod series;
mod tail;

use pyo3::prelude::*;

/// The Rust library: engine, command, cleaners, detectors and the reader of the log.
#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::array::Memory;
    #[pymodule_export]
    use super::clean::clean;
    #[pymodule_export]
    use super::command::main;
    #[pymodule_export]
    use super::connect::{Batches, Reader, TopicBatch, connect};
    #[pymodule_export]
    use super::detectors::{Ens4, RecordExcess};
    #[pymodule_export]
    use super::frames::{Batch, Update};
    #[pymodule_export]
    use super::series::SeriesIndex;
    #[pymodule_export]
    use super::tail::{Found, Tail};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}

/// An error in words as a `ValueError`: what the caller gave cannot be used.
fn wrong(error: impl std::fmt::Display) -> PyErr {
    pyo3::exceptions::PyValueError::new_err(error.to_string())
}
