//! The points behind a chart: what is kept of each row, and the columns that the API answers with.
//!
//! Times are ns inside and ms outside; NaN inside is null outside. Columns are in order of time whatever order the rows
//! came in. [`thin`] leaves the smallest and largest of each stretch, so that a spike survives any zoom.

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A received value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reading {
    pub(crate) t: i64,
    pub(crate) v: f64,
}

/// A clean value with its quality bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cleaned {
    pub(crate) t: i64,
    pub(crate) v: f64,
    pub(crate) q: u16,
}

/// What a model said of a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scored {
    pub(crate) t: i64,
    pub(crate) score: f64,
    pub(crate) anomaly: bool,
    pub(crate) expected: f64,
    pub(crate) lower: f64,
    pub(crate) upper: f64,
    pub(crate) reason: Option<Arc<str>>,
}

/// The newest forecast of one series and field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Forecast {
    pub(crate) made_at: i64,
    /// Time, mean, lower, upper.
    pub(crate) points: Vec<(i64, [f64; 3])>,
}

/// Points of one series and field, as `/api/history` and the event stream tell them.
#[derive(Debug, Clone, Serialize)]
pub struct Points {
    series: u32,
    field: String,
    received: ReadingColumns,
    clean: CleanColumns,
    scores: ScoreColumns,
    forecast: Option<ForecastColumns>,
    /// Points were left out, so that a received one without a clean one is no dropped one.
    thinned: bool,
}

#[derive(Debug, Clone, Serialize)]
struct ReadingColumns {
    t: Vec<f64>,
    v: Vec<f64>,
}

#[derive(Debug, Clone, Serialize)]
struct CleanColumns {
    t: Vec<f64>,
    v: Vec<f64>,
    q: Vec<u16>,
}

#[derive(Debug, Clone, Serialize)]
struct ScoreColumns {
    t: Vec<f64>,
    score: Vec<f64>,
    anomaly: Vec<bool>,
    expected: Vec<f64>,
    lower: Vec<f64>,
    upper: Vec<f64>,
    reason: BTreeMap<usize, Arc<str>>,
}

#[derive(Debug, Clone, Serialize)]
struct ForecastColumns {
    made_at: f64,
    t: Vec<f64>,
    mean: Vec<f64>,
    lower: Vec<f64>,
    upper: Vec<f64>,
}

/// Points before they become columns.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) received: Vec<Reading>,
    pub(crate) clean: Vec<Cleaned>,
    pub(crate) scores: Vec<Scored>,
    pub(crate) forecast: Option<Arc<Forecast>>,
}

impl Gathered {
    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.received.is_empty() && self.clean.is_empty() && self.scores.is_empty() && self.forecast.is_none()
    }

    /// In order of time, at most about `most` points a line; anomalies are always kept.
    pub(crate) fn into_points(mut self, series: u32, field: &str, most: usize) -> Points {
        let thinned = self.received.len().max(self.clean.len()).max(self.scores.len()) > most;
        self.received.sort_by_key(|point| point.t);
        self.clean.sort_by_key(|point| point.t);
        self.scores.sort_by_key(|point| point.t);
        let received = thin(self.received, most, |p| p.v, |_| false);
        let clean = thin(self.clean, most, |p| p.v, |_| false);
        let scores = thin(self.scores, most, |p| p.score, |p| p.anomaly);
        Points {
            series,
            field: field.to_owned(),
            received: ReadingColumns { t: times(&received, |p| p.t), v: received.iter().map(|p| p.v).collect() },
            clean: CleanColumns {
                t: times(&clean, |p| p.t),
                v: clean.iter().map(|p| p.v).collect(),
                q: clean.iter().map(|p| p.q).collect(),
            },
            scores: score_columns(&scores),
            forecast: self.forecast.as_deref().map(forecast_columns),
            thinned,
        }
    }
}

