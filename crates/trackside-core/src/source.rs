//! The contract of sources: where events enter.
//!
//! A source decodes what it gets into batches and hands each delivery through the [`Door`]. The door answers through
//! the delivery's `ack` once the events are durable; only then may the source tell its upstream to forget.

use crate::dead_letter::DeadLetter;
use crate::error::{ConfigError, Failure};
use crate::position::{Resume, Span};
use crate::schema::Layout;
use arrow::array::RecordBatch;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Written and fsynced: upstream may forget it.
    Durable,
    /// Nobody knows (a failure after the first append): upstream should send it again, with its event id.
    Unknown(String),
}

/// Why the door did not take a delivery. Nothing of it was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No room, now.
    #[error("no room: {reason}")]
    Full {
        /// What is full, in words.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The pipeline is stopping.
    #[error("the pipeline is stopping")]
    Stopping,
}

/// Called once, when the outcome is known; from the thread that syncs, so it must not block.
pub type Ack = Box<dyn FnOnce(Outcome) + Send>;

/// What a source hands over in one go.
pub struct Delivery {
    /// Decoded events, in the pipeline's layout.
    pub rows: Option<RecordBatch>,
    /// What did not decode.
    pub dead: Vec<DeadLetter>,
    /// For replayable sources, the part of a stream that this covers, cut as [`Resume::limit`] asks.
    pub span: Option<Span>,
    /// Told the outcome.
    pub ack: Option<Ack>,
}

/// How a source may be told its state, in words, for the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceState {
    /// At work.
    Running,
    /// Nothing to read at the moment.
    Waiting,
    /// Waiting before the next try.
    BackingOff,
    /// Slowed by the lag bound.
    Paused,
}

/// The engine's side of a source.
pub trait Door: Send + Sync {
    /// Layout that rows must have.
    fn layout(&self) -> &Arc<Layout>;

    /// Takes a delivery, or refuses all of it. Room in every partition is reserved before the first append.
    fn deliver(&self, delivery: Delivery) -> Result<(), Refused>;

    /// Blocks a pausable source while cleaning lags behind its bound; false when the pipeline is stopping.
    fn wait_for_room(&self) -> bool;

    /// Where a replayable source goes on.
    fn resume(&self) -> Resume;

    /// Forgets streams that are over for good, each as soon as all of it is durable in every partition: a source names
    /// them again until [`Door::resume`] has them no more. It must never use such a name again.
    fn forget(&self, _streams: &[String]) {}

    /// Counts what was turned away before it reached [`Door::deliver`] (too large, not authorised, …).
    fn refuse(&self, count: u64);

    /// Whether the source should end now.
    fn stopping(&self) -> bool;

    /// Waits, at most that long, for the stop; true when the source should end now.
    fn wait_stop(&self, timeout: Duration) -> bool;

    /// Tells the page how the source does; `detail` is the last error in words.
    fn state(&self, state: SourceState, detail: Option<String>);

    /// The wall clock, ns since 1970: the arrival time of what is decoded now.
    fn now(&self) -> i64;
}

/// What a source is built from, beside its own configuration.
#[derive(Debug)]
pub struct SourceContext<'a> {
    /// Name of its block.
    pub name: &'a str,
    /// Layout of the events.
    pub layout: &'a Arc<Layout>,
    /// Folder of the pipeline file: relative paths start here.
    pub base: &'a Path,
}

/// What a source promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Guarantee {
    /// Resumes at its own position: every event once.
    ExactlyOnce,
    /// Upstream sends again what was not acknowledged: never lost, with an event id also once.
    AtLeastOnce,
    /// Measured now or never: what was not logged is gone.
    AtMostOnce,
}

/// A source, built and checked, ready to run.
pub trait Source: Send {
    /// What it promises.
    fn guarantee(&self) -> Guarantee;

    /// Runs on a thread of its own until the stream ends (`Ok`) or the door says stop (`Ok` as well).
    /// Errors with `Retry` are retried by the engine with back-off, from [`Door::resume`].
    fn run(&mut self, door: Arc<dyn Door>) -> Result<(), Failure>;

    /// Decodes what it rejected once more, as it is set now; `event` says that the payload is a JSON event which takes
    /// the place of what came. `arrival` is the time of events that bring none. The error says why it cannot.
    fn decode_again(&mut self, _letter: &DeadLetter, _event: bool, _arrival: i64) -> Result<RecordBatch, String> {
        Err("what this source rejected cannot be decoded again; send the event to another source, and drop the letter"
            .into())
    }

    /// Whether the stream has an end: `up --until-idle` waits for it, and logs it as the end of input.
    fn finite(&self) -> bool {
        false
    }
}

/// How sources are built: from the JSON of their block.
pub type BuildSource = fn(serde_json::Value, &SourceContext<'_>) -> Result<Box<dyn Source>, ConfigError>;
