//! The integration tests of this crate, in one binary.

mod parquet;
mod sinks;
mod support;
