//! Dead letters as the page shows them: text that is safe to send, cut to a length that is pleasant to read.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampNanosecondType;
use serde::Serialize;
use std::fmt::Write as _;
use std::sync::Arc;
use trackside_core::dead_letter::LetterId;

/// Bytes of a payload that are shown; the table holds all of it.
const SHOWN_PAYLOAD: usize = 4096;
/// Characters of a row, a reason or a detail that are shown.
const SHOWN_TEXT: usize = 8192;

/// A dead letter in the answer of `/api/dead`.
#[derive(Debug, Clone, Serialize)]
pub struct Letter {
    /// Its name, for `POST /api/dead/retry` and `drop`.
    pub id: LetterId,
    /// When it was rejected, ms since 1970.
    pub at: f64,
    /// `ingest`, `clean` or `model`.
    pub stage: String,
    /// Name of the block that rejected.
    pub component: String,
    /// Why.
    pub reason: String,
    /// When it happened, if that is known.
    pub time: Option<f64>,
    /// The row as JSON, if it was decoded.
    pub row: Option<String>,
    /// What came, as text.
    pub payload: Option<String>,
    /// What came, in hex.
    pub payload_hex: Option<String>,
    /// A traceback, a line number, …
    pub detail: Option<String>,
}

/// The letters of a section, in order; the section's frame lies at this offset.
pub(crate) fn of(rows: &RecordBatch, topic: &str, partition: u32, offset: u64) -> Vec<Arc<Letter>> {
    let text = |name: &str, row: usize| {
        let column = rows.column_by_name(name)?.as_string_opt::<i32>()?;
        column.is_valid(row).then(|| cut(column.value(row)))
    };
    let time = |name: &str, row: usize| {
        let column = rows.column_by_name(name)?.as_primitive_opt::<TimestampNanosecondType>()?;
        column.is_valid(row).then(|| super::points::ms(column.value(row)))
    };
    let payload = |row: usize| {
        let column = rows.column_by_name("payload")?.as_binary_opt::<i32>()?;
        column.is_valid(row).then(|| &column.value(row)[..column.value(row).len().min(SHOWN_PAYLOAD)])
    };
    let letter = |row: usize| {
        Arc::new(Letter {
            id: LetterId { topic: topic.to_owned(), partition, offset, row: row as u32 },
            at: time("received_at", row).unwrap_or_default(),
            stage: text("stage", row).unwrap_or_default(),
            component: text("component", row).unwrap_or_default(),
            reason: text("reason", row).unwrap_or_default(),
            time: time("time", row),
            row: text("row", row),
            payload: payload(row).map(|bytes| String::from_utf8_lossy(bytes).into_owned()),
            payload_hex: payload(row).map(hex),
            detail: text("detail", row),
        })
    };
    (0..rows.num_rows()).map(letter).collect()
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackside_core::dead_letter::{DeadLetter, batch};

    #[test]
    fn bytes_are_shown_as_text_and_hex_and_cut() {
        let short = DeadLetter::payload("http", "not JSON", b"\xff{").with_detail("line 3");
        let long = DeadLetter::payload("http", "r".repeat(SHOWN_TEXT + 1), &[b'a'; SHOWN_PAYLOAD + 1]);
        let letters = of(&batch(&[short, long], 2_500_000), "received", 1, 9);
        let json = serde_json::to_value(&*letters[0]).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"id": "received/1/9/0", "at": 2.5, "stage": "ingest", "component": "http", "reason": "not JSON", "time": null,
                "row": null, "payload": "\u{fffd}{", "payload_hex": "ff7b", "detail": "line 3"})
        );
        assert_eq!(letters[1].payload.as_ref().unwrap().len(), SHOWN_PAYLOAD);
        assert!(letters[1].reason.ends_with('…'));
    }
}
