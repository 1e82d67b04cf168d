//! Cleaning without a pipeline: the same chain, in one go, over a table that somebody holds.
//!
//! A model is trained on what this answers and later sees what the running pipeline answers; both are made by the one
//! [`Chain`]. The rows are taken for one partition, in order of arrival.

use crate::catalog;
use crate::config::Block;
use crate::ledger::{add, names};
use crate::run::clean::Chain;
use crate::wall::now;
use arrow::array::{ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampNanosecondType};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use trackside_core::component;
use trackside_core::dead_letter;
use trackside_core::error::{ConfigError, Failure};
use trackside_core::schema::{Layout, TIME};

/// A table after the chain.
#[derive(Debug)]
pub struct CleanBatch {
    /// What is left, in the layout of `clean`; `received_offset` is the row's number in the table.
    pub rows: RecordBatch,
    /// What was rejected, in the layout of `dead-letter`.
    pub dead: RecordBatch,
    /// `received`, `clean`, `dead`, and `filtered.<name>` for each rule that dropped rows.
    pub counts: BTreeMap<String, u64>,
}

/// Sends a table through the cleaners of `blocks`, which are `[[clean]]` blocks as JSON; `schema` is a `[schema]` as JSON.
///
/// Columns are found by name and converted to the schema's types; a field that the table lacks is null in all rows.
pub fn clean_batch(schema: Value, blocks: Vec<Value>, table: &RecordBatch) -> Result<CleanBatch, Failure> {
    let config = component::config(schema).map_err(|error| in_words("schema", &error))?;
    let layout = Layout::new(config).map_err(|error| in_words("schema", &error))?;
    let blocks = self::blocks(blocks).map_err(|(path, error)| in_words(&path, &error))?;
    let operators = catalog::chain(&blocks, &layout).map_err(|(path, error)| in_words(&path, &error))?;
    let rows = fitted(&layout, table)?;
    let received = rows.num_rows() as u64;
    let cleaned = Chain::new(&layout, operators).process(rows, (0..received).collect())?;
    let mut counts = BTreeMap::new();
    add(&mut counts, names::RECEIVED, received);
    add(&mut counts, names::CLEAN, cleaned.rows.num_rows() as u64);
    add(&mut counts, names::DEAD, cleaned.dead.len() as u64);
    for (rule, count) in &cleaned.filtered {
        add(&mut counts, &format!("{}{rule}", names::FILTERED), *count);
    }
    Ok(CleanBatch { rows: cleaned.rows, dead: dead_letter::batch(&cleaned.dead, now()), counts })
}

/// Blocks of JSON in the form that the catalogue builds from; the names are made as in a pipeline file.
fn blocks(given: Vec<Value>) -> Result<Vec<Block>, (String, ConfigError)> {
    let mut blocks: Vec<Block> = Vec::new();
    for (index, value) in given.into_iter().enumerate() {
        let path = format!("clean[{index}]");
        let wrong = |key: &str, message: &str| (path.clone(), ConfigError::new(key, message));
        let Value::Object(mut table) = value else { return Err(wrong("", "a block is a table of keys and values")) };
        let Some(Value::String(kind)) = table.remove("type") else { return Err(wrong("type", "`type` is missing")) };
        let taken = |name: &str| blocks.iter().any(|block| block.name == name);
        let name = match table.remove("name") {
            Some(Value::String(name)) if taken(&name) => return Err(wrong("name", "two blocks have the same name")),
            Some(Value::String(name)) => name,
            Some(_) => return Err(wrong("name", "`name` is a text")),
            None if !taken(&kind) => kind.clone(),
            None => (2..).map(|n| format!("{kind}-{n}")).find(|name| !taken(name)).unwrap_or_default(),
        };
        blocks.push(Block { kind, name, topic: String::new(), settings: Value::Object(table), path });
    }
    Ok(blocks)
}

/// The table's columns in the layout of `received`.
pub(crate) fn fitted(layout: &Layout, table: &RecordBatch) -> Result<RecordBatch, Failure> {
    let column = |field: &Arc<arrow::datatypes::Field>| -> Result<ArrayRef, Failure> {
        let (name, kind) = (field.name(), field.data_type());
        let unfit = |error: &dyn std::fmt::Display| Failure::reject(format!("column `{name}` is no {kind}: {error}"));
        match table.column_by_name(name) {
            Some(column) if name == TIME => times(column).map_err(|error| unfit(&error)),
            Some(column) if column.data_type() == kind => Ok(column.clone()),
            Some(column) => cast(column, kind).map_err(|error| unfit(&error)),
            None if field.is_nullable() => Ok(new_null_array(kind, table.num_rows())),
            None => Err(Failure::reject(format!("the table has no column `{name}`"))),
        }
    };
    let columns = layout.schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(layout.schema.clone(), columns)
        .map_err(|error| Failure::reject(format!("the table does not fit the schema: {error}")))
}

/// Times of any zone and unit (a zone says how to print an instant, not which it is), or integer ns.
fn times(column: &ArrayRef) -> Result<ArrayRef, arrow::error::ArrowError> {
    let zone = match column.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let times = cast(column, &DataType::Timestamp(TimeUnit::Nanosecond, zone))?;
    Ok(Arc::new(times.as_primitive::<TimestampNanosecondType>().clone().with_timezone("UTC")))
}

fn in_words(block: &str, error: &ConfigError) -> Failure {
    let dot = if error.path.is_empty() { "" } else { "." };
    let help = if error.help.is_empty() { String::new() } else { format!("; {}", error.help) };
    Failure::reject(format!("{block}{dot}{}: {}{help}", error.path, error.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use trackside_core::testing::events;

    fn schema() -> Value {
        json!({"series": ["device"], "fields": {"value": "float", "unit": "string"}, "unknown": "ignore"})
    }

    #[test]
    fn a_table_is_cleaned_as_a_pipeline_would() {
        let range = |action: &str| json!({"type": "range", "field": "value", "min": 0, "max": 10, "action": action});
        let table = events(&[(0, "a", 1.0), (1, "a", 99.0), (2, "b", 3.0)]);
        let cleaned = clean_batch(schema(), vec![range("mark")], &table).unwrap();
        assert_eq!((cleaned.rows.num_rows(), cleaned.counts["clean"]), (3, 3));
        assert!(cleaned.rows.column_by_name("value_quality").is_some());
        assert_eq!(cleaned.rows.column_by_name("unit").unwrap().null_count(), 3);
        let cleaned = clean_batch(schema(), vec![range("mark"), range("drop")], &table).unwrap();
        assert_eq!((cleaned.rows.num_rows(), cleaned.counts["filtered.range-2"]), (2, 1));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let table = events(&[(0, "a", 1.0)]);
        let said = |schema: Value, block: Value| clean_batch(schema, vec![block], &table).unwrap_err().to_string();
        assert!(said(schema(), json!({"type": "rnage"})).contains("did you mean `range`?"));
        let limit = said(schema(), json!({"type": "range", "field": "valeu", "min": 0, "max": 1}));
        assert!(limit.starts_with("clean[0].field: ") && limit.contains("`value`"), "{limit}");
        assert!(said(json!({"fields": {}}), json!({"type": "range"})).starts_with("schema.fields: "));
    }
}
