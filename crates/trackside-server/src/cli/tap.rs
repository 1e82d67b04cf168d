//! `trackside tap`: rows of a topic as NDJSON, read from the log itself, beside a running engine or without one.
//!
//! Each row carries `_partition` and `_offset` (of the frame, where the topic is read over sections of others). Without
//! `--follow` the newest rows are printed, oldest first; with it also all that comes.

use super::place;
use super::terminal::say_json;
use super::{Failure, Json, USAGE, Where};
use clap::Args;
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use trackside_core::batch::row_json;
use trackside_core::error::suggestion;
use trackside_core::log::{Budget, End, Frame, Log, LogError, LogReader, SectionKind};
use trackside_core::position::{CLEAN, DEAD_LETTER, FORECASTS_PREFIX, RECEIVED, SCORES_PREFIX};
use trackside_engine::open_log;

/// Read in one go.
const BUDGET: Budget = Budget { bytes: 4 << 20, frames: 256 };
/// Rows before the end that are looked at first for the newest of a topic; doubled until enough are found.
const FIRST_LOOK: u64 = 4096;
/// Longest wait for news in one partition before the next one is looked at.
const WAIT: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// `received`, `clean`, `scores.<model>`, `forecasts.<model>` or `dead-letter`
    topic: String,
    #[command(flatten)]
    place: Place,
    /// Newest rows that are printed
    #[arg(long, default_value_t = 10, value_name = "N")]
    limit: usize,
    /// Go on with the rows that come
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Debug, Args)]
struct Place {
    /// Data directory, or the pipeline file that names it; `pipeline.toml` when it is not given
    #[arg(long, value_name = "DIR|FILE")]
    data: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<i32, Failure> {
    let data = place::data(&Where { file: None, data: arguments.place.data.clone() })?;
    let mut taps = open(&data, &arguments.topic)?;
    for row in newest(&mut taps, arguments.limit).map_err(unreadable)? {
        if !say_json(&row) {
            return Ok(0);
        }
    }
    if arguments.follow { follow(&mut taps).map_err(unreadable) } else { Ok(0) }
}

/// Prints what comes, until nobody reads any more.
fn follow(taps: &mut [Tap]) -> Result<i32, LogError> {
    let mut turn = 0;
    loop {
        let mut rows = Vec::new();
        for tap in taps.iter_mut() {
            rows.extend(tap.read()?);
        }
        if rows.is_empty() {
            turn = (turn + 1) % taps.len();
            taps[turn].reader.wait(taps[turn].offset, End::Published, WAIT);
        }
        if !rows.iter().all(|(_, row)| say_json(row)) {
            return Ok(0);
        }
    }
}

fn unreadable(error: LogError) -> Failure {
    Failure::failed(format!("the log cannot be read: {error}"))
}

/// One partition of one topic of the log, and which of its sections is meant.
struct Tap {
    reader: Box<dyn LogReader>,
    section: SectionKind,
    partition: u32,
    offset: u64,
}

/// Opens every partition that holds rows of the topic.
fn open(data: &Path, topic: &str) -> Result<Vec<Tap>, Failure> {
    let log = open_log(data).map_err(unreadable)?;
    let topics = log.topics().map_err(unreadable)?;
    let (section, origins) = origins(topic, topics.iter().map(|(name, _)| name.as_str()));
    let mut taps = Vec::new();
    for (origin, partitions) in topics.iter().filter(|(name, _)| origins.contains(name)) {
        for partition in partitions {
            let reader = log.reader(origin, *partition).map_err(unreadable)?;
            let offset = reader.published();
            taps.push(Tap { reader, section, partition: *partition, offset });
        }
    }
    if taps.is_empty() {
        return Err(Failure::new(USAGE, unknown(topic, &log, data)));
    }
    Ok(taps)
}

/// Where the rows of a topic lie: `dead-letter` and `forecasts.x` are read over sections of others.
fn origins<'a>(topic: &str, all: impl Iterator<Item = &'a str>) -> (SectionKind, Vec<String>) {
    if topic == DEAD_LETTER {
        return (SectionKind::DeadLetters, all.map(str::to_owned).collect());
    }
    match topic.strip_prefix(FORECASTS_PREFIX) {
        Some(model) => (SectionKind::Forecasts, vec![format!("{SCORES_PREFIX}{model}")]),
        None => (SectionKind::Rows, vec![topic.to_owned()]),
    }
}

