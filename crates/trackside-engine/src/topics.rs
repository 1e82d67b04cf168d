//! Topics as a reader beside the engine sees them: a notebook, a script. It needs no lock and disturbs nothing.
//!
//! The log holds `received`, `clean` and `scores.<model>`; `dead-letter` and `forecasts.<model>` are read over sections
//! of these. A [`Cursor`] gives one batch after another, past or live, and never looks or waits longer than it is told to.

use crate::config::Pipeline;
use crate::start::open_log;
use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use trackside_core::batch::time_range;
use trackside_core::error::suggestion;
use trackside_core::log::{Budget, End, Frame, Log, LogError, LogReader, SectionKind};
use trackside_core::position::{DEAD_LETTER, FORECASTS_PREFIX, RECEIVED, SCORES_PREFIX};

/// What one look at a partition takes.
const BUDGET: Budget = Budget { bytes: 4 << 20, frames: 256 };
/// With several partitions each is waited for in turn, so long.
const TURN: Duration = Duration::from_millis(5);

/// A data directory, opened for reading.
pub struct Topics {
    log: Arc<dyn Log>,
}

/// Rows of one frame.
#[derive(Debug)]
pub struct TopicRows {
    /// The topic in the log that holds them.
    pub origin: String,
    /// Its partition.
    pub partition: u32,
    /// The reign that wrote them.
    pub epoch: u32,
    /// Offset of the frame.
    pub first: u64,
    /// First offset after it.
    pub end: u64,
    /// Whether offsets count these rows, from `first` on; they do not count dead letters and forecasts.
    pub counted: bool,
    /// The rows.
    pub rows: RecordBatch,
}

/// What one step of a [`Cursor`] came to.
#[derive(Debug)]
pub enum Step {
    /// Rows.
    Rows(TopicRows),
    /// Frames were read, but hold nothing that was asked for.
    Looked,
    /// Nothing came within the time given.
    Waited,
    /// There is no more.
    End,
}

impl Topics {
    /// Opens a data directory, or the one that a pipeline file names.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        if path.is_dir() {
            return Ok(Self { log: open_log(path)? });
        }
        let pipeline = Pipeline::load(path).map_err(|error| LogError::Other(error.to_string()))?;
        Ok(Self { log: open_log(&pipeline.data())? })
    }

    /// The topics that there are, those read over others included.
    pub fn names(&self) -> Result<Vec<String>, LogError> {
        let mut names: Vec<String> = self.log.topics()?.into_iter().map(|(topic, _)| topic).collect();
        let models = names.iter().filter_map(|topic| topic.strip_prefix(SCORES_PREFIX));
        let forecasts: Vec<String> = models.map(|model| format!("{FORECASTS_PREFIX}{model}")).collect();
        names.extend(forecasts);
        if !names.is_empty() {
            names.push(DEAD_LETTER.to_owned());
        }
        Ok(names)
    }

    /// The tags that name a series, in order: the columns of `received` that are dictionaries. Empty before its first row.
    pub fn tags(&self) -> Result<Vec<String>, LogError> {
        let mut cursor = match self.read(RECEIVED, None, None, false) {
            Err(LogError::NotFound(_)) => return Ok(Vec::new()),
            cursor => cursor?,
        };
        loop {
            match cursor.step(Duration::ZERO)? {
                Step::Rows(TopicRows { rows, .. }) => return Ok(tags_of(&rows)),
                Step::End => return Ok(Vec::new()),
                Step::Looked | Step::Waited => {}
            }
        }
    }

    /// Frames of a topic that may hold rows with `start <= time < stop` (event time in ns).
    ///
    /// With `follow` the cursor goes on to wait for new ones, and without a `start` it begins with these.
    pub fn read(&self, topic: &str, start: Option<i64>, stop: Option<i64>, follow: bool) -> Result<Cursor, LogError> {
        let there = self.log.topics()?;
        let (section, origin) = match topic.strip_prefix(FORECASTS_PREFIX) {
            _ if topic == DEAD_LETTER => (SectionKind::DeadLetters, None),
            Some(model) => (SectionKind::Forecasts, Some(format!("{SCORES_PREFIX}{model}"))),
            None => (SectionKind::Rows, Some(topic.to_owned())),
        };
        let wanted = there.into_iter().filter(|(name, _)| origin.as_ref().is_none_or(|origin| origin == name));
        let mut parts = Vec::new();
        for (origin, partitions) in wanted {
            for partition in partitions {
                match self.log.reader(&origin, partition) {
                    // Its folder was made, its first segment not yet.
                    Err(LogError::NotFound(_)) => {}
                    reader => parts.push(Part::new(&origin, partition, reader?, follow, start.is_some())?),
                }
            }
        }
        if parts.is_empty() && topic != DEAD_LETTER {
            let names = self.names()?;
            let choices: Vec<&str> = names.iter().map(String::as_str).collect();
            return Err(LogError::NotFound(format!("unknown topic `{topic}`{}", suggestion(topic, &choices))));
        }
        Ok(Cursor { section, start, stop, parts, turn: 0, ready: VecDeque::new() })
    }
}

