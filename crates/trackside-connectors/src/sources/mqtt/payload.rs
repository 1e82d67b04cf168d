//! From a message to rows: tags from its topic, fields from its payload.

use super::packet::Publish;
use super::topic::Pattern;
use crate::formats::json::Json;
use crate::formats::mapping::{Row, Value};
use crate::formats::{Envelope, Mapping};
use crate::sources::again;
use arrow::array::RecordBatch;
use std::sync::Arc;
use trackside_core::builder::EventBuilder;
use trackside_core::dead_letter::DeadLetter;

/// Decodes the messages of one source.
pub(super) struct Payload {
    mapping: Arc<Mapping>,
    pattern: Option<Pattern>,
    format: Format,
}

enum Format {
    Json(Box<Json>),
    /// The payload is the value of this key.
    Value {
        key: usize,
        extra: String,
    },
}

impl Payload {
    /// Payloads are JSON.
    pub(super) fn json(mapping: Arc<Mapping>, pattern: Option<Pattern>) -> Self {
        let format = Format::Json(Box::new(Json::new(mapping.clone())));
        Self { mapping, pattern, format }
    }

    /// Payloads are bare values of this key.
    pub(super) fn value(mapping: Arc<Mapping>, pattern: Option<Pattern>, key: usize) -> Self {
        Self { mapping, pattern, format: Format::Value { key, extra: String::new() } }
    }

    /// Decodes a dead letter once more; its topic stands in its detail. An event is JSON whatever the format.
    pub(super) fn decode_again(
        &mut self,
        letter: &DeadLetter,
        event: bool,
        arrival: i64,
    ) -> Result<RecordBatch, String> {
        let mapping = self.mapping.clone();
        if event {
            return again::json(&mapping, letter, arrival);
        }
        let topic =
            again::noted(letter, "topic").ok_or("the letter does not tell its topic; give an event with --row")?;
        let payload = again::bytes(letter).to_vec().into();
        let message = Publish { topic, payload, ..Publish::default() };
        again::decode(&mapping, |out, dead| self.decode(&message, arrival, out, dead))
    }

    /// Adds the message's rows, or why it has none. An empty message says nothing and adds nothing.
    pub(super) fn decode(
        &mut self,
        message: &Publish,
        arrival: i64,
        out: &mut EventBuilder,
        dead: &mut Vec<DeadLetter>,
    ) {
        let (before, bytes) = (dead.len(), &message.payload[..]);
        let reject = |reason: String| DeadLetter::payload(self.mapping.component(), reason, bytes);
        let tags = match &self.pattern {
            Some(pattern) => pattern.tags(&message.topic),
            None => Some(Vec::new()),
        };
        match (tags, message.cut) {
            (_, Some(length)) => {
                dead.push(reject(format!("a message of {length} bytes; at most {} are taken", bytes.len())));
            }
            (None, None) => {
                let pattern = self.pattern.as_ref().map(ToString::to_string).unwrap_or_default();
                dead.push(reject(format!("the topic does not fit the pattern `{pattern}`")));
            }
            (Some(tags), None) => {
                let envelope = Envelope { tags: &tags, event_id: message.event_id.as_deref(), ..Envelope::at(arrival) };
                match &mut self.format {
                    Format::Json(json) => json.decode_message(bytes, &envelope, out, dead),
                    Format::Value { key, extra } => {
                        if let Err(reason) = value(&self.mapping, *key, extra, bytes, &envelope, out) {
                            out.rollback();
                            dead.push(DeadLetter::payload(self.mapping.component(), reason, bytes));
                        }
                    }
                }
            }
        }
        for letter in &mut dead[before..] {
            let topic = format!("topic `{}`", message.topic.escape_debug());
            letter.detail = Some(letter.detail.take().map_or(topic.clone(), |detail| format!("{detail}; {topic}")));
        }
    }
}

fn value(
    mapping: &Mapping,
    key: usize,
    extra: &mut String,
    bytes: &[u8],
    envelope: &Envelope<'_>,
    out: &mut EventBuilder,
) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not a text".to_string())?.trim();
    if text.is_empty() {
        return Ok(());
    }
    let mut row = Row::begin(mapping, envelope, out, extra);
    row.set(key, Value::Cell(text))?;
    row.finish(envelope, envelope.first_line, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{layout, mapping, rows};
    use bytes::Bytes;
    use serde_json::json;

    fn decoded(payload: &mut Payload, topic: &str, text: &'static str) -> (Vec<serde_json::Value>, Vec<DeadLetter>) {
        let mut out = EventBuilder::new(payload.mapping.layout().clone());
        let mut dead = Vec::new();
        let message = Publish {
            topic: topic.into(),
            payload: Bytes::from_static(text.as_bytes()),
            event_id: Some("e".into()),
            ..Publish::default()
        };
        payload.decode(&message, 5, &mut out, &mut dead);
        (rows(&out.finish()), dead)
    }

    #[test]
    fn values_and_json_get_the_tags_of_their_topic() {
        let schema = json!({"series": ["device", "sensor"], "fields": {"value": "float"}, "event_id": "id", "unknown": "ignore"});
        let pattern = || Some(Pattern::parse("plant/{device}/{sensor}", &layout(schema.clone())).unwrap());
        let mapping = Arc::new(mapping(schema.clone()));
        let key = mapping.find("value").unwrap();
        let mut payload = Payload::value(mapping.clone(), pattern(), key);
        let row = json!({"time": "1970-01-01T00:00:00.000000005Z", "device": "p1", "sensor": "temp", "value": 21.5, "event_id": "e/1"});
        assert_eq!(decoded(&mut payload, "plant/p1/temp", " 21.5\n").0, [row]);
        assert_eq!(decoded(&mut payload, "plant/p1/temp", ""), (vec![], vec![]));
        let (rows, dead) = decoded(&mut payload, "plant/p1/temp", "hot");
        assert_eq!((rows.len(), dead[0].detail.as_deref()), (0, Some("topic `plant/p1/temp`")));
        assert!(dead[0].reason.contains("hot"), "{}", dead[0].reason);

        let mut payload = Payload::json(mapping, pattern());
        let (rows, _) = decoded(&mut payload, "plant/p1/temp", r#"[{"value":1},{"value":2,"sensor":"rpm","id":"x"}]"#);
        assert_eq!((&rows[0]["sensor"], &rows[0]["event_id"]), (&json!("temp"), &json!("e/1.1")));
        assert_eq!((&rows[1]["sensor"], &rows[1]["event_id"]), (&json!("rpm"), &json!("x")));
        let (rows, dead) = decoded(&mut payload, "mill/p1/temp", r#"{"value":1}"#);
        assert!(rows.is_empty() && dead[0].reason.contains("`plant/{device}/{sensor}`"));
    }
}
