//! One series: what the list shows of it, and the points of each of its fields.

use super::points::{Cleaned, Forecast, Gathered, Reading, Scored};
use super::ring::Ring;
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;

/// A series in the answer of `/api/series`.
#[derive(Debug, Clone, Serialize)]
pub struct SeriesEntry {
    /// Its number, for as long as this process remembers it.
    pub id: u32,
    /// Its tags, in the order of the schema.
    pub key: Vec<Option<String>>,
    /// Its tags as a name.
    pub label: String,
    /// Whether the tag `simulated` says so.
    pub simulated: bool,
    /// Rows received, as far as the views have seen them.
    pub rows: u64,
    /// When the newest row came, ms since 1970.
    pub last_seen: f64,
    /// Newest value of each field.
    pub last: Map<String, Value>,
    /// Rows that a model called an anomaly.
    pub anomalies: u64,
    /// Rows seen and needed, while a model learns it.
    pub learning: Option<Learning>,
}

/// How far a model has learnt a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Learning {
    /// Rows seen.
    pub seen: u64,
    /// Rows needed.
    pub needed: u64,
}

/// What the views keep of a series.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) key: Vec<Option<String>>,
    pub(super) rows: u64,
    pub(super) last_seen: i64,
    /// Order of the last arrival among all series: the smallest is the longest idle.
    pub(super) heard: u64,
    pub(super) last: Map<String, Value>,
    pub(super) anomalies: u64,
    /// By model: rows scored while it was not ready; none once it is.
    pub(super) unready: Vec<Option<u64>>,
    pub(super) tracks: Vec<Track>,
}

/// The points of one field.
#[derive(Debug, Default)]
pub(super) struct Track {
    pub(super) received: Ring<Reading>,
    pub(super) clean: Ring<Cleaned>,
    /// By model.
    pub(super) scores: Vec<Ring<Scored>>,
    pub(super) forecast: Option<Arc<Forecast>>,
    /// How often the forecast was replaced.
    pub(super) forecasts: u64,
}

/// How far a listener has read a track.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    received: u64,
    clean: u64,
    scores: Vec<u64>,
    forecasts: u64,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.received, self.clean, self.forecasts)?;
        self.scores.iter().try_for_each(|scores| write!(f, ".{scores}"))
    }
}

impl Series {
    pub(super) fn new(key: Vec<Option<String>>, fields: usize, models: usize) -> Self {
        let track = || Track { scores: (0..models).map(|_| Ring::default()).collect(), ..Track::default() };
        Self {
            key,
            rows: 0,
            last_seen: 0,
            heard: 0,
            last: Map::new(),
            anomalies: 0,
            unready: vec![None; models],
            tracks: (0..fields).map(|_| track()).collect(),
        }
    }
}

impl Track {
    /// Points held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.received.len() + self.clean.len() + self.scores.iter().map(Ring::len).sum::<usize>()
    }

    /// Where a listener stands that has seen everything.
    pub(super) fn end(&self) -> Cursor {
        Cursor {
            received: self.received.next(),
            clean: self.clean.next(),
            scores: self.scores.iter().map(Ring::next).collect(),
            forecasts: self.forecasts,
        }
    }

    /// What is new since the cursor, and the cursor after it.
    pub(super) fn since(&self, cursor: &Cursor) -> (Gathered, Cursor) {
        let new_forecast = self.forecasts > cursor.forecasts;
        let gathered = Gathered {
            received: self.received.since(cursor.received).copied().collect(),
            clean: self.clean.since(cursor.clean).copied().collect(),
            scores: self.scores_since(cursor),
            forecast: self.forecast.clone().filter(|_| new_forecast),
        };
        (gathered, self.end())
    }

    /// One line of scores out of several models': that of the first model with any. Of the others only the anomalies
    /// are taken over, on the first one's band, so that the band has no gap where they stand.
    fn scores_since(&self, cursor: &Cursor) -> Vec<Scored> {
        let from = |model: usize| cursor.scores.get(model).copied().unwrap_or(0);
        let Some(first) = self.scores.iter().position(|ring| ring.len() > 0) else { return Vec::new() };
        let mut line: Vec<Scored> = self.scores[first].since(from(first)).cloned().collect();
        let band = self.scores[first].newest();
        for (model, ring) in self.scores.iter().enumerate().filter(|(model, _)| *model != first) {
            for other in ring.since(from(model)).filter(|point| point.anomaly) {
                match line.iter_mut().find(|point| point.t == other.t) {
                    Some(point) => {
                        point.anomaly = true;
                        point.reason = point.reason.take().or_else(|| other.reason.clone());
                    }
                    None => line.push(on_band(other, band)),
                }
            }
        }
        line
    }
}

fn on_band(point: &Scored, band: Option<&Scored>) -> Scored {
    let mut point = point.clone();
    if let Some(band) = band {
        (point.expected, point.lower, point.upper) = (band.expected, band.lower, band.upper);
    }
    point
}

/// The tags as a name, without the one that only says that the series is simulated.
pub(super) fn label(tags: &[String], key: &[Option<String>]) -> String {
    let named = tags.iter().zip(key).filter(|(tag, _)| *tag != SIMULATED).filter_map(|(_, value)| value.as_deref());
    let label = named.collect::<Vec<_>>().join(" · ");
    if label.is_empty() { "all events".into() } else { label }
}

/// A series is shown as simulated when this tag is `true`.
pub(super) const SIMULATED: &str = "simulated";

/// Whether the tags say that the series is simulated.
pub(super) fn simulated(tags: &[String], key: &[Option<String>]) -> bool {
    tags.iter().zip(key).any(|(tag, value)| tag == SIMULATED && value.as_deref() == Some("true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(t: i64, anomaly: bool, upper: f64) -> Scored {
        Scored { t, score: 1.0, anomaly, expected: 0.0, lower: -upper, upper, reason: None }
    }

    #[test]
    fn several_models_make_one_line() {
        let mut track = Track { scores: vec![Ring::default(), Ring::default()], ..Track::default() };
        track.scores[0].push(scored(1, false, 2.0), 10);
        track.scores[0].push(scored(2, false, 2.0), 10);
        track.scores[1].push(scored(1, false, 9.0), 10);
        track.scores[1].push(scored(2, true, 9.0), 10);
        track.scores[1].push(scored(3, true, 9.0), 10);
        let (gathered, cursor) = track.since(&Cursor::default());
        let line: Vec<_> = gathered.scores.iter().map(|p| (p.t, p.anomaly, p.upper)).collect();
        assert_eq!(line, [(1, false, 2.0), (2, true, 2.0), (3, true, 2.0)]);
        assert!(track.since(&cursor).0.is_empty());
    }

    #[test]
    fn the_simulated_tag_is_a_mark_and_no_name() {
        let tags = ["simulated".to_string(), "device".into(), "sensor".into()];
        let key = [Some("true".to_string()), Some("pump-1".into()), Some("temp".into())];
        assert_eq!((label(&tags, &key).as_str(), simulated(&tags, &key)), ("pump-1 · temp", true));
        assert_eq!(label(&tags, &[None, None, None]), "all events");
    }
}
