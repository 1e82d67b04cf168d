//! The integration tests of this crate, in one binary.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod file;
mod generate;
mod host;
mod http;
mod json;
mod mqtt;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "nats")]
mod nats_server;
#[cfg(feature = "nats")]
mod nats_snapshots;
mod parquet;
mod sinks;
mod sources;
mod support;
mod webhook;
