//! Sinks: where rows leave. To add one: write its file and add its line to [`SINKS`].

pub mod stdout;

use trackside_core::component::{Component, schema_of};
use trackside_core::sink::BuildSink;

/// Every sink that there is.
pub const SINKS: &[Component<BuildSink>] = &[Component {
    name: "stdout",
    summary: "Prints rows to standard output, as JSON lines or as text. At most once: it prints what comes while it runs.",
    example: "type = \"stdout\"\ntopic = \"clean\"\nformat = \"text\"\n",
    schema: schema_of::<stdout::Config>,
    build: stdout::build,
}];
