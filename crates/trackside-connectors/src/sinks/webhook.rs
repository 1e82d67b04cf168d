//! Posts rows to an HTTP address: alerts, or a forward to another system.
//!
//! Guarantee: at least once. A request is made again until it is answered with 2xx, after a crash as well, always with the
//! same rows and the same `Idempotency-Key`, so that the receiver can drop repeats; each row also has `_partition` and
//! `_offset`. Rows that the receiver refuses for good (400, 413, 422, …) are set aside as files in
//! `<data>/sinks/<name>/rejected/`, and the next ones are sent.
//!
//! ```toml
//! [[sink]]
//! type = "webhook"
//! topic = "scores.anomaly"
//! url = "https://example.com/alerts"
//! where = "anomaly"                 # or "score > 3 and sensor = 'temp'"
//! headers = { Authorization = "Bearer …" }
//! ```
//! The body is `{"rows":[{"time":"…","device":"…","score":4.2,…,"_partition":0,"_offset":123},…]}`.

pub mod post;
pub mod state;

use self::post::Post;
use self::state::State;
use crate::sinks::files::Files;
use crate::sinks::predicate::Predicate;
use arrow::array::RecordBatch;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use trackside_core::batch::row_json;
use trackside_core::component::{Component, config, schema_of};
use trackside_core::error::{Action, ConfigError, Failure};
use trackside_core::position::Position;
use trackside_core::sink::{BuildSink, Sink, SinkContext, SinkRows, SinkTotals};
use trackside_core::time::Span;

/// How often a position is stored that moved without a request, ns.
const STORE_EVERY: i64 = 1_000_000_000;
/// Most refused requests that are kept as files; later ones are counted and logged only.
pub const MAX_REJECTED: usize = 1000;

pub(super) const COMPONENT: Component<BuildSink> = Component {
    name: "webhook",
    summary: "Posts rows, or those that match a condition, to an HTTP address. At least once, with an idempotency key.",
    example: r#"[[sink]]
type = "webhook"
topic = "scores.anomaly"
url = "http://localhost:8080/alerts"
where = "anomaly"
"#,
    schema: schema_of::<Config>,
    build,
};

/// The keys of a `webhook` block.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to post.
    pub url: String,
    /// Which rows: a boolean column (`anomaly`), comparisons (`score > 3`, `sensor = 'temp'`), joined by `and`. All rows
    /// without it.
    #[serde(default, rename = "where")]
    pub condition: Option<String>,
    /// Headers of each request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Most rows of a request.
    #[serde(default = "batch")]
    pub batch: usize,
    /// How long a request may take.
    #[serde(default = "timeout")]
    pub timeout: Span,
}

fn batch() -> usize {
    500
}

fn timeout() -> Span {
    Span(Duration::from_secs(5))
}

/// Builds the sink.
pub fn build(block: Value, context: &SinkContext<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    Ok(Box::new(Webhook::new(config(block)?, context, Files::default())?))
}

/// One partition of a webhook.
pub struct Webhook {
    name: String,
    partition: u32,
    /// Whether offsets count the rows, and not the frames that they lie in.
    counted: bool,
    batch: usize,
    condition: Option<Predicate>,
    post: Post,
    files: Files,
    data: PathBuf,
    folder: PathBuf,
    path: PathBuf,
    /// What is remembered; none before [`Sink::resume`].
    state: Option<State>,
    pending: Pending,
    taken: Option<Position>,
    stored: Option<Position>,
    unstored_since: Option<i64>,
    told: Option<Position>,
}

/// Rows taken and not delivered.
#[derive(Default)]
struct Pending {
    epoch: u32,
    first: u64,
    end: u64,
    /// Each row as JSON.
    rows: Vec<String>,
    /// How many of the requests for them are done.
    done: usize,
    /// What the receiver said when it refused the next one.
    refused: Option<String>,
}