fn unknown(topic: &str, log: &Arc<dyn Log>, data: &Path) -> String {
    let names: Vec<String> = log.topics().unwrap_or_default().into_iter().map(|(name, _)| name).collect();
    if names.is_empty() {
        return format!("`{}` holds no log; is it the data directory of a pipeline that ran?", data.display());
    }
    let models = names
        .iter()
        .filter_map(|name| name.strip_prefix(SCORES_PREFIX))
        .map(|model| format!("{FORECASTS_PREFIX}{model}"));
    let mut choices: Vec<String> = vec![RECEIVED.into(), CLEAN.into(), DEAD_LETTER.into()];
    choices.extend(names.iter().filter(|name| name.starts_with(SCORES_PREFIX)).cloned());
    choices.extend(models);
    let choices: Vec<&str> = choices.iter().map(String::as_str).collect();
    format!("unknown topic `{topic}`{}", suggestion(topic, &choices))
}

type Row = Map<String, Value>;

/// The newest rows over all partitions, oldest first; the taps then stand behind them.
fn newest(taps: &mut [Tap], limit: usize) -> Result<Vec<Row>, LogError> {
    let mut rows = Vec::new();
    for tap in taps.iter_mut() {
        rows.extend(tap.newest(limit)?);
    }
    rows.sort_by_key(|(at, _)| *at);
    let skip = rows.len().saturating_sub(limit);
    Ok(rows.into_iter().skip(skip).map(|(_, row)| row).collect())
}

impl Tap {
    /// Its newest rows with the wall clock of their frames. It looks back further until it has found enough.
    fn newest(&mut self, limit: usize) -> Result<Vec<(i64, Row)>, LogError> {
        let (oldest, end) = (self.reader.oldest()?, self.reader.published());
        let mut look = FIRST_LOOK.max(limit as u64);
        loop {
            let from = oldest.max(end.saturating_sub(look));
            self.offset = from;
            let mut rows = VecDeque::new();
            while self.offset < end && limit > 0 {
                let read = self.read()?;
                if read.is_empty() && self.offset < end && self.reader.published() <= self.offset {
                    break;
                }
                rows.extend(read);
                rows.drain(..rows.len().saturating_sub(limit));
            }
            if rows.len() >= limit || from == oldest {
                self.offset = self.offset.max(end);
                return Ok(rows.into());
            }
            look = look.saturating_mul(4);
        }
    }

    /// The rows of the next frames.
    fn read(&mut self) -> Result<Vec<(i64, Row)>, LogError> {
        let frames = self.reader.read(self.offset, BUDGET, End::Published)?;
        let Some(last) = frames.last() else { return Ok(Vec::new()) };
        self.offset = last.end;
        let rows = frames.iter().map(|frame| self.rows(frame)).collect::<Result<Vec<_>, _>>()?;
        Ok(rows.into_iter().flatten().collect())
    }

    fn rows(&self, frame: &Frame) -> Result<Vec<(i64, Row)>, LogError> {
        let Some(batch) = frame.section(self.section)? else { return Ok(Vec::new()) };
        let row = |number: usize| {
            let mut row = row_json(batch, number);
            let step = if self.section == SectionKind::Rows { number as u64 } else { 0 };
            row.insert("_partition".into(), self.partition.into());
            row.insert("_offset".into(), (frame.first + step).into());
            (frame.ingest_time, row)
        };
        Ok((0..batch.num_rows()).map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_that_are_read_over_others() {
        let all = || ["received", "clean", "scores.a"].into_iter();
        assert_eq!(origins("dead-letter", all()).1.len(), 3);
        assert_eq!(origins("forecasts.a", all()), (SectionKind::Forecasts, vec!["scores.a".to_string()]));
        assert_eq!(origins("clean", all()), (SectionKind::Rows, vec!["clean".to_string()]));
    }
}
