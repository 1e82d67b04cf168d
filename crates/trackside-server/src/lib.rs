//! The `trackside` command, the HTTP API and the live page.
//!
//! [`main`] is the whole command: the plain binary calls it, and so does the Python package, which adds models that run
//! inside the interpreter. [`http`] serves, [`views`] keep what the page shows; both only look at the engine's work.
//! This room speaks HTTP and to the terminal. It knows no component, opens no socket of a source, and never writes to
//! the log.

pub mod http;
pub mod views;
