//! `dedupe`: each event once.
//!
//! What makes two rows the same event is chosen by `by`:
//! - a sequence number (an integer field): the numbers of a series in order, with the last `within` of them remembered;
//! - `event_id`: the id that the schema or the protocol gave the event, within its series;
//! - `time`: the event time, within its series.
//!
//! `within` is how far back a repeat is recognized: a number of rows, or a duration of event time. By sequence a number
//! means sequence numbers of the series, and what is further back is called a repeat: it cannot be told from one. By id
//! or time it means rows of the partition, and what is further back counts as new. A duration compares the two rows' event
//! times and remembers at most `remember` rows (it is for ids and times; a sequence remembers numbers).
//!
//! Guarantee: a row whose number or id is null passes. A device whose sequence starts again is noticed, not silenced: its
//! first row passes with the quality bit `sequence_reset` on the sequence field, and so do all that follow; how that is
//! told from a repeat stands in `sequence.rs` and rests on event times, so give the device's own time to the schema.
//! `resets = "ignore"` turns it off.
//!
//! ```toml
//! [[clean]]
//! type = "dedupe"
//! by = "seq"
//! within = 64
//! ```

use super::recent::Recent;
use super::seen::{Ring, Seen};
use super::sequence::{Answer, Rule, Sequence};
use crate::state::codec::{self, Reader, Writer};
use arrow::array::{Array, AsArray};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trackside_core::component::{self, Component};
use trackside_core::error::{ConfigError, Failure};
use trackside_core::operator::{BuildOperator, Operator, OperatorContext, StateError};
use trackside_core::quality;
use trackside_core::schema::{EVENT_ID, FieldType, TIME};
use trackside_core::time::Span;
use trackside_core::work::{Touches, Work};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// The registry's entry.
pub const COMPONENT: Component<BuildOperator> = Component {
    name: "dedupe",
    summary: "keeps each event once, by sequence number, event id or time",
    example: r#"[[clean]]
type = "dedupe"
by = "seq"
within = 64
"#,
    schema: component::schema_of::<Config>,
    build: |block, context| Ok(Box::new(Dedupe::new(component::config(block)?, context)?)),
};

/// Sequence numbers remembered for a series, without `within`.
const WITHIN: u64 = 64;
/// Most sequence numbers remembered for a series: 8 KiB of bits.
pub const MAX_WITHIN: u64 = 65_536;
/// Ids or times remembered for a partition, without `within` or `remember`.
const REMEMBER: u64 = 100_000;
/// Most ids or times remembered for a partition: about 0.7 GB.
pub const MAX_REMEMBER: u64 = 10_000_000;
const KIND: [u8; 4] = *b"DDUP";
const VERSION: u8 = 1;

/// `[[clean]] type = "dedupe"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What two rows of one event share: an integer field that counts up, `event_id`, or `time`. `event_id` where the
    /// schema has one.
    #[serde(default)]
    pub by: Option<String>,
    /// How far back a repeat is recognized: a number of rows, or a duration of event time such as "10m".
    #[serde(default)]
    pub within: Option<Within>,
    /// With a duration: how many rows of the partition are remembered at most; 100000 without.
    #[serde(default)]
    pub remember: Option<u64>,
    /// Whether a sequence that starts again is noticed, or its rows taken for repeats.
    #[serde(default)]
    pub resets: Resets,
    /// What becomes of a repeat.
    #[serde(default)]
    pub action: Repeats,
}

/// How far back.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a number of rows such as 64, or a duration such as \"10m\"")]
pub enum Within {
    /// A number of rows.
    Rows(u64),
    /// A duration of event time.
    Time(Span),
}

/// What a sequence that starts again means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resets {
    /// A device that was restarted: its rows pass, the first one marked.
    #[default]
    Notice,
    /// Nothing: numbers far below the highest are repeats.
    Ignore,
}

/// What becomes of a repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Repeats {
    /// Left out, counted.
    #[default]
    Drop,
    /// Made a dead letter.
    Reject,
}

/// What rows are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Sequence(usize),
    EventId,
    Time,
}

/// What is remembered.
#[derive(Debug)]
enum Memory {
    Narrow(Sequences<u64>),
    Wide(Sequences<Ring>),
    Recent(Recent),
}

impl Memory {
    fn sequences(within: u64) -> Self {
        if within <= 64 { Self::Narrow(Sequences::new(within)) } else { Self::Wide(Sequences::new(within)) }
    }

    fn clear(&mut self) {
        match self {
            Self::Narrow(sequences) => sequences.series.clear(),
            Self::Wide(sequences) => sequences.series.clear(),
            Self::Recent(recent) => recent.clear(),
        }
    }

    fn save(&self, writer: &mut Writer) {
        match self {
            Self::Narrow(sequences) => sequences.save(writer),
            Self::Wide(sequences) => sequences.save(writer),
            Self::Recent(recent) => recent.save(writer),
        }
    }

    fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), codec::StateError> {
        match self {
            Self::Narrow(sequences) => sequences.load(reader),
            Self::Wide(sequences) => sequences.load(reader),
            Self::Recent(recent) => recent.load(reader),
        }
    }
}

