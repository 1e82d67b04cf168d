//! Readers: frames from memory when this process appended them a moment ago, else from any server of the stream.
//!
//! Guarantee: whole frames in order, each verified, none beyond the end asked for. A server that lags behind gives fewer
//! frames, never other ones. Where frames are missing that the leader does not have either, that is said and stepped
//! over.

use super::ends::Placed;
use super::link::Trouble;
use super::spool::Spool;
use super::stream::{Info, Partition};
use super::{head, shared};
use crate::logs::ipc;
use arrow::buffer::Buffer;
use bytes::Bytes;
use futures_core::Stream;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;
use trackside_core::log::{
    Budget, Decode, End, EpochStart, Frame, FrameHead, LogError, LogReader, Section, SectionKind,
};

/// Asked for at least so many bytes: one part of a frame fits for certain.
const MIN_BYTES: u64 = 1 << 20;
/// And at most.
const MAX_BYTES: u64 = 8 << 20;
/// Without news the stream is looked at so often.
const LOOK: Duration = Duration::from_secs(1);

/// A reader of one partition.
pub(super) struct Reader {
    partition: Partition,
    /// Where the last read ended: an offset, and the sequence to look from.
    next: Option<(u64, u64)>,
    decode: Arc<Decode>,
    /// Where frames are laid for other processes of this machine.
    spool: Option<Spool>,
}

impl Reader {
    /// `NotFound` if there is no such partition.
    pub(super) fn open(partition: Partition, stream: &str) -> Result<Self, LogError> {
        let end = end(&partition)?.ok_or_else(|| {
            LogError::NotFound(format!(
                "there is no stream `{stream}`; start the pipeline once, or check the topic and the partition"
            ))
        })?;
        partition.ends.learn(end);
        if !partition.ends.owned() && partition.ends.watch() {
            watch(&partition);
        }
        let decoder = ipc::Decoder::default();
        Ok(Self { partition, next: None, decode: Arc::new(move |bytes| decoder.decode(bytes)), spool: None })
    }

    /// From now on its frames lie in files.
    pub(super) fn spooled(self, spool: Spool) -> Self {
        Self { spool: Some(spool), ..self }
    }

    /// Frames from `from` on, wherever they are.
    fn placed(&mut self, from: u64, bytes: u64) -> Result<Vec<Placed>, LogError> {
        let recent = self.partition.ends.recent(from);
        if !recent.is_empty() {
            return Ok(recent);
        }
        let sequence = match self.next {
            Some((offset, sequence)) if offset == from => sequence,
            _ => match self.seek(from)? {
                Some(sequence) => sequence,
                None => return Ok(Vec::new()),
            },
        };
        let found = self.partition.frames(sequence, bytes.clamp(MIN_BYTES, MAX_BYTES))?;
        match found.first() {
            Some(placed) if placed.frame.info.first <= from => Ok(found),
            // Nothing, or a gap: the leader knows whether that is all.
            _ => Ok(self.partition.frame(sequence)?.inspect(|placed| self.report(from, placed)).into_iter().collect()),
        }
    }

    fn seek(&self, from: u64) -> Result<Option<u64>, LogError> {
        let Some(info) = self.partition.info()? else { return Ok(None) };
        Ok(self.partition.seek(from, info)?.map(|(sequence, _)| sequence))
    }

    fn report(&self, from: u64, placed: &Placed) {
        let to = placed.frame.info.first;
        // What retention took away is not missing.
        if to > from && self.next.is_some_and(|(offset, _)| offset == from) {
            let stream = &self.partition.names.stream;
            tracing::error!(
                stream,
                from,
                to,
                "offsets are missing in the stream; restore it from a replica or a backup"
            );
        }
    }

    fn frame(&mut self, placed: &Placed) -> Result<Frame, LogError> {
        let info = &placed.frame.info;
        let FrameHead { epoch, first, end, meta } = head(&placed.frame)?;
        let bytes = Buffer::from(Bytes::from_owner(shared(&placed.frame)));
        let known = |section: &trackside_log::Section| {
            let bytes = bytes.slice_with_length(section.range.start, section.range.len());
            // A kind that a later version wrote is passed over.
            Some(Section::encoded(SectionKind::from_number(section.kind)?, bytes, self.decode.clone()))
        };
        let sections = placed.frame.sections.iter().filter_map(known).collect();
        let (num_rows, ingest_time) = (info.rows as usize, info.ingest_time);
        let location = self.spool.as_mut().map(|spool| spool.put(&placed.frame)).transpose()?;
        Ok(Frame { epoch, first, end, num_rows, meta, ingest_time, sections, location })
    }

