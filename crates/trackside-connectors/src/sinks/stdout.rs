//! Prints rows to standard output, one a line, as JSON or as text.
//!
//! Guarantee: at most once. It keeps no position: it begins with what comes after it was started, and what was on its
//! way when the process ended is not printed again. Text that devices sent cannot steer the terminal: control
//! characters are shown escaped.
//!
//! ```toml
//! [[sink]]
//! type = "stdout"
//! topic = "scores.anomaly"
//! format = "text"          # or "json", one object a line
//! ```

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use trackside_core::batch::{row_json, value_json};
use trackside_core::component::{Component, config, schema_of};
use trackside_core::error::{ConfigError, Failure};
use trackside_core::position::Position;
use trackside_core::sink::{BuildSink, Sink, SinkContext, SinkRows, SinkTotals};

pub(super) const COMPONENT: Component<BuildSink> = Component {
    name: "stdout",
    summary: "Prints rows to standard output, as JSON lines or as text. At most once: what comes while it runs.",
    example: r#"[[sink]]
type = "stdout"
topic = "clean"
format = "text"
"#,
    schema: schema_of::<Config>,
    build,
};

/// The keys of a `stdout` block.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How a row is written.
    #[serde(default)]
    pub format: Format,
}

/// How a row is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// Time, tags, then `name=value`, without what is null: for people.
    Text,
}

/// Builds the sink.
pub fn build(block: Value, _: &SinkContext<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    let Config { format } = config(block)?;
    Ok(Box::new(Stdout {
        format,
        out: Box::new(std::io::stdout()),
        line: Vec::new(),
        printed: None,
        moved: None,
        totals: SinkTotals::default(),
    }))
}

struct Stdout {
    format: Format,
    out: Box<dyn Write + Send>,
    /// The lines of one write, so that a frame reaches the terminal in one piece.
    line: Vec<u8>,
    printed: Option<Position>,
    moved: Option<Position>,
    totals: SinkTotals,
}

impl Sink for Stdout {
    fn resume(&mut self) -> Result<Option<Position>, Failure> {
        // After a failure it goes on; only a new process begins anew.
        Ok(self.printed)
    }

    fn only_new(&self) -> bool {
        true
    }

    fn write(&mut self, rows: &SinkRows) -> Result<(), Failure> {
        if let Some(batch) = &rows.rows {
            self.line.clear();
            for row in 0..batch.num_rows() {
                self.format.write(batch, row, &mut self.line);
            }
            self.out.write_all(&self.line).and_then(|()| self.out.flush()).map_err(|error| match error.kind() {
                ErrorKind::BrokenPipe => Failure::stop("standard output is closed: nobody reads it any more"),
                _ => Failure::retry(format!("cannot write to standard output: {error}")),
            })?;
            self.totals.rows += batch.num_rows() as u64;
            self.totals.bytes += self.line.len() as u64;
        }
        self.printed = Some(Position { epoch: rows.epoch, offset: rows.end });
        self.moved = self.printed;
        Ok(())
    }

    fn poll(&mut self, _: i64) -> Result<Option<Position>, Failure> {
        Ok(self.moved.take())
    }

    fn flush(&mut self, now: i64) -> Result<Option<Position>, Failure> {
        self.poll(now)
    }

    fn totals(&self) -> SinkTotals {
        self.totals
    }
}

impl Format {
    fn write(self, batch: &RecordBatch, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Json => out.extend_from_slice(Value::Object(row_json(batch, row)).to_string().as_bytes()),
            Self::Text => out.extend_from_slice(text(batch, row).as_bytes()),
        }
        out.push(b'\n');
    }
}

/// `2024-05-01T12:00:00Z pump-1 temp value=1.5 value_quality=2`
fn text(batch: &RecordBatch, row: usize) -> String {
    let mut line = String::new();
    for (k, (field, column)) in batch.schema_ref().fields().iter().zip(batch.columns()).enumerate() {
        let value = value_json(column, row);
        if value.is_null() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        // The first column and tags are told by their place, the others by name.
        if k > 0 && !matches!(field.data_type(), DataType::Dictionary(..)) {
            line.push_str(field.name());
            line.push('=');
        }
        match value {
            Value::String(text) => line.extend(text.chars().flat_map(visible)),
            other => _ = write!(line, "{other}"),
        }
    }
    line
}

/// A character as it may be shown: control characters escaped.
fn visible(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use trackside_core::testing::events;

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn printed(format: Format) -> String {
        let screen = Screen::default();
        let mut sink = Stdout {
            format,
            out: Box::new(screen.clone()),
            line: Vec::new(),
            printed: None,
            moved: None,
            totals: SinkTotals::default(),
        };
        let rows = Some(events(&[(0, "pump", 1.5), (1, "a\x1b[2J\nb", f64::NAN)]));
        sink.write(&SinkRows { epoch: 1, first: 10, end: 12, ingest_time: 0, rows }).unwrap();
        assert_eq!(sink.flush(0).unwrap(), Some(Position { epoch: 1, offset: 12 }));
        assert_eq!((sink.flush(0).unwrap(), sink.totals().rows), (None, 2));
        let bytes = screen.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn rows_are_json_lines() {
        let lines = printed(Format::Json);
        let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert_eq!(
            first,
            serde_json::json!({"time": "1970-01-01T00:00:00Z", "device": "pump", "value": 1.5, "extra": null})
        );
        assert_eq!(lines.lines().count(), 2);
    }

    #[test]
    fn text_is_for_people_and_cannot_steer_the_terminal() {
        let lines = printed(Format::Text);
        assert_eq!(lines, "1970-01-01T00:00:00Z pump value=1.5\n1970-01-01T00:00:00.000000001Z a\\u{1b}[2J\\nb\n");
    }
}
