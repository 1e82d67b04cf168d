//! `range`: values that the sensor cannot have measured.
//!
//! A value passes when `min <= value <= max`, both ends allowed. NaN and infinities never pass. Limits are one pair for
//! all series, or a pair by value of a tag; a value of the tag that is not listed has the limits `min` and `max`, or none.
//!
//! With `max_rate` it must also be near enough to the last value of its series that passed: no further than `max_rate` for each
//! second of event time between the two. After a true jump the allowed distance grows until the new level passes. A row
//! that is not later than that last one cannot be judged by it; an earlier one takes its place, so that one time from the
//! far future does not end the judging.
//!
//! Guarantee: without `max_rate` judged by the row alone, no memory. The finding is the quality bit `out_of_range`, on which
//! later cleaners and models pass the value over. `replace` puts the nearest limit in its place, or the nearest value
//! that it could have changed to (a NaN has none and is only marked).
//!
//! ```toml
//! [[clean]]
//! type = "range"
//! field = "value"
//! by = "sensor"
//! limits = { temp = [-40, 125], humidity = [0, 100] }
//! ```

use super::findings::{Finding, Verdict};
use super::setting::{BySeries, Setting, check_by, distances};
use crate::state::codec::{self, Reader, Writer};
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
/// The snapshot of a `range` that remembers the last value.
const KIND_RATE: [u8; 4] = *b"RATE";
const VERSION: u8 = 1;
const NANOS: f64 = 1e9;
/// What is wrong with a value that is beyond a limit, and with one that changes too fast.
const BEYOND: usize = 0;
const TOO_FAST: usize = 1;

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
    /// Largest change for each second since the series' last value that passed; one for all, or by value of the tag `by`. What is
    /// not listed may change as it likes.
    #[serde(default)]
    pub max_rate: Option<Setting<f64>>,
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

/// How fast values may change, and by series the last one that passed with its event time; NaN before the first.
#[derive(Debug)]
struct Rates {
    most: BySeries<f64>,
    last: Vec<f64>,
    time: Vec<i64>,
}

impl Rates {
    fn new(most: BySeries<f64>) -> Self {
        Self { most, last: Vec::new(), time: Vec::new() }
    }

    fn grow(&mut self, series: usize) {
        if series > self.last.len() {
            self.last.resize(series, f64::NAN);
            self.time.resize(series, 0);
        }
    }

    /// What is the nearest value that passes, if this finite one does not.
    #[inline]
    fn push(&mut self, series: u32, value: f64, time: i64) -> Option<f64> {
        let (last, at) = (&mut self.last[series as usize], &mut self.time[series as usize]);
        let passed = time.saturating_sub(*at);
        if passed == 0 && !last.is_nan() {
            return None;
        }
        let room = self.most.get(series) * (passed as f64 / NANOS);
        if passed > 0 && (value - *last).abs() > room {
            return Some(*last + room.copysign(value - *last));
        }
        (*last, *at) = (value, time);
        None
    }

    fn load(state: &[u8]) -> Result<(Vec<f64>, Vec<i64>), codec::StateError> {
        let mut reader = Reader::open(state, KIND_RATE, VERSION)?;
        let (last, time) = (reader.f64s()?, reader.i64s()?);
        reader.end()?;
        if last.len() != time.len() {
            return Err(codec::StateError::Invalid("values and times of different numbers of series".into()));
        }
        Ok((last, time))
    }
}

/// The cleaner.
#[derive(Debug)]
pub struct Range {
    limits: BySeries<Limits>,
    rates: Option<Rates>,
    verdict: Verdict,
    findings: Vec<Finding>,
}

impl Range {
    /// Checks the configuration against the layout.
    pub fn new(config: Config, context: &OperatorContext<'_>) -> Result<Self, ConfigError> {
        let field = super::numeric(context, "field", &config.field)?;
        if config.min.is_none() && config.max.is_none() && config.limits.is_none() && config.max_rate.is_none() {
            return Err(ConfigError::new("", "`range` has no limits")
                .with_help("give `min`, `max` or both, `by` and `limits = { temp = [-40, 125] }`, or `max_rate`"));
        }
        let rates = config.max_rate.as_ref().and_then(Setting::listed).map(|listed| ("max_rate", listed.len()));
        let listed = config.limits.as_ref().map(|listed| ("limits", listed.len())).or(rates);
        check_by(config.by.as_deref(), listed, context.layout)?;
        let rates = match &config.max_rate {
            None => None,
            Some(setting) => {
                let tag = setting.listed().and(config.by.as_deref());
                Some(Rates::new(distances("max_rate", Some(setting), tag, f64::INFINITY, context.layout)?))
            }
        };
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
            words: &[("is out of range", "the nearest limit"), ("changes too fast", "the nearest that could be")],
        };
        Ok(Self { limits, rates, verdict, findings: Vec::new() })
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
        if let Some(rates) = &mut self.rates {
            rates.most.meet(work);
        }
        let Marking { column: Some(column), quality, keep, series, times } = work.marking(self.verdict.field) else {
            return Ok(());
        };
        if let Some(rates) = &mut self.rates {
            rates.grow(super::series_end(series));
        }
        for (row, value) in column.values.iter().enumerate() {
            let limits = self.limits.get(series[row]);
            if !limits.pass(*value) {
                if keep[row] && column.is_valid(row) {
                    self.findings.push(Finding { row, better: limits.nearest(*value), words: BEYOND });
                }
            } else if let Some(rates) = &mut self.rates
                && keep[row]
                && column.is_valid(row)
                && quality[row] & quality::BAD == 0
                && let Some(better) = rates.push(series[row], *value, times[row])
            {
                self.findings.push(Finding { row, better, words: TOO_FAST });
            }
        }
        self.verdict.act(work, &mut self.findings);
        Ok(())
    }

    fn snapshot(&self) -> Vec<u8> {
        let Some(rates) = &self.rates else { return super::stateless_snapshot(KIND) };
        let mut writer = Writer::new(KIND_RATE, VERSION);
        writer.f64s(&rates.last);
        writer.i64s(&rates.time);
        writer.finish()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        self.limits.forget();
        let Some(rates) = &mut self.rates else { return super::stateless_restore(KIND, state) };
        rates.most.forget();
        (rates.last, rates.time) = (Vec::new(), Vec::new());
        (rates.last, rates.time) = Rates::load(state).map_err(super::unusable)?;
        Ok(())
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
    fn one_limit_is_enough_and_one_rate_may_stand_beside_limits_by_tag() {
        let layout = trackside_core::testing::layout();
        let new = |block: &str| {
            let context = OperatorContext { name: "range", layout: &layout };
            Range::new(component::config(serde_json::from_str(block).unwrap())?, &context)
        };
        new(r#"{"field":"value","max_rate":2}"#).unwrap();
        new(r#"{"field":"value","max_rate":2,"by":"device","limits":{"a":[0,1]}}"#).unwrap();
        new(r#"{"field":"value","max_rate":{"a":2},"by":"device"}"#).unwrap();
        assert!(new(r#"{"field":"value"}"#).unwrap_err().message.contains("no limits"));
        assert!(new(r#"{"field":"value","max_rate":-2}"#).unwrap_err().message.contains("is a distance"));
    }

    #[test]
    fn the_nearest_limit_replaces() {
        let limits = Limits::new("", Some(0.0), None).unwrap();
        assert_eq!(limits.nearest(-7.0), 0.0);
        assert_eq!(limits.nearest(f64::NEG_INFINITY), 0.0);
        assert!(limits.nearest(f64::INFINITY).is_nan());
    }
}
