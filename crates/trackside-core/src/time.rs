//! Event time: how it is written in the payload, and how it is read into ns since 1970.
//!
//! Reading is a pure function of the text and the configuration. Numbers are taken in the stated unit, or by their
//! size when the format is `auto`; texts as RFC 3339, as `YYYY-MM-DD HH:MM:SS[.fff]` in the stated zone, or by a
//! strptime pattern.

use crate::error::ConfigError;
use jiff::{civil, fmt::strtime, tz::TimeZone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[schema] time`: where the time is and how it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeConfig {
    /// Key or column that holds the time.
    pub field: String,
    /// Unit of a number: `s`, `ms`, `us` or `ns`.
    #[serde(default)]
    pub unit: Option<Unit>,
    /// `auto` (the default without a unit), `rfc3339`, or a strptime pattern such as `%d.%m.%Y %H:%M:%S`.
    #[serde(default)]
    pub format: Option<String>,
    /// Zone of texts that name none; an IANA name.
    #[serde(default = "utc")]
    pub zone: String,
}

fn utc() -> String {
    "UTC".into()
}

/// Unit of a numeric time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

impl Unit {
    /// Nanoseconds in one.
    pub fn nanos(self) -> i64 {
        match self {
            Self::S => 1_000_000_000,
            Self::Ms => 1_000_000,
            Self::Us => 1_000,
            Self::Ns => 1,
        }
    }

    /// The unit in which a number of this size is a time between about 1973 and 5138.
    fn by_size(number: f64) -> Self {
        match number.abs() {
            n if n < 1e11 => Self::S,
            n if n < 1e14 => Self::Ms,
            n if n < 1e17 => Self::Us,
            _ => Self::Ns,
        }
    }
}

/// Reads times as one pipeline writes them.
#[derive(Debug, Clone)]
pub struct TimeReader {
    unit: Option<Unit>,
    pattern: Option<String>,
    only_rfc3339: bool,
    zone: TimeZone,
    zone_is_utc: bool,
}

impl TimeReader {
    /// Checks the configuration.
    pub fn new(config: &TimeConfig) -> Result<Self, ConfigError> {
        let zone = TimeZone::get(&config.zone).map_err(|_| {
            ConfigError::new("zone", format!("unknown time zone `{}`", config.zone))
                .with_help("use an IANA name such as `Europe/Berlin` or `UTC`")
        })?;
        let (pattern, only_rfc3339) = match config.format.as_deref() {
            None | Some("auto") => (None, false),
            Some("rfc3339") => (None, true),
            Some(pattern) if pattern.contains('%') => (Some(pattern.to_owned()), false),
            Some(other) => {
                return Err(ConfigError::unknown("format", "time format", other, ["auto", "rfc3339"])
                    .with_help("or give a strptime pattern such as `%Y-%m-%d %H:%M:%S`"));
            }
        };
        if config.unit.is_some() && (pattern.is_some() || only_rfc3339) {
            return Err(ConfigError::new("unit", "`unit` is for numbers and `format` for texts")
                .with_help("keep the one that fits your data"));
        }
        Ok(Self { unit: config.unit, pattern, only_rfc3339, zone_is_utc: config.zone == "UTC", zone })
    }

    /// A whole number in the stated unit; by its size when none is stated.
    pub fn integer(&self, number: i64) -> Result<i64, TimeError> {
        let unit = self.unit.unwrap_or_else(|| Unit::by_size(number as f64));
        number.checked_mul(unit.nanos()).ok_or(TimeError::OutOfRange)
    }

    /// A number with a fraction, rounded to the ns.
    pub fn float(&self, number: f64) -> Result<i64, TimeError> {
        if !number.is_finite() {
            return Err(TimeError::OutOfRange);
        }
        let unit = self.unit.unwrap_or_else(|| Unit::by_size(number));
        // Whole and fractional units apart: a double holds today's ns only to about 200.
        let (whole, fraction) = (number.trunc(), number.fract());
        if whole.abs() > i64::MAX as f64 / unit.nanos() as f64 {
            return Err(TimeError::OutOfRange);
        }
        Ok(whole as i64 * unit.nanos() + (fraction * unit.nanos() as f64).round() as i64)
    }

    /// A text.
    pub fn text(&self, text: &str) -> Result<i64, TimeError> {
        let text = text.trim();
        if let Some(pattern) = &self.pattern {
            return self.by_pattern(pattern, text);
        }
        if let Some(nanos) = plain(text.as_bytes()).filter(|_| self.zone_is_utc || text.ends_with('Z')) {
            return if self.only_rfc3339 && !text.ends_with('Z') { Err(TimeError::NotATime) } else { Ok(nanos) };
        }
        if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
            return nanos(stamp);
        }
        if self.only_rfc3339 {
            return Err(TimeError::NotATime);
        }
        if let Ok(local) = text.parse::<civil::DateTime>() {
            return self.in_zone(local);
        }
        if let Ok(number) = text.parse::<i64>() {
            return self.integer(number);
        }
        text.parse::<f64>().map_err(|_| TimeError::NotATime).and_then(|number| self.float(number))
    }

    fn by_pattern(&self, pattern: &str, text: &str) -> Result<i64, TimeError> {
        let parsed = strtime::parse(pattern, text).map_err(|_| TimeError::NotATime)?;
        if let Ok(stamp) = parsed.to_timestamp() {
            return nanos(stamp);
        }
        let local = parsed.to_datetime().or_else(|_| parsed.to_date().map(|d| d.at(0, 0, 0, 0)));
        self.in_zone(local.map_err(|_| TimeError::NotATime)?)
    }

    fn in_zone(&self, local: civil::DateTime) -> Result<i64, TimeError> {
        nanos(self.zone.to_timestamp(local).map_err(|_| TimeError::OutOfRange)?)
    }
}

/// Why a time could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// The text is no time in the expected format.
    #[error("not a time in the expected format")]
    NotATime,
    /// Outside of 1677 to 2262, which 64-bit nanoseconds hold.
    #[error("time is outside of 1677..2262")]
    OutOfRange,
}

fn nanos(stamp: jiff::Timestamp) -> Result<i64, TimeError> {
    i64::try_from(stamp.as_nanosecond()).map_err(|_| TimeError::OutOfRange)
}

/// `YYYY-MM-DD[T ]HH:MM:SS[.fraction][Z]` without a detour: the form that most devices and files use.
fn plain(text: &[u8]) -> Option<i64> {
    let text = text.strip_suffix(b"Z").unwrap_or(text);
    if text.len() < 19
        || !matches!(text[10], b'T' | b' ')
        || text[4] != b'-'
        || text[7] != b'-'
        || text[13] != b':'
        || text[16] != b':'
    {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<i64> {
        text[from..to]
            .iter()
            .try_fold(0i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month)
        || day < 1
        || day > days_in(year, month)
        || hour > 23
        || minute > 59
        || second > 59
        || !(1678..=2261).contains(&year)
    {
        return None;
    }
    let fraction = match &text[19..] {
        [] => 0,
        [b'.', digits @ ..] if (1..=9).contains(&digits.len()) => {
            number(20, text.len())? * 10i64.pow(9 - digits.len() as u32)
        }
        _ => return None,
    };
    Some(((days_from_1970(year, month, day) * 24 + hour) * 3600 + minute * 60 + second) * 1_000_000_000 + fraction)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01, by counting leap days of years that begin in March.
fn days_from_1970(year: i64, month: i64, day: i64) -> i64 {
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (m * 153 + 2) / 5 + day - 1 - 719_468
}

/// The UTC day of a time, as `YYYY-MM-DD`.
pub fn day(nanos: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(nanos))
        .map_or_else(|_| "out-of-range".into(), |stamp| stamp.strftime("%Y-%m-%d").to_string())
}

/// A time as RFC 3339 text.
pub fn rfc3339(nanos: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(nanos)).map_or_else(|_| nanos.to_string(), |stamp| stamp.to_string())
}

/// A duration as people write it (`250ms`, `10s`, `5m`, `2h`, `1d`), in ns.
pub fn duration(text: &str) -> Result<i64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit.trim() {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" | "min" => 60e9,
        "h" => 3600e9,
        "d" => 86_400e9,
        _ => {
            return Err(format!(
                "`{text}` is not a duration; write a number and a unit, such as `250ms`, `10s`, `5m`, `2h` or `1d`"
            ));
        }
    };
    let number: f64 =
        number.parse().map_err(|_| format!("`{text}` is not a duration; write a number and a unit, such as `10s`"))?;
    let nanos = number * scale;
    if nanos <= 9.2e18 { Ok(nanos as i64) } else { Err(format!("`{text}` is longer than 292 years")) }
}

/// A duration in a configuration: a text such as `"10s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub std::time::Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let nanos = duration(&text).map_err(serde::de::Error::custom)?;
        Ok(Self(std::time::Duration::from_nanos(nanos.max(0) as u64)))
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}ms", self.0.as_millis()))
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9.]+ *(ns|us|ms|s|m|min|h|d)$", "description": "a number and a unit, such as \"10s\"" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(json: &str) -> TimeReader {
        TimeReader::new(&serde_json::from_str(json).unwrap()).unwrap()
    }

    #[test]
    fn numbers_are_read_in_their_unit_or_by_size() {
        assert_eq!(reader(r#"{"field":"t","unit":"ms"}"#).integer(1_700_000_000_123), Ok(1_700_000_000_123_000_000));
        let auto = reader(r#"{"field":"t"}"#);
        for number in [1_700_000_000, 1_700_000_000_000, 1_700_000_000_000_000, 1_700_000_000_000_000_000] {
            assert_eq!(auto.integer(number), Ok(1_700_000_000_000_000_000));
        }
        assert_eq!(auto.float(1_700_000_000.5), Ok(1_700_000_000_500_000_000));
        assert_eq!(auto.float(f64::NAN), Err(TimeError::OutOfRange));
        assert_eq!(reader(r#"{"field":"t","unit":"s"}"#).integer(i64::MAX), Err(TimeError::OutOfRange));
    }

    #[test]
    fn the_short_way_agrees_with_the_library() {
        let auto = reader(r#"{"field":"t"}"#);
        for text in [
            "2013-12-02 21:15:00",
            "2024-02-29T23:59:59.123456789",
            "1970-01-01 00:00:00",
            "1969-12-31 23:59:59.5",
            "2100-03-01 00:00:00",
        ] {
            let slow = nanos(TimeZone::UTC.to_timestamp(text.parse::<civil::DateTime>().unwrap()).unwrap());
            assert_eq!(auto.text(text), slow, "{text}");
        }
        assert_eq!(auto.text("2023-02-29 00:00:00"), Err(TimeError::NotATime));
        assert_eq!(auto.text("2013-12-02T21:15:00+01:00"), auto.text("2013-12-02T20:15:00Z"));
    }

    #[test]
    fn a_zone_and_a_pattern_are_honoured() {
        let berlin = reader(r#"{"field":"t","zone":"Europe/Berlin"}"#);
        assert_eq!(berlin.text("2024-07-01 12:00:00"), reader(r#"{"field":"t"}"#).text("2024-07-01 10:00:00"));
        let pattern = reader(r#"{"field":"t","format":"%d.%m.%Y %H:%M"}"#);
        assert_eq!(pattern.text("01.07.2024 12:00"), reader(r#"{"field":"t"}"#).text("2024-07-01 12:00:00"));
        assert!(
            TimeReader::new(&serde_json::from_str(r#"{"field":"t","format":"rfc333"}"#).unwrap())
                .unwrap_err()
                .message
                .contains("rfc3339")
        );
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("250ms"), Ok(250_000_000));
        assert_eq!(duration("1.5h"), Ok(5_400_000_000_000));
        assert!(duration("10").is_err());
    }
}
