//! The contract of model runtimes: where a model's code runs, be it a worker process or this one.
//!
//! The engine tells a runtime which frames are next and gets columns back, nothing else. Keys (offset, time, tags)
//! are joined by the engine, so a model cannot answer for a row that it was not asked about.

use crate::log::FileLocation;
use std::path::PathBuf;
use std::time::Duration;

/// Rows `from..to` of one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameSlice {
    /// Where it lies.
    pub location: FileLocation,
    /// Offset of the frame's first row.
    pub base: u64,
    /// First row taken, counted in the frame.
    pub from: usize,
    /// First row not taken.
    pub to: usize,
}

/// What a model is to look at next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelRequest {
    /// The frames, in order.
    pub frames: Vec<FrameSlice>,
    /// Offsets that are left out: rows known to be dead or skipped.
    pub skip: Vec<u64>,
    /// Work through it to get the state back; nobody reads the answer.
    pub replay: bool,
}

impl ModelRequest {
    /// Rows asked about.
    pub fn rows(&self) -> usize {
        let held = |slice: &FrameSlice, offset: &&u64| {
            (slice.base + slice.from as u64..slice.base + slice.to as u64).contains(*offset)
        };
        self.frames
            .iter()
            .map(|slice| slice.to - slice.from - self.skip.iter().filter(|offset| held(slice, offset)).count())
            .sum()
    }
}

/// What a model is to look at next, asked before it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailRequest {
    /// Where the partition lies, from [`crate::log::LogReader::lend`].
    pub place: PathBuf,
    /// The model's name: dead letters' rows that are sent back to a model are for that one alone.
    pub model: String,
    /// The offset from which on rows are wanted.
    pub offset: u64,
    /// Most rows to take.
    pub max_rows: usize,
    /// Most frames to take rows of.
    pub max_frames: usize,
    /// How long to wait for the first row.
    pub wait: Duration,
}

/// The answer to a [`TailRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct TailReply {
    /// Offset after what was taken; the request's own when nothing came.
    pub to: u64,
    /// The answer for the rows before it.
    pub reply: ModelReply,
}

/// What a model says of itself once loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ModelCard {
    /// Version of its code or weights; stands on each score.
    pub version: String,
    /// Fields that it scores, in the order of its answers.
    pub fields: Vec<String>,
    /// Rows a series needs before its scores are ready; 0 when it needs none.
    #[serde(default)]
    pub warm_up: u64,
    /// Scores and learns in separate steps: it is handed one logged frame at a time.
    #[serde(default)]
    pub split: bool,
}

/// A model's answer: for each row and field, row by row. NaN stands for null.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelReply {
    /// Rows answered for.
    pub rows: usize,
    /// How unusual.
    pub score: Vec<f64>,
    /// Whether it is one.
    pub anomaly: Vec<bool>,
    /// Whether the model had learnt enough to say so.
    pub ready: Vec<bool>,
    /// What it expected; empty when it does not say.
    pub expected: Vec<f64>,
    /// Lower end of what it would have accepted; empty when it does not say.
    pub lower: Vec<f64>,
    /// Upper end.
    pub upper: Vec<f64>,
    /// Why, in words, for some of the answers: (index, text).
    pub reasons: Vec<(usize, String)>,
    /// Forecasts made in this step.
    pub forecasts: ForecastRows,
    /// The series that has learnt least: rows seen, rows needed.
    pub learning: Option<(u64, u64)>,
    /// Memory of the worker, bytes.
    pub rss: Option<u64>,
}

/// Forecasts, one entry per series, field and time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ForecastRows {
    /// Row of the request whose tags name the series.
    pub row: Vec<i64>,
    /// Number of the field in [`ModelCard::fields`].
    pub field: Vec<i32>,
    /// When it was made, event time in ns.
    pub made_at: Vec<i64>,
    /// What it is for, event time in ns.
    pub for_time: Vec<i64>,
    /// The forecast.
    pub mean: Vec<f64>,
    /// Lower end of the band.
    pub lower: Vec<f64>,
    /// Upper end of the band.
    pub upper: Vec<f64>,
}

/// How a model failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelFault {
    /// Its code raised, or its answer cannot be used; the runtime lives, its state is not to be trusted.
    #[error("{error}")]
    Raised {
        /// In a line.
        error: String,
        /// In full.
        traceback: String,
    },
    /// The runtime died (a crash, a kill, memory).
    #[error("{0}")]
    Died(String),
    /// It did not answer by the deadline and was killed.
    #[error("{0}")]
    Late(String),
    /// It cannot be loaded: a human is needed.
    #[error("{error}")]
    CannotLoad {
        /// In a line, with what to do.
        error: String,
        /// In full.
        traceback: String,
    },
}

/// A place where one model runs for one partition.
pub trait ModelRuntime: Send {
    /// Starts it, loads the model and restores the state, if there is one. Called again after a fault.
    fn start(&mut self, state: Option<&[u8]>) -> Result<ModelCard, ModelFault>;
    /// Takes the model back to a state without starting anew; enough after its code raised.
    fn restore(&mut self, state: &[u8]) -> Result<(), ModelFault> {
        self.start(Some(state)).map(|_| ())
    }
    /// Scores the rows, in order, and learns from them.
    fn update(&mut self, request: &ModelRequest) -> Result<ModelReply, ModelFault>;
    /// Waits at the end of the partition by itself and does the same with what comes next: one wake-up less on a row's way
    /// to the model. None when it cannot.
    fn tail(&mut self, _request: &TailRequest) -> Option<Result<TailReply, ModelFault>> {
        None
    }
    /// Its state, to be restored by [`ModelRuntime::start`].
    fn snapshot(&mut self) -> Result<Vec<u8>, ModelFault>;
    /// Ends it.
    fn stop(&mut self);
    /// The worker's process id, if it has one of its own.
    fn pid(&self) -> Option<u32> {
        None
    }
}
