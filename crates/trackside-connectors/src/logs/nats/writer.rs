//! The owner of a partition: one append after the other, each acknowledged before it counts.
//!
//! Guarantee: every append expects the sequence of the one before, so a stale owner's can never be stored; and an append
//! whose answer was lost is asked about until its fate is known. Until then nothing else is appended. If its fate becomes
//! known only after the caller was told of a failure, the next append fails once more with [`LogError::Other`]: the
//! caller then goes on from [`LogWriter::newest`], which knows.

use super::ends::Placed;
use super::lease::Owner;
use super::link::{Trouble, patiently};
use super::stream::{Info, Partition, Reign, expecting, messages, parts};
use super::{Config, Rights, head, in_words};
use crate::logs::ipc;
use async_nats::HeaderMap;
use bytes::Bytes;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};
use trackside_core::batch::time_range;
use trackside_core::log::{
    Appended, End, EpochStart, FrameDraft, FrameHead, LogError, LogSync, LogWriter, SectionKind,
};
use trackside_log::{Draft, message};

/// So long an append asks for its fate before it reports that it is unknown.
const PATIENCE: Duration = Duration::from_secs(10);
/// So long a later call asks for the fate of an earlier append.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(50);
/// A larger frame is refused, as in the embedded log.
const MAX_FRAME_BYTES: u64 = 32 << 20;
/// How often an opening owner tries again when another one appended meanwhile.
const MAX_TRIES: usize = 5;

/// An append whose fate is not known yet.
struct Pending {
    messages: Vec<(HeaderMap, Bytes)>,
    /// Which of them is next.
    next: usize,
    /// Whether that one was sent before, without an answer.
    unsure: bool,
    frame: Arc<trackside_log::Frame>,
}

/// The one owner of a partition.
pub(super) struct Writer {
    partition: Partition,
    epochs: Vec<EpochStart>,
    newest: Option<FrameHead>,
    /// Sequence of the stream's last message.
    last: u64,
    end: u64,
    bytes: u64,
    tag: u64,
    pending: Option<Pending>,
    /// Why nothing more can be written.
    poison: Option<String>,
    _rights: Rights,
}

impl Writer {
    /// Recovers the partition and begins a reign. The rights to it are held already.
    pub(super) fn open(
        partition: Partition,
        config: &Config,
        owner: Owner,
        rights: Rights,
        keep: &mut dyn FnMut(&FrameHead) -> bool,
    ) -> Result<Self, LogError> {
        let (found, epochs, last) = patiently(|| Self::begin(&partition, config, &owner, keep))?;
        partition.ends.own(true, found.end);
        announce(&partition, found.end);
        Ok(Self {
            newest: found.newest.map(|placed| head(&placed.frame)).transpose()?,
            end: found.end,
            bytes: found.info.bytes,
            tag: RandomState::new().build_hasher().finish(), // keyed from the system's randomness
            epochs,
            partition,
            last,
            pending: None,
            poison: None,
            _rights: rights,
        })
    }

    /// Makes the stream if there is none, recovers it and marks a new reign, whose list of epochs and sequence come back. One
    /// that failed half-way is begun once more: its mark is found like any other's.
    fn begin(
        partition: &Partition,
        config: &Config,
        owner: &Owner,
        keep: &mut dyn FnMut(&FrameHead) -> bool,
    ) -> Result<(Found, Vec<EpochStart>, u64), LogError> {
        partition.create(config)?;
        for _ in 0..MAX_TRIES {
            let found = Found::look(partition, keep)?;
            let mut reign = Reign { owner: owner.clone(), epochs: found.epochs.clone() };
            let last = match partition.begin(&mut reign, found.info.last) {
                Ok(last) => last,
                Err(trouble) if trouble.is_wrong_sequence() => continue,
                Err(trouble) => return Err(trouble.into()),
            };
            found.given_up.iter().try_for_each(|sequence| partition.delete(*sequence))?;
            return Ok((found, reign.epochs, last));
        }
        Err(LogError::Other(format!(
            "stream `{}` is written by another process all the time; stop that one first",
            partition.names.stream
        )))
    }

