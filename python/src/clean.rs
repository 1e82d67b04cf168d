//! `clean`: the cleaners of a pipeline on a table that Python holds.

use crate::frames::{Batch, Offsets};
use crate::wrong;
use pyo3::prelude::*;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// Run the cleaners of a JSON list of blocks: (clean, dead, counts).
#[pyfunction]
pub(crate) fn clean(
    py: Python<'_>,
    batch: &Bound<'_, Batch>,
    blocks: &str,
    schema: &str,
) -> PyResult<(Batch, Batch, BTreeMap<String, u64>)> {
    let rows = batch.get().rows()?;
    let (schema, blocks) = (parsed("schema", schema)?, parsed("blocks", blocks)?);
    let cleaned = py.detach(|| trackside_engine::clean_batch(schema, blocks, &rows)).map_err(wrong)?;
    Ok((Batch::new(cleaned.rows, Offsets::From(0)), Batch::new(cleaned.dead, Offsets::From(0)), cleaned.counts))
}

fn parsed<T: DeserializeOwned>(name: &str, json: &str) -> PyResult<T> {
    serde_json::from_str(json).map_err(|error| wrong(format!("`{name}` cannot be read as JSON: {error}")))
}
