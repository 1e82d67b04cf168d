//! Words on dead letters, said to a running engine: send it back, or let it go.
//!
//! Guarantee: of one letter's row at most one ever goes on, also over a kill at any moment. The word that closes the letter
//! and the row that goes on are one append to `received`, and a closed letter is refused. Only a payload whose rows belong
//! to several partitions takes several appends: each partition's share is noted there, the closing word comes last, and
//! who says it again after a kill sends only what is missing.

use super::{Letter, Letters, Words};
use crate::catalog;
use crate::engine::Engine;
use crate::run::clean::Chain;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::PoisonError;
use trackside_core::dead_letter::{DeadLetter, LetterAction, LetterId, LetterWord, Stage};
use trackside_core::error::suggestion;
use trackside_core::log::{End, LogError};
use trackside_core::position::{CLEAN, RECEIVED};
use trackside_core::row::from_row_json;

/// A letter to be sent back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Which.
    pub id: LetterId,
    /// What takes its row's place: a JSON object, as `dead show` prints the row; for a letter of the door, an event as
    /// the source would bring it as JSON.
    #[serde(default)]
    pub row: Option<Map<String, Value>>,
}

/// What came of a word on one letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answered {
    /// Which.
    pub id: String,
    /// `retry` or `drop`, when it was done.
    pub done: Option<LetterAction>,
    /// Rows that went on.
    pub rows: usize,
    /// Why nothing was done; the letter is as it was.
    pub error: Option<String>,
}

/// Why nothing can be said of any letter now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The pipeline is stopping.
    #[error("the pipeline is stopping; say it again when it runs")]
    Stopping,
    /// Perhaps done, perhaps not.
    #[error("it is not known whether this is durable: {0}; ask `trackside dead list` once the disk is well")]
    Unknown(String),
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Log(String),
}

/// What goes on: by partition, and where the closing word is said.
struct Passage {
    home: u32,
    shares: Vec<(u32, RecordBatch)>,
    word: LetterWord,
}

impl Engine {
    /// Sends letters back to the stage that rejected each, and closes them. The answers are in order, and durable.
    pub fn retry_letters(&self, letters: &[Retry]) -> Result<Vec<Answered>, Refusal> {
        self.each_letter(letters.iter().map(|retry| &retry.id), |number, letter| {
            self.passage(letter, letters[number].row.as_ref())
        })
    }

    /// Closes letters without sending them back.
    pub fn drop_letters(&self, ids: &[LetterId]) -> Result<Vec<Answered>, Refusal> {
        self.each_letter(ids.iter(), |_, letter| {
            let word = word(letter, LetterAction::Drop);
            Ok(Passage { home: letter.id.partition, shares: Vec::new(), word })
        })
    }

    /// The dead letters of the running pipeline.
    pub fn letters(&self) -> Letters {
        Letters::of(self.log.clone())
    }

