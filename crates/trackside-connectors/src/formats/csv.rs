//! CSV: one record is one event; the header row (or `columns`) tells which cell is which key.
//!
//! RFC 4180 with what the field does to it: `,` `;` tab or `|` (taken from the header row unless given), CRLF, quoted
//! line breaks, a byte order mark. An empty cell is null. A record with too many or too few cells is a dead letter, as
//! is one whose quote is never closed (only that line).
//!
//! ```text
//! timestamp,value
//! 2013-12-02 21:15:00,73.96732207
//! ```

use super::csv_records::{Cell, detect_delimiter, record_end, split};
use super::json_scan::Cursor;
use super::mapping::{Mapping, Row, Value};
use super::{Decoder, Envelope, Place, reject};
use std::sync::Arc;
use trackside_core::builder::EventBuilder;
use trackside_core::dead_letter::DeadLetter;

/// Most columns of a file.
pub const MAX_CELLS: usize = 1024;

/// The decoder.
#[derive(Debug)]
pub struct Csv {
    mapping: Arc<Mapping>,
    delimiter: Option<u8>,
    columns: Vec<Column>,
    /// The columns were given; the file has no header row.
    fixed: bool,
    cells: Vec<Cell>,
    extra: String,
    scratch: String,
}

#[derive(Debug)]
struct Column {
    name: String,
    key: Option<usize>,
}

impl Csv {
    /// A decoder. `columns` name the cells of files without a header row; empty when they have one.
    pub fn new(mapping: impl Into<Arc<Mapping>>, delimiter: Option<u8>, columns: &[String]) -> Result<Self, String> {
        let mut csv = Self {
            mapping: mapping.into(),
            delimiter,
            columns: Vec::new(),
            fixed: !columns.is_empty(),
            cells: Vec::new(),
            extra: String::new(),
            scratch: String::new(),
        };
        if csv.fixed {
            csv.set_columns(columns.to_vec())?;
        }
        Ok(csv)
    }

    fn set_columns(&mut self, names: Vec<String>) -> Result<(), String> {
        if names.len() > MAX_CELLS {
            return Err(format!("{} columns, more than {MAX_CELLS}", names.len()));
        }
        if let Some((_, twice)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            return Err(format!("the column `{twice}` is there twice"));
        }
        let fields = &self.mapping.layout().config.fields;
        if !names.iter().any(|name| fields.contains_key(name)) {
            let list = |names: &mut dyn Iterator<Item = &String>| {
                names.take(12).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            };
            let (has, wants) = (list(&mut names.iter()), list(&mut fields.keys()));
            return Err(format!("no column is a field of the schema: the columns are {has}, the fields {wants}"));
        }
        let mapping = &self.mapping;
        self.columns = names.into_iter().map(|name| Column { key: mapping.find(&name), name }).collect();
        Ok(())
    }

    fn delimiter(&self) -> u8 {
        self.delimiter.unwrap_or(b',')
    }

    fn event(
        &mut self,
        record: &str,
        envelope: &Envelope<'_>,
        line: u64,
        out: &mut EventBuilder,
    ) -> Result<(), String> {
        split(record.as_bytes(), self.delimiter(), &mut self.cells)?;
        if self.cells.len() != self.columns.len() {
            return Err(format!("{} cells, expected {}", self.cells.len(), self.columns.len()));
        }
        let mut row = Row::begin(&self.mapping, envelope, out, &mut self.extra);
        for (column, cell) in self.columns.iter().zip(&self.cells) {
            let mut text = &record[cell.start..cell.end];
            if text.is_empty() {
                continue;
            }
            if cell.doubled {
                self.scratch.clear();
                text.split("\"\"").enumerate().for_each(|(at, part)| {
                    self.scratch.push_str(if at > 0 { "\"" } else { "" });
                    self.scratch.push_str(part);
                });
                text = &self.scratch;
            }
            match column.key {
                Some(key) => row.set(key, Value::Cell(text))?,
                None => row.unknown(&column.name, |extra| write_pair(extra, &column.name, text))?,
            }
        }
        row.finish(envelope, line, 0)
    }
}

/// `"name":cell` as JSON: the cell as a number if it is one, else as text.
pub(super) fn write_pair(out: &mut String, name: &str, cell: &str) {
    use std::fmt::Write;
    let mut cursor = Cursor::new(cell);
    let number = matches!(cursor.peek(), b'-' | b'0'..=b'9') && cursor.number().is_ok() && cursor.at_end();
    // Writing to a string cannot fail.
    _ = if number {
        write!(out, "{}:{cell}", serde_json::Value::from(name))
    } else {
        write!(out, "{}:{}", serde_json::Value::from(name), serde_json::Value::from(cell))
    };
}

