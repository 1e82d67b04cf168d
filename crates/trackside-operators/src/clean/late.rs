//! `late`: rows that come behind their series' watermark.
//!
//! A series' watermark is the latest event time that it has shown so far, less `lateness`; a row whose own time is before it is late.
//! Each series has its own, so that a device with a wrong clock, or one that catches up after a night without a network,
//! touches no other.
//!
//! Guarantee: judged by event times alone, never by the clock of the machine, so a replay finds the same rows. Rows that an
//! earlier cleaner called `clock_suspect` do not move the watermark. The finding is the quality bit `late`, which later
//! cleaners do not mind: a late value is a good value. There is no better time, so nothing can be replaced. A device that
//! shows a time far ahead once makes all its own rows late from then on: `mark` them, if clocks are not to be trusted.
//!
//! ```toml
//! [[clean]]
//! type = "late"
//! field = "value"
//! lateness = "5m"
//! ```

use super::findings::Irreplaceable;
use crate::state::codec::{self, Reader, Writer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trackside_core::component::{self, Component};
use trackside_core::error::{ConfigError, Failure};
use trackside_core::operator::{BuildOperator, Operator, OperatorContext, StateError};
use trackside_core::quality;
use trackside_core::time::{Span, rfc3339};
use trackside_core::work::{Marking, Touches, Work};

/// The registry's entry.
pub const COMPONENT: Component<BuildOperator> = Component {
    name: "late",
    summary: "finds rows that come too long after others of their series",
    example: r#"[[clean]]
type = "late"
field = "value"
lateness = "5m"
"#,
    schema: component::schema_of::<Config>,
    build: |block, context| Ok(Box::new(Late::new(component::config(block)?, context)?)),
};

const KIND: [u8; 4] = *b"LATE";
const VERSION: u8 = 1;
/// The watermark of a series that has shown no time yet.
const NONE: i64 = i64::MIN;

/// `[[clean]] type = "late"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Field whose quality code tells that a row is late.
    pub field: String,
    /// How far behind the latest event time of its series a row may be.
    pub lateness: Span,
    /// What becomes of a late row.
    #[serde(default)]
    pub action: Irreplaceable,
}

/// The cleaner.
#[derive(Debug)]
pub struct Late {
    name: String,
    field: usize,
    /// In ns.
    lateness: i64,
    action: Irreplaceable,
    /// By series, the latest event time so far.
    latest: Vec<i64>,
    /// Rows found late in this batch, with their series' watermark.
    found: Vec<(usize, i64)>,
}

impl Late {
    /// Checks the configuration against the layout.
    pub fn new(config: Config, context: &OperatorContext<'_>) -> Result<Self, ConfigError> {
        let field = super::numeric(context, "field", &config.field)?;
        let Span(lateness) = config.lateness;
        let lateness = i64::try_from(lateness.as_nanos()).unwrap_or(i64::MAX);
        let (name, action) = (context.name.to_owned(), config.action);
        Ok(Self { name, field, lateness, action, latest: Vec::new(), found: Vec::new() })
    }

    fn load(state: &[u8]) -> Result<Vec<i64>, codec::StateError> {
        let mut reader = Reader::open(state, KIND, VERSION)?;
        let latest = reader.i64s()?;
        reader.end()?;
        Ok(latest)
    }
}

impl Operator for Late {
    fn touches(&self, touches: &mut [Touches]) {
        touches[self.field].marks = true;
    }

    fn process(&mut self, work: &mut Work) -> Result<(), Failure> {
        let Marking { quality, keep, series, times, .. } = work.marking(self.field);
        let series_end = super::series_end(series);
        if series_end > self.latest.len() {
            self.latest.resize(series_end, NONE);
        }
        for (row, time) in times.iter().enumerate() {
            if !keep[row] || quality[row] & quality::CLOCK_SUSPECT != 0 {
                continue;
            }
            let latest = &mut self.latest[series[row] as usize];
            let watermark = latest.saturating_sub(self.lateness);
            if *time < watermark {
                quality[row] |= quality::LATE;
                self.found.push((row, watermark));
            }
            *latest = (*latest).max(*time);
        }
        for (row, watermark) in self.found.drain(..) {
            match self.action {
                Irreplaceable::Mark => {}
                Irreplaceable::Drop => work.drop_row(row, &self.name),
                Irreplaceable::Reject => {
                    let reason = format!("late: before {}, the watermark of its series", rfc3339(watermark));
                    work.reject(row, &self.name, reason);
                }
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut writer = Writer::new(KIND, VERSION);
        writer.i64s(&self.latest);
        writer.finish()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        self.latest = Vec::new();
        self.latest = Self::load(state).map_err(super::unusable)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackside_core::testing::layout;

    #[test]
    fn settings_that_make_no_sense_are_refused_in_words() {
        let layout = layout();
        let refused = |block: &str| {
            let config = component::config(serde_json::from_str(block).unwrap());
            let context = OperatorContext { name: "late", layout: &layout };
            config.and_then(|config| Late::new(config, &context)).unwrap_err().message
        };
        assert!(refused(r#"{"field":"value","lateness":"5m","action":"replace"}"#).contains("replace"));
        assert!(refused(r#"{"field":"value"}"#).contains("lateness"));
        assert!(refused(r#"{"field":"value","lateness":"soon"}"#).contains("soon"));
    }
}
