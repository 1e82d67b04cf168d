//! Everything that the page can show, in bounded memory: series with their newest points, anomalies, dead letters.
//!
//! Batches come in from the tails, answers go out to the API; one mutex around it is held for a batch or an answer.
//! Bounds: [`MAX_SERIES`] (the longest idle go), [`MAX_POINTS_A_LINE`] and [`MAX_POINTS`] (the oldest go),
//! [`MAX_NOTES`] anomalies and dead letters.

use super::points::{Cleaned, Forecast, Gathered, Points, Reading, Scored, ms};
use super::ring::Ring;
use super::series::{Cursor, Learning, Series, SeriesEntry, Track, label, simulated};
use arrow::array::{Array, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::{Int32Type, TimestampNanosecondType, UInt16Type};
use hashbrown::HashMap;
use serde::Serialize;
use std::sync::Arc;
use trackside_core::batch::{floats, tag, tag_value, times, value_json};
use trackside_core::dead_letter::{LetterAction, LetterId, LetterWord};
use trackside_core::schema::{FieldType, Layout};
use trackside_core::series::SeriesIndex;

/// Series remembered.
pub(crate) const MAX_SERIES: usize = 10_000;
/// Points of one line (received, clean or the scores of a model) of one series and field: two hours at one a second.
pub(crate) const MAX_POINTS_A_LINE: usize = 7_200;
/// Points over all lines: about 100 MB. With many lines each is shorter.
const MAX_POINTS: usize = 2_000_000;
/// A line is never shorter, however many there are.
const MIN_POINTS_A_LINE: usize = 120;
/// Anomalies and dead letters remembered.
pub(crate) const MAX_NOTES: usize = 500;

/// An anomaly in the answer of `/api/anomalies`.
#[derive(Debug, Clone, Serialize)]
pub struct Anomaly {
    /// When it happened, ms since 1970.
    pub at: f64,
    /// Number of its series.
    pub series: u32,
    /// Name of its series.
    pub label: String,
    /// The field.
    pub field: String,
    /// The value.
    pub value: Option<f64>,
    /// How unusual.
    pub score: Option<f64>,
    /// Why, in words.
    pub reason: Option<Arc<str>>,
    /// Which model said so.
    pub model: String,
}

/// See the module.
pub(crate) struct Store {
    tags: Vec<String>,
    /// Names, and whether they have lines.
    fields: Vec<(String, bool)>,
    models: Vec<String>,
    index: SeriesIndex,
    /// By number in the index, the number that the API uses; they differ once a series was forgotten and came back.
    ids: Vec<Option<u32>>,
    series: HashMap<u32, Series>,
    next_id: u32,
    arrivals: u64,
    /// Room of a line, as of the last new series.
    room: usize,
    pub(crate) anomalies: Ring<Anomaly>,
    pub(crate) letters: Ring<Arc<super::letters::Letter>>,
    /// Letters that were closed lately: their section may be looked at after the word on it.
    closed: Ring<LetterId>,
    /// Rows were passed over, because they came faster than a page can use.
    pub(crate) sampled: bool,
}

impl Store {
    pub(crate) fn new(layout: &Layout, models: Vec<String>) -> Self {
        let line = |kind: &FieldType| matches!(kind, FieldType::Float | FieldType::Integer);
        Self {
            tags: layout.tags().to_vec(),
            fields: layout.config.fields.iter().map(|(name, kind)| (name.clone(), line(kind))).collect(),
            models,
            index: SeriesIndex::new(layout.tags()),
            ids: Vec::new(),
            series: HashMap::new(),
            next_id: 0,
            arrivals: 0,
            room: MAX_POINTS_A_LINE,
            anomalies: Ring::default(),
            letters: Ring::default(),
            closed: Ring::default(),
            sampled: false,
        }
    }

    /// Gives a model lines of its own; its number, unless it has some already.
    pub(crate) fn add_model(&mut self, name: &str) -> Option<usize> {
        if self.models.iter().any(|model| model == name) {
            return None;
        }
        self.models.push(name.to_owned());
        for series in self.series.values_mut() {
            series.unready.push(None);
            series.tracks.iter_mut().for_each(|track| track.scores.push(Ring::default()));
        }
        Some(self.models.len() - 1)
    }

    /// Names of models, by number.
    pub(crate) fn models(&self) -> &[String] {
        &self.models
    }

    /// A word on a dead letter: it is shown no more once it is closed.
    pub(crate) fn word(&mut self, word: &LetterWord) {
        if word.action != LetterAction::Share {
            self.closed.push(word.id.clone(), MAX_NOTES);
        }
    }

    /// Whether a letter was closed lately.
    pub(crate) fn is_closed(&self, id: &LetterId) -> bool {
        self.closed.since(0).any(|closed| closed == id)
    }

    /// Rows of `received`; `arrived` is the wall clock of their frame.
    pub(crate) fn received(&mut self, rows: &RecordBatch, arrived: i64) {
        let ids = self.rows(rows);
        let Some(times) = times(rows) else { return };
        let columns = self.columns(rows);
        let mut newest: HashMap<u32, usize> = HashMap::new();
        for (row, id) in ids.iter().enumerate() {
            newest.insert(*id, row);
            let Some(series) = self.series.get_mut(id) else { continue };
            series.rows += 1;
            for (_, track, values) in lines(series, &columns) {
                track.received.push(Reading { t: times.value(row), v: number(Some(values), row) }, self.room);
            }
        }
        for (id, row) in newest {
            self.arrivals += 1;
            let Some(series) = self.series.get_mut(&id) else { continue };
            series.last_seen = series.last_seen.max(arrived);
            series.heard = self.arrivals;
            for (name, _) in &self.fields {
                let value = rows.column_by_name(name).map_or(serde_json::Value::Null, |c| value_json(c, row));
                series.last.insert(name.clone(), value);
            }
        }
    }

    /// Rows of `clean`.
    pub(crate) fn clean(&mut self, rows: &RecordBatch) {
        let ids = self.rows(rows);
        let Some(times) = times(rows) else { return };
        let columns = self.columns(rows);
        let quality: Vec<_> =
            self.fields.iter().map(|(name, _)| rows.column_by_name(&format!("{name}_quality")).cloned()).collect();
        let codes: Vec<_> =
            quality.iter().map(|column| column.as_ref().and_then(|c| c.as_primitive_opt::<UInt16Type>())).collect();
        for (row, id) in ids.iter().enumerate() {
            let Some(series) = self.series.get_mut(id) else { continue };
            for (field, track, values) in lines(series, &columns) {
                let q = codes[field].map_or(0, |codes| codes.value(row));
                track.clean.push(Cleaned { t: times.value(row), v: number(Some(values), row), q }, self.room);
            }
        }
    }

    /// Rows of `scores.<model>`.
    pub(crate) fn scores(&mut self, model: usize, rows: &RecordBatch) {
        let ids = self.rows(rows);
        let Some(scores) = Scores::of(rows) else { return };
        for (row, id) in ids.iter().enumerate() {
            let Some(field) = scores.field(row).and_then(|name| self.fields.iter().position(|(n, _)| n == name)) else {
                continue;
            };
            let Some(series) = self.series.get_mut(id) else { continue };
            let point = scores.point(row);
            let unready = &mut series.unready[model];
            *unready = (!scores.ready(row)).then(|| unready.unwrap_or(0) + 1);
            if point.anomaly {
                series.anomalies += 1;
                let anomaly = Anomaly {
                    at: ms(point.t),
                    series: *id,
                    label: label(&self.tags, &series.key),
                    field: self.fields[field].0.clone(),
                    value: known(scores.value(row)),
                    score: known(point.score),
                    reason: point.reason.clone(),
                    model: self.models[model].clone(),
                };
                self.anomalies.push(anomaly, MAX_NOTES);
            }
            series.tracks[field].scores[model].push(point, self.room);
        }
    }

    /// The forecasts beside the scores: of each series and field the one made last is kept.
    pub(crate) fn forecasts(&mut self, rows: &RecordBatch) {
        let ids = self.rows(rows);
        let stamps = |name: &str| rows.column_by_name(name)?.as_primitive_opt::<TimestampNanosecondType>();
        let (Some(made_at), Some(for_time)) = (stamps("made_at"), stamps("for_time")) else { return };
        let Some((names, texts)) = tag(rows, "field") else { return };
        let lines = ["mean", "lower", "upper"].map(|name| floats(rows, name));
        let mut made: HashMap<(u32, usize), Forecast> = HashMap::new();
        for (row, id) in ids.iter().enumerate() {
            let name = tag_value(names, texts, row);
            let Some(field) = self.fields.iter().position(|(field, _)| Some(field.as_str()) == name) else { continue };
            let at = made_at.value(row);
            let forecast = made.entry((*id, field)).or_insert(Forecast { made_at: at, points: Vec::new() });
            if at > forecast.made_at {
                *forecast = Forecast { made_at: at, points: Vec::new() };
            }
            if at == forecast.made_at && forecast.points.len() < MAX_POINTS_A_LINE {
                forecast.points.push((for_time.value(row), std::array::from_fn(|n| number(lines[n].as_ref(), row))));
            }
        }
        for ((id, field), mut forecast) in made {
            let Some(track) = self.series.get_mut(&id).and_then(|series| series.tracks.get_mut(field)) else {
                continue;
            };
            if track.forecast.as_ref().is_none_or(|held| held.made_at <= forecast.made_at) {
                forecast.points.sort_by_key(|(t, _)| *t);
                track.forecast = Some(Arc::new(forecast));
                track.forecasts += 1;
            }
        }
    }

    /// The number of each row's series.
    fn rows(&mut self, rows: &RecordBatch) -> Vec<u32> {
        let mut numbers = Vec::with_capacity(rows.num_rows());
        self.index.rows(rows, &mut numbers);
        self.ids.resize(self.index.len(), None);
        for number in &mut numbers {
            *number = self.id(*number);
        }
        if self.series.len() > MAX_SERIES {
            self.forget();
        }
        numbers
    }

    fn id(&mut self, number: u32) -> u32 {
        if let Some(id) = self.ids[number as usize].filter(|id| self.series.contains_key(id)) {
            return id;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.arrivals += 1;
        let mut series = Series::new(self.index.key(number), self.fields.len(), self.models.len());
        series.heard = self.arrivals;
        self.series.insert(id, series);
        self.ids[number as usize] = Some(id);
        let lines = self.fields.iter().filter(|(_, line)| *line).count().max(1) * (2 + self.models.len());
        self.room = (MAX_POINTS / (self.series.len() * lines)).clamp(MIN_POINTS_A_LINE, MAX_POINTS_A_LINE);
        id
    }

    /// Lets the longest idle tenth go, and the index with them once it holds several times what is remembered.
    fn forget(&mut self) {
        let mut heard: Vec<(u64, u32)> = self.series.iter().map(|(id, series)| (series.heard, *id)).collect();
        heard.sort_unstable();
        for (_, id) in heard.iter().take(self.series.len() - MAX_SERIES + MAX_SERIES / 10) {
            self.series.remove(id);
        }
        if self.index.len() > 4 * MAX_SERIES {
            let mut index = SeriesIndex::new(&self.tags);
            let mut ids = Vec::new();
            for (id, series) in &self.series {
                let key: Vec<Option<&str>> = series.key.iter().map(Option::as_deref).collect();
                index.number(&key);
                ids.push(Some(*id));
            }
            (self.index, self.ids) = (index, ids);
        }
    }

    /// By field, its values as numbers; none for fields without lines.
    fn columns(&self, rows: &RecordBatch) -> Vec<Option<Float64Array>> {
        self.fields.iter().map(|(name, line)| line.then(|| floats(rows, name)).flatten()).collect()
    }

    /// The series heard last, at most `limit`, in order of their numbers; and how many there are.
    pub(crate) fn list(&self, limit: usize, needed: &[Option<u64>]) -> (Vec<SeriesEntry>, usize) {
        let mut all: Vec<(&u32, &Series)> = self.series.iter().collect();
        all.sort_unstable_by_key(|(_, series)| std::cmp::Reverse(series.heard));
        all.truncate(limit);
        all.sort_unstable_by_key(|(id, _)| **id);
        (all.into_iter().map(|(id, series)| self.entry(*id, series, needed)).collect(), self.series.len())
    }

    fn entry(&self, id: u32, series: &Series, needed: &[Option<u64>]) -> SeriesEntry {
        let learning = |(unready, needed): (&Option<u64>, &Option<u64>)| {
            let (seen, needed) = (unready.as_ref()?, needed.as_ref()?);
            (seen < needed).then_some(Learning { seen: *seen, needed: *needed })
        };
        SeriesEntry {
            id,
            key: series.key.clone(),
            label: label(&self.tags, &series.key),
            simulated: simulated(&self.tags, &series.key),
            rows: series.rows,
            last_seen: ms(series.last_seen),
            last: series.last.clone(),
            anomalies: series.anomalies,
            learning: series.unready.iter().zip(needed).find_map(learning),
        }
    }

    /// All that is held of a series and field, thinned; none for a series that is not known.
    pub(crate) fn history(&self, series: u32, field: &str, most: usize) -> Option<(Points, Cursor)> {
        let held = self.series.get(&series)?;
        let (gathered, cursor) = match self.track(held, field) {
            Some(track) => track.since(&Cursor::default()),
            None => (Gathered::default(), Cursor::default()),
        };
        Some((gathered.into_points(series, field, most), cursor))
    }

    /// Where a listener begins that wants only what is new.
    pub(crate) fn end(&self, series: u32, field: &str) -> Option<Cursor> {
        self.series.get(&series).and_then(|held| self.track(held, field)).map(Track::end)
    }

    /// What is new for a listener since its cursor, which moves on.
    pub(crate) fn news(&self, series: u32, field: &str, cursor: &mut Cursor) -> Option<Gathered> {
        let track = self.track(self.series.get(&series)?, field)?;
        let (gathered, end) = track.since(cursor);
        *cursor = end;
        (!gathered.is_empty()).then_some(gathered)
    }

    fn track<'a>(&self, series: &'a Series, field: &str) -> Option<&'a Track> {
        series.tracks.get(self.fields.iter().position(|(name, _)| name == field)?)
    }

    /// Whether a field of that name exists.
    pub(crate) fn has_field(&self, field: &str) -> bool {
        self.fields.iter().any(|(name, _)| name == field)
    }

    /// Names of tags and fields.
    pub(crate) fn names(&self) -> (&[String], impl Iterator<Item = &str>) {
        (&self.tags, self.fields.iter().map(|(name, _)| name.as_str()))
    }

    /// Points held, of all lines.
    #[cfg(test)]
    fn points(&self) -> usize {
        self.series.values().flat_map(|series| &series.tracks).map(Track::len).sum()
    }
}

