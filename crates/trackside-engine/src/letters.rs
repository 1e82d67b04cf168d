//! Dead letters by name: which there are, which are closed, and (in [`Engine`](crate::Engine)) what becomes of them.
//!
//! A letter lies in the section of its stage's frame for as long as the log holds it; a word on it lies in `received`
//! ([`LetterWord`]). This file reads both, beside the engine or without one, needs no lock and changes nothing. A letter
//! whose row `received` no longer reaches back to is *expired*: whether a word was said on it cannot be known any more,
//! so none is taken.

mod act;

use crate::start::open_log;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use trackside_core::dead_letter::{LetterAction, LetterId, LetterWord, Stage};
use trackside_core::log::{Budget, End, Frame, Log, LogError, SectionKind};
use trackside_core::position::{CLEAN, RECEIVED};

pub use act::{Answered, Refusal, Retry};

/// What one look at a partition takes.
const BUDGET: Budget = Budget { bytes: 4 << 20, frames: 256 };
/// Just the frame that holds an offset.
const ONE: Budget = Budget { bytes: 0, frames: 1 };
/// Words that are kept in memory; with more, no new ones are taken until the log lets go of old ones.
const MAX_WORDS: usize = 1 << 20;

/// A dead letter with its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Letter {
    /// Its name.
    pub id: LetterId,
    /// Who rejected.
    pub stage: Stage,
    /// Name of the block that rejected.
    pub component: String,
    /// Why.
    pub reason: String,
    /// Event time, where it is known, ns since 1970.
    pub time: Option<i64>,
    /// When it was rejected, ns since 1970.
    pub received_at: i64,
    /// Offset of the row in `received` (in `clean` for a model's).
    pub offset: Option<u64>,
    /// The row as a JSON object.
    pub row: Option<String>,
    /// The bytes that did not decode.
    #[serde(skip)]
    pub payload: Option<Vec<u8>>,
    /// A traceback, a line number, …
    pub detail: Option<String>,
    /// What became of it; none while it is open.
    pub closed: Option<LetterAction>,
    /// The log no longer reaches back to its row: it can be read, and no word is taken on it.
    pub expired: bool,
}

/// Which letters are meant.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this stage only.
    pub stage: Option<Stage>,
    /// Of this block only.
    pub component: Option<String>,
    /// Rejected since, ns since 1970.
    pub since: Option<i64>,
    /// The closed ones in place of the open ones.
    pub closed: bool,
}

impl Filter {
    fn takes(&self, letter: &Letter) -> bool {
        self.stage.is_none_or(|stage| stage == letter.stage)
            && self.component.as_ref().is_none_or(|name| *name == letter.component)
            && self.since.is_none_or(|since| letter.received_at >= since)
    }
}

/// What was said so far, by whoever reads on from where it stopped.
#[derive(Debug, Default)]
pub(crate) struct Words {
    /// By partition of `received`, the first offset that was not looked at.
    next: Vec<u64>,
    closed: HashMap<LetterId, LetterAction>,
    /// Partitions that hold their share of a letter which is not closed.
    shares: HashSet<(LetterId, u32)>,
}

impl Words {
    /// Reads what was said since.
    fn catch_up(&mut self, log: &dyn Log, partitions: &[u32]) -> Result<(), LogError> {
        for partition in partitions {
            let index = *partition as usize;
            if self.next.len() <= index {
                self.next.resize(index + 1, 0);
            }
            let mut reader = log.reader(RECEIVED, *partition)?;
            let end = reader.published();
            let silent = reader.newest()?.is_none_or(|head| !head.meta.counts.contains_key("letters"));
            let mut offset = if silent { end } else { self.next[index].max(reader.oldest()?) };
            while offset < end {
                let frames = reader.read(offset, BUDGET, End::Published)?;
                let Some(last) = frames.last() else { break };
                offset = last.end;
                for frame in &frames {
                    self.note(frame.meta.letter.as_deref(), *partition)?;
                }
            }
            self.next[index] = offset;
        }
        Ok(())
    }

    fn note(&mut self, word: Option<&LetterWord>, partition: u32) -> Result<(), LogError> {
        let Some(word) = word else { return Ok(()) };
        if self.closed.len() + self.shares.len() >= MAX_WORDS {
            return Err(LogError::Other(format!(
                "more than {MAX_WORDS} dead letters were closed; let the log keep less"
            )));
        }
        match word.action {
            LetterAction::Share => _ = self.shares.insert((word.id.clone(), partition)),
            action => _ = self.closed.insert(word.id.clone(), action),
        }
        Ok(())
    }
}

/// The dead letters of a data directory.
pub struct Letters {
    log: Arc<dyn Log>,
}

impl Letters {
    /// Of a data directory, whether an engine runs on it or not.
    pub fn open(data: &Path) -> Result<Self, LogError> {
        Ok(Self { log: open_log(data)? })
    }

    pub(crate) fn of(log: Arc<dyn Log>) -> Self {
        Self { log }
    }

