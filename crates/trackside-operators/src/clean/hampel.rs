//! `hampel`: values far from the median of their neighbours (Hampel's identifier).
//!
//! The window is the series' last values in order of arrival, the one under judgement included. A value is a spike when
//! it is further from the window's median than `threshold` × 1.4826 × MAD (the median distance from that median; 1.4826
//! makes it the standard deviation of a normal sample) and than `floor`. Until the window is full everything passes.
//!
//! Guarantee: values that an earlier cleaner called bad (out of range, spike, …), nulls and values that are not finite
//! are neither judged nor taken into the window; spikes stay in it, so that a true step is called a spike only until it
//! fills half of the window. `replace` puts the median in the spike's place; the window keeps the original.
//! A sensor that repeats a value to the digit has MAD 0, and then its smallest step is a spike: set `floor` to what is
//! too small to matter.
//!
//! ```toml
//! [[clean]]
//! type = "hampel"
//! field = "value"
//! window = 7
//! by = "sensor"
//! floor = { temp = 0.5, humidity = 1.5 }
//! ```

use super::findings::{Finding, Verdict};
use super::setting::{BySeries, Setting, distances};
use super::window::{Any, Rule, Seven, Windows};
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
    name: "hampel",
    summary: "finds spikes: values far from the median of their neighbours",
    example: r#"[[clean]]
type = "hampel"
field = "value"
window = 7
by = "sensor"
floor = { temp = 0.5, humidity = 1.5 }
"#,
    schema: component::schema_of::<Config>,
    build: |block, context| Ok(Box::new(Hampel::new(component::config(block)?, context)?)),
};

/// Makes the MAD of a normal sample its standard deviation: 1 / Φ⁻¹(3/4).
const SIGMAS: f64 = 1.4826;
/// Longest window.
pub const MAX_WINDOW: usize = 1023;
const KIND: [u8; 4] = *b"HAMP";
const VERSION: u8 = 1;

/// `[[clean]] type = "hampel"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Field to judge.
    pub field: String,
    /// How many values the median is of, the one under judgement included: odd, 3 to 1023.
    #[serde(default = "seven")]
    pub window: usize,
    /// How many standard deviations from the median make a spike.
    #[serde(default = "three")]
    pub threshold: f64,
    /// A value this close to the median is never a spike; one for all, or by value of the tag `by`.
    #[serde(default)]
    pub floor: Option<Setting<f64>>,
    /// Tag whose value chooses from `floor`.
    #[serde(default)]
    pub by: Option<String>,
    /// What becomes of a spike.
    #[serde(default)]
    pub action: OnFinding,
}

fn seven() -> usize {
    7
}

fn three() -> f64 {
    3.0
}

/// The cleaner.
#[derive(Debug)]
pub struct Hampel {
    length: usize,
    scale: f64,
    floors: BySeries<f64>,
    windows: Kind,
    verdict: Verdict,
    findings: Vec<Finding>,
}

#[derive(Debug)]
enum Kind {
    Seven(Seven),
    Any(Any),
}

impl Kind {
    fn new(length: usize) -> Self {
        if length == 7 { Self::Seven(Seven::default()) } else { Self::Any(Any::new(length)) }
    }
}

impl Hampel {
    /// Checks the configuration against the layout.
    pub fn new(config: Config, context: &OperatorContext<'_>) -> Result<Self, ConfigError> {
        let field = super::numeric(context, "field", &config.field)?;
        check_window(config.window)?;
        if !(config.threshold > 0.0 && config.threshold.is_finite()) {
            let message = format!("`threshold` is {}; it counts standard deviations", config.threshold);
            return Err(ConfigError::new("threshold", message).with_help("give a number above 0, such as 3.0"));
        }
        let floors = distances("floor", config.floor.as_ref(), config.by.as_deref(), 0.0, context.layout)?;
        let verdict = Verdict {
            name: context.name.to_owned(),
            field,
            field_name: config.field,
            bit: quality::SPIKE,
            action: config.action,
            words: &[("is a spike", "the median")],
        };
        let windows = Kind::new(config.window);
        let scale = config.threshold * SIGMAS;
        Ok(Self { length: config.window, scale, floors, windows, verdict, findings: Vec::new() })
    }

