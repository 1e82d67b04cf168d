//! `range`: values that the sensor cannot have measured.
//!
//! A value passes when `min <= value <= max`, both ends allowed. NaN and infinities never pass. Limits are one pair for
//! all series, or a pair by value of a tag; a value of the tag that is not listed has the limits `min` and `max`, or none.
//!
//! Guarantee: judged by the row alone, no memory. The finding is the quality bit `out_of_range`, on which later cleaners
//! and models pass the value over. `replace` puts the nearest limit in its place (a NaN has none and is only marked).
//!
//! ```toml
//! [[clean]]
//! type = "range"
//! field = "value"
//! by = "sensor"
//! limits = { temp = [-40, 125], humidity = [0, 100] }
//! ```

use super::findings::{Finding, Verdict};
use super::setting::{BySeries, check_by};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trackside_core::component::{self, Component};
use trackside_core::error::{ConfigError, Failure};
use trackside_core::operator::{BuildOperator, OnFinding, Operator, OperatorContext, StateError};
use trackside_core::quality;
use trackside_core::work::{Marking, Touches, Work};

/// The registry's entry.
pub const COMPONENT: Component<BuildOperator> = Component {
    name: "range",
    summary: "finds values outside of what a sensor can measure",
    example: r#"[[clean]]
type = "range"
field = "value"
by = "sensor"
limits = { temp = [-40, 125], humidity = [0, 100] }
"#,
    schema: component::schema_of::<Config>,
    build: |block, context| Ok(Box::new(Range::new(component::config(block)?, context)?)),
};

const KIND: [u8; 4] = *b"RNGE";

/// `[[clean]] type = "range"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Field to judge.
    pub field: String,
    /// Smallest value that passes.
    #[serde(default)]
    pub min: Option<f64>,
    /// Largest value that passes.
    #[serde(default)]
    pub max: Option<f64>,
    /// Tag whose value chooses from `limits`.
    #[serde(default)]
    pub by: Option<String>,
    /// `[min, max]` by value of that tag; `min` and `max` are for the values that are not listed.
    #[serde(default)]
    pub limits: Option<BTreeMap<String, [f64; 2]>>,
    /// What becomes of a value out of range.
    #[serde(default)]
    pub action: OnFinding,
}

/// Both ends pass. They are finite, so that comparing leaves NaN and infinities outside.
#[derive(Debug, Clone, Copy)]
struct Limits {
    min: f64,
    max: f64,
}

impl Limits {
    fn new(path: &str, min: Option<f64>, max: Option<f64>) -> Result<Self, ConfigError> {
        let limits = Self { min: min.unwrap_or(f64::MIN), max: max.unwrap_or(f64::MAX) };
        if !(limits.min.is_finite() && limits.max.is_finite()) {
            return Err(ConfigError::new(path, "a limit is not finite").with_help("leave an open end out"));
        }
        if limits.min > limits.max {
            let message = format!("min {} is above max {}: nothing passes", limits.min, limits.max);
            return Err(ConfigError::new(path, message).with_help("write the smaller one first"));
        }
        Ok(limits)
    }

    #[inline]
    fn pass(&self, value: f64) -> bool {
        value >= self.min && value <= self.max
    }

    /// The limit that the value is beyond; NaN for a NaN, and for an infinity towards an open end.
    fn nearest(&self, value: f64) -> f64 {
        let limit = value.clamp(self.min, self.max);
        if limit.abs() == f64::MAX { f64::NAN } else { limit }
    }
}

/// The cleaner.
#[derive(Debug)]
pub struct Range {
    limits: BySeries<Limits>,
    verdict: Verdict,
    findings: Vec<Finding>,
}

impl Range {
    /// Checks the configuration against the layout.
    pub fn new(config: Config, context: &OperatorContext<'_>) -> Result<Self, ConfigError> {
        let field = super::numeric(context, "field", &config.field)?;
        if config.min.is_none() && config.max.is_none() && config.limits.is_none() {
            return Err(ConfigError::new("", "`range` has no limits")
                .with_help("give `min`, `max` or both, or `by` and `limits = { temp = [-40, 125] }`"));
        }
        check_by(config.by.as_deref(), config.limits.as_ref().map(|listed| ("limits", listed.len())), context.layout)?;
        let others = Limits::new("min", config.min, config.max)?;
        let limits = match (config.by, config.limits) {
            (Some(tag), Some(listed)) => {
                let pair = |(value, [min, max]): (String, [f64; 2])| {
                    Limits::new(&format!("limits.{value}"), Some(min), Some(max)).map(|limits| (value, limits))
                };
                BySeries::by_tag(&tag, others, listed.into_iter().map(pair).collect::<Result<Vec<_>, _>>()?)
            }
            _ => BySeries::one(others),
        };
        let verdict = Verdict {
            name: context.name.to_owned(),
            field,
            field_name: config.field,
            bit: quality::OUT_OF_RANGE,
            action: config.action,
            words: ("is out of range", "the nearest limit"),
        };
        Ok(Self { limits, verdict, findings: Vec::new() })
    }
}

impl Operator for Range {
    fn touches(&self, touches: &mut [Touches]) {
        let touch = &mut touches[self.verdict.field];
        touch.marks = true;
        touch.replaces |= self.verdict.action == OnFinding::Replace;
    }

    fn process(&mut self, work: &mut Work) -> Result<(), Failure> {
        self.limits.meet(work);
        let Marking { column: Some(column), keep, series, .. } = work.marking(self.verdict.field) else {
            return Ok(());
        };
        for (row, value) in column.values.iter().enumerate() {
            let limits = self.limits.get(series[row]);
            if !limits.pass(*value) && keep[row] && column.is_valid(row) {
                self.findings.push(Finding { row, better: limits.nearest(*value) });
            }
        }
        self.verdict.act(work, &mut self.findings);
        Ok(())
    }

    fn snapshot(&self) -> Vec<u8> {
        super::stateless_snapshot(KIND)
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        self.limits.forget();
        super::stateless_restore(KIND, state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_pass_and_what_is_no_number_never_does() {
        let limits = Limits::new("", Some(-40.0), Some(85.0)).unwrap();
        assert!(limits.pass(-40.0) && limits.pass(85.0) && limits.pass(-0.0));
        let open = Limits::new("", None, None).unwrap();
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(!limits.pass(value) && !open.pass(value));
            assert!(open.nearest(value).is_nan());
        }
        assert!(open.pass(f64::MAX));
    }

    #[test]
    fn the_nearest_limit_replaces() {
        let limits = Limits::new("", Some(0.0), None).unwrap();
        assert_eq!(limits.nearest(-7.0), 0.0);
        assert_eq!(limits.nearest(f64::NEG_INFINITY), 0.0);
        assert!(limits.nearest(f64::INFINITY).is_nan());
    }
}
