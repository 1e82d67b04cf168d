//! Dead letters: what a stage rejected, with everything needed to understand it and to send it round again.

use crate::error::suggestion;
use crate::schema::time_type;
use arrow::array::{ArrayRef, BinaryArray, Int64Array, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

/// Longest payload kept in a dead letter; a longer one is cut there and `detail` says so.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// The stage that rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// At the door: bytes that did not decode.
    Ingest,
    /// In cleaning.
    Clean,
    /// In a model.
    Model,
}

impl Stage {
    /// Its name in the `stage` column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Clean => "clean",
            Self::Model => "model",
        }
    }
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Self::Ingest, Self::Clean, Self::Model];
        let known = all.into_iter().find(|stage| stage.name() == name);
        known.ok_or_else(|| format!("unknown stage `{name}`{}", suggestion(name, &all.map(Self::name))))
    }
}

/// Names a dead letter for good: where the frame that holds it lies, and its row in the frame's section.
///
/// Only letters in durable frames are ever acted upon; those keep their place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LetterId {
    /// The topic of the stage that rejected.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// Offset of the frame.
    pub offset: u64,
    /// Number in the frame's section of dead letters, from 0.
    pub row: u32,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.topic, self.partition, self.offset, self.row)
    }
}

impl FromStr for LetterId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (topic, rest) = text.split_once('/')?;
            let mut numbers = rest.split('/');
            let (partition, offset, row) = (numbers.next()?, numbers.next()?, numbers.next()?);
            let whole = !topic.is_empty() && numbers.next().is_none();
            let (partition, offset, row) = (partition.parse().ok()?, offset.parse().ok()?, row.parse().ok()?);
            whole.then(|| Self { topic: topic.to_owned(), partition, offset, row })
        };
        read().ok_or_else(|| {
            format!("`{text}` is no id of a dead letter; `trackside dead list` prints them, as in `clean/0/1234/0`")
        })
    }
}

impl From<LetterId> for String {
    fn from(id: LetterId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for LetterId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// What becomes of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LetterAction {
    /// It goes back to the stage that rejected it, and is closed.
    Retry,
    /// It is closed.
    Drop,
    /// Some of its rows belong to this partition and come with this frame; another partition's closes it.
    Share,
}

/// Somebody's word on a dead letter, logged in `received` like a tick: in one append with the row that it sends back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterWord {
    /// Which.
    pub id: LetterId,
    /// What becomes of it.
    pub action: LetterAction,
    /// The stage that rejected it; earlier ones pass the row on untouched.
    pub stage: Stage,
    /// Name of the block that rejected it.
    pub component: String,
    /// For a model's letter, the offset in `clean` under which its answer is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

impl LetterWord {
    /// Whether a row comes with it that is meant for this stage.
    pub fn is_retry_at(&self, stage: Stage) -> bool {
        self.action == LetterAction::Retry && self.stage == stage
    }
}

/// One rejected row or payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Who rejected.
    pub stage: Stage,
    /// Name of the component's block.
    pub component: String,
    /// Why, in words.
    pub reason: String,
    /// Event time, where it was known.
    pub time: Option<i64>,
    /// Offset of the row in `received` (in `clean` for a model's).
    pub offset: Option<u64>,
    /// The typed row as a JSON object.
    pub row: Option<String>,
    /// The original bytes, for what did not decode.
    pub payload: Option<Vec<u8>>,
    /// A traceback, a line number, …
    pub detail: Option<String>,
}

impl DeadLetter {
    /// A payload that the door could not decode.
    pub fn payload(component: &str, reason: impl Into<String>, payload: &[u8]) -> Self {
        let cut = payload.len() > MAX_PAYLOAD;
        Self {
            stage: Stage::Ingest,
            component: component.to_owned(),
            reason: reason.into(),
            time: None,
            offset: None,
            row: None,
            payload: Some(payload[..payload.len().min(MAX_PAYLOAD)].to_vec()),
            detail: cut.then(|| format!("the first {MAX_PAYLOAD} of {} bytes", payload.len())),
        }
    }

    /// The same with a remark.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

/// Columns of `dead-letter`.
pub static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("stage", DataType::Utf8, false),
        Field::new("component", DataType::Utf8, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("time", time_type(), true),
        Field::new("received_at", time_type(), false),
        Field::new("offset", DataType::Int64, true),
        Field::new("row", DataType::Utf8, true),
        Field::new("payload", DataType::Binary, true),
        Field::new("detail", DataType::Utf8, true),
    ]))
});

/// The letters as a batch; `received_at` is the wall clock of the frame that will hold them.
pub fn batch(letters: &[DeadLetter], received_at: i64) -> RecordBatch {
    fn text<'a>(letters: &'a [DeadLetter], get: impl Fn(&'a DeadLetter) -> Option<&'a str>) -> ArrayRef {
        Arc::new(letters.iter().map(get).collect::<StringArray>())
    }
    let columns: Vec<ArrayRef> = vec![
        text(letters, |l| Some(l.stage.name())),
        text(letters, |l| Some(&l.component)),
        text(letters, |l| Some(&l.reason)),
        Arc::new(letters.iter().map(|l| l.time).collect::<TimestampNanosecondArray>().with_timezone("UTC")),
        Arc::new(TimestampNanosecondArray::from_value(received_at, letters.len()).with_timezone("UTC")),
        Arc::new(letters.iter().map(|l| l.offset.map(|o| o as i64)).collect::<Int64Array>()),
        text(letters, |l| l.row.as_deref()),
        Arc::new(letters.iter().map(|l| l.payload.as_deref()).collect::<BinaryArray>()),
        text(letters, |l| l.detail.as_deref()),
    ];
    // The columns are made to the schema a few lines above; a mismatch is a bug that the first test shows.
    RecordBatch::try_new(SCHEMA.clone(), columns).expect("dead letters fit their schema")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_and_nothing_else_is() {
        let id = LetterId { topic: "scores.a".into(), partition: 3, offset: 17, row: 2 };
        assert_eq!((id.to_string().as_str(), id.to_string().parse()), ("scores.a/3/17/2", Ok(id)));
        for text in ["", "clean", "clean/0/1", "clean/0/1/2/3", "/0/1/2", "clean/0/-1/2", "clean/x/1/2"] {
            assert!(text.parse::<LetterId>().unwrap_err().contains("dead list"), "{text}");
        }
        assert!("moodel".parse::<Stage>().unwrap_err().contains("did you mean `model`?"));
    }

    #[test]
    fn letters_become_rows_with_their_bytes() {
        let letter = DeadLetter::payload("http", "not JSON", b"{\"a\":").with_detail("line 3");
        let batch = batch(&[letter], 7);
        assert_eq!(batch.num_rows(), 1);
        let payload = batch.column_by_name("payload").unwrap();
        assert_eq!(payload.as_any().downcast_ref::<BinaryArray>().unwrap().value(0), b"{\"a\":");
    }
}
