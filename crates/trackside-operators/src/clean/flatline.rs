//! `flatline`: a sensor that repeats itself, as one does that is stuck, frozen or cut off.
//!
//! A run are values of one series, one after another in order of arrival, that are no further than `tolerance` from the run's
//! first. From its `count`th value on a run is flat, and with `after` only once so much event time lies between its earliest
//! and its latest value; all its values from there on are findings. What came before was not known to be flat, and stays good.
//!
//! Guarantee: nulls, values that are not finite and values that an earlier cleaner called bad neither end a run nor count in it.
//! There is no better value, so nothing can be replaced. Integers are compared as floats: beyond 2^53 neighbours are equal. A sensor with coarse steps repeats itself when all is well: choose `after`
//! longer than its quiet times.
//!
//! ```toml
//! [[clean]]
//! type = "flatline"
//! field = "value"
//! count = 20
//! after = "5m"
//! ```

use super::findings::{Finding, Irreplaceable, Verdict};
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
    name: "flatline",
    summary: "finds sensors that are stuck: values that repeat for too long",
    example: r#"[[clean]]
type = "flatline"
field = "value"
count = 20
after = "5m"
"#,
    schema: component::schema_of::<Config>,
    build: |block, context| Ok(Box::new(Flatline::new(component::config(block)?, context)?)),
};

const KIND: [u8; 4] = *b"FLAT";
const VERSION: u8 = 1;

/// `[[clean]] type = "flatline"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Field to judge.
    pub field: String,
    /// From this repeat on values are flat, 2 at least.
    #[serde(default = "ten")]
    pub count: u32,
    /// And only once they have repeated for so long, in event time.
    #[serde(default)]
    pub after: Option<Span>,
    /// How far from its run's first value a value still repeats it; one for all, or by value of the tag `by`.
    #[serde(default)]
    pub tolerance: Option<Setting<f64>>,
    /// Tag whose value chooses from `tolerance`.
    #[serde(default)]
    pub by: Option<String>,
    /// What becomes of a flat value.
    #[serde(default)]
    pub action: Irreplaceable,
}

fn ten() -> u32 {
    10
}

/// By series: the run's first value, its earliest and its latest event time, and how many values it has; 0 before the first.
#[derive(Debug, Default)]
struct Runs {
    first: Vec<f64>,
    since: Vec<i64>,
    until: Vec<i64>,
    count: Vec<u32>,
}

impl Runs {
    fn grow(&mut self, series: usize) {
        if series > self.count.len() {
            self.first.resize(series, 0.0);
            self.since.resize(series, 0);
            self.until.resize(series, 0);
            self.count.resize(series, 0);
        }
    }

    /// Takes a value in; how many its run has by now, and for how many ns.
    #[inline]
    fn push(&mut self, series: usize, value: f64, time: i64, tolerance: f64) -> (u32, i64) {
        let (count, since, until) = (&mut self.count[series], &mut self.since[series], &mut self.until[series]);
        if *count > 0 && (value - self.first[series]).abs() <= tolerance {
            (*count, *since, *until) = (count.saturating_add(1), time.min(*since), time.max(*until));
        } else {
            (self.first[series], *since, *until, *count) = (value, time, time, 1);
        }
        (*count, until.saturating_sub(*since))
    }

    fn load(state: &[u8]) -> Result<Self, codec::StateError> {
        let mut reader = Reader::open(state, KIND, VERSION)?;
        let runs = Self { first: reader.f64s()?, since: reader.i64s()?, until: reader.i64s()?, count: reader.u32s()? };
        reader.end()?;
        let lengths = [runs.first.len(), runs.since.len(), runs.until.len()];
        if lengths.iter().any(|length| *length != runs.count.len()) {
            return Err(codec::StateError::Invalid("runs of different numbers of series".into()));
        }
        Ok(runs)
    }
}

/// The cleaner.
#[derive(Debug)]
pub struct Flatline {
    count: u32,
    /// In ns.
    after: i64,
    tolerances: BySeries<f64>,
    runs: Runs,
    verdict: Verdict,
    findings: Vec<Finding>,
}

impl Flatline {
    /// Checks the configuration against the layout.
    pub fn new(config: Config, context: &OperatorContext<'_>) -> Result<Self, ConfigError> {
        let field = super::numeric(context, "field", &config.field)?;
        if config.count < 2 {
            return Err(ConfigError::new("count", format!("`count` is {}; one value repeats nothing", config.count))
                .with_help("give 2 or more; 10 is usual"));
        }
        let tolerances = distances("tolerance", config.tolerance.as_ref(), config.by.as_deref(), 0.0, context.layout)?;
        let verdict = Verdict {
            name: context.name.to_owned(),
            field,
            field_name: config.field,
            bit: quality::FLATLINE,
            action: config.action.into(),
            words: &[("has repeated for too long", "nothing")],
        };
        let after = config.after.map_or(0, |Span(after)| i64::try_from(after.as_nanos()).unwrap_or(i64::MAX));
        Ok(Self { count: config.count, after, tolerances, runs: Runs::default(), verdict, findings: Vec::new() })
    }
}

impl Operator for Flatline {
    fn touches(&self, touches: &mut [Touches]) {
        touches[self.verdict.field].marks = true;
    }

    fn process(&mut self, work: &mut Work) -> Result<(), Failure> {
        self.tolerances.meet(work);
        let rows = work.marking(self.verdict.field);
        let Marking { column: Some(column), quality, keep, series, times } = rows else { return Ok(()) };
        self.runs.grow(super::series_end(series));
        for (row, value) in column.values.iter().enumerate() {
            if !keep[row] || quality[row] & quality::BAD != 0 || !value.is_finite() || !column.is_valid(row) {
                continue;
            }
            let tolerance = self.tolerances.get(series[row]);
            let (count, lasted) = self.runs.push(series[row] as usize, *value, times[row], tolerance);
            if count >= self.count && lasted >= self.after {
                self.findings.push(Finding { row, better: f64::NAN, words: 0 });
            }
        }
        self.verdict.act(work, &mut self.findings);
        Ok(())
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut writer = Writer::new(KIND, VERSION);
        writer.f64s(&self.runs.first);
        writer.i64s(&self.runs.since);
        writer.i64s(&self.runs.until);
        writer.u32s(&self.runs.count);
        writer.finish()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        self.tolerances.forget();
        self.runs = Runs::default();
        self.runs = Runs::load(state).map_err(super::unusable)?;
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
        let says = |block| {
            let context = OperatorContext { name: "flatline", layout: &layout };
            let error = Flatline::new(component::config(block).unwrap(), &context).unwrap_err();
            format!("{}: {} ({})", error.path, error.message, error.help)
        };
        let json = |text| serde_json::from_str(text).unwrap();
        assert!(says(json(r#"{"field":"value","count":1}"#)).starts_with("count: `count` is 1; one value repeats"));
        assert!(says(json(r#"{"field":"value","tolerance":-1}"#)).contains("0 or more"));
        assert!(says(json(r#"{"field":"value","tolerance":{"a":1}}"#)).contains("`by = \"device\"`"));
    }
}