/// The sequences of all series.
#[derive(Debug)]
struct Sequences<S> {
    within: u64,
    series: Vec<Sequence<S>>,
}

impl<S: Seen> Sequences<S> {
    fn new(within: u64) -> Self {
        Self { within, series: Vec::new() }
    }

    fn scan(&mut self, field: usize, notice: bool, work: &Work, repeats: &mut Vec<usize>, restarts: &mut Vec<usize>) {
        let Some(numbers) = work.integers(field) else { return };
        let (rule, nulls, times) = (Rule { within: self.within, notice }, numbers.nulls(), work.times());
        let series = self.series.len().max(super::series_end(&work.series));
        self.series.resize(series, Sequence::new(self.within));
        for (row, number) in numbers.values().iter().enumerate() {
            if !work.keep[row] || nulls.is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            match self.series[work.series[row] as usize].take(*number, times[row], rule) {
                Answer::New => {}
                Answer::Restart => restarts.push(row),
                Answer::Duplicate => repeats.push(row),
            }
        }
    }

    fn save(&self, writer: &mut Writer) {
        writer.u64(self.within);
        writer.u64(self.series.len() as u64);
        self.series.iter().for_each(|sequence| sequence.save(writer));
    }

    fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), codec::StateError> {
        match reader.u64()? {
            within if within == self.within => {}
            within => return Err(codec::StateError::Invalid(format!("`within` was {within}, not {}", self.within))),
        }
        // A series takes more than 8 bytes, so a length that is believed is bounded by the bytes at hand.
        let series = (0..reader.length(8)?).map(|_| Sequence::load(self.within, reader)).collect::<Result<_, _>>()?;
        self.series = series;
        Ok(())
    }
}

/// The cleaner.
#[derive(Debug)]
pub struct Dedupe {
    name: String,
    key: Key,
    resets: Resets,
    action: Repeats,
    memory: Memory,
    repeats: Vec<usize>,
    restarts: Vec<usize>,
}

impl Dedupe {
    /// Checks the configuration against the layout.
    pub fn new(config: Config, context: &OperatorContext<'_>) -> Result<Self, ConfigError> {
        let key = key(config.by.as_deref(), context)?;
        if config.resets == Resets::Ignore && !matches!(key, Key::Sequence(_)) {
            return Err(ConfigError::new("resets", "`resets` is for sequences").with_help("leave it out"));
        }
        Ok(Self {
            name: context.name.to_owned(),
            key,
            resets: config.resets,
            action: config.action,
            memory: memory(&config, key)?,
            repeats: Vec::new(),
            restarts: Vec::new(),
        })
    }
}

fn key(by: Option<&str>, context: &OperatorContext<'_>) -> Result<Key, ConfigError> {
    let layout = context.layout;
    match by {
        None | Some(EVENT_ID) if layout.event_id_column().is_some() => Ok(Key::EventId),
        None => Err(ConfigError::new("by", "`by` is missing")
            .with_help("name an integer field that counts up, or `time`, or give the schema an `event_id`")),
        Some(EVENT_ID) => Err(ConfigError::new("by", "the schema has no event id")
            .with_help("name the key that holds it: `[schema] event_id = \"id\"`")),
        Some(TIME) => Ok(Key::Time),
        Some(field) => match layout.config.fields.get_full(field) {
            Some((number, _, FieldType::Integer)) => Ok(Key::Sequence(number)),
            // The key that the schema calls the event id means the same as `event_id`.
            _ if layout.config.event_id.as_deref() == Some(field) => Ok(Key::EventId),
            Some(_) => Err(ConfigError::new("by", format!("field `{field}` is not an integer"))
                .with_help("a sequence counts up in an `integer` field; a text that names events is an `event_id`")),
            None => {
                let integers = layout.config.fields.iter().filter(|(_, kind)| **kind == FieldType::Integer);
                let id = layout.event_id_column().map(|_| EVENT_ID);
                let choices = integers.map(|(name, _)| name.as_str()).chain([TIME]).chain(id);
                Err(ConfigError::unknown("by", "field", field, choices))
            }
        },
    }
}

fn memory(config: &Config, key: Key) -> Result<Memory, ConfigError> {
    let check = |path: &str, rows: u64, most: u64| {
        let message = format!("`{path}` is {rows}; it must be 1 to {most}");
        if (1..=most).contains(&rows) { Ok(rows) } else { Err(ConfigError::new(path, message)) }
    };
    match (key, config.within) {
        (Key::Sequence(_), Some(Within::Time(_))) => {
            Err(ConfigError::new("within", "a sequence is remembered by numbers, not for a time")
                .with_help("say how many numbers below the highest, such as `within = 64`"))
        }
        (_, within) if config.remember.is_some() && !matches!(within, Some(Within::Time(_))) => {
            Err(ConfigError::new("remember", "`remember` goes with a duration in `within`")
                .with_help("a number in `within` says by itself how much is remembered"))
        }
        (Key::Sequence(_), Some(Within::Rows(rows))) => Ok(Memory::sequences(check("within", rows, MAX_WITHIN)?)),
        (Key::Sequence(_), None) => Ok(Memory::sequences(WITHIN)),
        (_, Some(Within::Time(Span(time)))) => {
            let limit = check("remember", config.remember.unwrap_or(REMEMBER), MAX_REMEMBER)?;
            Ok(Memory::Recent(Recent::new(limit as usize, u64::try_from(time.as_nanos()).ok())))
        }
        (_, Some(Within::Rows(rows))) => {
            Ok(Memory::Recent(Recent::new(check("within", rows, MAX_REMEMBER)? as usize, None)))
        }
        (_, None) => Ok(Memory::Recent(Recent::new(REMEMBER as usize, None))),
    }
}