    /// Sends what is pending until its fate is known, or `patience` ends.
    fn drive(&mut self, patience: Duration) -> Result<(), LogError> {
        let until = Instant::now() + patience;
        while let Some(pending) = &mut self.pending {
            let Some((headers, payload)) = pending.messages.get(pending.next).cloned() else {
                self.commit();
                return Ok(());
            };
            let headers = expecting(headers, self.last);
            match self.partition.link.publish(&self.partition.names.frames, headers, payload) {
                Ok(sequence) => self.stored(sequence),
                Err(trouble) if trouble.is_wrong_sequence() => self.look()?,
                Err(Trouble::Unknown(_)) => pending.unsure = true,
                // Nothing happened, now; an earlier try may still have.
                Err(_) if pending.unsure => {}
                Err(trouble) => {
                    self.pending = None;
                    return Err(refusal(&trouble));
                }
            }
            if Instant::now() >= until {
                return Err(LogError::Full(format!(
                    "NATS has not said whether the last append to `{}` is stored; it is asked again",
                    self.partition.names.stream
                )));
            }
            if self.pending.as_ref().is_some_and(|pending| pending.unsure) {
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// A message of the pending append is stored.
    fn stored(&mut self, sequence: u64) {
        if let Some(pending) = &mut self.pending {
            self.bytes += pending.messages[pending.next].1.len() as u64;
            (pending.next, pending.unsure, self.last) = (pending.next + 1, false, sequence);
        }
    }

    /// Something is stored where our message belongs: ours, from an earlier try, or another owner's.
    fn look(&mut self) -> Result<(), LogError> {
        let Some(pending) = &mut self.pending else { return Ok(()) };
        let next = self.last + 1;
        let there = match self.partition.message(next) {
            Ok(there) => there,
            Err(_) => {
                pending.unsure = true;
                return Ok(());
            }
        };
        match there {
            Some(there)
                if there.subject == self.partition.names.frames
                    && there.payload == pending.messages[pending.next].1 =>
            {
                self.stored(next);
                Ok(())
            }
            Some(_) => {
                let why = match self.partition.reign() {
                    Ok(Some((_, reign))) => format!(
                        "stream `{}` is owned by process {} on `{}` now; this one writes nothing more",
                        self.partition.names.stream, reign.owner.pid, reign.owner.host
                    ),
                    _ => format!(
                        "stream `{}` is written by another process; this one writes nothing more",
                        self.partition.names.stream
                    ),
                };
                self.pending = None;
                self.poison = Some(why.clone());
                Err(LogError::ReadOnly(why))
            }
            // The leader has it under way: it is asked again.
            None => {
                pending.unsure = true;
                Ok(())
            }
        }
    }

    /// All messages of the pending append are stored: it is published, and as durable as the servers make it.
    fn commit(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        self.end = pending.frame.info.end;
        // Made by ourselves a moment ago, so it can be read.
        self.newest = head(&pending.frame).ok();
        self.partition.ends.append(Placed { frame: pending.frame, sequence: self.last });
        announce(&self.partition, self.end);
    }

    fn check(&self) -> Result<(), LogError> {
        self.poison.as_ref().map_or(Ok(()), |why| Err(LogError::ReadOnly(why.clone())))
    }

    /// The frame as it will be stored.
    fn seal(&self, draft: &FrameDraft) -> Result<trackside_log::Frame, LogError> {
        let meta = serde_json::to_vec(&draft.meta)
            .map_err(|error| LogError::Other(format!("cannot write a frame's meta as JSON: {error}")))?;
        let mut encoded = Vec::with_capacity(draft.sections.len());
        for (kind, batch) in &draft.sections {
            let mut bytes = Vec::new();
            ipc::encode(batch, &mut bytes)?;
            encoded.push((*kind as u16, bytes));
        }
        let sections: Vec<(u16, &[u8])> = encoded.iter().map(|(kind, bytes)| (*kind, bytes.as_slice())).collect();
        let rows = draft.sections.iter().find(|(kind, _)| *kind == SectionKind::Rows).map(|(_, batch)| batch);
        let draft = Draft {
            rows: draft.rows() as u64,
            event_time: rows.and_then(time_range),
            ingest_time: draft.ingest_time,
            meta: &meta,
            sections: &sections,
        };
        let mut bytes = Vec::new();
        let seal = message::Seal { epoch: self.epoch(), first: self.end, tag: self.tag, limit: MAX_FRAME_BYTES };
        message::seal(&draft, seal, &mut bytes).map_err(in_words)?;
        message::open(&bytes, &self.partition.names.stream).map_err(in_words)
    }

    /// Largest part: half of what the server takes, so that it also fits an answer in Base64.
    fn part_limit(&self) -> usize {
        (self.partition.link.max_payload() / 2).max(4096)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.partition.ends.own(false, self.end);
    }
}

impl LogWriter for Writer {
    fn append(&mut self, draft: &FrameDraft) -> Result<Appended, LogError> {
        self.check()?;
        if self.pending.is_some() {
            self.drive(SHORT_PATIENCE)?;
            return Err(LogError::Other(format!(
                "an append to `{}` that had been given up is stored after all; go on from the newest frame",
                self.partition.names.stream
            )));
        }
        let frame = Arc::new(self.seal(draft)?);
        let appended = Appended { epoch: frame.info.epoch, first: frame.info.first, end: frame.info.end };
        let messages = messages(&frame, self.part_limit());
        self.pending = Some(Pending { messages, next: 0, unsure: false, frame });
        self.drive(PATIENCE).map(|()| appended)
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), LogError> {
        self.check()?;
        if bytes > MAX_FRAME_BYTES {
            return Err(LogError::Other(format!("a frame of {bytes} bytes is above the limit of {MAX_FRAME_BYTES}")));
        }
        if self.pending.is_some() {
            self.drive(SHORT_PATIENCE)?;
        }
        self.partition.link.reachable().map_err(|trouble| refusal(&trouble))
    }

    fn syncer(&self) -> Arc<dyn LogSync> {
        Arc::new(Syncer(self.partition.clone()))
    }

    fn newest(&self) -> Option<FrameHead> {
        self.newest.clone()
    }

    fn epochs(&self) -> Vec<EpochStart> {
        self.epochs.clone()
    }

    fn epoch(&self) -> u32 {
        self.epochs.last().map_or(0, |start| start.epoch)
    }

    fn published(&self) -> u64 {
        self.end
    }

    fn durable(&self) -> u64 {
        self.partition.ends.at(End::Durable)
    }

    fn retain(&mut self, keep_from: u64) -> Result<u64, LogError> {
        let Some(newest) = &self.newest else { return Ok(0) };
        let keep_from = keep_from.min(newest.first).min(self.durable());
        let Some(info) = self.partition.info()? else { return Ok(0) };
        let Some((sequence, first)) = self.partition.seek(keep_from, info)? else { return Ok(0) };
        self.partition.purge(sequence)?;
        self.partition.ends.forget(first);
        self.bytes = self.partition.info()?.map_or(0, |info| info.bytes);
        Ok(info.bytes.saturating_sub(self.bytes))
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// What an owner finds when it opens a partition.
struct Found {
    info: Info,
    newest: Option<Placed>,
    end: u64,
    /// Sequences of messages that go: frames given up, and parts without an end.
    given_up: Vec<u64>,
    /// With the reign that begins now.
    epochs: Vec<EpochStart>,
}

impl Found {
    /// Walks back from the newest frame until `keep` keeps one.
    fn look(partition: &Partition, keep: &mut dyn FnMut(&FrameHead) -> bool) -> Result<Self, LogError> {
        let stream = &partition.names.stream;
        let info = partition
            .info()?
            .ok_or_else(|| LogError::NotFound(format!("stream `{stream}` was deleted while it was opened")))?;
        let reign = partition.reign()?;
        let mut newest = partition.last(info)?;
        // Frames that the newest reign had given up already, before it was killed.
        let given_up_before =
            reign.as_ref().and_then(|(mark, reign)| reign.epochs.last().map(|start| (*mark, start.first)));
        while let Some(placed) = &newest {
            let again =
                given_up_before.is_some_and(|(mark, first)| placed.sequence < mark && placed.frame.info.first >= first);
            // A head that cannot be read is kept: nobody may judge it.
            if !again && head(&placed.frame).map_or(true, |head| keep(&head)) {
                break;
            }
            let start = placed.sequence - messages_of(partition, placed) + 1;
            newest = partition.newest(start - 1, info.first)?;
        }
        let after = newest.as_ref().map_or(0, |placed| placed.sequence);
        let given_up = if info.last > after { frames_after(partition, after)? } else { Vec::new() };
        // Without a frame: all were given up, or retention was never allowed to take the newest one.
        let end = newest.as_ref().map_or(0, |placed| placed.frame.info.end);
        let mut epochs = reign.map(|(_, reign)| reign.epochs).unwrap_or_default();
        let highest = epochs.last().map(|start| start.epoch);
        epochs.retain(|start| start.first <= end);
        let epoch = highest.max(newest.as_ref().map(|placed| placed.frame.info.epoch)).unwrap_or(0) + 1;
        epochs.push(EpochStart { epoch, first: end });
        Ok(Self { info, newest, end, given_up, epochs })
    }
}

/// How many messages a frame took.
fn messages_of(partition: &Partition, placed: &Placed) -> u64 {
    match partition.message(placed.sequence) {
        Ok(Some(stored)) => parts(&stored.headers),
        _ => 1,
    }
}

/// Sequences of all messages of frames behind one.
fn frames_after(partition: &Partition, after: u64) -> Result<Vec<u64>, LogError> {
    let (mut sequence, mut found) = (after + 1, Vec::new());
    loop {
        let which = serde_json::json!({"seq": sequence, "next_by_subj": partition.names.frames});
        let Some(stored) = partition.link.stored(&partition.names.stream, &which)? else { return Ok(found) };
        found.push(stored.sequence);
        sequence = stored.sequence + 1;
    }
}

/// Tells readers elsewhere; who misses it finds out by asking.
fn announce(partition: &Partition, end: u64) {
    let (client, subject) = (partition.link.client(), partition.names.news.clone());
    partition.link.spawn(async move {
        _ = client.publish(subject, end.to_string().into()).await;
    });
}

/// Nothing was stored: there is no room, or nobody to ask.
fn refusal(trouble: &Trouble) -> LogError {
    match trouble {
        Trouble::Refused { code: 400, words } => LogError::Other(words.clone()),
        _ => LogError::Full(format!("NATS takes nothing: {}", trouble.words())),
    }
}

/// Durable is what was acknowledged and is allowed.
struct Syncer(Partition);

impl LogSync for Syncer {
    fn sync(&self) -> Result<u64, LogError> {
        Ok(self.0.ends.sync())
    }

    fn allow(&self, limit: u64) {
        self.0.ends.allow(limit);
    }

    fn durable(&self) -> u64 {
        self.0.ends.at(End::Durable)
    }

    fn published(&self) -> u64 {
        self.0.ends.at(End::Published)
    }
}
