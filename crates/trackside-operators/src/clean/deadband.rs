//! `deadband`: report by exception; a row whose value is much as the last one that was kept is dropped.
//!
//! A row is kept when its value is further than `width` from the value of the series' last kept row, when it is `every` away
//! from that one in event time, or when there is none yet. The others are dropped, and counted under the name of the
//! block. So at every moment the last kept value is within `width` of the true one.
//!
//! Guarantee: rows without a value, with one that is not finite, and with one that an earlier cleaner called bad are kept and
//! change nothing. Integers are compared as floats: beyond 2^53 neighbours are equal. A row is dropped whole: where several fields change on their own, put each into a row of its own.
//!
//! ```toml
//! [[clean]]
//! type = "deadband"
//! field = "value"
//! by = "sensor"
//! width = { temp = 0.2, humidity = 1.0 }
//! every = "10m"
//! ```

use super::setting::{BySeries, Setting, distances};
use crate::state::codec::{self, Reader, Writer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trackside_core::component::{self, Component};
use trackside_core::error::{ConfigError, Failure};
use trackside_core::operator::{BuildOperator, Operator, OperatorContext, StateError};
use trackside_core::quality;
use trackside_core::time::Span;
use trackside_core::work::{Marking, Touches, Work};

/// The registry's entry.
pub const COMPONENT: Component<BuildOperator> = Component {
    name: "deadband",
    summary: "drops rows that repeat the last kept value; the dropped are counted",
    example: r#"[[clean]]
type = "deadband"
field = "value"
by = "sensor"
width = { temp = 0.2, humidity = 1.0 }
every = "10m"
"#,
    schema: component::schema_of::<Config>,
    build: |block, context| Ok(Box::new(Deadband::new(component::config(block)?, context)?)),
};

const KIND: [u8; 4] = *b"DEAD";
const VERSION: u8 = 1;

/// `[[clean]] type = "deadband"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Field to judge.
    pub field: String,
    /// A value this close to the last kept one says nothing new; one for all, or by value of the tag `by`. What is not listed has 0.
    pub width: Setting<f64>,
    /// Tag whose value chooses from `width`.
    #[serde(default)]
    pub by: Option<String>,
    /// A row this far from the last kept one in event time is kept all the same: a sign of life.
    #[serde(default)]
    pub every: Option<Span>,
}

/// By series, the last kept value and its event time; NaN before the first.
#[derive(Debug, Default)]
struct Kept {
    value: Vec<f64>,
    time: Vec<i64>,
}

impl Kept {
    fn grow(&mut self, series: usize) {
        if series > self.value.len() {
            self.value.resize(series, f64::NAN);
            self.time.resize(series, 0);
        }
    }

    fn load(state: &[u8]) -> Result<Self, codec::StateError> {
        let mut reader = Reader::open(state, KIND, VERSION)?;
        let kept = Self { value: reader.f64s()?, time: reader.i64s()? };
        reader.end()?;
        if kept.value.len() != kept.time.len() {
            return Err(codec::StateError::Invalid("values and times of different numbers of series".into()));
        }
        Ok(kept)
    }
}

/// The cleaner.
#[derive(Debug)]
pub struct Deadband {
    name: String,
    field: usize,
    widths: BySeries<f64>,
    /// In ns.
    every: u64,
    kept: Kept,
}

impl Deadband {
    /// Checks the configuration against the layout.
    pub fn new(config: Config, context: &OperatorContext<'_>) -> Result<Self, ConfigError> {
        let field = super::numeric(context, "field", &config.field)?;
        let widths = distances("width", Some(&config.width), config.by.as_deref(), 0.0, context.layout)?;
        // A far jump of the clock, either way, is a sign of life as well: a device that was once wrong is not silenced.
        let every = config.every.map_or(u64::MAX, |Span(every)| u64::try_from(every.as_nanos()).unwrap_or(u64::MAX));
        Ok(Self { name: context.name.to_owned(), field, widths, every, kept: Kept::default() })
    }
}

impl Operator for Deadband {
    fn touches(&self, _: &mut [Touches]) {}

    fn process(&mut self, work: &mut Work) -> Result<(), Failure> {
        self.widths.meet(work);
        let Marking { column: Some(column), quality, keep, series, times } = work.marking(self.field) else {
            return Ok(());
        };
        self.kept.grow(super::series_end(series));
        let mut dropped = 0;
        for (row, value) in column.values.iter().enumerate() {
            if !keep[row] || quality[row] & quality::BAD != 0 || !value.is_finite() || !column.is_valid(row) {
                continue;
            }
            let (last, at) = (&mut self.kept.value[series[row] as usize], &mut self.kept.time[series[row] as usize]);
            // NaN, before the first, is close to nothing.
            let close = (value - *last).abs() <= self.widths.get(series[row]);
            if close && times[row].abs_diff(*at) < self.every {
                keep[row] = false;
                dropped += 1;
            } else {
                (*last, *at) = (*value, times[row]);
            }
        }
        if dropped > 0 {
            *work.filtered.entry(self.name.clone()).or_default() += dropped;
        }
        Ok(())
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut writer = Writer::new(KIND, VERSION);
        writer.f64s(&self.kept.value);
        writer.i64s(&self.kept.time);
        writer.finish()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        self.widths.forget();
        self.kept = Kept::default();
        self.kept = Kept::load(state).map_err(super::unusable)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackside_core::testing::layout;

    #[test]
    fn widths_that_make_no_sense_are_refused_in_words() {
        let layout = layout();
        let refused = |block: &str| {
            let config = component::config(serde_json::from_str(block).unwrap());
            let context = OperatorContext { name: "deadband", layout: &layout };
            config.and_then(|config| Deadband::new(config, &context)).unwrap_err().message
        };
        assert_eq!(refused(r#"{"field":"value","width":-1}"#), "`width` is -1; it is a distance");
        assert!(refused(r#"{"field":"value"}"#).contains("width"));
        assert!(refused(r#"{"field":"value","width":{"a":1}}"#).contains("`by` is missing"));
    }
}