    fn load(&self, state: &[u8]) -> Result<Kind, codec::StateError> {
        let mut reader = Reader::open(state, KIND, VERSION)?;
        let length = reader.u64()?;
        if length != self.length as u64 {
            let message = format!("windows of {length} values, and not of {}", self.length);
            return Err(codec::StateError::Invalid(message));
        }
        let windows = match self.length {
            7 => Kind::Seven(Seven::load(&mut reader)?),
            length => Kind::Any(Any::load(length, &mut reader)?),
        };
        reader.end()?;
        Ok(windows)
    }
}

pub(super) fn check_window(window: usize) -> Result<(), ConfigError> {
    if !(3..=MAX_WINDOW).contains(&window) {
        return Err(ConfigError::new("window", format!("`window` is {window}; it must be 3 to {MAX_WINDOW}"))
            .with_help("7 is usual"));
    }
    if window.is_multiple_of(2) {
        let help = format!("take {} or {}: an odd number of values has one in the middle", window - 1, window + 1);
        return Err(ConfigError::new("window", format!("`window` is {window}, which is even")).with_help(help));
    }
    Ok(())
}

/// The loop, made once for each kind of window.
fn scan<W: Windows>(
    windows: &mut W,
    scale: f64,
    floors: &BySeries<f64>,
    rows: Marking<'_>,
    findings: &mut Vec<Finding>,
) {
    let Marking { column: Some(column), quality, keep, series, .. } = rows else { return };
    windows.grow(super::series_end(series));
    for (row, value) in column.values.iter().enumerate() {
        if !keep[row] || quality[row] & quality::BAD != 0 || !value.is_finite() || !column.is_valid(row) {
            continue;
        }
        let rule = Rule { scale, floor: floors.get(series[row]) };
        if let Some(median) = windows.push(series[row] as usize, *value, rule) {
            findings.push(Finding { row, better: median, words: 0 });
        }
    }
}

impl Operator for Hampel {
    fn touches(&self, touches: &mut [Touches]) {
        let touch = &mut touches[self.verdict.field];
        touch.marks = true;
        touch.replaces |= self.verdict.action == OnFinding::Replace;
    }

    fn process(&mut self, work: &mut Work) -> Result<(), Failure> {
        self.floors.meet(work);
        let rows = work.marking(self.verdict.field);
        match &mut self.windows {
            Kind::Seven(windows) => scan(windows, self.scale, &self.floors, rows, &mut self.findings),
            Kind::Any(windows) => scan(windows, self.scale, &self.floors, rows, &mut self.findings),
        }
        self.verdict.act(work, &mut self.findings);
        Ok(())
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut writer = Writer::new(KIND, VERSION);
        writer.u64(self.length as u64);
        match &self.windows {
            Kind::Seven(windows) => windows.save(&mut writer),
            Kind::Any(windows) => windows.save(&mut writer),
        }
        writer.finish()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        self.floors.forget();
        self.windows = Kind::new(self.length);
        self.windows = self.load(state).map_err(super::unusable)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackside_core::testing::layout;

    fn new(block: serde_json::Value) -> Result<Hampel, ConfigError> {
        let layout = layout();
        Hampel::new(component::config(block)?, &OperatorContext { name: "hampel", layout: &layout })
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_in_words() {
        let says = |block| {
            let error = new(block).unwrap_err();
            format!("{}: {} ({})", error.path, error.message, error.help)
        };
        let json = |text| serde_json::from_str(text).unwrap();
        assert_eq!(
            says(json(r#"{"field":"value","window":6}"#)),
            "window: `window` is 6, which is even (take 5 or 7: an odd number of values has one in the middle)"
        );
        assert!(says(json(r#"{"field":"value","window":1}"#)).contains("3 to 1023"));
        assert!(says(json(r#"{"field":"value","threshold":0}"#)).contains("above 0"));
        assert!(says(json(r#"{"field":"value","floor":-1}"#)).contains("0 or more"));
        assert!(says(json(r#"{"field":"value","floor":{"a":1}}"#)).contains("`by = \"device\"`"));
        assert!(says(json(r#"{"field":"value","by":"device"}"#)).contains("nothing to choose"));
        assert!(says(json(r#"{"field":"valeu"}"#)).contains("did you mean `value`?"));
    }

    #[test]
    fn a_snapshot_of_another_length_is_refused() {
        let seven = new(serde_json::json!({"field": "value"})).unwrap();
        let mut five = new(serde_json::json!({"field": "value", "window": 5})).unwrap();
        assert!(five.restore(&seven.snapshot()).unwrap_err().0.contains("windows of 7"));
    }
}