    fn each_letter<'i>(
        &self,
        ids: impl Iterator<Item = &'i LetterId>,
        passage: impl Fn(usize, &Letter) -> Result<Passage, String>,
    ) -> Result<Vec<Answered>, Refusal> {
        let mut words = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stops.sources.is_set() {
            return Err(Refusal::Stopping);
        }
        let partitions: Vec<u32> = (0..self.received.partitions()).collect();
        let letters = self.letters();
        let unread = |error: LogError| Refusal::Log(error.to_string());
        words.catch_up(&*self.log, &partitions).map_err(unread)?;
        let (mut answers, mut ends) = (Vec::new(), BTreeMap::new());
        for (number, id) in ids.enumerate() {
            let done = open_letter(&letters, id, &words)
                .and_then(|letter| passage(number, &letter))
                .and_then(|passage| self.pass(passage, &mut words, &mut ends));
            let id = id.to_string();
            answers.push(match done {
                Ok((action, rows)) => Answered { id, done: Some(action), rows, error: None },
                Err(error) => Answered { id, done: None, rows: 0, error: Some(error) },
            });
        }
        for (partition, end) in ends {
            match self.received.syncer(partition).sync() {
                Ok(durable) if durable >= end => {}
                Ok(_) => return Err(Refusal::Unknown("the disk has not taken it yet".into())),
                Err(error) => return Err(Refusal::Unknown(error.to_string())),
            }
        }
        Ok(answers)
    }

    /// Says it: shares first, the closing word with the home partition's share last.
    fn pass(
        &self,
        passage: Passage,
        words: &mut Words,
        ends: &mut BTreeMap<u32, u64>,
    ) -> Result<(LetterAction, usize), String> {
        let Passage { home, shares, word } = passage;
        let id = word.id.clone();
        let rows = shares.iter().map(|(_, rows)| rows.num_rows()).sum();
        let mut say = |words: &mut Words, partition: u32, word: LetterWord, rows| {
            let end = self.received.say(partition, word.clone(), rows).map_err(|error| match error {
                LogError::Full(why) => format!("no room, nothing was done: {why}"),
                other => other.to_string(),
            })?;
            ends.insert(partition, end);
            words.note(Some(&word), partition).map_err(|error| error.to_string())
        };
        let mut own = None;
        for (partition, rows) in shares {
            if partition == home {
                own = Some(rows);
            } else if !words.shares.contains(&(id.clone(), partition)) {
                say(words, partition, LetterWord { action: LetterAction::Share, ..word.clone() }, Some(rows))?;
            }
        }
        let action = word.action;
        say(words, home, word, own)?;
        Ok((action, rows))
    }

    /// What a letter's row becomes on its way back.
    fn passage(&self, letter: &Letter, row: Option<&Map<String, Value>>) -> Result<Passage, String> {
        let (home, word) = (letter.id.partition, word(letter, LetterAction::Retry));
        match letter.stage {
            Stage::Ingest => {
                let rows = self.decoded(letter, row)?;
                Ok(Passage { home, shares: self.received.shares(&rows), word })
            }
            Stage::Clean => {
                let row = self.row(letter, row, RECEIVED, &self.pipeline().layout.schema)?;
                self.at_home(letter, &row)?;
                Ok(Passage { home, shares: vec![(home, row)], word })
            }
            Stage::Model => {
                let pipeline = self.pipeline();
                let known: Vec<&str> = pipeline.models.iter().map(|model| model.name.as_str()).collect();
                if !known.contains(&letter.component.as_str()) {
                    let name = &letter.component;
                    return Err(format!("the pipeline has no model `{name}`{}", suggestion(name, &known)));
                }
                let row = self.row(letter, row, CLEAN, &self.clean_schema()?)?;
                self.at_home(letter, &row)?;
                let offset = Some(self.key(letter)?);
                Ok(Passage { home, shares: vec![(home, row)], word: LetterWord { offset, ..word } })
            }
        }
    }

    /// A row's series belongs to one partition; there its state is, and there the letter is closed.
    fn at_home(&self, letter: &Letter, row: &RecordBatch) -> Result<(), String> {
        let home = self.received.shares(row).first().is_none_or(|(partition, _)| *partition == letter.id.partition);
        home.then_some(()).ok_or_else(|| {
            "with these tags the row belongs to a series of another partition; drop the letter, and send the event to a source"
                .into()
        })
    }

    /// The row that is sent back: the corrected one, else the very one that was rejected, else its copy in the letter.
    fn row(
        &self,
        letter: &Letter,
        corrected: Option<&Map<String, Value>>,
        topic: &str,
        schema: &SchemaRef,
    ) -> Result<RecordBatch, String> {
        if let Some(row) = corrected {
            return from_row_json(schema, row);
        }
        if let Some(row) = self.original(letter, topic).map_err(|error| error.to_string())? {
            return Ok(row);
        }
        let text = letter.row.as_deref().ok_or("the letter holds no row; give one with --row")?;
        let row = serde_json::from_str(text).map_err(|error| format!("the letter's row cannot be read: {error}"))?;
        from_row_json(schema, &row).map_err(|error| format!("{error}; the schema has changed: give the row with --row"))
    }

    /// The row itself, while its topic holds it.
    fn original(&self, letter: &Letter, topic: &str) -> Result<Option<RecordBatch>, LogError> {
        let Some(offset) = letter.offset else { return Ok(None) };
        let frame = self.letters().frame(topic, letter.id.partition, offset, End::Published)?;
        let Some(frame) = frame.filter(|frame| frame.num_rows > 0) else { return Ok(None) };
        let row = (offset - frame.first) as usize;
        Ok(frame.rows()?.filter(|rows| row < rows.num_rows()).map(|rows| rows.slice(row, 1)))
    }

    /// The offset in `clean` under which a model's answer to the letter's row is kept: that of the row itself, also when
    /// the row had been sent back before.
    fn key(&self, letter: &Letter) -> Result<u64, String> {
        let offset = letter.offset.ok_or("the letter does not tell its row's offset")?;
        let frame = self.letters().frame(CLEAN, letter.id.partition, offset, End::Published);
        let frame = frame.map_err(|error| error.to_string())?;
        Ok(frame.and_then(|frame| frame.meta.letter?.offset).unwrap_or(offset))
    }

    fn clean_schema(&self) -> Result<SchemaRef, String> {
        let pipeline = self.pipeline();
        let operators = catalog::chain(&pipeline.cleaners, &pipeline.layout);
        let operators = operators.map_err(|(block, error)| format!("{block}: {}", error.message))?;
        Ok(Chain::new(&pipeline.layout, operators).layout().schema.clone())
    }

    /// What the door rejected, decoded as its source is set now; or the event that takes its place.
    fn decoded(&self, letter: &Letter, event: Option<&Map<String, Value>>) -> Result<RecordBatch, String> {
        let pipeline = self.pipeline();
        let blocks = &pipeline.sources;
        let Some(block) = blocks.iter().find(|block| block.name == letter.component) else {
            let known: Vec<&str> = blocks.iter().map(|block| block.name.as_str()).collect();
            return Err(format!(
                "the pipeline has no source `{0}`{1}",
                letter.component,
                suggestion(&letter.component, &known)
            ));
        };
        let source = catalog::source(block, &pipeline.layout, &pipeline.base);
        let mut source = source.map_err(|error| error.message)?;
        let payload = match event {
            Some(event) => Value::Object(event.clone()).to_string().into_bytes(),
            None => letter.payload.clone().ok_or("the letter holds no bytes; give an event with --row")?,
        };
        let mut again = DeadLetter::payload(&letter.component, letter.reason.clone(), &payload);
        again.detail = letter.detail.clone();
        let rows = source.decode_again(&again, event.is_some(), letter.received_at)?;
        if rows.num_rows() == 0 {
            return Err("there is no event in it; drop the letter, or give an event with --row".into());
        }
        Ok(rows)
    }
}

fn word(letter: &Letter, action: LetterAction) -> LetterWord {
    let (id, component) = (letter.id.clone(), letter.component.clone());
    LetterWord { id, action, stage: letter.stage, component, offset: None }
}

/// The letter, if a word may be said on it.
fn open_letter(letters: &Letters, id: &LetterId, words: &Words) -> Result<Letter, String> {
    let letter = letters.find(id, words, End::Durable).map_err(|error| error.to_string())?;
    let letter = match letter {
        Some(letter) => letter,
        None if letters.find(id, words, End::Published).is_ok_and(|found| found.is_some()) => {
            return Err("it is not durable yet; say it again in a moment".into());
        }
        None => return Err("the log holds no such letter; `trackside dead list` prints those that it holds".into()),
    };
    match letter.closed {
        Some(LetterAction::Drop) => return Err("it is closed: it was dropped".into()),
        Some(_) => return Err("it is closed: it was sent round again".into()),
        None => {}
    }
    if letter.expired {
        return Err(
            "it is expired: the log no longer reaches back to its row, so nobody knows whether it was sent before"
                .into(),
        );
    }
    Ok(letter)
}
