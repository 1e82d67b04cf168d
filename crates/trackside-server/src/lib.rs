//! The `trackside` command, the HTTP API and the live page.
//!
//! [`main`] is the whole command: the plain binary calls it, and so does the Python package, which adds models that run
//! inside the interpreter. [`http`] serves, [`views`] keep what the page shows; both only look at the engine's work.
//! This room speaks HTTP and to the terminal. It knows no component, opens no socket of a source, and never writes to
//! the log.

mod cli;
pub mod http;
pub mod views;

use std::ffi::OsString;

/// Runs the command with these arguments, the program's name first; the exit code.
///
/// SIGINT and SIGTERM are taken while a pipeline runs; for other commands a host such as Python should leave SIGINT its
/// default, so that Ctrl-C ends them.
pub fn main(arguments: impl IntoIterator<Item = OsString>, options: trackside_engine::Options) -> i32 {
    cli::main(arguments, options)
}