impl Webhook {
    /// The sink over a file system of the caller's choice.
    pub fn new(config: Config, context: &SinkContext<'_>, files: Files) -> Result<Self, ConfigError> {
        if config.batch == 0 {
            return Err(ConfigError::new("batch", "`batch` is 0: nothing could ever be sent").with_help("leave it out"));
        }
        let condition = config.condition.as_deref().map(Predicate::parse).transpose()?;
        if let (Some(condition), Some(schema)) = (&condition, &context.schema) {
            condition.check(schema)?;
        }
        let folder = context.data.join("sinks").join(context.name);
        let counted = context.topic == context.origin;
        let origin = if counted { String::new() } else { format!("{}-", context.origin) };
        Ok(Self {
            name: context.name.to_owned(),
            partition: context.partition,
            counted,
            batch: config.batch,
            condition,
            post: Post::new(&config.url, &config.headers, config.timeout.0)?,
            files,
            data: context.data.to_path_buf(),
            path: folder.join(format!("{}-{origin}p{:04}.json", context.topic, context.partition)),
            folder,
            state: None,
            pending: Pending::default(),
            taken: None,
            stored: None,
            unstored_since: None,
            told: None,
        })
    }

    fn matching(&self, batch: &RecordBatch) -> Result<Vec<usize>, Failure> {
        match &self.condition {
            Some(condition) => condition.rows(batch).map_err(|error| Failure::stop(format!("{error}; {}", error.help))),
            None => Ok((0..batch.num_rows()).collect()),
        }
    }

    fn row(&self, batch: &RecordBatch, row: usize, first: u64) -> String {
        let mut object = row_json(batch, row);
        object.insert("_partition".into(), self.partition.into());
        object.insert("_offset".into(), (first + if self.counted { row as u64 } else { 0 }).into());
        Value::Object(object).to_string()
    }

    /// The end of a request that was begun before a crash and must be made again as it was.
    fn promised(&self) -> Option<u64> {
        self.state.as_ref().and_then(|state| state.sending)
    }

    /// Sends all that is pending, unless it is part of a request that was begun before a crash and is not whole yet.
    fn send_whole(&mut self) -> Result<(), Failure> {
        let whole = self.promised().is_none_or(|end| self.taken.is_some_and(|taken| taken.offset >= end));
        if whole { self.send() } else { Ok(()) }
    }

    /// Sends all that is pending.
    fn send(&mut self) -> Result<(), Failure> {
        let Some(state) = self.state.as_mut().filter(|_| !self.pending.rows.is_empty()) else { return Ok(()) };
        if state.sending != Some(self.pending.end) {
            state.sending = Some(self.pending.end);
            self.store()?;
        }
        while let Some((key, rows)) = self.request(self.pending.done) {
            let (count, body) = (rows.len() as u64, format!("{{\"rows\":[{}]}}", rows.join(",")));
            match self.post.send(&key, body.as_bytes()) {
                Ok(()) => self.count(|state| {
                    state.rows += count;
                    state.requests += 1;
                    state.bytes += body.len() as u64;
                }),
                Err(failure) => {
                    self.pending.refused = (failure.action == Action::Reject).then(|| failure.message.clone());
                    return Err(failure);
                }
            }
            self.pending.done += 1;
        }
        self.pending = Pending::default();
        Ok(())
    }

    /// Key and rows of the n-th request for the pending rows.
    fn request(&self, n: usize) -> Option<(String, &[String])> {
        let Pending { epoch, first, end, ref rows, .. } = self.pending;
        let chunk = rows.chunks(self.batch).nth(n)?;
        let key = format!("{}-{}-{epoch}-{first}-{end}", self.name, self.partition);
        Some((if rows.len() > self.batch { format!("{key}-{n}") } else { key }, chunk))
    }

    fn count(&mut self, add: impl FnOnce(&mut State)) {
        if let Some(state) = &mut self.state {
            add(state);
        }
    }

