//! The log, from the outside.

mod basics;
mod support;
