//! `median`: a running median in place of each value, which takes out noise and single spikes and keeps steps sharp.
//!
//! The window is the series' last values in order of arrival, the one at hand included; its median takes the value's place,
//! and the original stands beside it. Until the window is full values pass as they are. The output follows the input by half a
//! window.
//!
//! Guarantee: nulls, values that are not finite and values that an earlier cleaner called bad pass as they are and are not taken
//! into the window. To find spikes and leave all else alone take `hampel`.
//!
//! ```toml
//! [[clean]]
//! type = "median"
//! field = "value"
//! window = 5
//! ```

use super::findings::{Finding, Verdict};
use super::window::{Any, Windows};
use crate::state::codec::{self, Reader, Writer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trackside_core::component::{self, Component};
use trackside_core::error::{ConfigError, Failure};
use trackside_core::operator::{BuildOperator, OnFinding, Operator, OperatorContext, StateError};
use trackside_core::quality;
use trackside_core::work::{Marking, Touches, Work};

/// The registry's entry.
pub const COMPONENT: Component<BuildOperator> = Component {
    name: "median",
    summary: "smooths: a running median in place of each value",
    example: r#"[[clean]]
type = "median"
field = "value"
window = 5
"#,
    schema: component::schema_of::<Config>,
    build: |block, context| Ok(Box::new(Median::new(component::config(block)?, context)?)),
};

const KIND: [u8; 4] = *b"MEDI";
const VERSION: u8 = 1;

/// `[[clean]] type = "median"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Field to smooth.
    pub field: String,
    /// How many values the median is of, the one at hand included: odd, 3 to 1023.
    #[serde(default = "five")]
    pub window: usize,
}

fn five() -> usize {
    5
}

/// The cleaner.
#[derive(Debug)]
pub struct Median {
    length: usize,
    windows: Any,
    verdict: Verdict,
    findings: Vec<Finding>,
}

impl Median {
    /// Checks the configuration against the layout.
    pub fn new(config: Config, context: &OperatorContext<'_>) -> Result<Self, ConfigError> {
        let field = super::numeric(context, "field", &config.field)?;
        super::hampel::check_window(config.window)?;
        // Nothing is wrong with a value that is smoothed: it gets no bit but `replaced`.
        let verdict = Verdict {
            name: context.name.to_owned(),
            field,
            field_name: config.field,
            bit: 0,
            action: OnFinding::Replace,
            words: &[("is smoothed", "the median")],
        };
        Ok(Self { length: config.window, windows: Any::new(config.window), verdict, findings: Vec::new() })
    }

    fn load(&self, state: &[u8]) -> Result<Any, codec::StateError> {
        let mut reader = Reader::open(state, KIND, VERSION)?;
        let windows = Any::load(self.length, &mut reader)?;
        reader.end()?;
        Ok(windows)
    }
}

impl Operator for Median {
    fn touches(&self, touches: &mut [Touches]) {
        let touch = &mut touches[self.verdict.field];
        (touch.marks, touch.replaces) = (true, true);
    }

    fn process(&mut self, work: &mut Work) -> Result<(), Failure> {
        let rows = work.marking(self.verdict.field);
        let Marking { column: Some(column), quality, keep, series, .. } = rows else { return Ok(()) };
        self.windows.grow(super::series_end(series));
        for (row, value) in column.values.iter().enumerate() {
            if !keep[row] || quality[row] & quality::BAD != 0 || !value.is_finite() || !column.is_valid(row) {
                continue;
            }
            let median = self.windows.median(series[row] as usize, *value);
            if let Some(median) = median.filter(|median| median != value) {
                self.findings.push(Finding { row, better: median, words: 0 });
            }
        }
        self.verdict.act(work, &mut self.findings);
        Ok(())
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut writer = Writer::new(KIND, VERSION);
        self.windows.save(&mut writer);
        writer.finish()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        self.windows = Any::new(self.length);
        self.windows = self.load(state).map_err(super::unusable)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackside_core::testing::layout;

    #[test]
    fn a_window_without_a_middle_is_refused_and_a_snapshot_of_another_length() {
        let layout = layout();
        let new = |window: usize| {
            let context = OperatorContext { name: "median", layout: &layout };
            Median::new(Config { field: "value".into(), window }, &context)
        };
        assert!(new(4).unwrap_err().message.contains("even"));
        let mut three = new(3).unwrap();
        let mut used = new(5).unwrap();
        used.windows.grow(1);
        assert!(three.restore(&used.snapshot()).is_err());
    }
}
