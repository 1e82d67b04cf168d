//! Formats: how bytes become columns.
//!
//! A decoder takes whole records (lines, mostly) and writes each event straight into an
//! [`EventBuilder`]; what does not decode becomes a dead letter with its bytes, the reason in words and the line. It
//! never panics, never loses a record and keeps no event. An empty line counts nothing, a bad one counts one.
//!
//! The formats are [`json`], [`csv`] and [`line_protocol`]; [`body`] undoes gzip and zstd before them.

pub mod body;
pub mod csv;
mod csv_records;
pub mod json;
mod json_scan;
mod json_template;
pub mod line_protocol;
pub mod mapping;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trackside_core::builder::EventBuilder;
use trackside_core::dead_letter::{DeadLetter, MAX_PAYLOAD};

pub use mapping::Mapping;

/// Longest record; a longer one is a dead letter. Equal to what a dead letter keeps.
pub const MAX_RECORD: usize = MAX_PAYLOAD;

/// What the transport knows about the bytes that it hands to a decoder.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// The wall clock, ns since 1970: the time of events that bring none.
    pub arrival: i64,
    /// Number of the first line; 0 counts as unknown and dead letters then name no line.
    pub first_line: u64,
    /// The protocol's own id of the message: events get `id/line` where the layout keeps an event id and the payload
    /// has none.
    pub event_id: Option<&'a str>,
    /// Tags that the protocol gives (an MQTT topic's levels), by number in the layout. They win over the block's
    /// `tags`; a tag in the payload wins over both.
    pub tags: &'a [(usize, &'a str)],
}

impl Envelope<'_> {
    /// Bytes that came alone, now.
    pub fn at(arrival: i64) -> Self {
        Self { arrival, first_line: 1, event_id: None, tags: &[] }
    }
}

/// Turns bytes into rows.
pub trait Decoder: Send {
    /// Decodes whole records; the last one may lack its newline.
    fn decode(&mut self, bytes: &[u8], envelope: &Envelope<'_>, out: &mut EventBuilder, dead: &mut Vec<DeadLetter>);

    /// Where the first record of `bytes` ends, behind its newline; none when it is not whole. `last` says that no
    /// more bytes will come.
    fn record_end(&self, bytes: &[u8], last: bool) -> Option<usize> {
        memchr::memchr(b'\n', bytes).map(|at| at + 1).or((last && !bytes.is_empty()).then_some(bytes.len()))
    }

    /// Whether the first record of a file tells the columns and is no event.
    fn wants_header(&self) -> bool {
        false
    }

    /// Takes that first record. The error says what the header lacks.
    fn header(&mut self, _record: &[u8]) -> Result<(), String> {
        Ok(())
    }
}

/// A format by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object a line (NDJSON, JSON Lines); a line may also be an array of objects.
    Json,
    /// Comma-separated values, with a header row or `columns`.
    Csv,
    /// InfluxDB line protocol.
    LineProtocol,
}

/// Unit of line protocol timestamps.
pub use trackside_core::time::Unit as Precision;

/// Notes line (or array element) and cut in a dead letter's detail.
pub(crate) fn reject(component: &str, reason: String, record: &[u8], place: Option<Place>) -> DeadLetter {
    let letter = DeadLetter::payload(component, reason, record);
    match (place, letter.detail.clone()) {
        (Some(place), Some(cut)) => letter.with_detail(format!("{place}; {cut}")),
        (Some(place), None) => letter.with_detail(place.to_string()),
        (None, _) => letter,
    }
}

/// Where a record stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: u64,
    /// Number in an array, from 1; 0 when the line is the record.
    pub(crate) element: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.element {
            0 => write!(f, "line {}", self.line),
            element => write!(f, "line {}, element {element}", self.line),
        }
    }
}

/// Line and number in that line's array (where it is one) that a dead letter's detail names.
pub fn place_of(letter: &DeadLetter) -> (Option<u64>, Option<u64>) {
    let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok());
    let Some(place) = letter.detail.as_deref().and_then(|detail| detail.strip_prefix("line ")) else {
        return (None, None);
    };
    (number(place), place.split_once(", element ").and_then(|(_, element)| number(element)))
}
