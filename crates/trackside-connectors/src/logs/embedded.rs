//! The embedded log: `trackside-log` behind the contract of [`trackside_core::log`].
//!
//! Guarantee: a batch that was appended is read back equal, without a copy: its buffers point into the frame's own
//! bytes, whose checksum the log has verified. Nothing here decides anything: what is durable, what is recovered and
//! what is kept is the log's business.
//!
//! ```no_run
//! use trackside_connectors::logs::embedded::{Embedded, lock};
//! use trackside_core::log::{FrameDraft, Log};
//!
//! let data = std::path::Path::new("data");
//! let _owner = lock(data)?; // one engine a directory; readers need no lock
//! let log = Embedded::open(data, Default::default())?;
//! let mut writer = log.writer("received", 0, &mut |_| true)?;
//! writer.append(&FrameDraft::default())?;
//! writer.syncer().sync()?;
//! # Ok::<(), trackside_core::log::LogError>(())
//! ```

use crate::logs::ipc;
use arrow::buffer::Buffer;
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use trackside_core::batch::time_range;
use trackside_core::log::{
    Appended, Budget, Decode, End, EpochStart, FileLocation, Frame, FrameDraft, FrameHead, FrameMeta, Health, Log,
    LogError, LogReader, LogSync, LogWriter, Losses, Section, SectionKind,
};
use trackside_log::{AlignedBytes, DirLock, Draft, Options, RealVfs, Store, Vfs};

/// Folder of the log below the data directory.
pub const FOLDER: &str = "log";

/// Takes the data directory for this process, until the lock is dropped.
pub fn lock(data: &Path) -> Result<DirLock, LogError> {
    DirLock::acquire(data).map_err(in_words)
}

/// The log of one data directory.
#[derive(Debug, Clone)]
pub struct Embedded {
    store: Store,
}

impl Embedded {
    /// Opens the log below a data directory; nothing is created before a partition gets its writer.
    pub fn open(data: &Path, options: Options) -> Result<Self, LogError> {
        Self::over(Arc::new(RealVfs), data, options)
    }

    /// The same, over a file system of the caller's choice.
    pub fn over(vfs: Arc<dyn Vfs>, data: &Path, options: Options) -> Result<Self, LogError> {
        let store = Store::open(vfs, &data.join(FOLDER), options).map_err(in_words)?;
        Ok(Self { store })
    }
}

impl Log for Embedded {
    fn writer(
        &self,
        topic: &str,
        partition: u32,
        keep: &mut dyn FnMut(&FrameHead) -> bool,
    ) -> Result<Box<dyn LogWriter>, LogError> {
        // A head that cannot be read is kept: recovery drops what its owner says no to, never what it cannot judge.
        let mut judge = |info: &trackside_log::FrameInfo<'_>| head(info).map_or(true, |head| keep(&head));
        let writer = self.store.writer(topic, partition, &mut judge).map_err(in_words)?;
        Ok(Box::new(Writer { writer, meta: Vec::new(), sections: Vec::new() }))
    }

    fn reader(&self, topic: &str, partition: u32) -> Result<Box<dyn LogReader>, LogError> {
        let reader = self.store.reader(topic, partition).map_err(in_words)?;
        Ok(Box::new(Reader::new(reader)))
    }

    fn topics(&self) -> Result<Vec<(String, Vec<u32>)>, LogError> {
        self.store.topics().map_err(in_words)
    }
}

/// A reader of the partition that lies in this directory, for a process that must not be able to harm it: see
/// [`trackside_log::Reader::guest`].
pub fn guest(place: &Path) -> Result<Box<dyn LogReader>, LogError> {
    Ok(Box::new(Reader::new(trackside_log::Reader::guest(place).map_err(in_words)?)))
}

/// The owner of a partition, with the memory that encoding uses again and again.
struct Writer {
    writer: trackside_log::Writer,
    meta: Vec<u8>,
    sections: Vec<(ipc::Encoder, Vec<u8>)>,
}

