//! Dead letters of the door, decoded once more: by the source that rejected them, as it is set now.
//!
//! What a source knew beside the bytes (a topic, a precision) stands in the letter's detail, and is read back from there.

use crate::formats::json::Json;
use crate::formats::{Decoder, Envelope, Mapping, Precision};
use arrow::array::RecordBatch;
use std::sync::Arc;
use trackside_core::builder::EventBuilder;
use trackside_core::dead_letter::DeadLetter;

/// Before the unit of the timestamps, in the detail of a line that came as line protocol.
const LINES: &str = "line protocol in ";

/// Runs a decoder over the letter's bytes. Whatever it rejects is the error: a letter goes on as a whole or not at all.
pub(super) fn decode(
    mapping: &Mapping,
    run: impl FnOnce(&mut EventBuilder, &mut Vec<DeadLetter>),
) -> Result<RecordBatch, String> {
    let (mut out, mut dead) = (EventBuilder::new(mapping.layout().clone()), Vec::new());
    run(&mut out, &mut dead);
    match dead.first() {
        Some(letter) => Err(format!("it is rejected again: {}", letter.reason)),
        None => Ok(out.finish()),
    }
}

/// Decodes the letter with this decoder.
pub(super) fn with(
    decoder: &mut dyn Decoder,
    mapping: &Mapping,
    letter: &DeadLetter,
    arrival: i64,
) -> Result<RecordBatch, String> {
    if decoder.wants_header() {
        return Err("a line of this file means nothing without its header row; give an event with --row".into());
    }
    decode(mapping, |out, dead| decoder.decode(bytes(letter), &Envelope::at(arrival), out, dead))
}

/// Decodes the letter as JSON, however it is broken into lines.
pub(super) fn json(mapping: &Arc<Mapping>, letter: &DeadLetter, arrival: i64) -> Result<RecordBatch, String> {
    decode(mapping, |out, dead| {
        Json::new(mapping.clone()).decode_message(bytes(letter), &Envelope::at(arrival), out, dead);
    })
}

pub(super) fn bytes(letter: &DeadLetter) -> &[u8] {
    letter.payload.as_deref().unwrap_or_default()
}

/// Notes that the letters came as line protocol with timestamps of this unit.
pub(super) fn note_precision(letters: &mut [DeadLetter], precision: Precision) {
    for letter in letters {
        let note = format!("{LINES}{}", name(precision));
        letter.detail = Some(letter.detail.take().map_or(note.clone(), |detail| format!("{detail}; {note}")));
    }
}

/// The unit that [`note_precision`] noted.
pub(super) fn precision(letter: &DeadLetter) -> Option<Precision> {
    let (_, unit) = letter.detail.as_deref()?.rsplit_once(LINES)?;
    [Precision::S, Precision::Ms, Precision::Us, Precision::Ns].into_iter().find(|precision| name(*precision) == unit)
}

fn name(precision: Precision) -> &'static str {
    match precision {
        Precision::S => "s",
        Precision::Ms => "ms",
        Precision::Us => "us",
        Precision::Ns => "ns",
    }
}

/// The text between the backticks behind `word` in the letter's detail; none where it was escaped.
pub(super) fn noted(letter: &DeadLetter, word: &str) -> Option<String> {
    let (_, rest) = letter.detail.as_deref()?.rsplit_once(&format!("{word} `"))?;
    let text = rest.strip_suffix('`')?;
    (!text.contains('\\')).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::SOURCES;
    use crate::testing::{layout, rows};
    use serde_json::{Value, json};
    use trackside_core::component::find;
    use trackside_core::source::{Source, SourceContext};

    fn again(kind: &str, block: Value, letter: &DeadLetter, event: bool) -> Result<Vec<Value>, String> {
        let schema = json!({"series": ["device"], "fields": {"value": "float"}, "unknown": "ignore"});
        let layout = layout(schema);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.csv"), "device,value\n").unwrap();
        let context = SourceContext { name: "s", layout: &layout, base: folder.path() };
        let build = find(SOURCES, "source", kind).unwrap().build;
        let mut source: Box<dyn Source> = build(block, &context).unwrap();
        source.decode_again(letter, event, 5_000_000_000).map(|batch| rows(&batch))
    }

    fn letter(payload: &str) -> DeadLetter {
        DeadLetter::payload("s", "why", payload.as_bytes())
    }

    #[test]
    fn http_knows_json_and_the_unit_of_lines() {
        let rows = again("http", json!({"tags": {"device": "a"}}), &letter(r#"{"value": 1}"#), false).unwrap();
        let row = json!({"time": "1970-01-01T00:00:05Z", "device": "a", "value": 1.0});
        assert_eq!(rows, [row]);
        let mut line = [letter("m,device=b value=2 1000").with_detail("line 3")];
        note_precision(&mut line, Precision::Ms);
        let rows = again("http", json!({}), &line[0], false).unwrap();
        assert_eq!(rows, [json!({"time": "1970-01-01T00:00:01Z", "device": "b", "value": 2.0})]);
        let error = again("http", json!({}), &letter("{\"value\":"), false).unwrap_err();
        assert!(error.starts_with("it is rejected again: "), "{error}");
    }

    #[test]
    fn mqtt_knows_its_topic() {
        let block =
            json!({"broker": "mqtt://localhost", "topics": ["p/#"], "pattern": "p/{device}", "format": "value"});
        let letter = letter("3.5").with_detail("topic `p/x`");
        assert_eq!(again("mqtt", block.clone(), &letter, false).unwrap()[0]["device"], "x");
        let event = DeadLetter { payload: Some(br#"{"device": "y", "value": 1}"#.to_vec()), ..letter };
        assert_eq!(again("mqtt", block, &event, true).unwrap()[0]["device"], "y");
    }

    #[test]
    fn a_csv_line_is_not_guessed_at_and_an_event_takes_its_place() {
        let block = json!({"path": "x.csv"});
        assert!(again("file", block.clone(), &letter("a,1"), false).unwrap_err().contains("--row"));
        let event = letter(r#"{"time": 1, "device": "a", "value": 1}"#);
        assert_eq!(again("file", block, &event, true).unwrap()[0]["time"], "1970-01-01T00:00:05Z");
    }
}
