//! The contract of the log: frames of Arrow batches, appended by one owner a partition, read by many.
//!
//! It fits an embedded file, JetStream and Kafka. Each partition has two ends: `published` (what cleaning, models and
//! the page may read) and `durable` (what acknowledgements, tables, alerts and snapshots wait for). The contract is
//! synchronous; an implementation that needs a runtime hides it.

use crate::dead_letter::LetterWord;
use crate::position::{InputRange, SourcePositions};
use arrow::buffer::Buffer;
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, OnceLock};
use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

/// Why a frame was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameKind {
    /// Rows, dead letters or just a position that moved on.
    #[default]
    Rows,
    /// Time passed, as data: `ingest_time` is the wall clock that operators may see.
    Tick,
    /// A finite source is at its end; operators release what they hold.
    End,
    /// In a model's topic: the input rows were passed over, and a replay passes over them as well.
    Skipped,
    /// Somebody's word on a dead letter: what it is to become is in [`FrameMeta::letter`].
    Letter,
}

/// What a frame says of itself, beside its rows. Stored as JSON, so that a reader in any language can follow it.
///
/// `counts` are cumulative over the data directory's life for this partition of this topic: the newest frame alone
/// tells every sum after a restart, in the same append that stored the rows. There is no second store to disagree.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FrameMeta {
    /// Why it was written.
    #[serde(default)]
    pub kind: FrameKind,
    /// The input that it was derived from; none in `received`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<InputRange>,
    /// In `received`: by source name, how far each of its streams is held by this partition.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<String, SourcePositions>,
    /// Cumulative counts by name (`taken`, `filtered.dedupe`, …).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
    /// In a frame of kind [`FrameKind::Letter`]: which letter, and what becomes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub letter: Option<Box<LetterWord>>,
}

/// What a section of a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum SectionKind {
    /// The topic's own rows; the only section that offsets count.
    Rows = 1,
    /// Rows and payloads that the stage rejected.
    DeadLetters = 2,
    /// A model's forecasts, beside its scores.
    Forecasts = 3,
    /// The row of a dead letter on its way back to the stage that rejected it; no offset counts it.
    Retried = 4,
}

impl SectionKind {
    /// The kind behind a stored number; none for one that this version does not know.
    pub fn from_number(number: u16) -> Option<Self> {
        [Self::Rows, Self::DeadLetters, Self::Forecasts, Self::Retried].into_iter().find(|kind| *kind as u16 == number)
    }
}

/// A frame about to be appended.
#[derive(Debug, Clone, Default)]
pub struct FrameDraft {
    /// What it says of itself.
    pub meta: FrameMeta,
    /// Wall clock of the append, ns since 1970.
    pub ingest_time: i64,
    /// Its sections; at most one of each kind, empty ones left out.
    pub sections: Vec<(SectionKind, RecordBatch)>,
}

impl FrameDraft {
    /// Rows of the rows section: what offsets count.
    pub fn rows(&self) -> usize {
        self.sections.iter().find(|(kind, _)| *kind == SectionKind::Rows).map_or(0, |(_, rows)| rows.num_rows())
    }
}

/// Where a frame's rows lie in a file that another process on this machine may map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLocation {
    /// The segment.
    pub path: Arc<PathBuf>,
    /// Where the frame begins, and its length in bytes.
    pub at: u64,
    /// Length of the frame in bytes.
    pub length: u64,
    /// Where the rows section (an Arrow IPC stream) begins, from the start of the file; in a frame that takes a dead
    /// letter's row back to a stage, where that row does.
    pub rows_at: u64,
    /// Length of the rows section; 0 when there are no rows.
    pub rows_length: u64,
}

/// Turns the verified bytes of a section into its batch, which points into them.
pub type Decode = dyn Fn(Buffer) -> Result<RecordBatch, LogError> + Send + Sync;

/// A section as read: decoded when somebody asks, once, whoever asks first.
///
/// A model's stage tells its worker where the rows lie before it looks at them itself, and a table of dead letters never
/// looks at rows.
#[derive(Clone)]
pub struct Section {
    /// What it holds.
    pub kind: SectionKind,
    held: Arc<Held>,
}

struct Held {
    batch: OnceLock<RecordBatch>,
    encoded: Option<(Buffer, Arc<Decode>)>,
}

impl Section {
    /// A section that is decoded on demand; the bytes were checked against their checksum.
    pub fn encoded(kind: SectionKind, bytes: Buffer, decode: Arc<Decode>) -> Self {
        Self { kind, held: Arc::new(Held { batch: OnceLock::new(), encoded: Some((bytes, decode)) }) }
    }

