//! Files: CSV, NDJSON or line protocol, read once, followed as they grow, or replayed at their own pace.
//!
//! Guarantee: exactly once. The position is the byte behind the last whole record, by file; a file is known by its
//! beginning and its path, or where it is followed by its beginning and its inode. So a restart goes on in the same
//! record, a rotated log is read to its end, and a truncated one from its new beginning, whatever it begins with
//! (`copytruncate` works when the pattern does not match the copy). With a time in `[schema]`,
//! events without one are dead letters, for the same file must always give the same rows.
//!
//! `path` may hold `*` and `?` in its last part; several files are read in the order of their names. `.gz` and `.zst`
//! are unpacked (not when followed). An incomplete last line waits for its end when followed, else it is taken.
//!
//! ```toml
//! [[source]]
//! type = "file"
//! path = "history/*.csv"
//! mode = "replay"               # or "once", "follow"
//! speed = 60                    # an hour in a minute
//! ```

use super::again;
use super::follow::follow;
use super::hand_over;
use super::pace::{Mark, Pace};
use super::streams::Streams;
use super::tail::{Next, Tail, encoding, unreadable};
use crate::formats::body::Encoding;
use crate::formats::{
    Decoder, Format, MAX_RECORD, Mapping, Place, Precision, csv::Csv, json::Json, line_protocol::LineProtocol, reject,
};
use arrow::array::RecordBatch;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trackside_core::builder::EventBuilder;
use trackside_core::component::{Component, config, schema_of};
use trackside_core::dead_letter::DeadLetter;
use trackside_core::error::{ConfigError, Failure};
use trackside_core::position::Span as Part;
use trackside_core::source::{BuildSource, Door, Guarantee, Source, SourceContext, SourceState};
use trackside_core::time::Span;

/// Most records of one delivery.
const MAX_RECORDS: usize = 8192;
/// Most records that wait for their time at once.
const MAX_PACED: usize = 1024;
/// Most files of a pattern.
const MAX_FILES: usize = 1000;

/// Its line in the list.
pub(super) const COMPONENT: Component<BuildSource> = Component {
    name: "file",
    summary: "Reads CSV, NDJSON or line protocol files: once, as they grow, or replayed at N times their own pace.",
    example: r#"[[source]]
type = "file"
path = "events.ndjson"
"#,
    schema: schema_of::<Config>,
    build,
};

/// The keys of a `file` block.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file, or a pattern with `*` and `?` in its last part; relative to the pipeline file.
    pub path: String,
    /// Format of the records. Default: by the file's extension.
    #[serde(default)]
    pub format: Option<Format>,
    /// How it is read.
    #[serde(default)]
    pub mode: Mode,
    /// For `replay`: so many times faster than the events happened. Default: 1.
    #[serde(default)]
    pub speed: Option<f64>,
    /// For `once`: at most so many records a second.
    #[serde(default)]
    pub rate: Option<f64>,
    /// CSV: the character between cells; `"\t"` for a tab. Default: by the header row.
    #[serde(default)]
    pub delimiter: Option<String>,
    /// CSV: names of the columns, for files without a header row.
    #[serde(default)]
    pub columns: Vec<String>,
    /// Line protocol: unit of the timestamps. Default: ns.
    #[serde(default)]
    pub precision: Option<Precision>,
    /// For `follow`: how often is looked for growth.
    #[serde(default = "quarter_second")]
    pub poll: Span,
    /// Tags of all events.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

fn quarter_second() -> Span {
    Span(std::time::Duration::from_millis(250))
}

/// How files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// From beginning to end, as fast as possible.
    #[default]
    Once,
    /// As they grow, for ever.
    Follow,
    /// From beginning to end, at the pace of the events' own time.
    Replay,
}

/// Builds the source.
pub fn build(block: serde_json::Value, context: &SourceContext<'_>) -> Result<Box<dyn Source>, ConfigError> {
    let config: Config = config(block)?;
    check(&config)?;
    let mapping = Mapping::new(context.layout, context.name, &config.tags)?.with_time_required();
    let source = File { path: context.base.join(&config.path), mapping: Arc::new(mapping), config };
    if !source.is_pattern() {
        source.decoder(&source.path)?;
        if source.config.mode != Mode::Follow {
            std::fs::File::open(&source.path)
                .and_then(|file| file.metadata())
                .and_then(|file| if file.is_dir() { Err(std::io::ErrorKind::IsADirectory.into()) } else { Ok(()) })
                .map_err(|error| ConfigError::new("path", unreadable(&source.path, &error).message))?;
        }
    }
    Ok(Box::new(source))
}

