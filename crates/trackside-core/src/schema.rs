//! The layout of events: a time, the tags that name a series, typed fields.
//!
//! [`SchemaConfig`] is the `[schema]` table of a pipeline file; [`Layout`] is what it means for batches: the Arrow
//! schema of `received`, and where each tag and field stands in it.

use crate::error::ConfigError;
use crate::time::{TimeConfig, TimeReader};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Name of the time column.
pub const TIME: &str = "time";
/// Name of the column that keeps unknown keys, as JSON.
pub const EXTRA: &str = "extra";
/// Name of the column that keeps the protocol's or the payload's event id.
pub const EVENT_ID: &str = "event_id";
/// Most tags, and most fields, of a pipeline.
pub const MAX_COLUMNS: usize = 256;

/// `[schema]`: what an event looks like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaConfig {
    /// Where the event's time is and how it is written. Without it, events get the time of their arrival.
    #[serde(default)]
    pub time: Option<TimeConfig>,
    /// Tags that together name a series, in order; may be empty.
    #[serde(default)]
    pub series: Vec<String>,
    /// Fields by name, with their type.
    pub fields: IndexMap<String, FieldType>,
    /// What becomes of keys that are neither.
    #[serde(default)]
    pub unknown: Unknown,
    /// Key that holds an event id; a protocol's own id (an `Idempotency-Key`, an MQTT property) fills it as well.
    #[serde(default)]
    pub event_id: Option<String>,
}

/// Type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FieldType {
    /// 64-bit floating point.
    Float,
    /// 64-bit signed integer.
    Integer,
    /// UTF-8 text.
    String,
    /// true or false.
    Boolean,
}

impl FieldType {
    /// The Arrow type that holds it.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Float => DataType::Float64,
            Self::Integer => DataType::Int64,
            Self::String => DataType::Utf8,
            Self::Boolean => DataType::Boolean,
        }
    }
}

/// What becomes of keys that the schema does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// Kept as JSON in the column `extra`.
    #[default]
    Keep,
    /// Left out.
    Ignore,
    /// The event becomes a dead letter.
    Reject,
}

/// The Arrow type of every time column: ns since 1970, UTC.
pub fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

/// The Arrow type of tags: text by number, the numbers local to the batch.
pub fn tag_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// What `[schema]` means for batches. Columns stand in this order: time, tags, fields, event id, extra.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The configuration that it came from.
    pub config: SchemaConfig,
    /// The Arrow schema of `received`.
    pub schema: SchemaRef,
}

impl Layout {
    /// Checks names and lays the columns out.
    pub fn new(config: SchemaConfig) -> Result<Arc<Self>, ConfigError> {
        check(&config)?;
        let mut columns = vec![Field::new(TIME, time_type(), false)];
        columns.extend(config.series.iter().map(|tag| Field::new(tag, tag_type(), true)));
        columns.extend(config.fields.iter().map(|(name, kind)| Field::new(name, kind.arrow(), true)));
        if config.event_id.is_some() {
            columns.push(Field::new(EVENT_ID, DataType::Utf8, true));
        }
        if config.unknown == Unknown::Keep {
            columns.push(Field::new(EXTRA, DataType::Utf8, true));
        }
        Ok(Arc::new(Self { config, schema: Arc::new(Schema::new(columns)) }))
    }

    /// Names of the tags, in order.
    pub fn tags(&self) -> &[String] {
        &self.config.series
    }

    /// Column of the first tag.
    pub fn first_tag(&self) -> usize {
        1
    }

    /// Column of the first field.
    pub fn first_field(&self) -> usize {
        1 + self.config.series.len()
    }

    /// Number and type of a field, or an error that names the fields there are.
    pub fn field(&self, path: &str, name: &str) -> Result<(usize, FieldType), ConfigError> {
        match self.config.fields.get_full(name) {
            Some((index, _, kind)) => Ok((index, *kind)),
            None => Err(ConfigError::unknown(path, "field", name, self.config.fields.keys().map(String::as_str))),
        }
    }

    /// Number of a tag, or an error that names the tags there are.
    pub fn tag(&self, path: &str, name: &str) -> Result<usize, ConfigError> {
        self.config
            .series
            .iter()
            .position(|tag| tag == name)
            .ok_or_else(|| ConfigError::unknown(path, "tag", name, self.config.series.iter().map(String::as_str)))
    }

    /// Column of the event id, if the schema has one.
    pub fn event_id_column(&self) -> Option<usize> {
        self.schema.index_of(EVENT_ID).ok()
    }

    /// Column of the unknown keys, if they are kept.
    pub fn extra_column(&self) -> Option<usize> {
        self.schema.index_of(EXTRA).ok()
    }
}

fn check(config: &SchemaConfig) -> Result<(), ConfigError> {
    const RESERVED: [&str; 4] = [EXTRA, EVENT_ID, "received_offset", TIME];
    if let Some(time) = &config.time {
        // Sources read times with it; a mistake is told here, where it stands.
        TimeReader::new(time).map_err(|error| ConfigError { path: format!("time.{}", error.path), ..error })?;
    }
    if config.fields.is_empty() {
        return Err(ConfigError::new("fields", "the schema has no fields")
            .with_help("name at least one, for example `fields = { value = \"float\" }`"));
    }
    if config.fields.len().max(config.series.len()) > MAX_COLUMNS {
        return Err(ConfigError::new("fields", format!("more than {MAX_COLUMNS} columns"))
            .with_help("send what belongs together as rows of several series"));
    }
    let names =
        config.series.iter().map(|tag| ("series", tag)).chain(config.fields.keys().map(|field| ("fields", field)));
    let mut seen = std::collections::HashSet::new();
    for (path, name) in names {
        if name.is_empty() || name.starts_with('_') || name.chars().any(char::is_control) {
            return Err(ConfigError::new(path, format!("`{name}` cannot name a column"))
                .with_help("names are not empty and do not begin with `_`"));
        }
        if RESERVED.contains(&name.as_str()) || name.ends_with("_quality") || name.ends_with("_original") {
            return Err(ConfigError::new(path, format!("`{name}` is a name that Trackside gives itself"))
                .with_help("rename the key, or leave it out of the schema"));
        }
        if !seen.insert(name) {
            return Err(
                ConfigError::new(path, format!("`{name}` is named twice")).with_help("a key is a tag or a field, once")
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_in_the_order_of_the_file() {
        let config: SchemaConfig =
            serde_json::from_str(r#"{"series":["device"],"fields":{"value":"float","ok":"boolean"},"event_id":"id"}"#)
                .unwrap();
        let layout = Layout::new(config).unwrap();
        let names: Vec<_> = layout.schema.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names, ["time", "device", "value", "ok", "event_id", "extra"]);
        assert_eq!(layout.field("field", "valeu").unwrap_err().message, "unknown field `valeu`; did you mean `value`?");
    }

    #[test]
    fn a_time_that_nobody_can_read_is_told_where_it_stands() {
        let config = r#"{"time":{"field":"ts","zone":"Europe/Atlantis"},"fields":{"value":"float"}}"#;
        let error = Layout::new(serde_json::from_str(config).unwrap()).unwrap_err();
        assert_eq!((error.path.as_str(), error.message.as_str()), ("time.zone", "unknown time zone `Europe/Atlantis`"));
    }

    #[test]
    fn a_name_that_we_give_ourselves_is_refused() {
        let config: SchemaConfig = serde_json::from_str(r#"{"fields":{"value_quality":"float"}}"#).unwrap();
        assert!(Layout::new(config).unwrap_err().message.contains("gives itself"));
    }
}
