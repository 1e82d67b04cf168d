//! The four loops. Each has the same shape: read at a position, do, append once with that position.

pub(crate) mod clean;
pub(crate) mod deliver;
pub(crate) mod ingest;
pub(crate) mod model;
pub(crate) mod source;