fn check(config: &Config) -> Result<(), ConfigError> {
    let other = |key: &str, mode: &str| {
        ConfigError::new(key, format!("`{key}` is for `mode = \"{mode}\"`")).with_help("set the mode, or leave it out")
    };
    if config.speed.is_some() && config.mode != Mode::Replay {
        return Err(other("speed", "replay"));
    }
    if config.rate.is_some() && config.mode != Mode::Once {
        return Err(other("rate", "once"));
    }
    for (key, number) in [("speed", config.speed), ("rate", config.rate)] {
        if number.is_some_and(|number| !(number.is_finite() && number > 0.0)) {
            return Err(ConfigError::new(key, format!("`{key}` must be a number above 0")));
        }
    }
    if config.delimiter.as_ref().is_some_and(|text| text.len() != 1 || text == "\"" || text == "\n") {
        return Err(
            ConfigError::new("delimiter", "the delimiter must be one character").with_help("such as `,`, `;` or `\\t`")
        );
    }
    if config.mode == Mode::Follow && encoding(Path::new(&config.path)) != Encoding::Identity {
        return Err(ConfigError::new("mode", "a packed file cannot be followed").with_help("use `mode = \"once\"`"));
    }
    Ok(())
}

/// The format that a file's name tells.
fn format_of(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let name = [".gz", ".zst", ".zstd"].iter().find_map(|packed| name.strip_suffix(packed)).unwrap_or(&name);
    match name.rsplit_once('.')?.1 {
        "csv" | "tsv" => Some(Format::Csv),
        "json" | "ndjson" | "jsonl" => Some(Format::Json),
        "lp" | "line" => Some(Format::LineProtocol),
        _ => None,
    }
}

pub(super) struct File {
    pub(super) config: Config,
    pub(super) path: PathBuf,
    pub(super) mapping: Arc<Mapping>,
}

impl Source for File {
    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn finite(&self) -> bool {
        self.config.mode != Mode::Follow
    }

    fn decode_again(&mut self, letter: &DeadLetter, event: bool, arrival: i64) -> Result<RecordBatch, String> {
        if event {
            return again::json(&self.mapping, letter, arrival);
        }
        let mut decoder = self.decoder(&self.path).map_err(|error| error.message)?;
        again::with(&mut *decoder, &self.mapping, letter, arrival)
    }

    fn run(&mut self, door: Arc<dyn Door>) -> Result<(), Failure> {
        let door = &*door;
        door.state(SourceState::Running, None);
        if self.config.mode == Mode::Follow {
            return follow(self, door);
        }
        let (resume, mut streams) = (door.resume(), Streams::default());
        let mut pace = match (self.config.mode, self.config.rate) {
            (Mode::Replay, _) => Some(Pace::replay(self.config.speed.unwrap_or(1.0))),
            (_, rate) => rate.map(Pace::rate),
        };
        for path in self.paths()? {
            let (label, decoder) = (self.label(&path), self.open_decoder(&path)?);
            let Some(mut tail) = Tail::open(&path, Some(&label), &mut streams, &resume, decoder)? else {
                continue;
            };
            let mut reading = Reading::new(&self.mapping, door);
            while let Some(whole) = reading.step(&mut tail, true, pace.as_mut())? {
                if !whole {
                    return Ok(());
                }
            }
        }
        streams.forget_read(door);
        Ok(())
    }
}

impl File {
    fn is_pattern(&self) -> bool {
        self.config.path.contains(['*', '?'])
    }