    /// The same frames, as they are stored.
    pub(super) fn stored(&mut self, from: u64, budget: Budget, end: End) -> Result<Vec<Placed>, LogError> {
        let limit = self.partition.ends.at(end);
        let (mut found, mut offset, mut room) = (Vec::new(), from, budget.bytes);
        while offset < limit && found.len() < budget.frames {
            let placed = self.placed(offset, room)?;
            let mut moved = false;
            for placed in placed {
                let info = &placed.frame.info;
                moved = true;
                if info.end <= offset {
                    // Parts of a message that was given up, which a search may land on.
                    self.next = Some((offset, placed.sequence + 1));
                    continue;
                }
                let length = placed.frame.location.length;
                let in_order = found.is_empty() || info.first == offset;
                if info.end > limit || !in_order || found.len() == budget.frames || (!found.is_empty() && length > room)
                {
                    return Ok(found);
                }
                (offset, room) = (info.end, room.saturating_sub(length));
                self.next = Some((offset, placed.sequence + 1));
                found.push(placed);
            }
            if !moved || room == 0 {
                break;
            }
        }
        Ok(found)
    }
}

impl LogReader for Reader {
    fn read(&mut self, from: u64, budget: Budget, end: End) -> Result<Vec<Frame>, LogError> {
        self.stored(from, budget, end)?.iter().map(|placed| self.frame(placed)).collect()
    }

    fn wait(&self, offset: u64, end: End, timeout: Duration) -> bool {
        self.partition.ends.wait(offset, end, timeout)
    }

    fn published(&self) -> u64 {
        self.partition.ends.at(End::Published)
    }

    fn durable(&self) -> u64 {
        self.partition.ends.at(End::Durable)
    }

    fn oldest(&mut self) -> Result<u64, LogError> {
        // Before the look, not after it: a stream that was empty then may hold its first frames by now.
        let published = self.published();
        let Some(info) = self.partition.info()? else { return Ok(0) };
        Ok(self.partition.seek(0, info)?.map_or(published, |(_, first)| first))
    }

    fn epochs(&mut self) -> Result<Vec<EpochStart>, LogError> {
        Ok(self.partition.reign()?.map(|(_, reign)| reign.epochs).unwrap_or_default())
    }

    fn newest(&mut self) -> Result<Option<FrameHead>, LogError> {
        let Some(info) = self.partition.info()? else { return Ok(None) };
        let Some(newest) = self.partition.last(info)? else { return Ok(None) };
        // Who was told of a frame may go and read it.
        self.partition.ends.reach(newest.frame.info.end);
        head(&newest.frame).map(Some)
    }
}

/// Where the partition ends; none if there is none. One that waits for its first owner ends at 0.
fn end(partition: &Partition) -> Result<Option<u64>, LogError> {
    if partition.ends.owned() {
        return Ok(Some(partition.ends.at(End::Published)));
    }
    let Some(info) = partition.info()? else { return Ok(None) };
    if let Some(newest) = partition.last(info)? {
        return Ok(Some(newest.frame.info.end));
    }
    Ok(Some(partition.reign()?.and_then(|(_, reign)| reign.epochs.last().map(|start| start.first)).unwrap_or(0)))
}

/// Listens for news of an owner elsewhere, for as long as anybody holds the ends.
fn watch(partition: &Partition) {
    let (client, subject) = (partition.link.client(), partition.names.news.clone());
    let (ends, looking) = (Arc::downgrade(&partition.ends), partition.clone());
    // The look blocks, so it has a thread; the news come in the connection's runtime.
    let looker = Looker { link: Arc::downgrade(&looking.link), names: looking.names.clone(), ends: ends.clone() };
    _ = std::thread::Builder::new().name("nats-look".into()).spawn(move || looker.run());
    partition.link.spawn(async move {
        let Ok(mut news) = client.subscribe(subject).await else { return };
        while let Some(message) = std::future::poll_fn(|context| Pin::new(&mut news).poll_next(context)).await {
            let Some(ends) = ends.upgrade() else { return };
            if let Some(end) = std::str::from_utf8(&message.payload).ok().and_then(|text| text.parse().ok()) {
                ends.learn(end);
            }
        }
    });
}

/// Asks the stream now and then, should news be lost.
struct Looker {
    link: Weak<super::link::Link>,
    names: Arc<super::config::Names>,
    ends: Weak<super::ends::Ends>,
}

impl Looker {
    fn run(self) {
        let mut seen = (0, 0);
        loop {
            std::thread::sleep(LOOK);
            let (Some(link), Some(ends)) = (self.link.upgrade(), self.ends.upgrade()) else { return };
            if ends.owned() {
                continue;
            }
            let partition = Partition { link, names: self.names.clone(), ends };
            if let Err(trouble) = Self::look(&partition, &mut seen) {
                tracing::debug!(why = %trouble, "a stream could not be looked at");
            }
        }
    }

    fn look(partition: &Partition, seen: &mut (u64, u64)) -> Result<(), LogError> {
        let info = partition.info().map_err(|trouble: Trouble| LogError::from(trouble))?;
        // Also what news have told is looked after: one that came late would hide the newest frames.
        let known = |info: &Info| (info.last, partition.ends.at(End::Published));
        if let Some(info) = info.filter(|info| known(info) != *seen) {
            if let Some(end) = end(partition)? {
                partition.ends.learn(end);
            }
            *seen = known(&info);
        }
        Ok(())
    }
}
