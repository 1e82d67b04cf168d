//! How options of a forecaster are written, and what they mean once the usual step of a series is known.

use super::clock::STEP_ROWS;
use super::ens4::Config;
use super::ensemble::{Ensemble, Season};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trackside_core::time::duration;

/// Longest forecast in rows: the next hour at one row a second, and some.
const HORIZON_MAX: u64 = 4096;
/// Weights and bands are learnt from forecasts of at most this many steps; longer ones widen from there.
const LEARN_STEPS_MAX: u64 = 288;
/// `auto` makes a forecast each so many steps.
const AUTO_ROWS: u64 = 24;
const DAY_NS: i64 = 86_400_000_000_000;
/// Fewer rows a day than this have no profile worth learning.
const DAY_ROWS_MIN: u64 = 4;
const LEVEL: (f64, f64) = (0.5, 0.999);

/// A stretch of a series: a number counts rows, a text is a duration such as `"10m"`, or `"auto"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Stretch {
    /// So many rows, at the series' usual step.
    Rows(u64),
    /// A duration of event time, or `"auto"`.
    Time(String),
}

/// Rows a day, or a word.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum DayRows {
    /// So many rows are one season; seven of them are a week.
    Rows(u64),
    /// `"auto"`: a day at the series' usual step; `"none"`.
    Word(String),
}

/// A [`Stretch`], read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Rows(u64),
    Nanos(i64),
}

impl Length {
    fn of(stretch: &Stretch) -> Result<Self, String> {
        match stretch {
            Stretch::Rows(0) => Err("0 rows; give 1 or more".into()),
            Stretch::Rows(rows) => Ok(Self::Rows(*rows)),
            Stretch::Time(word) if word == "auto" => Ok(Self::Rows(AUTO_ROWS)),
            Stretch::Time(text) => match duration(text)? {
                nanos if nanos > 0 => Ok(Self::Nanos(nanos)),
                _ => Err(format!("`{text}` is no time at all; give a duration such as `10m`")),
            },
        }
    }

    fn rows(self, step: i64) -> u64 {
        match self {
            Self::Rows(rows) => rows,
            Self::Nanos(nanos) => (nanos / step) as u64,
        }
        .max(1)
    }

    fn nanos(self, step: i64) -> i64 {
        match self {
            Self::Rows(rows) => step.saturating_mul(i64::try_from(rows).unwrap_or(i64::MAX)),
            Self::Nanos(nanos) => nanos,
        }
        .max(1)
    }
}

/// The options as the work needs them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    horizon: Length,
    every: Length,
    /// None = a day at the usual step.
    day_rows: Option<u64>,
    max_season: u64,
    pub(crate) level: f64,
    pub(crate) warm_up: u64,
}

impl Plan {
    /// What is wrong with the options, and what would be right.
    pub(crate) fn check(config: &Config) -> Result<(), String> {
        Length::of(&config.horizon).map_err(|e| format!("`horizon`: {e}"))?;
        Length::of(&config.every).map_err(|e| format!("`every`: {e}"))?;
        if let Stretch::Rows(rows) = config.horizon
            && rows > HORIZON_MAX
        {
            return Err(format!("`horizon` is {rows} rows; give at most {HORIZON_MAX}"));
        }
        match &config.season {
            DayRows::Word(word) if word != "auto" && word != "none" => {
                return Err(format!("unknown season `{word}`; give `auto`, `none` or the rows of a day"));
            }
            DayRows::Rows(rows) if *rows < DAY_ROWS_MIN || *rows > config.max_season as u64 => {
                let max = config.max_season;
                return Err(format!("`season` is {rows} rows; give {DAY_ROWS_MIN} to {max} (`max_season`), or `none`"));
            }
            _ => {}
        }
        if !(LEVEL.0..=LEVEL.1).contains(&config.level) {
            return Err(format!(
                "`level` is {}; give a share from {} to {}, such as 0.9",
                config.level, LEVEL.0, LEVEL.1
            ));
        }
        match config.warm_up {
            rows if rows >= STEP_ROWS => Ok(()),
            rows => Err(format!("`warm_up` is {rows} rows; the usual step takes {STEP_ROWS} to find, give no fewer")),
        }
    }

    pub(crate) fn new(config: &Config) -> Self {
        Self {
            horizon: Length::of(&config.horizon).unwrap_or(Length::Rows(AUTO_ROWS)),
            every: Length::of(&config.every).unwrap_or(Length::Rows(AUTO_ROWS)),
            day_rows: match &config.season {
                DayRows::Rows(rows) => Some(*rows),
                DayRows::Word(word) => (word == "none").then_some(0),
            },
            max_season: config.max_season as u64,
            level: if config.level.is_nan() { 0.9 } else { config.level.clamp(LEVEL.0, LEVEL.1) },
            warm_up: config.warm_up.max(STEP_ROWS) as u64,
        }
    }

    pub(crate) fn horizon(&self, step: i64) -> usize {
        self.horizon.rows(step).min(HORIZON_MAX) as usize
    }

    pub(crate) fn season(&self, step: i64) -> Season {
        let a_day = (DAY_NS as f64 / step as f64).round() as u64;
        let day = self.day_rows.unwrap_or(a_day);
        let kept = |rows: u64| if rows <= self.max_season { rows as usize } else { 0 };
        match kept(day) {
            rows if rows < DAY_ROWS_MIN as usize => Season::default(),
            day => Season { day, week: kept(7 * day as u64) },
        }
    }

    pub(crate) fn ensemble(&self, step: i64) -> Ensemble {
        Ensemble::new(self.season(step), self.learn_steps(step))
    }

    /// Nanoseconds of event time between two forecasts.
    pub(crate) fn every(&self, step: i64) -> i64 {
        self.every.nanos(step)
    }

    pub(crate) fn learn_steps(&self, step: i64) -> usize {
        self.horizon(step).min(LEARN_STEPS_MAX as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked_in_words() {
        assert_eq!(Config::default().check(), Ok(()));
        let parse = |json: &str| serde_json::from_str::<Config>(json).unwrap().check();
        assert_eq!(parse(r#"{"horizon": "1h", "every": 60, "season": 24, "level": 0.95}"#), Ok(()));
        for (json, word) in [
            (r#"{"horizon": "soon"}"#, "`horizon`"),
            (r#"{"every": 0}"#, "`every`"),
            (r#"{"season": "weekly"}"#, "unknown season `weekly`"),
            (r#"{"season": 100000}"#, "max_season"),
            (r#"{"level": 90}"#, "such as 0.9"),
            (r#"{"warm_up": 3}"#, "`warm_up` is 3"),
            (r#"{"horizon": 100000}"#, "at most 4096"),
        ] {
            assert!(parse(json).is_err_and(|e| e.contains(word)), "{json}");
        }
    }

    #[test]
    fn a_season_is_kept_when_it_is_short_enough() {
        let plan = Plan::new(&Config::default());
        let minute = 60_000_000_000;
        assert_eq!(plan.season(5 * minute), Season { day: 288, week: 2016 });
        assert_eq!(plan.season(minute), Season { day: 1440, week: 0 });
        assert_eq!(plan.season(minute / 60), Season::default());
        assert_eq!(plan.season(i64::MAX), Season::default());
    }
}