    /// Remembers the state: the position before the pending rows, and what is about to be sent.
    fn store(&mut self) -> Result<(), Failure> {
        let Some(state) = &mut self.state else { return Ok(()) };
        let Pending { epoch, first, ref rows, .. } = self.pending;
        if rows.is_empty() {
            (state.position, state.sending) = (self.taken, None);
        } else {
            state.position = Some(Position { epoch, offset: first });
        }
        state.store(&self.files, &self.path)?;
        self.stored = state.position;
        self.unstored_since = None;
        Ok(())
    }

    fn tell(&mut self) -> Option<Position> {
        let moved = self.stored.filter(|stored| self.told != Some(*stored));
        self.told = moved.or(self.told);
        moved
    }
}

impl Sink for Webhook {
    fn resume(&mut self) -> Result<Option<Position>, Failure> {
        if self.state.is_some() {
            // Asked again after a failure: what was taken is still held, and is passed over when it comes again.
            return Ok(self.stored);
        }
        self.files.create_dir(&self.data, &self.folder)?;
        let state = State::load(&self.files, &self.path)?;
        (self.taken, self.stored, self.told) = (state.position, state.position, state.position);
        self.pending = Pending::default();
        self.state = Some(state);
        Ok(self.taken)
    }

    fn write(&mut self, rows: &SinkRows) -> Result<(), Failure> {
        if self.state.is_none() {
            self.resume()?;
        }
        if self.taken.is_some_and(|taken| rows.end <= taken.offset) {
            return Ok(());
        }
        let matching = rows.rows.as_ref().map(|batch| self.matching(batch)).transpose()?.unwrap_or_default();
        let full = self.pending.rows.len() + matching.len() > self.batch;
        if full || self.pending.epoch != rows.epoch || self.promised() == Some(self.pending.end) {
            self.send()?;
        }
        if let Some(batch) = rows.rows.as_ref().filter(|_| !matching.is_empty()) {
            if self.pending.rows.is_empty() {
                (self.pending.epoch, self.pending.first) = (rows.epoch, rows.first);
            }
            let texts: Vec<String> = matching.iter().map(|row| self.row(batch, *row, rows.first)).collect();
            self.pending.rows.extend(texts);
            self.pending.end = rows.end;
        }
        self.taken = Some(Position { epoch: rows.epoch, offset: rows.end });
        Ok(())
    }

    fn poll(&mut self, now: i64) -> Result<Option<Position>, Failure> {
        self.send_whole()?;
        let idle = self.pending.rows.is_empty() && self.taken != self.stored;
        if idle && now.abs_diff(*self.unstored_since.get_or_insert(now)) >= STORE_EVERY as u64 {
            self.store()?;
        }
        Ok(self.tell())
    }

    fn flush(&mut self, _: i64) -> Result<Option<Position>, Failure> {
        self.send_whole()?;
        if self.pending.rows.is_empty() && self.taken != self.stored {
            self.store()?;
        }
        Ok(self.tell())
    }

    fn totals(&self) -> SinkTotals {
        let totals = |state: &State| SinkTotals { rows: state.rows, files: state.requests, bytes: state.bytes };
        self.state.as_ref().map(totals).unwrap_or_default()
    }

    fn skip_rejected(&mut self) -> bool {
        let Some(reason) = self.pending.refused.take() else { return false };
        let Some((key, rows)) = self.request(self.pending.done) else { return false };
        let (count, dir) = (rows.len() as u64, self.folder.join("rejected"));
        let kept = format!("{{\"reason\":{},\"rows\":[{}]}}", Value::from(reason.as_str()), rows.join(","));
        let room = self.files.list(&dir).is_ok_and(|names| names.len() < MAX_REJECTED);
        let aside = || {
            self.files.create_dir(&self.folder, &dir)?;
            self.files.replace(&dir.join(format!("{key}.json")), kept.as_bytes())
        };
        if !room || aside().is_err() {
            tracing::error!(sink = %self.name, rows = count, %reason, "refused rows could not be set aside");
        }
        self.count(|state| state.rejected += count);
        self.pending.done += 1;
        true
    }
}
