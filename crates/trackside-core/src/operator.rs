//! The contract of operators: pure functions of batches and state.
//!
//! An operator sees no clock and no outside. What the wall clock must trigger comes as ticks, which the engine logs
//! in `received`, so that a replay sees the same ones. The same rows give the same answers however they were cut into
//! batches, and after a restart from any snapshot: every operator sits that exam ([`crate::testing`]).

use crate::error::{ConfigError, Failure};
use crate::schema::Layout;
use crate::work::{Touches, Work};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a cleaner does with what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFinding {
    /// Note it in the field's quality code.
    #[default]
    Mark,
    /// Put a better value in its place and keep the original beside it.
    Replace,
    /// Leave the row out, counted by rule.
    Drop,
    /// Make the row a dead letter.
    Reject,
}

/// What a cleaner is built from, beside its own configuration.
#[derive(Debug)]
pub struct OperatorContext<'a> {
    /// Name of its block; counts and dead letters carry it.
    pub name: &'a str,
    /// Layout of the events.
    pub layout: &'a Layout,
}

/// A cleaner in one partition's chain.
pub trait Operator: Send {
    /// By field number, what it adds to the clean layout. Called once, before any row.
    fn touches(&self, touches: &mut [Touches]);

    /// Looks at the rows that are still kept, in order.
    fn process(&mut self, work: &mut Work) -> Result<(), Failure>;

    /// Time passed (ns since 1970), as data.
    fn tick(&mut self, _now: i64) {}

    /// Whether ticks mean anything to it.
    fn wants_ticks(&self) -> bool {
        false
    }

    /// Its state, in a form of its own with a version in front.
    fn snapshot(&self) -> Vec<u8>;

    /// Takes back a state that [`Operator::snapshot`] gave. An error leaves it as new.
    fn restore(&mut self, state: &[u8]) -> Result<(), StateError>;
}

/// A snapshot that cannot be used. The engine falls back to the older one, or replays from the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("snapshot cannot be used: {0}")]
pub struct StateError(pub String);

/// How operators are built: from the JSON of their block.
pub type BuildOperator = fn(serde_json::Value, &OperatorContext<'_>) -> Result<Box<dyn Operator>, ConfigError>;