impl LogWriter for Writer {
    fn append(&mut self, draft: &FrameDraft) -> Result<Appended, LogError> {
        self.meta.clear();
        serde_json::to_writer(&mut self.meta, &draft.meta)
            .map_err(|error| LogError::Other(format!("cannot write a frame's meta as JSON: {error}")))?;
        let wanted = self.sections.len().max(draft.sections.len());
        self.sections.resize_with(wanted, Default::default);
        for ((_, batch), (encoder, section)) in draft.sections.iter().zip(&mut self.sections) {
            encoder.encode(batch, section)?;
        }
        let sections: Vec<(u16, &[u8])> = draft
            .sections
            .iter()
            .zip(&self.sections)
            .map(|((kind, _), (_, bytes))| (*kind as u16, bytes.as_slice()))
            .collect();
        let rows = draft.sections.iter().find(|(kind, _)| *kind == SectionKind::Rows).map(|(_, batch)| batch);
        let frame = Draft {
            rows: draft.rows() as u64,
            event_time: rows.and_then(time_range),
            ingest_time: draft.ingest_time,
            meta: &self.meta,
            sections: &sections,
        };
        let appended = self.writer.append(&frame).map_err(in_words)?;
        Ok(Appended { epoch: appended.epoch, first: appended.first, end: appended.end })
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), LogError> {
        self.writer.reserve(bytes).map_err(in_words)
    }

    fn syncer(&self) -> Arc<dyn LogSync> {
        Arc::new(Syncer(self.writer.syncer()))
    }

    fn newest(&self) -> Option<FrameHead> {
        self.writer.newest().and_then(|info| head(&info.borrow()).ok())
    }

    fn epochs(&self) -> Vec<EpochStart> {
        self.writer.epochs().iter().map(start).collect()
    }

    fn epoch(&self) -> u32 {
        self.writer.epoch()
    }

    fn published(&self) -> u64 {
        self.writer.published()
    }

    fn durable(&self) -> u64 {
        self.writer.durable()
    }

    fn retain(&mut self, keep_from: u64) -> Result<u64, LogError> {
        self.writer.retain(keep_from).map_err(in_words)
    }

    fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    fn losses(&self) -> Losses {
        let found = self.writer.recovery();
        let place = |damage: &trackside_log::Damage| {
            let aside = damage.quarantined.as_ref().map(|copy| format!(", copied to `{}`", copy.display()));
            format!(
                "`{}` at byte {}: {}{}; offsets {} to {} are not given out",
                damage.path.display(),
                damage.at,
                damage.what,
                aside.unwrap_or_default(),
                damage.offsets.start,
                damage.offsets.end
            )
        };
        Losses { lost: found.lost.clone(), damaged: found.damage.iter().map(place).collect() }
    }
}

struct Syncer(trackside_log::Syncer);

impl LogSync for Syncer {
    fn sync(&self) -> Result<u64, LogError> {
        self.0.sync().map_err(in_words)
    }

    fn allow(&self, limit: u64) {
        self.0.allow(limit);
    }

    fn durable(&self) -> u64 {
        self.0.durable()
    }

    fn published(&self) -> u64 {
        self.0.published()
    }

    fn health(&self) -> Health {
        Health { read_only: self.0.poisoned(), repairs: self.0.repairs() }
    }
}

struct Reader {
    reader: trackside_log::Reader,
    /// The newest segment's path in both forms: frames of one segment share it.
    path: Option<(Arc<Path>, Arc<PathBuf>)>,
    decode: Arc<Decode>,
}

impl LogReader for Reader {
    fn read(&mut self, from: u64, budget: Budget, end: End) -> Result<Vec<Frame>, LogError> {
        let frames = match end {
            End::Published => self.reader.read(from, budget.bytes, budget.frames),
            End::Durable => self.reader.read_durable(from, budget.bytes, budget.frames),
        };
        frames.map_err(in_words)?.iter().map(|frame| self.frame(frame)).collect()
    }

    fn wait(&self, offset: u64, end: End, timeout: Duration) -> bool {
        match end {
            End::Published => self.reader.wait(offset, timeout),
            End::Durable => self.reader.wait_durable(offset, timeout),
        }
    }

    fn lend(&self) -> Option<PathBuf> {
        self.reader.lend().map(Path::to_path_buf)
    }

    fn published(&self) -> u64 {
        self.reader.published()
    }

    fn durable(&self) -> u64 {
        self.reader.durable()
    }

    fn oldest(&mut self) -> Result<u64, LogError> {
        self.reader.first_offset().map_err(in_words)
    }