/// The columns of a batch of scores.
struct Scores<'a> {
    rows: &'a RecordBatch,
    floats: [Option<Float64Array>; 5],
}

impl<'a> Scores<'a> {
    fn of(rows: &'a RecordBatch) -> Option<Self> {
        times(rows)?;
        Some(Self { rows, floats: ["value", "score", "expected", "lower", "upper"].map(|name| floats(rows, name)) })
    }

    fn field(&self, row: usize) -> Option<&'a str> {
        let column = self.rows.column_by_name("field")?.as_dictionary_opt::<Int32Type>()?;
        tag_value(column, column.values().as_string_opt::<i32>()?, row)
    }

    fn flag(&self, name: &str, row: usize) -> bool {
        self.rows.column_by_name(name).and_then(|c| c.as_boolean_opt()).is_some_and(|c| c.is_valid(row) && c.value(row))
    }

    fn ready(&self, row: usize) -> bool {
        self.flag("ready", row)
    }

    fn value(&self, row: usize) -> f64 {
        number(self.floats[0].as_ref(), row)
    }

    fn point(&self, row: usize) -> Scored {
        let [_, score, expected, lower, upper] = std::array::from_fn(|n| number(self.floats[n].as_ref(), row));
        let reasons = self.rows.column_by_name("reason").and_then(|c| c.as_string_opt::<i32>());
        Scored {
            t: times(self.rows).map_or(0, |times| times.value(row)),
            score,
            anomaly: self.flag("anomaly", row),
            expected,
            lower,
            upper,
            reason: reasons.filter(|c| c.is_valid(row)).map(|c| c.value(row).into()),
        }
    }
}