    /// Every letter that the filter takes, oldest first by partition of each stage.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Letter>, LogError> {
        let topics = self.log.topics()?;
        let words = self.words(&topics)?;
        let mut found = Vec::new();
        for (topic, partitions) in topics {
            for partition in partitions {
                self.scan(&topic, partition, filter, &words, &mut found)?;
            }
        }
        found.sort_by(|a: &Letter, b: &Letter| (a.received_at, &a.id).cmp(&(b.received_at, &b.id)));
        Ok(found)
    }

    /// The letter with this name, if the log holds it.
    pub fn get(&self, id: &LetterId) -> Result<Option<Letter>, LogError> {
        let words = self.words(&self.log.topics()?)?;
        self.find(id, &words, End::Published)
    }

    fn words(&self, topics: &[(String, Vec<u32>)]) -> Result<Words, LogError> {
        let mut words = Words::default();
        let received = topics.iter().find(|(topic, _)| topic == RECEIVED);
        words.catch_up(&*self.log, received.map_or(&[], |(_, partitions)| partitions))?;
        Ok(words)
    }

    fn scan(
        &self,
        topic: &str,
        partition: u32,
        filter: &Filter,
        words: &Words,
        found: &mut Vec<Letter>,
    ) -> Result<(), LogError> {
        let mut reader = match self.log.reader(topic, partition) {
            Err(LogError::NotFound(_)) => return Ok(()), // its folder was made, its first segment not yet
            reader => reader?,
        };
        let (mut offset, end) = (reader.oldest()?, reader.published());
        while offset < end {
            let frames = reader.read(offset, BUDGET, End::Published)?;
            let Some(last) = frames.last() else { break };
            offset = last.end;
            for frame in &frames {
                let Some(rows) = frame.section(SectionKind::DeadLetters)? else { continue };
                for row in 0..rows.num_rows() {
                    let id = LetterId { topic: topic.to_owned(), partition, offset: frame.first, row: row as u32 };
                    let closed = words.closed.get(&id).copied();
                    let Some(mut letter) = letter(rows, row, id) else { continue };
                    letter.closed = closed;
                    if filter.takes(&letter) && closed.is_some() == filter.closed {
                        letter.expired = self.is_expired(&letter)?;
                        found.push(letter);
                    }
                }
            }
        }
        Ok(())
    }

    fn find(&self, id: &LetterId, words: &Words, end: End) -> Result<Option<Letter>, LogError> {
        let Some(frame) = self.frame(&id.topic, id.partition, id.offset, end)?.filter(|f| f.first == id.offset) else {
            return Ok(None);
        };
        let Some(rows) = frame.section(SectionKind::DeadLetters)? else { return Ok(None) };
        let row = id.row as usize;
        let Some(mut letter) = (row < rows.num_rows()).then(|| letter(rows, row, id.clone())).flatten() else {
            return Ok(None);
        };
        letter.closed = words.closed.get(id).copied();
        letter.expired = self.is_expired(&letter)?;
        Ok(Some(letter))
    }

    /// The frame that holds an offset; none when the log holds none.
    fn frame(&self, topic: &str, partition: u32, offset: u64, end: End) -> Result<Option<Frame>, LogError> {
        let mut reader = match self.log.reader(topic, partition) {
            Err(LogError::NotFound(_)) => return Ok(None),
            reader => reader?,
        };
        let limit = match end {
            End::Published => reader.published(),
            End::Durable => reader.durable(),
        };
        if offset >= limit || offset < reader.oldest()? {
            return Ok(None);
        }
        let frames = reader.read(offset, ONE, end)?;
        Ok(frames.into_iter().next().filter(|frame| (frame.first..frame.end).contains(&offset)))
    }

    /// Words are said in `received`, behind the row that they are about. What it no longer holds may have held one.
    fn is_expired(&self, letter: &Letter) -> Result<bool, LogError> {
        let oldest = || self.log.reader(RECEIVED, letter.id.partition)?.oldest();
        match (letter.stage, letter.offset) {
            (Stage::Ingest, _) => Ok(false), // it lies in `received` itself, before any word on it
            (Stage::Clean, Some(offset)) => Ok(offset < oldest()?),
            (Stage::Model, Some(offset)) => {
                let oldest = oldest()?;
                if oldest == 0 {
                    return Ok(false);
                }
                let frame = self.frame(CLEAN, letter.id.partition, offset, End::Published)?;
                Ok(frame.and_then(|frame| frame.meta.input).is_none_or(|input| input.to < oldest))
            }
            (_, None) => Ok(true),
        }
    }
}

fn letter(rows: &RecordBatch, row: usize, id: LetterId) -> Option<Letter> {
    let text = |name: &str| {
        let column = rows.column_by_name(name)?.as_string_opt::<i32>()?;
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    let time = |name: &str| {
        let column = rows.column_by_name(name)?.as_primitive_opt::<TimestampNanosecondType>()?;
        column.is_valid(row).then(|| column.value(row))
    };
    let offset = rows.column_by_name("offset")?.as_primitive_opt::<Int64Type>()?;
    let payload = rows.column_by_name("payload")?.as_binary_opt::<i32>()?;
    Some(Letter {
        id,
        stage: text("stage")?.parse().ok()?,
        component: text("component")?,
        reason: text("reason")?,
        time: time("time"),
        received_at: time("received_at")?,
        offset: offset.is_valid(row).then(|| offset.value(row) as u64),
        row: text("row"),
        payload: payload.is_valid(row).then(|| payload.value(row).to_vec()),
        detail: text("detail"),
        closed: None,
        expired: false,
    })
}