    /// The files that there are now, by name.
    pub(super) fn paths(&self) -> Result<Vec<PathBuf>, Failure> {
        if !self.is_pattern() {
            return Ok(vec![self.path.clone()]);
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let pattern = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let entries = std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.is_file() && path.file_name().and_then(|n| n.to_str()).is_some_and(|n| matches(pattern, n))
            })
            .collect();
        paths.sort();
        if paths.len() > MAX_FILES {
            let (path, count) = (self.path.display(), paths.len());
            return Err(Failure::stop(format!(
                "`{path}` matches {count} files, more than {MAX_FILES}; narrow the pattern"
            )));
        }
        if paths.is_empty() && self.config.mode != Mode::Follow {
            return Err(Failure::stop(format!("no file matches `{}`; correct `path`", self.path.display())));
        }
        Ok(paths)
    }

    /// The path as the pipeline file leads to it: the same wherever the folder stands.
    fn label(&self, path: &Path) -> String {
        let given = Path::new(&self.config.path);
        let name = path.file_name().unwrap_or_default();
        given.parent().map_or_else(|| PathBuf::from(name), |folder| folder.join(name)).to_string_lossy().into_owned()
    }

    pub(super) fn open_decoder(&self, path: &Path) -> Result<Box<dyn Decoder>, Failure> {
        self.decoder(path).map_err(|error| Failure::stop(format!("{}; {}", error.message, error.help)))
    }

    fn decoder(&self, path: &Path) -> Result<Box<dyn Decoder>, ConfigError> {
        let config = &self.config;
        let format = config.format.or_else(|| format_of(path)).ok_or_else(|| {
            ConfigError::new("path", format!("cannot tell the format of `{}` by its name", path.display()))
                .with_help("add `format = \"csv\"`, `\"json\"` or `\"line_protocol\"`")
        })?;
        Ok(match format {
            Format::Json => Box::new(Json::new(self.mapping.clone())),
            Format::Csv => {
                let delimiter = config.delimiter.as_ref().map(|text| text.as_bytes()[0]);
                let csv = Csv::new(self.mapping.clone(), delimiter, &config.columns);
                Box::new(csv.map_err(|what| ConfigError::new("columns", what))?)
            }
            Format::LineProtocol => {
                let mut lines = LineProtocol::new(self.mapping.clone());
                lines.precision = config.precision.unwrap_or(lines.precision);
                Box::new(lines)
            }
        })
    }
}

/// Whether a name fits a pattern of `*` (any text) and `?` (any character).
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.chars().next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = &pattern[1..];
            name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| matches(rest, &name[at..]))
        }
        Some(first) => {
            let mut letters = name.chars();
            letters.next().is_some_and(|letter| first == '?' || first == letter)
                && matches(&pattern[first.len_utf8()..], letters.as_str())
        }
    }
}

/// Takes records out of files and hands them through the door.
pub(super) struct Reading<'a> {
    component: &'a str,
    out: EventBuilder,
    door: &'a dyn Door,
}

impl<'a> Reading<'a> {
    pub(super) fn new(mapping: &'a Mapping, door: &'a dyn Door) -> Self {
        let out = EventBuilder::new(mapping.layout().clone());
        Self { component: mapping.component(), out, door }
    }

    /// The next records of a file. None: there are none. False: the pipeline is stopping.
    pub(super) fn step(
        &mut self,
        tail: &mut Tail,
        last: bool,
        pace: Option<&mut Pace>,
    ) -> Result<Option<bool>, Failure> {
        let limit = tail.limit();
        let most = if pace.is_some() { MAX_PACED } else { MAX_RECORDS };
        let mut dead = Vec::new();
        let mut marks = Vec::new();
        let arrival = self.door.now();
        match tail.next(most, limit, last)? {
            Next::Nothing => return Ok(None),
            Next::Overlong(beginning, line) => {
                let reason = format!("the line is longer than {MAX_RECORD} bytes");
                let place = (line > 0).then_some(Place { line, element: 0 });
                dead.push(reject(self.component, reason, &beginning, place));
            }
            Next::Records(length) if pace.is_some() => self.one_by_one(tail, length, arrival, &mut dead, &mut marks),
            Next::Records(length) => tail.decode(length, arrival, &mut self.out, &mut dead),
        }
        let rows = (!self.out.is_empty()).then(|| self.out.finish());
        if rows.is_none() && dead.is_empty() {
            return Ok(Some(true));
        }
        if !self.door.wait_for_room() {
            return Ok(Some(false));
        }
        let (from, to) = (tail.delivered, tail.position);
        let whole = Part { stream: tail.stream.clone(), from, to, check: Some(tail.check()) };
        tail.delivered = tail.position;
        match pace {
            Some(pace) if !marks.is_empty() => Ok(Some(pace.deliver(self.door, rows, &dead, &whole, &marks))),
            _ => Ok(Some(hand_over(self.door, rows, &dead, Some(whole)))),
        }
    }

    /// Decodes record by record, noting what came out of each.
    fn one_by_one(
        &mut self,
        tail: &mut Tail,
        length: usize,
        arrival: i64,
        dead: &mut Vec<DeadLetter>,
        marks: &mut Vec<Mark>,
    ) {
        let end = tail.position + length as u64;
        while tail.position < end {
            let record = tail.first_record((end - tail.position) as usize);
            tail.decode(record, arrival, &mut self.out, dead);
            marks.push(Mark { to: tail.position, rows: self.out.len(), dead: dead.len() });
        }
    }
}