    fn epochs(&mut self) -> Result<Vec<EpochStart>, LogError> {
        Ok(self.reader.epochs().map_err(in_words)?.iter().map(start).collect())
    }

    fn newest(&mut self) -> Result<Option<FrameHead>, LogError> {
        self.reader.newest().map_err(in_words)?.map(|frame| head(&frame.info.borrow())).transpose()
    }
}

impl Reader {
    fn new(reader: trackside_log::Reader) -> Self {
        let decoder = ipc::Decoder::default();
        Self { reader, path: None, decode: Arc::new(move |bytes| decoder.decode(bytes)) }
    }

    fn frame(&mut self, frame: &trackside_log::Frame) -> Result<Frame, LogError> {
        let info = &frame.info;
        let head = head(&info.borrow())?;
        let bytes = Buffer::from(Bytes::from_owner(Shared(frame.shared())));
        let mut sections = Vec::with_capacity(frame.sections.len());
        for section in &frame.sections {
            // A kind that a later version wrote is passed over.
            let kind = SectionKind::from_number(section.kind);
            if let Some(kind) = kind {
                let bytes = bytes.slice_with_length(section.range.start, section.range.len());
                sections.push(Section::encoded(kind, bytes, self.decode.clone()));
            }
        }
        let place = |kind: SectionKind| frame.section_location(kind as u16);
        let (rows_at, rows_length) =
            place(SectionKind::Rows).or_else(|| place(SectionKind::Retried)).unwrap_or_default();
        let location = FileLocation {
            path: self.path(&frame.location.path),
            at: frame.location.at,
            length: frame.location.length,
            rows_at,
            rows_length,
        };
        let FrameHead { epoch, first, end, meta } = head;
        let (num_rows, ingest_time) = (info.rows as usize, info.ingest_time);
        Ok(Frame { epoch, first, end, num_rows, meta, ingest_time, sections, location: Some(location) })
    }

    fn path(&mut self, path: &Arc<Path>) -> Arc<PathBuf> {
        match &self.path {
            Some((known, shared)) if known == path => shared.clone(),
            _ => {
                let shared = Arc::new(path.to_path_buf());
                self.path = Some((path.clone(), shared.clone()));
                shared
            }
        }
    }
}

