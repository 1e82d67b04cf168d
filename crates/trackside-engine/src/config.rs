//! The pipeline file: what it may say, and what it means once checked.
//!
//! Everything is checked before anything starts: names, types, components' own settings, the schema they are used on.
//! All errors are reported at once, each with file, line, column and the fix.

mod diagnostic;
mod document;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use document::Place;

use crate::catalog::{self, logs::LogSection};
use document::Document;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use trackside_core::component;
use trackside_core::error::ConfigError;
use trackside_core::log::{Durability, LogError};
use trackside_core::position::{CLEAN, DEAD_LETTER, FORECASTS_PREFIX, RECEIVED, SCORES_PREFIX};
use trackside_core::schema::{Layout, SchemaConfig};
use trackside_core::time::Span;

/// Most partitions of a pipeline.
const MAX_PARTITIONS: u32 = 256;

/// `[pipeline]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineSection {
    /// Name of the pipeline.
    pub name: String,
    /// The data directory, relative to this file.
    #[serde(default = "default_data")]
    pub data: PathBuf,
    /// Partitions, fixed when the data directory is created. More partitions, more cores at work.
    #[serde(default = "default_partitions")]
    pub partitions: u32,
    /// Rows that cleaning may lag behind before sources that can pause are paused.
    #[serde(default = "default_max_lag")]
    pub max_lag: u64,
    /// How often time is logged as data, for operators that ask for it.
    #[serde(default = "default_tick")]
    pub tick: Span,
    /// How often operators and models save their state.
    #[serde(default = "default_snapshot")]
    pub snapshot_every: Span,
}

fn default_data() -> PathBuf {
    "data".into()
}
fn default_partitions() -> u32 {
    1
}
fn default_max_lag() -> u64 {
    500_000
}
fn default_tick() -> Span {
    Span(Duration::from_secs(10))
}
fn default_snapshot() -> Span {
    Span(Duration::from_secs(10))
}

/// `[retention]`: how much of the log is kept once everyone has read it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionSection {
    /// Bytes of each topic that are kept, in MiB.
    pub max_mib: u64,
    /// Room on the disk, in MiB, below which sources wait, so that tables, snapshots and retention can still work. By
    /// default 256, or a twentieth of a disk that is smaller than 5 GiB.
    pub reserve_mib: Option<u64>,
}

impl Default for RetentionSection {
    fn default() -> Self {
        Self { max_mib: 4096, reserve_mib: None }
    }
}

/// Where a model's code runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelMode {
    /// In a worker process of its own: a crash there stops nothing.
    #[default]
    Process,
    /// In this process: no second interpreter; a crash there stops ingest.
    InProcess,
}

/// A `[[model]]` block.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Name; its topics are `scores.<name>` and `forecasts.<name>`.
    pub name: String,
    /// `module:Name` or `file.py:name`, relative to this file.
    #[serde(rename = "use")]
    pub code: String,
    /// The field that it looks at; without `field` and `fields`, what the model's own code says.
    #[serde(default)]
    pub field: Option<String>,
    /// The fields that it looks at.
    #[serde(default)]
    pub fields: Vec<String>,
    /// Where it runs.
    #[serde(default)]
    pub mode: ModelMode,
    /// Longest time for one batch.
    #[serde(default = "default_deadline")]
    pub deadline: Span,
    /// Memory of a worker, in MiB, past which it is recycled between batches.
    #[serde(default = "default_memory")]
    pub memory_mib: u64,
    /// Most rows in one batch.
    #[serde(default = "default_batch")]
    pub max_batch: usize,
    /// Rows that may wait for it; beyond, the oldest are counted as skipped.
    #[serde(default = "default_backlog")]
    pub max_backlog: u64,
    /// Handed to the model as it stands.
    #[serde(default)]
    pub options: Map<String, Value>,
}

fn default_deadline() -> Span {
    Span(Duration::from_secs(30))
}
fn default_memory() -> u64 {
    1024
}
fn default_batch() -> usize {
    8192
}
fn default_backlog() -> u64 {
    10_000_000
}