    /// Its bytes, where it was read from a log.
    pub fn bytes(&self) -> Option<&Buffer> {
        self.held.encoded.as_ref().map(|(bytes, _)| bytes)
    }

    /// Its batch. An error says that sound bytes are not what this log writes: a later version's, or a defect.
    pub fn batch(&self) -> Result<&RecordBatch, LogError> {
        if let (None, Some((bytes, decode))) = (self.held.batch.get(), &self.held.encoded) {
            // Two threads may both decode; they come to the same batch, and the first one stays.
            _ = self.held.batch.set(decode(bytes.clone())?);
        }
        self.held.batch.get().ok_or_else(|| LogError::Other("a section holds neither bytes nor a batch".into()))
    }
}

impl From<(SectionKind, RecordBatch)> for Section {
    fn from((kind, batch): (SectionKind, RecordBatch)) -> Self {
        Self { kind, held: Arc::new(Held { batch: OnceLock::from(batch), encoded: None }) }
    }
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.held.batch.get().map(RecordBatch::num_rows);
        f.debug_struct("Section").field("kind", &self.kind).field("decoded_rows", &rows).finish()
    }
}

/// A frame as read. Cheap to clone but for its meta.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The reign that wrote it.
    pub epoch: u32,
    /// Offset of its first row.
    pub first: u64,
    /// First offset after it: `first + max(num_rows, 1)`.
    pub end: u64,
    /// How many rows offsets count here: those of the rows section.
    pub num_rows: usize,
    /// What it says of itself.
    pub meta: FrameMeta,
    /// Wall clock of the append, ns since 1970.
    pub ingest_time: i64,
    /// Its sections.
    pub sections: Vec<Section>,
    /// For logs that other processes can map.
    pub location: Option<FileLocation>,
}

impl Frame {
    /// The section of this kind, if there is one.
    pub fn section(&self, kind: SectionKind) -> Result<Option<&RecordBatch>, LogError> {
        self.sections.iter().find(|section| section.kind == kind).map(Section::batch).transpose()
    }

    /// The topic's own rows.
    pub fn rows(&self) -> Result<Option<&RecordBatch>, LogError> {
        self.section(SectionKind::Rows)
    }
}

/// Receipt of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The reign that wrote it.
    pub epoch: u32,
    /// Offset of its first row.
    pub first: u64,
    /// First offset after it.
    pub end: u64,
}

/// Start of a reign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochStart {
    /// Its number, rising.
    pub epoch: u32,
    /// The first offset that it wrote.
    pub first: u64,
}

/// Which end of a partition a reader may read to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Written; a crash of the machine may take it back.
    Published,
    /// Fsynced.
    Durable,
}

/// How much one read may return. At least one frame is returned when there is one.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Bytes of frames.
    pub bytes: u64,
    /// Number of frames.
    pub frames: usize,
}

/// The header of a frame, shown to the owner while it recovers.
#[derive(Debug, Clone)]
pub struct FrameHead {
    /// The reign that wrote it.
    pub epoch: u32,
    /// Offset of its first row.
    pub first: u64,
    /// First offset after it.
    pub end: u64,
    /// What it says of itself.
    pub meta: FrameMeta,
}

/// What a log reports when it cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No room: nothing was written; the same append may succeed later.
    #[error("{0}")]
    Full(String),
    /// The partition can no longer be written; its contents are safe to read.
    #[error("{0}")]
    ReadOnly(String),
    /// Nothing there (yet).
    #[error("{0}")]
    NotFound(String),
    /// Bytes that are not what was written. Never returned as data.
    #[error("{0}")]
    Damaged(String),
    /// Anything else, with what, where and what to do.
    #[error("{0}")]
    Other(String),
}

/// Opens partitions. One per data directory or broker connection.
pub trait Log: Send + Sync {
    /// Opens the partition for its one owner and starts a new epoch.
    ///
    /// Recovery walks back from the newest frame and drops those for which `keep` says no (a derived frame whose
    /// input did not survive), until one is kept.
    fn writer(
        &self,
        topic: &str,
        partition: u32,
        keep: &mut dyn FnMut(&FrameHead) -> bool,
    ) -> Result<Box<dyn LogWriter>, LogError>;
    /// Opens the partition for reading, from any process.
    fn reader(&self, topic: &str, partition: u32) -> Result<Box<dyn LogReader>, LogError>;
    /// Makes an empty partition if there is none, without owning it: its owner is another process and may come later.
    /// Nothing to do for a log that one process has for itself.
    fn prepare(&self, _topic: &str, _partition: u32) -> Result<(), LogError> {
        Ok(())
    }
    /// Takes something that has no partition, such as all sinks, for this process alone, until what is returned is
    /// dropped. Nothing to do for a log that one process has for itself.
    fn claim(&self, _what: &str) -> Result<Box<dyn Send + Sync>, LogError> {
        Ok(Box::new(()))
    }
    /// What there is: topics with their partitions.
    fn topics(&self) -> Result<Vec<(String, Vec<u32>)>, LogError>;
    /// A reader whose frames lie in files of this machine, for workers to map: [`Frame::location`] says where.
    fn mapped_reader(&self, topic: &str, partition: u32) -> Result<Box<dyn LogReader>, LogError> {
        self.reader(topic, partition)
    }
    /// What an acknowledgement is worth here.
    fn durability(&self) -> Durability {
        Durability { words: "fsync before acknowledge, one disk".into(), weakness: None }
    }
}

