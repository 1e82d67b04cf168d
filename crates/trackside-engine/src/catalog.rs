//! The only place that names components: it turns blocks of the pipeline file into sources, cleaners and sinks.

pub(crate) mod logs;

/// What [`crate::stepped`] drives by hand.
#[cfg(feature = "testing")]
pub(crate) mod stepped {
    pub(crate) use trackside_connectors::logs::embedded::Embedded;
    pub(crate) use trackside_connectors::sinks::parquet::Parquet;
}

use crate::config::{Block, Pipeline};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use trackside_connectors::logs::embedded::{self, Embedded};
pub(crate) use trackside_connectors::logs::inspect as log_inspect;
use trackside_connectors::logs::nats::{self, Home, Nats};
use trackside_connectors::sinks::SINKS;
pub(crate) use trackside_connectors::sinks::files::Files;
#[cfg(fuzzing)]
pub(crate) use trackside_connectors::snapshots;
pub(crate) use trackside_connectors::snapshots::files::FileStore;
pub(crate) use trackside_connectors::snapshots::{Snapshot, Snapshots, Store};
use trackside_connectors::sources::SOURCES;
use trackside_connectors::sources::http::HttpSource;
pub use trackside_connectors::sources::http::{Mount, PATHS as MOUNTED};
use trackside_core::component::{Component, find, schema_of};
use trackside_core::error::ConfigError;
use trackside_core::log::LogError;
use trackside_core::operator::{Operator, OperatorContext};
use trackside_core::schema::Layout;
use trackside_core::sink::{Sink, SinkContext};
use trackside_core::source::{Door, Source, SourceContext};
use trackside_operators::CLEANERS;

/// What a component tells about itself.
#[derive(Debug, serde::Serialize)]
pub struct Listing {
    /// `source`, `cleaner` or `sink`.
    pub kind: &'static str,
    /// Its `type`.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// A block that works as it stands.
    pub example: &'static str,
    /// JSON Schema of its block.
    pub schema: Value,
}

/// Every component there is.
pub fn listing() -> Vec<Listing> {
    fn list<B>(kind: &'static str, components: &'static [Component<B>]) -> impl Iterator<Item = Listing> {
        components.iter().map(move |c| Listing {
            kind,
            name: c.name,
            summary: c.summary,
            example: c.example,
            schema: (c.schema)().to_value(),
        })
    }
    list("source", SOURCES).chain(list("cleaner", CLEANERS)).chain(list("sink", SINKS)).collect()
}

/// Builds a source.
pub(crate) fn source(block: &Block, layout: &Arc<Layout>, base: &Path) -> Result<Box<dyn Source>, ConfigError> {
    let context = SourceContext { name: &block.name, layout, base };
    (find(SOURCES, "source", &block.kind)?.build)(block.settings.clone(), &context)
}

/// Routes of a source that is served by the server's own port.
pub(crate) fn mount(
    block: &Block,
    layout: &Arc<Layout>,
    base: &Path,
    door: Arc<dyn Door>,
) -> Result<Mount, ConfigError> {
    let context = SourceContext { name: &block.name, layout, base };
    Ok(HttpSource::from_block(block.settings.clone(), &context)?.router(door))
}

/// Takes a data directory for this process, until what is returned is dropped.
pub(crate) fn lock(data: &Path) -> Result<Box<dyn Send + Sync>, LogError> {
    Ok(Box::new(embedded::lock(data)?))
}

/// Whether a source is served by the server's own port.
pub(crate) fn is_mounted(block: &Block) -> bool {
    block.kind == "http" && block.settings.get("listen").is_none_or(Value::is_null)
}

/// Builds one partition's chain of cleaners.
pub(crate) fn chain(blocks: &[Block], layout: &Layout) -> Result<Vec<Box<dyn Operator>>, (String, ConfigError)> {
    let build = |block: &Block| {
        let context = OperatorContext { name: &block.name, layout };
        find(CLEANERS, "cleaner", &block.kind)
            .and_then(|component| (component.build)(block.settings.clone(), &context))
            .map_err(|error| (block.path.clone(), error))
    };
    blocks.iter().map(build).collect()
}

/// Builds a sink for one partition of a topic.
pub(crate) fn sink(block: &Block, context: &SinkContext<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    (find(SINKS, "sink", &block.kind)?.build)(block.settings.clone(), context)
}

/// Everything wrong with a pipeline's components, by block.
pub(crate) fn check(pipeline: &Pipeline) -> Vec<(String, ConfigError)> {
    let mut errors = Vec::new();
    for block in &pipeline.sources {
        errors.extend(source(block, &pipeline.layout, &pipeline.base).err().map(|error| (block.path.clone(), error)));
    }
    for block in pipeline.sources.iter().filter(|block| is_mounted(block)).skip(1) {
        let error = ConfigError::new("type", "two http sources share the server's port")
            .with_help("give all but one a `listen` address of their own, such as `127.0.0.1:8086`");
        errors.push((block.path.clone(), error));
    }
    for block in &pipeline.cleaners {
        errors.extend(chain(std::slice::from_ref(block), &pipeline.layout).err());
    }
    for block in &pipeline.sinks {
        let data = pipeline.data();
        let context = SinkContext {
            name: &block.name,
            topic: &block.topic,
            origin: &block.topic,
            partition: 0,
            data: &data,
            base: &pipeline.base,
            schema: None,
        };
        errors.extend(sink(block, &context).err().map(|error| (block.path.clone(), error)));
    }
    for (index, model) in pipeline.models.iter().enumerate() {
        for field in model.named_fields() {
            let path = if model.field.as_deref() == Some(field.as_str()) { "field" } else { "fields" };
            errors.extend(pipeline.layout.field(path, &field).err().map(|error| (format!("model[{index}]"), error)));
        }
    }
    errors
}

/// The JSON Schema of a pipeline file, for editors.
pub fn schema() -> Value {
    fn blocks<B>(components: &[Component<B>], common: &Value) -> Value {
        let one = |component: &Component<B>| {
            let mut schema = (component.schema)().to_value();
            if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
                properties.insert("type".into(), json!({ "const": component.name, "description": component.summary }));
                properties.extend(common.as_object().cloned().unwrap_or_default());
            } else if let Some(object) = schema.as_object_mut() {
                object.insert("properties".into(), json!({ "type": { "const": component.name } }));
            }
            schema
        };
        json!({ "type": "array", "items": { "oneOf": components.iter().map(one).collect::<Vec<_>>() } })
    }
    let name = json!({ "name": { "type": "string" } });
    let sink = json!({ "name": { "type": "string" }, "topic": { "type": "string" } });
    let section = |schema: schemars::Schema| schema.to_value();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Trackside pipeline",
        "type": "object",
        "required": ["pipeline", "schema"],
        "additionalProperties": false,
        "properties": {
            "pipeline": section(schema_of::<crate::config::PipelineSection>()),
            "schema": section(schema_of::<trackside_core::schema::SchemaConfig>()),
            "source": blocks(SOURCES, &name),
            "clean": blocks(CLEANERS, &name),
            "model": { "type": "array", "items": section(schema_of::<crate::config::ModelSection>()) },
            "sink": blocks(SINKS, &sink),
            "server": section(schema_of::<crate::config::ServerSection>()),
            "log": logs::schema(),
            "retention": section(schema_of::<crate::config::RetentionSection>()),
        }
    })
}