/// The key of each row (none: it passes), asked in order.
fn scan_recent(recent: &mut Recent, work: &Work, repeats: &mut Vec<usize>, key: impl Fn(usize) -> Option<u128>) {
    for (row, time) in work.times().iter().enumerate() {
        if work.keep[row]
            && let Some(key) = key(row)
            && !recent.insert(key, *time)
        {
            repeats.push(row);
        }
    }
}

/// The ids of a batch as keys: 128 bits, so that among a million ids chance takes two for one once in 10^32 rows.
fn scan_ids(recent: &mut Recent, work: &Work, repeats: &mut Vec<usize>) {
    if let Some(ids) = work.rows.column_by_name(EVENT_ID).and_then(|ids| ids.as_string_opt::<i32>()) {
        let key = |row: usize| xxh3_128_with_seed(ids.value(row).as_bytes(), work.series[row].into());
        scan_recent(recent, work, repeats, |row| ids.is_valid(row).then(|| key(row)));
    }
}

impl Operator for Dedupe {
    fn touches(&self, touches: &mut [Touches]) {
        if let (Key::Sequence(field), Resets::Notice) = (self.key, self.resets) {
            touches[field].marks = true;
        }
    }

    fn process(&mut self, work: &mut Work) -> Result<(), Failure> {
        let (repeats, restarts, notice) = (&mut self.repeats, &mut self.restarts, self.resets == Resets::Notice);
        match (&mut self.memory, self.key) {
            (Memory::Narrow(sequences), Key::Sequence(field)) => sequences.scan(field, notice, work, repeats, restarts),
            (Memory::Wide(sequences), Key::Sequence(field)) => sequences.scan(field, notice, work, repeats, restarts),
            (Memory::Recent(recent), Key::Time) => {
                let (series, times) = (&work.series, work.times());
                let key = |row: usize| u128::from(series[row]) << 64 | u128::from(times[row].cast_unsigned());
                scan_recent(recent, work, repeats, |row| Some(key(row)));
            }
            // A sequence always has the memory of one, so this is by event id.
            (Memory::Recent(recent), _) => scan_ids(recent, work, repeats),
            (Memory::Narrow(_) | Memory::Wide(_), _) => {}
        }
        if let Key::Sequence(field) = self.key {
            self.restarts.drain(..).for_each(|row| work.quality_mut(field)[row] |= quality::SEQUENCE_RESET);
        }
        for row in self.repeats.drain(..) {
            match self.action {
                Repeats::Drop => work.drop_row(row, &self.name),
                Repeats::Reject => work.reject(row, &self.name, "repeats an event"),
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut writer = Writer::new(KIND, VERSION);
        self.memory.save(&mut writer);
        writer.finish()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        self.memory.clear();
        let loaded = Reader::open(state, KIND, VERSION).and_then(|mut reader| {
            self.memory.load(&mut reader)?;
            reader.end()
        });
        loaded.map_err(|error| {
            self.memory.clear();
            super::unusable(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackside_core::schema::Layout;

    fn says(block: &str) -> String {
        let schema = r#"{"series":["device"],"fields":{"value":"float","seq":"integer"}}"#;
        let layout = Layout::new(serde_json::from_str(schema).unwrap()).unwrap();
        let context = OperatorContext { name: "dedupe", layout: &layout };
        let config = component::config(serde_json::from_str(block).unwrap());
        let error = config.and_then(|config| Dedupe::new(config, &context)).unwrap_err();
        format!("{}: {} ({})", error.path, error.message, error.help)
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_in_words() {
        assert!(says("{}").starts_with("by: `by` is missing (name an integer field"));
        assert!(says(r#"{"by":"sqe"}"#).contains("did you mean `seq`?"));
        assert!(says(r#"{"by":"value"}"#).contains("field `value` is not an integer"));
        assert!(says(r#"{"by":"event_id"}"#).contains("[schema] event_id"));
        assert!(says(r#"{"by":"seq","within":0}"#).contains("1 to 65536"));
        assert!(says(r#"{"by":"seq","within":"10m"}"#).contains("by numbers"));
        assert!(says(r#"{"by":"time","within":"soon"}"#).contains("such as \"10m\""));
        assert!(says(r#"{"by":"time","remember":5}"#).contains("goes with a duration"));
        assert!(says(r#"{"by":"time","resets":"ignore"}"#).contains("for sequences"));
        assert!(says(r#"{"by":"time","action":"mark"}"#).contains("unknown value `mark`"));
    }
}
