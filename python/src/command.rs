//! The command: `trackside …`, run in the interpreter that called it.
//!
//! So models in process need no second interpreter, and workers are started with the very same one.

use crate::in_process;
use pyo3::prelude::*;
use std::ffi::OsString;
use std::path::PathBuf;
use trackside_engine::Options;

/// Run the `trackside` command; answers the exit code.
#[pyfunction]
pub(crate) fn main(py: Python<'_>, argv: Vec<OsString>) -> PyResult<i32> {
    // An embedded interpreter may not know its own program: then the engine looks for one.
    let python: Option<PathBuf> = py.import("sys")?.getattr("executable")?.extract()?;
    let options = Options {
        python: python.filter(|path| !path.as_os_str().is_empty()),
        in_process: Some(in_process::factory()),
        ..Options::default()
    };
    // Detached for as long as the command runs: its threads attach when they call a model.
    Ok(py.detach(|| trackside_server::main(argv, options)))
}
