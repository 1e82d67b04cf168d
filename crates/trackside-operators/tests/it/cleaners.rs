//! What the tests of the cleaners share: building a chain from TOML, and rows from JSON.

use arrow::array::RecordBatch;
use serde_json::Value;
use std::sync::Arc;
use trackside_core::builder::EventBuilder;
use trackside_core::error::ConfigError;
use trackside_core::operator::{Operator, OperatorContext};
use trackside_core::schema::{FieldType, Layout};
use trackside_core::time::TimeReader;
use trackside_operators::clean;

/// The layout that a `[schema]` table means.
pub(crate) fn layout(schema: &str) -> Arc<Layout> {
    let table: toml::Table = toml::from_str(schema).unwrap();
    Layout::new(serde_json::to_value(&table["schema"]).and_then(serde_json::from_value).unwrap()).unwrap()
}

/// The `[[clean]]` blocks of a pipeline file: type and block, without the keys that every block may have.
pub(crate) fn blocks(toml: &str) -> Vec<(String, String, Value)> {
    let table: toml::Table = toml::from_str(toml).unwrap();
    let block = |block: &toml::Value| {
        let mut block = serde_json::to_value(block).unwrap();
        let keys = block.as_object_mut().unwrap();
        let kind = keys.shift_remove("type").unwrap().as_str().unwrap().to_owned();
        let name = keys.shift_remove("name").map_or(kind.clone(), |name| name.as_str().unwrap().to_owned());
        (kind, name, block)
    };
    table["clean"].as_array().unwrap().iter().map(block).collect()
}

/// Builds the chain of these blocks.
pub(crate) fn chain(
    blocks: &[(String, String, Value)],
    layout: &Layout,
) -> Result<Vec<Box<dyn Operator>>, ConfigError> {
    let build = |(kind, name, block): &(String, String, Value)| {
        clean::build(kind, block.clone(), &OperatorContext { name, layout })
    };
    blocks.iter().map(build).collect()
}

/// Rows of JSON objects as a batch, one line each.
pub(crate) fn rows(layout: &Arc<Layout>, lines: &str) -> RecordBatch {
    let mut builder = EventBuilder::new(layout.clone());
    let config = layout.config.time.clone();
    let reader = config.as_ref().map(|config| TimeReader::new(config).unwrap());
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let row: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        if let (Some(config), Some(reader)) = (&config, &reader) {
            let time = &row[&config.field];
            let time =
                time.as_i64().map_or_else(|| reader.text(time.as_str().unwrap()), |number| reader.integer(number));
            builder.time(time.unwrap());
        }
        for (number, tag) in layout.tags().iter().enumerate() {
            row[tag].as_str().into_iter().for_each(|text| builder.tag(number, text));
        }
        for (number, (field, kind)) in layout.config.fields.iter().enumerate() {
            set(&mut builder, number, *kind, &row[field]);
        }
        let id = layout.config.event_id.as_ref().and_then(|key| row[key].as_str());
        id.into_iter().for_each(|id| builder.event_id(id));
        builder.finish_row(0);
    }
    builder.finish()
}

fn set(builder: &mut EventBuilder, field: usize, kind: FieldType, value: &Value) {
    match (kind, value) {
        (_, Value::Null) => {}
        // What JSON cannot say, cases say in words.
        (FieldType::Float, Value::String(text)) => builder.float(field, text.parse().unwrap()),
        (FieldType::Float, value) => builder.float(field, value.as_f64().unwrap()),
        (FieldType::Integer, value) => builder.integer(field, value.as_i64().unwrap()),
        (FieldType::String, value) => builder.string(field, value.as_str().unwrap()),
        (FieldType::Boolean, value) => builder.boolean(field, value.as_bool().unwrap()),
    }
}