/// The tracks of fields that have lines: number of the field, track, values.
fn lines<'a>(
    series: &'a mut Series,
    columns: &'a [Option<Float64Array>],
) -> impl Iterator<Item = (usize, &'a mut Track, &'a Float64Array)> {
    let tracks = series.tracks.iter_mut().zip(columns).enumerate();
    tracks.filter_map(|(field, (track, values))| Some((field, track, values.as_ref()?)))
}

/// NaN for null.
fn number(values: Option<&Float64Array>, row: usize) -> f64 {
    values.filter(|values| values.is_valid(row)).map_or(f64::NAN, |values| values.value(row))
}

fn known(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::series::SIMULATED;
    use trackside_core::builder::EventBuilder;
    use trackside_core::schema::Layout;
    use trackside_core::testing::{events, layout};

    fn store() -> Store {
        Store::new(&layout(), vec!["anomaly".into()])
    }

    #[test]
    fn a_series_shows_its_newest_values_and_its_line() {
        let mut store = store();
        store.received(&events(&[(3_000_000, "a", 3.0), (2_000_000, "b", 2.0), (1_000_000, "a", f64::NAN)]), 9_000_000);
        let (list, total) = store.list(10, &[None]);
        assert_eq!((total, list[0].label.as_str(), list[0].rows, list[0].last_seen), (2, "a", 2, 9.0));
        assert_eq!(list[1].last["value"], 2.0);
        let (points, _) = store.history(0, "value", 100).unwrap();
        let json = serde_json::to_value(points).unwrap();
        assert_eq!(json["received"], serde_json::json!({"t": [1.0, 3.0], "v": [null, 3.0]}));
        assert!(store.history(7, "value", 100).is_none());
    }

    #[test]
    fn a_listener_gets_only_what_is_new() {
        let mut store = store();
        store.received(&events(&[(1, "a", 1.0)]), 1);
        let mut cursor = store.end(0, "value").unwrap();
        assert!(store.news(0, "value", &mut cursor).is_none());
        store.received(&events(&[(2, "a", 2.0)]), 2);
        assert_eq!(store.news(0, "value", &mut cursor).unwrap().received.len(), 1);
        assert!(store.news(0, "value", &mut cursor).is_none());
    }

    #[test]
    fn the_longest_idle_series_go_and_come_back_under_a_new_number() {
        let mut store = store();
        let names: Vec<String> = (0..MAX_SERIES + 1).map(|n| format!("s{n}")).collect();
        for (at, name) in names.iter().enumerate() {
            store.received(&events(&[(at as i64, name, 1.0)]), 1);
        }
        let (_, total) = store.list(0, &[None]);
        assert_eq!(total, MAX_SERIES - MAX_SERIES / 10);
        assert!(store.history(0, "value", 10).is_none() && store.points() <= total);
        store.received(&events(&[(0, "s0", 1.0)]), 2);
        assert!(store.history(MAX_SERIES as u32 + 1, "value", 10).is_some());
    }

    #[test]
    fn many_lines_are_shorter_ones() {
        let mut store = store();
        let rows: Vec<(i64, &str, f64)> = (0..10_000).map(|t| (t, "a", 1.0)).collect();
        store.received(&events(&rows), 1);
        assert_eq!(store.points(), MAX_POINTS_A_LINE);
    }

    #[test]
    fn series_of_the_generator_are_marked() {
        let config = serde_json::json!({"series": [SIMULATED, "device"], "fields": {"value": "float"}});
        let layout = Layout::new(serde_json::from_value(config).unwrap()).unwrap();
        let mut builder = EventBuilder::new(layout.clone());
        builder.time(1);
        builder.tag(0, "true");
        builder.tag(1, "pump-1");
        builder.float(0, 1.0);
        builder.finish_row(0);
        let mut store = Store::new(&layout, Vec::new());
        store.received(&builder.finish(), 1);
        let (list, _) = store.list(10, &[]);
        assert_eq!((list[0].simulated, list[0].label.as_str()), (true, "pump-1"));
    }
}