/// A frame's bytes as the owner of the buffers that point into them.
struct Shared(Arc<AlignedBytes>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

pub(super) fn head(info: &trackside_log::FrameInfo<'_>) -> Result<FrameHead, LogError> {
    let meta: FrameMeta = serde_json::from_slice(info.meta).map_err(|error| {
        LogError::Damaged(format!(
            "the frame at offset {} (epoch {}) says of itself what is not understood: {error}; \
             was it written by a later version?",
            info.first, info.epoch
        ))
    })?;
    Ok(FrameHead { epoch: info.epoch, first: info.first, end: info.end, meta })
}

fn start(start: &trackside_log::EpochStart) -> EpochStart {
    EpochStart { epoch: start.epoch, first: start.first_offset }
}

/// The log's errors in the contract's kinds, with their own words.
pub(super) fn in_words(error: trackside_log::Error) -> LogError {
    use trackside_log::Error;
    let words = error.to_string();
    match error {
        Error::Full { .. } => LogError::Full(words),
        Error::Poisoned { .. } => LogError::ReadOnly(words),
        Error::NotFound { .. } => LogError::NotFound(words),
        Error::Damaged { .. } => LogError::Damaged(words),
        _ => LogError::Other(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::ipc::tests::{all_types, assert_inside};
    use trackside_core::log::FrameKind;
    use trackside_core::position::InputRange;
    use trackside_core::testing::events;

    const ALL: Budget = Budget { bytes: u64::MAX, frames: 1000 };

    fn draft() -> FrameDraft {
        let meta = FrameMeta {
            input: Some(InputRange { epoch: 1, from: 0, to: 4 }),
            counts: [("clean".to_string(), 4)].into(),
            ..FrameMeta::default()
        };
        let sections =
            vec![(SectionKind::Rows, all_types()), (SectionKind::DeadLetters, events(&[(7, "a", 1.0), (8, "b", 2.0)]))];
        FrameDraft { meta, ingest_time: 99, sections }
    }

    #[test]
    fn a_frame_comes_back_equal_and_without_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let log = Embedded::open(dir.path(), Options::default()).unwrap();
        let mut writer = log.writer("clean", 3, &mut |_| true).unwrap();
        let draft = draft();
        assert_eq!(writer.append(&draft).unwrap().end, 4);
        let tick =
            FrameDraft { meta: FrameMeta { kind: FrameKind::Tick, ..FrameMeta::default() }, ..FrameDraft::default() };
        writer.append(&tick).unwrap();
        assert_eq!(writer.newest().unwrap().meta, tick.meta);

        let mut reader = log.reader("clean", 3).unwrap();
        let frames = reader.read(0, ALL, End::Published).unwrap();
        assert_eq!((frames[0].first, frames[0].end, frames[0].ingest_time), (0, 4, 99));
        assert_eq!(frames[0].meta, draft.meta);
        for (kind, batch) in &draft.sections {
            assert_eq!(frames[0].section(*kind).unwrap(), Some(batch));
        }
        assert_eq!((frames[0].num_rows, frames[0].section(SectionKind::Forecasts).unwrap()), (4, None));
        assert_eq!((frames[1].meta.kind, frames[1].end, frames[1].num_rows), (FrameKind::Tick, 5, 0));
        assert!(Arc::ptr_eq(&frames[0].location.as_ref().unwrap().path, &frames[1].location.as_ref().unwrap().path));
        assert_eq!(log.topics().unwrap(), [("clean".to_string(), vec![3])]);
    }

    #[test]
    fn buffers_point_into_the_frame() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Arc::new(RealVfs), &dir.path().join(FOLDER), Options::default()).unwrap();
        let log = Embedded { store: store.clone() };
        log.writer("clean", 0, &mut |_| true).unwrap().append(&draft()).unwrap();
        let raw = store.reader("clean", 0).unwrap().read(0, u64::MAX, 1).unwrap().remove(0);
        let mut reader = Reader::new(store.reader("clean", 0).unwrap());
        let frame = reader.frame(&raw).unwrap();
        assert_eq!(frame.sections.len(), 2);
        for section in &frame.sections {
            assert_inside(section.batch().unwrap(), raw.shared().as_ptr_range());
        }
    }

    #[test]
    fn durable_follows_the_sync_and_recovery_asks_the_owner() {
        let dir = tempfile::tempdir().unwrap();
        let log = Embedded::open(dir.path(), Options::default()).unwrap();
        let mut writer = log.writer("clean", 0, &mut |_| true).unwrap();
        writer.append(&draft()).unwrap();
        let mut reader = log.reader("clean", 0).unwrap();
        assert!(reader.read(0, ALL, End::Durable).unwrap().is_empty());
        assert_eq!(writer.syncer().sync().unwrap(), 4);
        assert!(reader.wait(0, End::Durable, Duration::ZERO));
        assert_eq!(reader.read(0, ALL, End::Durable).unwrap().len(), 1);
        writer.append(&FrameDraft::default()).unwrap();
        drop(writer);

        let mut asked = Vec::new();
        let writer = log
            .writer("clean", 0, &mut |head| {
                asked.push(head.first);
                head.meta.input.is_some()
            })
            .unwrap();
        assert_eq!((asked, writer.published(), writer.epoch()), (vec![4, 0], 4, 2));
        assert_eq!(writer.epochs(), [EpochStart { epoch: 1, first: 0 }, EpochStart { epoch: 2, first: 4 }]);
    }

    #[test]
    fn durable_stays_below_what_is_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let log = Embedded::open(dir.path(), Options::default()).unwrap();
        let mut writer = log.writer("clean", 0, &mut |_| true).unwrap();
        let sync = writer.syncer();
        sync.allow(0);
        writer.append(&draft()).unwrap();
        sync.sync().unwrap();
        assert_eq!((sync.durable(), sync.published()), (0, 4));
        sync.allow(4);
        assert_eq!((sync.sync().unwrap(), writer.durable()), (4, 4));
    }

    #[test]
    fn one_owner_and_errors_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let _owner = lock(dir.path()).unwrap();
        assert!(lock(dir.path()).unwrap_err().to_string().contains("in use"));
        let log = Embedded::open(dir.path(), Options::default()).unwrap();
        assert!(matches!(log.reader("nothing", 0), Err(LogError::NotFound(_))));
    }
}