/// What an acknowledgement of a log is worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Durability {
    /// In a few words.
    pub words: String,
    /// What an acknowledged event may not survive, and what to do about it.
    pub weakness: Option<String>,
}

/// The one owner of a partition.
pub trait LogWriter: Send {
    /// Publishes a frame. An error means that nothing was published.
    fn append(&mut self, draft: &FrameDraft) -> Result<Appended, LogError>;
    /// Makes room for that many bytes for certain, so that an append of that size cannot fail for lack of space.
    fn reserve(&mut self, bytes: u64) -> Result<(), LogError>;
    /// A handle for whoever makes the partition durable.
    fn syncer(&self) -> Arc<dyn LogSync>;
    /// The newest frame's head, if there is any.
    fn newest(&self) -> Option<FrameHead>;
    /// Its reigns, oldest first.
    fn epochs(&self) -> Vec<EpochStart>;
    /// The reign of this owner.
    fn epoch(&self) -> u32;
    /// First offset that is not yet published.
    fn published(&self) -> u64;
    /// First offset that is not yet durable.
    fn durable(&self) -> u64;
    /// Lets go of what ends at or before `keep_from`, in whole segments; never the newest frame. Returns bytes freed.
    fn retain(&mut self, keep_from: u64) -> Result<u64, LogError>;
    /// Bytes held on disk.
    fn bytes(&self) -> u64;
    /// What of this partition turned out to be gone or damaged when it was opened.
    fn losses(&self) -> Losses {
        Losses::default()
    }
}

/// What a log found gone or damaged. An honest disk leaves it empty, whatever crashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Losses {
    /// Offsets that had been durable and are no longer there.
    pub lost: Option<std::ops::Range<u64>>,
    /// Damaged places, in words: file, byte, what was done with it.
    pub damaged: Vec<String>,
}

/// How a partition's disk has behaved since it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Why nothing more can be written, if so.
    pub read_only: Option<String>,
    /// How often a failed fsync was made good by writing anew.
    pub repairs: u64,
}

/// Makes a partition durable; shared between the threads that wait for it.
pub trait LogSync: Send + Sync {
    /// Makes all that is published durable; returns the new `durable`. Callers that come while one sync runs share
    /// the next.
    fn sync(&self) -> Result<u64, LogError>;
    /// Lets `durable` rise up to `limit` from now on, and no further. A derived topic's owner allows what its input
    /// has made durable: upstream before downstream. Without a call there is no limit.
    fn allow(&self, limit: u64);
    /// First offset that is not yet durable.
    fn durable(&self) -> u64;
    /// First offset that is not yet published.
    fn published(&self) -> u64;
    /// How the disk behaves.
    fn health(&self) -> Health {
        Health::default()
    }
}

/// A reader of one partition.
pub trait LogReader: Send {
    /// Whole frames that hold or follow offset `from`, up to `end`, in order.
    fn read(&mut self, from: u64, budget: Budget, end: End) -> Result<Vec<Frame>, LogError>;
    /// Waits until `end` lies beyond `offset`, woken by the writer; false at the timeout.
    fn wait(&self, offset: u64, end: End, timeout: Duration) -> bool;
    /// Lets a process that may not write the log wait for what is published next, once: it will be woken. Says where it
    /// finds the partition; none where another process cannot wait.
    fn lend(&self) -> Option<PathBuf> {
        None
    }
    /// First offset that is not yet published.
    fn published(&self) -> u64;
    /// First offset that is not yet durable.
    fn durable(&self) -> u64;
    /// The oldest offset still held.
    fn oldest(&mut self) -> Result<u64, LogError>;
    /// Its reigns, oldest first.
    fn epochs(&mut self) -> Result<Vec<EpochStart>, LogError>;
    /// The newest frame's head, if there is any.
    fn newest(&mut self) -> Result<Option<FrameHead>, LogError>;
}
