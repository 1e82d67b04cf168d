//! Sinks: where rows leave. To add one: write its file and add its line to [`SINKS`].

pub mod files;
pub mod parquet;
pub mod predicate;
pub mod stdout;
pub mod webhook;

use trackside_core::component::{Component, schema_of};
use trackside_core::sink::BuildSink;

/// Every sink that there is.
pub const SINKS: &[Component<BuildSink>] = &[
    Component {
        name: "parquet",
        summary: "Keeps rows in tables: Parquet files by day of event time, every row exactly once.",
        example: "type = \"parquet\"\ntopic = \"clean\"\nage = \"60s\"\n",
        schema: schema_of::<parquet::Config>,
        build: parquet::build,
    },
    Component {
        name: "stdout",
        summary: "Prints rows to standard output, as JSON lines or as text. At most once: it prints what comes while it runs.",
        example: "type = \"stdout\"\ntopic = \"clean\"\nformat = \"text\"\n",
        schema: schema_of::<stdout::Config>,
        build: stdout::build,
    },
    Component {
        name: "webhook",
        summary: "Posts rows, or those that match a condition, to an HTTP address. At least once, with an idempotency key.",
        example: "type = \"webhook\"\ntopic = \"scores.anomaly\"\nurl = \"http://localhost:8080/alerts\"\nwhere = \"anomaly\"\n",
        schema: schema_of::<webhook::Config>,
        build: webhook::build,
    },
];