/// One partition that is read.
struct Part {
    origin: String,
    partition: u32,
    reader: Box<dyn LogReader>,
    /// Where it stands.
    next: u64,
    /// Where it ends; none when it follows.
    end: Option<u64>,
}

impl Part {
    fn new(
        origin: &str,
        partition: u32,
        mut reader: Box<dyn LogReader>,
        follow: bool,
        from_start: bool,
    ) -> Result<Self, LogError> {
        let published = reader.published();
        let next = if follow && !from_start { published } else { reader.oldest()? };
        let end = (!follow).then_some(published);
        Ok(Self { origin: origin.to_owned(), partition, reader, next, end })
    }

    fn has_more(&mut self) -> bool {
        let published = self.reader.published();
        // After a power loss the log may end before where this reader stood.
        self.next = self.next.min(published);
        self.next < self.end.unwrap_or(published).min(published)
    }

    fn read(&mut self) -> Result<Vec<Frame>, LogError> {
        let mut frames = self.reader.read(self.next, BUDGET, End::Published)?;
        frames.retain(|frame| self.end.is_none_or(|end| frame.first < end));
        // Nothing where something was announced: a reader must not stand still.
        self.next = frames.last().map_or(self.end.unwrap_or(self.next), |frame| frame.end);
        Ok(frames)
    }
}

/// Reads a topic, batch after batch.
pub struct Cursor {
    section: SectionKind,
    start: Option<i64>,
    stop: Option<i64>,
    parts: Vec<Part>,
    /// Whose turn it is.
    turn: usize,
    ready: VecDeque<TopicRows>,
}

impl Cursor {
    /// One batch, one look at the log, or one wait of at most `wait`.
    pub fn step(&mut self, wait: Duration) -> Result<Step, LogError> {
        if let Some(rows) = self.ready.pop_front() {
            return Ok(Step::Rows(rows));
        }
        if let Some(index) = self.parts.iter_mut().position(Part::has_more) {
            self.look(index)?;
            return Ok(self.ready.pop_front().map_or(Step::Looked, Step::Rows));
        }
        // Partitions that follow have no end; the others are all read.
        if self.parts.iter().all(|part| part.end.is_some()) {
            return Ok(Step::End);
        }
        self.turn = (self.turn + 1) % self.parts.len();
        let part = &self.parts[self.turn];
        let wait = if self.parts.len() == 1 { wait } else { wait.min(TURN) };
        Ok(if part.reader.wait(part.next, End::Published, wait) { Step::Looked } else { Step::Waited })
    }

    fn look(&mut self, index: usize) -> Result<(), LogError> {
        let part = &mut self.parts[index];
        for frame in part.read()? {
            let Some(rows) = frame.section(self.section)?.filter(|rows| rows.num_rows() > 0) else { continue };
            let counted = self.section == SectionKind::Rows;
            if counted && !overlaps(rows, self.start, self.stop) {
                continue;
            }
            self.ready.push_back(TopicRows {
                origin: part.origin.clone(),
                partition: part.partition,
                epoch: frame.epoch,
                first: frame.first,
                end: frame.end,
                counted,
                rows: rows.clone(),
            });
        }
        Ok(())
    }
}

