//! Cleaners: what is wrong with each row, judged from the row itself and a bounded memory of its series?
//!
//! A cleaner marks what it finds unless it is told to do more, but for those whose work is to change rows (`dedupe` and
//! `deadband` drop, `median` and `convert` replace: ADR 0015). Nothing vanishes: a dropped row is counted under the name of its block, a rejected one becomes a dead letter. State is kept in arrays by series number. Rows are judged one
//! by one in order of arrival, so the answers do not depend on how the rows were cut into batches.
//!
//! - [`dedupe`]: each event once.
//! - [`range`]: values that cannot be.
//! - [`hampel`]: values far from the median of their neighbours.
//! - [`flatline`]: sensors that are stuck.
//! - [`median`]: a running median in place of each value.
//! - [`late`]: rows behind their series' watermark.
//! - [`convert`]: one unit for all.
//! - [`deadband`]: report by exception.
//!
//! To add one: write its file, add its line to [`CLEANERS`].

pub mod convert;
pub mod deadband;
pub mod dedupe;
pub mod flatline;
pub mod hampel;
pub mod late;
pub mod median;
pub mod range;
pub mod setting;

mod findings;
mod recent;
mod seen;
mod sequence;
mod units;
mod window;

use crate::state::codec;
use trackside_core::component::{self, Component};
use trackside_core::error::ConfigError;
use trackside_core::operator::{BuildOperator, Operator, OperatorContext, StateError};
use trackside_core::schema::FieldType;

/// Every cleaner there is.
pub const CLEANERS: &[Component<BuildOperator>] = &[
    dedupe::COMPONENT,
    range::COMPONENT,
    hampel::COMPONENT,
    flatline::COMPONENT,
    median::COMPONENT,
    late::COMPONENT,
    convert::COMPONENT,
    deadband::COMPONENT,
];

/// Builds the cleaner of that type from its block, from which the keys `type` and `name` have been taken out.
pub fn build(
    kind: &str,
    block: serde_json::Value,
    context: &OperatorContext<'_>,
) -> Result<Box<dyn Operator>, ConfigError> {
    (component::find(CLEANERS, "cleaner", kind)?.build)(block, context)
}

/// The number of a field that holds numbers.
fn numeric(context: &OperatorContext<'_>, path: &str, name: &str) -> Result<usize, ConfigError> {
    match context.layout.field(path, name)? {
        (field, FieldType::Float | FieldType::Integer) => Ok(field),
        (_, FieldType::String) => Err(not_numeric(path, name, "text")),
        (_, FieldType::Boolean) => Err(not_numeric(path, name, "true or false")),
    }
}

fn not_numeric(path: &str, name: &str, holds: &str) -> ConfigError {
    ConfigError::new(path, format!("field `{name}` holds {holds}, not numbers"))
        .with_help("name a `float` or `integer` field of the schema")
}

/// The codec's words in the type of the operator's contract.
fn unusable(error: codec::StateError) -> StateError {
    StateError(error.to_string())
}

/// The snapshot of a cleaner that remembers nothing.
fn stateless_snapshot(kind: [u8; 4]) -> Vec<u8> {
    codec::Writer::new(kind, 1).finish()
}

/// Checks a snapshot of a cleaner that remembers nothing.
fn stateless_restore(kind: [u8; 4], state: &[u8]) -> Result<(), StateError> {
    codec::Reader::open(state, kind, 1).and_then(|reader| reader.end()).map_err(unusable)
}

/// How many series a batch's state must have room for.
fn series_end(series: &[u32]) -> usize {
    series.iter().max().map_or(0, |last| *last as usize + 1)
}
