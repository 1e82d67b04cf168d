//! Sinks: where rows leave. To add one: write its file and add it to [`SINKS`].

pub mod files;
pub mod parquet;
pub mod predicate;
pub mod stdout;
pub mod webhook;

use trackside_core::component::Component;
use trackside_core::sink::BuildSink;

/// Every sink that there is.
pub const SINKS: &[Component<BuildSink>] = &[parquet::COMPONENT, stdout::COMPONENT, webhook::COMPONENT];