impl ModelSection {
    /// Fields that the pipeline file names; empty when it leaves them to the model.
    pub fn named_fields(&self) -> Vec<String> {
        self.field.iter().chain(&self.fields).cloned().collect()
    }

    /// Its topic in the log.
    pub fn topic(&self) -> String {
        format!("{SCORES_PREFIX}{}", self.name)
    }
}

/// `[server]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSection {
    /// Address and port of page and API; port 0 picks a free one.
    pub listen: String,
}

impl Default for ServerSection {
    fn default() -> Self {
        Self { listen: "127.0.0.1:7878".into() }
    }
}

/// A block of a component: its type, its name, the rest for the component itself.
#[derive(Debug, Clone)]
pub struct Block {
    /// `type`.
    pub kind: String,
    /// `name`, by default the type, made unique by a number.
    pub name: String,
    /// For sinks: the topic read.
    pub topic: String,
    /// The component's own settings.
    pub settings: Value,
    /// Path of the block in the file, for errors.
    pub path: String,
}

impl Block {
    /// Whether both say the same, wherever they stand.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        (&self.kind, &self.name, &self.topic, &self.settings)
            == (&other.kind, &other.name, &other.topic, &other.settings)
    }
}

/// A pipeline file, checked.
#[derive(Debug)]
pub struct Pipeline {
    /// The file.
    pub file: PathBuf,
    /// Its folder.
    pub base: PathBuf,
    /// `[pipeline]`.
    pub pipeline: PipelineSection,
    /// Layout of the events.
    pub layout: Arc<Layout>,
    /// `[[source]]`.
    pub sources: Vec<Block>,
    /// `[[clean]]`.
    pub cleaners: Vec<Block>,
    /// `[[model]]`.
    pub models: Vec<ModelSection>,
    /// `[[sink]]`, and the table of dead letters that is always on.
    pub sinks: Vec<Block>,
    /// `[server]`.
    pub server: ServerSection,
    /// `[retention]`.
    pub retention: RetentionSection,
    /// `[log]`.
    pub log: LogSection,
    /// What the file said, to show where something stands.
    pub(crate) text: String,
}

impl Pipeline {
    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.base.join(&self.pipeline.data)
    }

    /// What an acknowledgement is worth, if the log is on servers; these are asked.
    pub fn log_durability(&self) -> Option<Result<Durability, LogError>> {
        catalog::logs::durability(&self.log, &self.data())
    }

    /// Errors found later, with their places in the file.
    pub(crate) fn explain(&self, errors: Vec<(String, ConfigError)>) -> Diagnostics {
        // It was parsed before; of a text that no longer is, the first line is shown.
        let document = Document::parse(&self.text).unwrap_or_default();
        let one = |(block, error): (String, ConfigError)| Diagnostic::new(&self.file, &document, &block, error);
        let mut found: Vec<Diagnostic> = errors.into_iter().map(one).collect();
        found.sort_by_key(|error| error.place);
        Diagnostics(found)
    }

    /// Reads and checks a pipeline file.
    pub fn load(file: &Path) -> Result<Self, Diagnostics> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            Diagnostics(vec![Diagnostic {
                file: file.into(),
                place: Place { line: 0, column: 0 },
                message: format!("the pipeline file cannot be read: {error}"),
                help: "`trackside init` writes one to start from".into(),
                source_line: String::new(),
            }])
        })?;
        Self::parse(file, &text)
    }

    /// Checks the text of a pipeline file; `file` says where relative paths start and what errors name.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Diagnostics> {
        let document = Document::parse(text).map_err(|(message, place)| {
            let source_line = text.lines().nth(place.line - 1).unwrap_or_default().to_owned();
            Diagnostics(vec![Diagnostic { file: file.into(), place, message, help: String::new(), source_line }])
        })?;
        let mut reader = Reader { file, document: &document, errors: Vec::new() };
        let pipeline = reader.pipeline();
        match pipeline {
            Some(pipeline) if reader.errors.is_empty() => Ok(pipeline),
            _ => {
                reader.errors.sort_by_key(|error| error.place);
                Err(Diagnostics(reader.errors))
            }
        }
    }
}

