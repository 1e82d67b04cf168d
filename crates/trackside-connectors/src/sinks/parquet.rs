//! Tables: rows of a topic as Parquet files, by UTC day of their event time.
//!
//! Guarantee: every durable row is in the table exactly once. The files of a range are written aside, fsynced and
//! renamed; then the partition's manifest, which tells the range's end, is replaced in the same way: that is the
//! commit. A restart asks the manifest how far the table had come. A plain glob is right at any moment between commits:
//!
//! ```toml
//! [[sink]]
//! type = "parquet"
//! topic = "clean"
//! age = "60s"               # commits at least so often, or at 1,000,000 rows, or at 128 MiB
//! ```
//! ```sql
//! select device, avg(value) from 'data/tables/clean/**/*.parquet' group by device;   -- DuckDB
//! ```
//!
//! Columns: the topic's, then `_partition` and `_offset`, by which clean rows and scores join. In tables that are read
//! over other topics (`dead-letter`, `forecasts.…`) `_origin` names the topic in the log and `_offset` is the frame's.

pub mod days;
pub mod manifest;

use self::days::{Days, Shape};
use self::manifest::{Entry, FOLDER, Manifest, Part};
use crate::sinks::files::Files;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::errors::ParquetError;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use trackside_core::component::{Component, config, schema_of};
use trackside_core::error::{ConfigError, Failure};
use trackside_core::position::{DEAD_LETTER, FORECASTS_PREFIX, Position};
use trackside_core::schema::TIME;
use trackside_core::sink::{BuildSink, Sink, SinkContext, SinkRows, SinkTotals};
use trackside_core::time::Span;

pub(super) const COMPONENT: Component<BuildSink> = Component {
    name: "parquet",
    summary: "Keeps rows in tables: Parquet files by day of event time, every row exactly once.",
    example: r#"[[sink]]
type = "parquet"
topic = "clean"
age = "60s"
"#,
    schema: schema_of::<Config>,
    build,
};

/// The keys of a `parquet` block.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder of the tables, instead of `tables` in the data directory.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// Rows after which files are closed and committed.
    #[serde(default = "rows")]
    pub rows: u64,
    /// Bytes of files after which they are closed and committed.
    #[serde(default = "bytes")]
    pub bytes: u64,
    /// Age after which rows are committed, however few.
    #[serde(default = "age")]
    pub age: Span,
    /// Days that may be open at once; one more commits them all.
    #[serde(default = "max_open_days")]
    pub max_open_days: usize,
    /// How columns are compressed.
    #[serde(default)]
    pub compression: Compression,
}

/// How columns are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Small and quick to read.
    #[default]
    Zstd,
    /// Larger, for readers that know nothing else.
    Snappy,
    /// Not at all.
    None,
}

fn rows() -> u64 {
    1_000_000
}

fn bytes() -> u64 {
    128 << 20
}

fn age() -> Span {
    Span(Duration::from_secs(60))
}

fn max_open_days() -> usize {
    16
}

impl Config {
    fn check(self) -> Result<Self, ConfigError> {
        let zero = [("rows", self.rows == 0), ("bytes", self.bytes == 0), ("max_open_days", self.max_open_days == 0)];
        match zero.iter().find(|(_, zero)| *zero) {
            Some((key, _)) => Err(ConfigError::new(*key, format!("`{key}` is 0: nothing could ever be written"))
                .with_help("leave it out for the default")),
            None => Ok(self),
        }
    }

    fn codec(&self) -> Codec {
        match self.compression {
            Compression::Zstd => Codec::ZSTD(ZstdLevel::default()),
            Compression::Snappy => Codec::SNAPPY,
            Compression::None => Codec::UNCOMPRESSED,
        }
    }
}

/// Builds the sink.
pub fn build(block: Value, context: &SinkContext<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    let config = config::<Config>(block)?.check()?;
    Ok(Box::new(Parquet::new(config, context, Files::default())))
}

/// So many folders of days are remembered as durable.
const MAX_FOLDERS: usize = 1000;

/// One partition of a table.
pub struct Parquet {
    config: Config,
    files: Files,
    /// A folder that was there before us: new ones below it are made durable up to here.
    root: PathBuf,
    table: PathBuf,
    manifests: PathBuf,
    part: Part,
    shape: Shape,
    /// What is committed; none before [`Sink::resume`].
    manifest: Option<Manifest>,
    /// Folders of days whose own entry was made durable in this life.
    folders: HashSet<PathBuf>,
    open: Open,
    pending: Option<Commit>,
    moved: Option<Position>,
}