fn score_columns(scores: &[Scored]) -> ScoreColumns {
    let reason = |(index, point): (usize, &Scored)| Some((index, point.reason.clone()?));
    ScoreColumns {
        t: times(scores, |p| p.t),
        score: scores.iter().map(|p| p.score).collect(),
        anomaly: scores.iter().map(|p| p.anomaly).collect(),
        expected: scores.iter().map(|p| p.expected).collect(),
        lower: scores.iter().map(|p| p.lower).collect(),
        upper: scores.iter().map(|p| p.upper).collect(),
        reason: scores.iter().enumerate().filter_map(reason).collect(),
    }
}

fn forecast_columns(forecast: &Forecast) -> ForecastColumns {
    let column = |n: usize| forecast.points.iter().map(|(_, values)| values[n]).collect();
    ForecastColumns {
        made_at: ms(forecast.made_at),
        t: times(&forecast.points, |(t, _)| *t),
        mean: column(0),
        lower: column(1),
        upper: column(2),
    }
}

/// ns as ms; a double holds today's ms to a quarter of a µs.
pub(crate) fn ms(nanos: i64) -> f64 {
    nanos as f64 / 1e6
}

fn times<P>(points: &[P], time: impl Fn(&P) -> i64) -> Vec<f64> {
    points.iter().map(|point| ms(time(point))).collect()
}

/// At most about `most` points: of each stretch the smallest and the largest, and all that `keep` names.
fn thin<P>(points: Vec<P>, most: usize, value: impl Fn(&P) -> f64, keep: impl Fn(&P) -> bool) -> Vec<P> {
    if points.len() <= most {
        return points;
    }
    // Stretches as even as whole points allow: each has two points or more, so that `most` is about what is left.
    let (stretches, count) = ((most / 2).max(1), points.len());
    let mut kept: Vec<bool> = points.iter().map(&keep).collect();
    for stretch in 0..stretches {
        let (from, to) = (stretch * count / stretches, (stretch + 1) * count / stretches);
        let known = || (from..to).filter(|index| !value(&points[*index]).is_nan());
        let ordered = |a: &usize, b: &usize| value(&points[*a]).total_cmp(&value(&points[*b]));
        // A stretch of nulls is a gap, and one point is enough to show it.
        kept[known().min_by(ordered).unwrap_or(from)] = true;
        kept[known().max_by(ordered).unwrap_or(from)] = true;
    }
    let mut kept = kept.into_iter();
    points.into_iter().filter(|_| kept.next().unwrap_or(false)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize) -> Vec<Reading> {
        (0..n).map(|i| Reading { t: i as i64, v: if i == n / 3 { 1e6 } else { (i % 10) as f64 } }).collect()
    }

    #[test]
    fn a_spike_survives_thinning() {
        let thinned = thin(wave(10_000), 100, |p| p.v, |_| false);
        assert_eq!(thinned.len(), 100);
        assert!(thinned.iter().any(|p| p.v == 1e6));
        assert!(thinned.is_sorted_by_key(|p| p.t));
        assert_eq!(thin(wave(50), 100, |p| p.v, |_| false).len(), 50);
        assert_eq!(thin(wave(101), 100, |p| p.v, |_| false).len(), 100);
    }

    #[test]
    fn what_must_be_kept_is_kept_and_gaps_stay() {
        let mut points = wave(1000);
        points.iter_mut().take(500).for_each(|p| p.v = f64::NAN);
        let thinned = thin(points, 10, |p| p.v, |p| p.t == 777);
        assert!(thinned.iter().any(|p| p.t == 777) && thinned[0].v.is_nan());
    }

    #[test]
    fn columns_are_in_order_of_time_and_null_where_nothing_is_known() {
        let gathered = Gathered {
            received: vec![Reading { t: 2_000_000, v: f64::NAN }, Reading { t: 1_500_000, v: 3.0 }],
            ..Gathered::default()
        };
        let json = serde_json::to_value(gathered.into_points(4, "value", 100)).unwrap();
        assert_eq!(json["received"], serde_json::json!({"t": [1.5, 2.0], "v": [3.0, null]}));
        assert_eq!((&json["series"], &json["forecast"]), (&4.into(), &serde_json::Value::Null));
    }
}