fn overlaps(rows: &RecordBatch, start: Option<i64>, stop: Option<i64>) -> bool {
    (start.is_none() && stop.is_none())
        || time_range(rows)
            .is_none_or(|(low, high)| start.is_none_or(|start| high >= start) && stop.is_none_or(|stop| low < stop))
}

fn tags_of(rows: &RecordBatch) -> Vec<String> {
    let schema = rows.schema_ref();
    let is_tag = |kind: &DataType| matches!(kind, DataType::Dictionary(_, _));
    schema.fields().iter().filter(|field| is_tag(field.data_type())).map(|field| field.name().clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackside_core::log::{FrameDraft, FrameMeta};
    use trackside_core::testing::events;

    fn append(topics: &Topics, topic: &str, partition: u32, sections: Vec<(SectionKind, RecordBatch)>) {
        let mut writer = topics.log.writer(topic, partition, &mut |_| true).unwrap();
        writer.append(&FrameDraft { meta: FrameMeta::default(), ingest_time: 0, sections }).unwrap();
    }

    fn rest(cursor: &mut Cursor) -> Vec<(u32, usize)> {
        let mut found = Vec::new();
        loop {
            match cursor.step(Duration::ZERO).unwrap() {
                Step::Rows(rows) => found.push((rows.partition, rows.rows.num_rows())),
                Step::Looked => {}
                Step::Waited | Step::End => return found,
            }
        }
    }

    #[test]
    fn topics_are_read_by_time_and_over_sections() {
        let folder = tempfile::tempdir().unwrap();
        let topics = Topics::open(folder.path()).unwrap();
        assert_eq!((topics.names().unwrap(), topics.tags().unwrap()), (vec![], vec![]));
        append(&topics, "received", 0, vec![]);
        append(&topics, "received", 0, vec![(SectionKind::Rows, events(&[(5, "a", 1.0), (9, "b", 2.0)]))]);
        append(&topics, "received", 1, vec![(SectionKind::Rows, events(&[(50, "a", 1.0)]))]);
        append(&topics, "scores.m", 0, vec![(SectionKind::Forecasts, events(&[(7, "a", 1.0)]))]);
        assert_eq!(topics.names().unwrap(), ["received", "scores.m", "forecasts.m", "dead-letter"]);
        assert_eq!(topics.tags().unwrap(), ["device"]);
        let read = |topic: &str, start, stop| rest(&mut topics.read(topic, start, stop, false).unwrap());
        assert_eq!(read("received", None, None), [(0, 2), (1, 1)]);
        assert_eq!(read("received", Some(9), Some(50)), [(0, 2)]);
        assert_eq!(read("received", Some(10), None), [(1, 1)]);
        assert_eq!((read("scores.m", None, None).len(), read("forecasts.m", None, None).len()), (0, 1));
        assert!(read("dead-letter", None, None).is_empty());
        assert!(
            matches!(topics.read("recieved", None, None, false), Err(LogError::NotFound(why)) if why.contains("`received`"))
        );
    }

    #[test]
    fn a_follower_begins_with_what_comes() {
        let folder = tempfile::tempdir().unwrap();
        let topics = Topics::open(folder.path()).unwrap();
        for partition in [0, 1] {
            append(&topics, "clean", partition, vec![(SectionKind::Rows, events(&[(5, "a", 1.0)]))]);
        }
        let mut live = topics.read("clean", None, None, true).unwrap();
        assert!(rest(&mut live).is_empty());
        append(&topics, "clean", 1, vec![(SectionKind::Rows, events(&[(6, "a", 1.0), (7, "a", 1.0)]))]);
        assert_eq!(rest(&mut live), [(1, 2)]);
        assert_eq!(rest(&mut topics.read("clean", Some(0), None, true).unwrap()).len(), 3);
    }
}