/// Rows taken since the last commit.
#[derive(Default)]
struct Open {
    days: Days,
    schema: Option<SchemaRef>,
    from: u64,
    end: Option<Position>,
    rows: u64,
    since: Option<i64>,
}

/// A commit under way. Once begun it is frozen: a second try writes the same bytes under the same names, so that it
/// does not matter how far the first one came.
struct Commit {
    files: Vec<(PathBuf, Vec<u8>)>,
    manifest: Manifest,
    position: Position,
}

/// Up to where the entries of new folders are made durable. The pipeline's own folder and data directory are there; of a
/// path elsewhere, the one above what is there: an earlier life may have made that and ended before it was durable.
fn root(files: &Files, folder: &Path, context: &SinkContext<'_>) -> PathBuf {
    if let Some(known) = [context.data, context.base].into_iter().find(|known| folder.starts_with(known)) {
        return known.to_path_buf();
    }
    let there = folder.ancestors().find(|above| files.exists(above).unwrap_or(false)).unwrap_or(folder);
    there.parent().unwrap_or(there).to_path_buf()
}

impl Parquet {
    /// The sink over a file system of the caller's choice.
    pub fn new(config: Config, context: &SinkContext<'_>, files: Files) -> Self {
        let folder = config.path.as_ref().map_or_else(|| context.data.join("tables"), |path| context.base.join(path));
        let origin = (context.origin != context.topic).then(|| context.origin.to_owned());
        let time = match context.topic {
            DEAD_LETTER => "received_at",
            topic if topic.starts_with(FORECASTS_PREFIX) => "made_at",
            _ => TIME,
        };
        Self {
            shape: Shape { time, partition: context.partition, origin: origin.clone(), compression: config.codec() },
            part: Part { origin, partition: context.partition },
            root: root(&files, &folder, context),
            table: folder.join(context.topic),
            manifests: folder.join(FOLDER).join(context.topic),
            config,
            files,
            manifest: None,
            folders: HashSet::new(),
            open: Open::default(),
            pending: None,
            moved: None,
        }
    }

    fn taken(&self) -> Option<Position> {
        self.open.end.or(self.manifest.as_ref().and_then(|manifest| manifest.position))
    }

    /// Takes rows in pieces that keep the bound on open days. What was taken is remembered, so that after a failure in
    /// the middle the same rows may come again.
    fn take(&mut self, rows: &SinkRows, batch: &RecordBatch) -> Result<(), Failure> {
        let days = self.shape.days(batch, rows.ingest_time);
        let counted = self.shape.origin.is_none();
        let taken = self.taken().map_or(0, |position| position.offset);
        let mut start = if counted { taken.saturating_sub(rows.first) as usize } else { 0 };
        while start < days.len() {
            let mut cut = start + self.fits(&days[start..]);
            if cut < days.len() && !counted {
                // Rows that share their frame's offset cannot be told apart by a position: they stay together.
                cut = if self.open.days.is_empty() { days.len() } else { start };
            }
            if cut == start {
                self.commit()?;
                continue;
            }
            let first = if counted { rows.first + start as u64 } else { rows.first };
            let piece = batch.slice(start, cut - start);
            self.open.days.push(&self.shape, &piece, first, &days[start..cut]).map_err(encoding)?;
            let end = if cut == days.len() { rows.end } else { rows.first + cut as u64 };
            self.open.extend(first, Position { epoch: rows.epoch, offset: end }, (cut - start) as u64);
            start = cut;
        }
        Ok(())
    }

    /// How many of the rows can be taken before one more day would be open than may be.
    fn fits(&self, days: &[i64]) -> usize {
        let mut new = HashSet::new();
        let room = self.config.max_open_days.saturating_sub(self.open.days.len());
        let over = |day: &i64| !self.open.days.contains(*day) && new.insert(*day) && new.len() > room;
        days.iter().position(over).unwrap_or(days.len())
    }

    fn full(&self) -> bool {
        self.open.rows >= self.config.rows || self.open.days.bytes() as u64 >= self.config.bytes
    }

    fn due(&mut self, now: i64) -> bool {
        if self.open.end.is_none() {
            return false;
        }
        let since = *self.open.since.get_or_insert(now);
        // A wall clock that was set back starts the wait again, at worst once.
        self.open.since = Some(since.min(now));
        self.full() || now.saturating_sub(since) >= i64::try_from(self.config.age.0.as_nanos()).unwrap_or(i64::MAX)
    }

    /// Commits all that was taken.
    fn commit(&mut self) -> Result<(), Failure> {
        self.settle()?;
        self.seal()?;
        self.settle()
    }