impl Decoder for Csv {
    fn decode(&mut self, bytes: &[u8], envelope: &Envelope<'_>, out: &mut EventBuilder, dead: &mut Vec<DeadLetter>) {
        let (mut start, mut line) = (0, envelope.first_line);
        while let Some(end) = record_end(&bytes[start..], self.delimiter(), true) {
            let record = trim_line_end(&bytes[start..start + end]);
            if !record.is_empty() {
                let done = std::str::from_utf8(record)
                    .map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to() + 1))
                    .and_then(|text| self.event(text, envelope, line, out));
                if let Err(reason) = done {
                    out.rollback();
                    let place = (envelope.first_line > 0).then_some(Place { line, element: 0 });
                    dead.push(reject(self.mapping.component(), reason, record, place));
                }
            }
            line += memchr::memchr_iter(b'\n', &bytes[start..start + end]).count() as u64;
            start += end;
        }
    }

    fn record_end(&self, bytes: &[u8], last: bool) -> Option<usize> {
        record_end(bytes, self.delimiter(), last)
    }

    fn wants_header(&self) -> bool {
        !self.fixed
    }

    fn header(&mut self, record: &[u8]) -> Result<(), String> {
        let record = record.strip_prefix(b"\xef\xbb\xbf").unwrap_or(record);
        let record = trim_line_end(record);
        let text = std::str::from_utf8(record).map_err(|_| "the header row is not UTF-8".to_string())?;
        self.delimiter.get_or_insert_with(|| detect_delimiter(record));
        split(record, self.delimiter(), &mut self.cells)?;
        let names = self.cells.iter().map(|cell| text[cell.start..cell.end].replace("\"\"", "\"").trim().to_owned());
        let names = names.collect();
        self.set_columns(names)
    }
}

fn trim_line_end(record: &[u8]) -> &[u8] {
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    record.strip_suffix(b"\r").unwrap_or(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{mapping, rows};
    use serde_json::json;

    fn decode(schema: serde_json::Value, text: &str) -> (Vec<serde_json::Value>, Vec<DeadLetter>) {
        let mut csv = Csv::new(mapping(schema), None, &[]).unwrap();
        let end = csv.record_end(text.as_bytes(), true).unwrap();
        csv.header(&text.as_bytes()[..end]).unwrap();
        let (mut out, mut dead) = (EventBuilder::new(csv.mapping.layout().clone()), Vec::new());
        let envelope = Envelope { first_line: 2, ..Envelope::at(7) };
        csv.decode(&text.as_bytes()[end..], &envelope, &mut out, &mut dead);
        (rows(&out.finish()), dead)
    }

    #[test]
    fn cells_go_to_their_columns_and_bad_ones_name_their_line() {
        let schema =
            json!({"time": {"field": "timestamp"}, "fields": {"value": "float", "n": "integer", "note": "string"}});
        let text = "\u{feff}timestamp;value;n;note;site\r\n\
                    2013-12-02 21:15:00;73.5;3;\"a;\"\"b\"\"\nc\";x\r\n\
                    \r\n\
                    2013-12-02 21:16:00;;4;;7\r\n\
                    2013-12-02 21:17:00;1,5;4;;7\r\n\
                    2013-12-02 21:18:00;1.5\r\n\
                    2013-12-02 21:19:00;\"1.5;4;;7\r\n\
                    2013-12-02 21:20:00;NaN;4;;7\n\
                    2013-12-02 21:21:00;2;4.0;;7";
        let (rows, dead) = decode(schema, text);
        assert_eq!(
            rows,
            [
                json!({"time":"2013-12-02T21:15:00Z","value":73.5,"n":3,"note":"a;\"b\"\nc","extra":"{\"site\":\"x\"}"}),
                json!({"time":"2013-12-02T21:16:00Z","value":null,"n":4,"note":null,"extra":"{\"site\":7}"}),
                json!({"time":"2013-12-02T21:21:00Z","value":2.0,"n":4,"note":null,"extra":"{\"site\":7}"}),
            ]
        );
        let told: Vec<_> =
            dead.iter().map(|letter| (letter.detail.as_deref().unwrap(), letter.reason.as_str())).collect();
        assert_eq!(
            told,
            [
                ("line 6", "`value` is `1,5`, expected a number"),
                ("line 7", "2 cells, expected 5"),
                ("line 8", "a quote is not closed"),
                ("line 9", "`value` is `NaN`, expected a number"),
            ]
        );
    }

    #[test]
    fn a_header_without_a_field_says_what_there_is() {
        let mut csv = Csv::new(mapping(json!({"fields": {"value": "float"}})), None, &[]).unwrap();
        let error = csv.header(b"ts,temp\n").unwrap_err();
        assert!(error.contains("the columns are `ts`, `temp`, the fields `value`"), "{error}");
        assert!(csv.header(b"value,value\n").unwrap_err().contains("twice"));
    }
}