/// Goes through the document and gathers everything that is wrong with it.
struct Reader<'a> {
    file: &'a Path,
    document: &'a Document,
    errors: Vec<Diagnostic>,
}

const SECTIONS: [&str; 9] = ["pipeline", "schema", "source", "clean", "model", "sink", "server", "retention", "log"];

impl Reader<'_> {
    fn pipeline(&mut self) -> Option<Pipeline> {
        for key in self.document.root.keys().filter(|key| !SECTIONS.contains(&key.as_str())) {
            self.error("", ConfigError::unknown(key.as_str(), "section", key, SECTIONS));
        }
        let pipeline: Option<PipelineSection> = self.section("pipeline", true);
        let schema: Option<SchemaConfig> = self.section("schema", true);
        let server = self.section("server", false);
        let retention = self.section("retention", false);
        let layout = schema.and_then(|config| self.check("schema", Layout::new(config)));
        let base = self.file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf();
        let sources = self.blocks("source", "");
        let cleaners = self.blocks("clean", "");
        let models = self.models();
        let mut sinks = self.blocks("sink", CLEAN);
        let name = pipeline.as_ref().map_or("", |pipeline| pipeline.name.as_str());
        let log = self.check("log", catalog::logs::section(self.document.root.get("log"), &base, name));
        let (pipeline, layout, log) = (pipeline?, layout?, log?);
        if !(1..=MAX_PARTITIONS).contains(&pipeline.partitions) {
            self.error(
                "pipeline",
                ConfigError::new(
                    "partitions",
                    format!("{} partitions; choose 1 to {MAX_PARTITIONS}", pipeline.partitions),
                ),
            );
        }
        self.topics(&sinks, &models);
        if !sinks.iter().any(|sink| sink.kind == "parquet" && sink.topic == DEAD_LETTER) {
            // Law 3: rejected rows end in a table, asked for or not.
            sinks.push(Block {
                kind: "parquet".into(),
                name: DEAD_LETTER.into(),
                topic: DEAD_LETTER.into(),
                settings: Value::Object(Map::new()),
                path: "sink".into(),
            });
        }
        let checked = Pipeline {
            file: self.file.into(),
            base,
            pipeline,
            layout,
            sources,
            cleaners,
            models,
            sinks,
            server: server.unwrap_or_default(),
            retention: retention.unwrap_or_default(),
            log,
            text: self.document.text.clone(),
        };
        for (block, error) in catalog::check(&checked) {
            self.error(&block, error);
        }
        Some(checked)
    }

    fn error(&mut self, block: &str, error: ConfigError) {
        self.errors.push(Diagnostic::new(self.file, self.document, block, error));
    }

    fn check<T>(&mut self, block: &str, result: Result<T, ConfigError>) -> Option<T> {
        result.map_err(|error| self.error(block, error)).ok()
    }

    fn section<T: serde::de::DeserializeOwned>(&mut self, name: &str, required: bool) -> Option<T> {
        match self.document.root.get(name) {
            Some(value) => self.check(name, component::config(value.clone())),
            None if required => {
                let error = ConfigError::new("", format!("`[{name}]` is missing"))
                    .with_help("`trackside init` writes a pipeline file to start from");
                self.error("", error);
                None
            }
            None => None,
        }
    }

    fn tables(&mut self, section: &str) -> Vec<(String, Map<String, Value>)> {
        let items = match self.document.root.get(section) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items.clone(),
            Some(_) => {
                let error = ConfigError::new(section, format!("`{section}` is a list of blocks"))
                    .with_help(format!("write `[[{section}]]` with two brackets"));
                self.error("", error);
                return Vec::new();
            }
        };
        let table = |(index, item): (usize, Value)| match item {
            Value::Object(table) => Some((format!("{section}[{index}]"), table)),
            _ => None,
        };
        items.into_iter().enumerate().filter_map(table).collect()
    }

    fn blocks(&mut self, section: &str, default_topic: &str) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        for (path, mut table) in self.tables(section) {
            let Some(kind) = self.text(&path, &mut table, "type") else {
                self.error(
                    &path,
                    ConfigError::new("", "`type` is missing").with_help("`trackside components` lists what there is"),
                );
                continue;
            };
            let named = self.text(&path, &mut table, "name");
            let topic = if section == "sink" { self.text(&path, &mut table, "topic") } else { None };
            let name = self.unique(&path, &blocks, named, &kind);
            let topic = topic.unwrap_or_else(|| default_topic.to_owned());
            blocks.push(Block { kind, name, topic, settings: Value::Object(table), path });
        }
        blocks
    }

    fn unique(&mut self, path: &str, blocks: &[Block], named: Option<String>, kind: &str) -> String {
        let taken = |name: &str| blocks.iter().any(|block| block.name == name);
        match named {
            Some(name) if taken(&name) => {
                self.error(
                    path,
                    ConfigError::new("name", format!("two blocks are named `{name}`"))
                        .with_help("state and counts are kept by name: give each its own"),
                );
                name
            }
            Some(name) => name,
            None if !taken(kind) => kind.to_owned(),
            None => (2..).map(|n| format!("{kind}-{n}")).find(|name| !taken(name)).unwrap_or_default(),
        }
    }

    fn text(&mut self, path: &str, table: &mut Map<String, Value>, key: &str) -> Option<String> {
        match table.remove(key)? {
            Value::String(text) if is_name(&text) || key == "topic" => Some(text),
            Value::String(text) => {
                let help = "letters, digits, `-`, `_` and `.`; it becomes part of file names";
                self.error(path, ConfigError::new(key, format!("`{text}` cannot be a {key}")).with_help(help));
                None
            }
            other => {
                self.error(path, ConfigError::new(key, format!("`{key}` is a text, not {other}")));
                None
            }
        }
    }

    fn models(&mut self) -> Vec<ModelSection> {
        let mut models: Vec<ModelSection> = Vec::new();
        for (path, table) in self.tables("model") {
            let Some(model) = self.check(&path, component::config::<ModelSection>(Value::Object(table))) else {
                continue;
            };
            if !is_name(&model.name) {
                self.error(
                    &path,
                    ConfigError::new("name", format!("`{}` cannot be a name", model.name))
                        .with_help("letters, digits, `-`, `_` and `.`"),
                );
            }
            if models.iter().any(|other| other.name == model.name) {
                self.error(
                    &path,
                    ConfigError::new("name", format!("two models are named `{}`", model.name))
                        .with_help("give each its own name"),
                );
            }
            if model.max_batch == 0 {
                self.error(&path, ConfigError::new("max_batch", "a batch has at least one row"));
            }
            models.push(model);
        }
        models
    }

    fn topics(&mut self, sinks: &[Block], models: &[ModelSection]) {
        let mut known = vec![RECEIVED.to_owned(), CLEAN.to_owned(), DEAD_LETTER.to_owned()];
        known.extend(models.iter().flat_map(|model| [model.topic(), format!("{FORECASTS_PREFIX}{}", model.name)]));
        for (index, sink) in sinks.iter().enumerate().filter(|(_, sink)| sink.kind == "parquet") {
            let same = |other: &Block| {
                (&other.kind, &other.topic, other.settings.get("path"))
                    == (&sink.kind, &sink.topic, sink.settings.get("path"))
            };
            if sinks[..index].iter().any(same) {
                let error = ConfigError::new("topic", format!("`{}` has two tables in one folder", sink.topic));
                self.error(&sink.path, error.with_help("leave one out, or give it its own `path`"));
            }
        }
        for sink in sinks.iter().filter(|sink| !known.contains(&sink.topic)) {
            self.error(
                &sink.path,
                ConfigError::unknown("topic", "topic", &sink.topic, known.iter().map(String::as_str)),
            );
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 100
        && !text.starts_with('.')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}