    /// Ends the open rows: their files are encoded and named, the commit is frozen.
    fn seal(&mut self) -> Result<(), Failure> {
        let Some(position) = self.open.end else { return Ok(()) };
        let mut open = std::mem::take(&mut self.open);
        let name = self.part.file_name(position.epoch, open.from, position.offset);
        let mut files = Vec::new();
        let mut entries = Vec::new();
        for file in open.days.finish(&self.shape).map_err(encoding)? {
            let path = format!("day={}/{name}", file.day);
            entries.push(Entry { path: path.clone(), rows: file.rows, bytes: file.bytes.len() as u64 });
            files.push((self.table.join(path), file.bytes));
        }
        let Some(manifest) = &self.manifest else {
            return Err(Failure::stop("a table was given rows before it was asked where it stands"));
        };
        let manifest = manifest.after(position, entries);
        self.pending = Some(Commit { files, manifest, position });
        Ok(())
    }

    /// Carries a frozen commit out, if there is one: files aside, their names, their directories, the manifest.
    fn settle(&mut self) -> Result<(), Failure> {
        let Some(commit) = &self.pending else { return Ok(()) };
        let folders: Vec<_> = commit.files.iter().filter_map(|(path, _)| path.parent()).collect();
        // That a folder is there does not tell that it will stay: an earlier life may have ended right after making it.
        for folder in folders.iter().filter(|folder| !self.folders.contains(**folder)) {
            self.files.create_dir(&self.table, folder)?;
        }
        for (path, bytes) in &commit.files {
            self.files.write_aside(path, bytes)?;
        }
        for (path, _) in &commit.files {
            self.files.reveal(path)?;
        }
        for folder in &folders {
            self.files.sync_dir(folder)?;
        }
        commit.manifest.store(&self.files, &self.part.manifest(&self.manifests))?;
        // Few days are open at once; older ones may be made durable once more.
        if self.folders.len() > MAX_FOLDERS {
            self.folders.clear();
        }
        self.folders.extend(folders.into_iter().map(Path::to_path_buf));
        self.moved = Some(commit.position);
        self.manifest = self.pending.take().map(|commit| commit.manifest);
        Ok(())
    }
}

impl Open {
    fn extend(&mut self, first: u64, end: Position, rows: u64) {
        if self.end.is_none() {
            self.from = first;
        }
        self.end = Some(end);
        self.rows += rows;
    }
}

impl Sink for Parquet {
    fn resume(&mut self) -> Result<Option<Position>, Failure> {
        (self.open, self.pending, self.moved) = (Open::default(), None, None);
        self.files.create_dir(&self.root, &self.table)?;
        self.files.create_dir(&self.root, &self.manifests)?;
        let manifest = self.part.recover(&self.files, &self.table, &self.manifests)?;
        Ok(self.manifest.insert(manifest).position)
    }

    fn write(&mut self, rows: &SinkRows) -> Result<(), Failure> {
        if self.manifest.is_none() {
            self.resume()?;
        }
        self.settle()?;
        if self.taken().is_some_and(|taken| rows.end <= taken.offset) {
            return Ok(());
        }
        let schema = rows.rows.as_ref().map(RecordBatch::schema);
        let other_epoch = self.open.end.is_some_and(|end| end.epoch != rows.epoch);
        let other_schema = schema.is_some() && self.open.schema.is_some() && schema != self.open.schema;
        if other_epoch || other_schema || self.full() {
            self.commit()?;
        }
        if let Some(batch) = &rows.rows {
            self.take(rows, batch)?;
            self.open.schema = schema;
        }
        self.open.extend(rows.first, Position { epoch: rows.epoch, offset: rows.end }, 0);
        Ok(())
    }

    fn poll(&mut self, now: i64) -> Result<Option<Position>, Failure> {
        self.settle()?;
        if self.due(now) {
            self.commit()?;
        }
        Ok(self.moved.take())
    }

    fn flush(&mut self, _: i64) -> Result<Option<Position>, Failure> {
        self.commit()?;
        Ok(self.moved.take())
    }

    fn totals(&self) -> SinkTotals {
        let totals =
            |manifest: &Manifest| SinkTotals { rows: manifest.rows, files: manifest.files, bytes: manifest.bytes };
        self.manifest.as_ref().map(totals).unwrap_or_default()
    }
}

fn encoding(error: ParquetError) -> Failure {
    Failure::stop(format!(
        "rows cannot be written as Parquet: {error}; please report this with the schema of the pipeline"
    ))
}
