//! One partition as a stream of JetStream: how frames become messages and messages frames again.
//!
//! A frame that fits is one message: the same bytes as in a segment of the embedded log. A larger one is cut into parts,
//! which only count once the last one is there. Two headers say what a message holds, so that a place can be found
//! without reading bodies: `Trackside-Offsets: <epoch> <first> <end>` and, for parts, `Trackside-Part: <k>/<n>`.

use super::config::{Config, Names};
use super::ends::{Ends, Placed};
use super::lease::Owner;
use super::link::{Link, Stored, Trouble, code};
use async_nats::HeaderMap;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use trackside_core::log::{EpochStart, LogError};
use trackside_log::message;

const OFFSETS: &str = "Trackside-Offsets";
const PART: &str = "Trackside-Part";
/// Messages that one read asks for at most.
const MAX_BATCH: usize = 256;
/// Reigns that are remembered; older ones are forgotten.
const MAX_REIGNS: usize = 1000;

/// The start of a reign, as the stream has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Reign {
    pub(super) owner: Owner,
    /// All reigns, oldest first, this one last.
    pub(super) epochs: Vec<EpochStart>,
}

/// What the stream's leader says of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Info {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) bytes: u64,
}

/// What the headers of a message say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    epoch: u32,
    first: u64,
    end: u64,
    number: u64,
    of: u64,
}

impl Part {
    fn read(headers: &HeaderMap) -> Option<Self> {
        let mut offsets = headers.get(OFFSETS)?.as_str().split(' ');
        let (epoch, first) = (offsets.next()?.parse().ok()?, offsets.next()?.parse().ok()?);
        let end = offsets.next()?.parse().ok()?;
        let (number, of) = match headers.get(PART) {
            None => (1, 1),
            Some(part) => {
                let (number, of) = part.as_str().split_once('/')?;
                (number.parse().ok()?, of.parse().ok()?)
            }
        };
        (number >= 1 && number <= of).then_some(Self { epoch, first, end, number, of })
    }

    fn goes_on(&self, next: &Self) -> bool {
        *next == Self { number: self.number + 1, ..*self }
    }
}

/// How many messages the frame took that this one belongs to.
pub(super) fn parts(headers: &HeaderMap) -> u64 {
    Part::read(headers).map_or(1, |part| part.of)
}

/// The messages of a frame, in order.
pub(super) fn messages(frame: &trackside_log::Frame, limit: usize) -> Vec<(HeaderMap, Bytes)> {
    let info = &frame.info;
    let bytes = Bytes::copy_from_slice(frame.bytes());
    let of = bytes.len().div_ceil(limit);
    let message = |number: usize| {
        let mut headers = HeaderMap::new();
        headers.insert(OFFSETS, format!("{} {} {}", info.epoch, info.first, info.end));
        if of > 1 {
            headers.insert(PART, format!("{}/{of}", number + 1));
        }
        (headers, bytes.slice(number * limit..bytes.len().min((number + 1) * limit)))
    };
    (0..of).map(message).collect()
}

/// Puts parts together again.
#[derive(Default)]
struct Assembly {
    parts: Vec<(Part, Bytes)>,
}

impl Assembly {
    /// Takes the next message; the frame that it completes, or what is wrong with that one.
    fn take(&mut self, stream: &str, stored: Stored) -> Option<Result<Placed, LogError>> {
        let Some(part) = Part::read(&stored.headers) else {
            return Some(Err(damaged(stream, stored.sequence, "its headers are not those of a frame")));
        };
        if part.number == 1 {
            self.parts.clear();
        } else if !self.parts.last().is_some_and(|(last, _)| last.goes_on(&part)) {
            self.parts.clear(); // an append that was given up half way: it never counted
            return None;
        }
        self.parts.push((part, stored.payload));
        if part.number < part.of {
            return None;
        }
        let parts = std::mem::take(&mut self.parts);
        let whole = match parts.as_slice() {
            [(_, only)] => only.clone(),
            _ => parts.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect(),
        };
        let frame = message::open(&whole, stream)
            .ok()
            .filter(|frame| (frame.info.epoch, frame.info.first, frame.info.end) == (part.epoch, part.first, part.end));
        Some(match frame {
            Some(frame) => Ok(Placed { frame: Arc::new(frame), sequence: stored.sequence }),
            None => Err(damaged(
                stream,
                stored.sequence,
                &format!("offsets {} to {} do not match their checksum", part.first, part.end),
            )),
        })
    }
}

pub(super) fn damaged(stream: &str, sequence: u64, what: &str) -> LogError {
    LogError::Damaged(format!("message {sequence} of stream `{stream}` is damaged: {what}"))
}

/// A partition on the servers.
#[derive(Clone)]
pub(super) struct Partition {
    pub(super) link: Arc<Link>,
    pub(super) names: Arc<Names>,
    pub(super) ends: Arc<Ends>,
}

impl Partition {
    /// How the stream stands; none when there is none.
    pub(super) fn info(&self) -> Result<Option<Info>, Trouble> {
        match self.link.ask(&format!("STREAM.INFO.{}", self.names.stream), &Value::Null) {
            Ok(info) => {
                let number = |key: &str| info["state"][key].as_u64().unwrap_or(0);
                Ok(Some(Info { first: number("first_seq"), last: number("last_seq"), bytes: number("bytes") }))
            }
            Err(trouble) if trouble.is(code::STREAM_NOT_FOUND) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    /// Makes the stream if there is none.
    pub(super) fn create(&self, config: &Config) -> Result<(), Trouble> {
        if self.info()?.is_some() {
            return Ok(());
        }
        let limit = if config.max_mib == 0 { -1 } else { (config.max_mib << 20) as i64 };
        let stream = json!({
            "name": self.names.stream, "subjects": [self.names.frames, self.names.reigns],
            "num_replicas": config.replicas, "storage": "file", "retention": "limits", "discard": "new",
            "max_bytes": limit, "allow_direct": true, "deny_purge": false,
        });
        self.link.ask(&format!("STREAM.CREATE.{}", self.names.stream), &stream).map(drop)
    }

    /// The newest reign.
    pub(super) fn reign(&self) -> Result<Option<(u64, Reign)>, LogError> {
        let Some(mark) = self.link.stored(&self.names.stream, &json!({"last_by_subj": self.names.reigns}))? else {
            return Ok(None);
        };
        let reign = serde_json::from_slice(&mark.payload).map_err(|error| {
            damaged(&self.names.stream, mark.sequence, &format!("the start of a reign cannot be read: {error}"))
        })?;
        Ok(Some((mark.sequence, reign)))
    }

    /// Starts a reign: whoever was the owner before can append nothing from now on. Wrong if anything came after `last`.
    pub(super) fn begin(&self, reign: &mut Reign, last: u64) -> Result<u64, Trouble> {
        let old = reign.epochs.len().saturating_sub(MAX_REIGNS);
        reign.epochs.drain(..old);
        let payload = serde_json::to_vec(reign).unwrap_or_default();
        self.link.publish(&self.names.reigns, expecting(HeaderMap::new(), last), payload.into())
    }

    /// One message, as the leader has it.
    pub(super) fn message(&self, sequence: u64) -> Result<Option<Stored>, Trouble> {
        self.link.stored(&self.names.stream, &json!({"seq": sequence}))
    }

    /// The newest whole frame at or before a sequence.
    pub(super) fn newest(&self, before: u64, first: u64) -> Result<Option<Placed>, LogError> {
        let mut sequence = before;
        while sequence >= first.max(1) {
            let found = self.message(sequence)?.filter(|stored| stored.subject == self.names.frames);
            let part = found.as_ref().and_then(|stored| Part::read(&stored.headers));
            if let Some(part) = part.filter(|part| part.number == part.of && part.of <= sequence) {
                let mut assembly = Assembly::default();
                for sequence in sequence - part.of + 1..=sequence {
                    let Some(stored) = self.message(sequence)? else { continue };
                    match assembly.take(&self.names.stream, stored) {
                        Some(Ok(placed)) => return Ok(Some(placed)),
                        Some(Err(error)) => tracing::error!(%error, "a frame is left out"),
                        None => {}
                    }
                }
            }
            sequence -= 1;
        }
        Ok(None)
    }

    /// The newest whole frame.
    pub(super) fn last(&self, info: Info) -> Result<Option<Placed>, LogError> {
        match self.link.stored(&self.names.stream, &json!({"last_by_subj": self.names.frames}))? {
            Some(stored) if stored.sequence <= info.last => self.newest(stored.sequence, info.first),
            Some(_) => self.newest(info.last, info.first),
            None => Ok(None),
        }
    }

    /// The sequence of the first message of the frame that holds `offset` or follows it, and where that frame begins.
    pub(super) fn seek(&self, offset: u64, info: Info) -> Result<Option<(u64, u64)>, LogError> {
        let next = |sequence: u64| -> Result<Option<(u64, Part)>, LogError> {
            let which = json!({"seq": sequence, "next_by_subj": self.names.frames});
            let Some(stored) = self.link.stored(&self.names.stream, &which)? else { return Ok(None) };
            let part = Part::read(&stored.headers)
                .ok_or_else(|| damaged(&self.names.stream, stored.sequence, "its headers are not those of a frame"))?;
            Ok(Some((stored.sequence, part)))
        };
        // Ends of frames never fall from one message to the next: what an owner gave up is deleted.
        let (mut low, mut high) = (info.first.max(1), info.last + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match next(middle)? {
                Some((sequence, part)) if part.end <= offset => low = sequence + 1,
                _ => high = middle,
            }
        }
        Ok(next(low)?.map(|(sequence, part)| (sequence, part.first)))
    }

    /// Whole frames from a sequence on; damage is stepped over and said. At least one if there is one.
    pub(super) fn frames(&self, mut sequence: u64, bytes: u64) -> Result<Vec<Placed>, LogError> {
        let (mut assembly, mut found) = (Assembly::default(), Vec::new());
        while found.is_empty() {
            let batch = self.link.batch(&self.names.stream, &self.names.frames, sequence, MAX_BATCH, bytes)?;
            let Some(last) = batch.last() else { break };
            sequence = last.sequence + 1;
            for stored in batch {
                match assembly.take(&self.names.stream, stored) {
                    Some(Ok(placed)) => found.push(placed),
                    Some(Err(error)) => tracing::error!(%error, "a frame is left out"),
                    None => {}
                }
            }
        }
        Ok(found)
    }

    /// The same for one frame, from the leader: it lags behind nobody.
    pub(super) fn frame(&self, mut sequence: u64) -> Result<Option<Placed>, LogError> {
        let mut assembly = Assembly::default();
        loop {
            let which = json!({"seq": sequence, "next_by_subj": self.names.frames});
            let Some(stored) = self.link.stored(&self.names.stream, &which)? else { return Ok(None) };
            sequence = stored.sequence + 1;
            match assembly.take(&self.names.stream, stored) {
                Some(Ok(placed)) => return Ok(Some(placed)),
                Some(Err(error)) => tracing::error!(%error, "a frame is left out"),
                None => {}
            }
        }
    }

    /// Deletes messages of frames, oldest first, before a sequence.
    pub(super) fn purge(&self, before: u64) -> Result<(), Trouble> {
        let body = json!({"filter": self.names.frames, "seq": before});
        self.link.ask(&format!("STREAM.PURGE.{}", self.names.stream), &body).map(drop)
    }

    /// Deletes one message.
    pub(super) fn delete(&self, sequence: u64) -> Result<(), Trouble> {
        let call = format!("STREAM.MSG.DELETE.{}", self.names.stream);
        match self.link.ask(&call, &json!({"seq": sequence, "no_erase": true})) {
            Err(trouble) if !trouble.is(code::NO_MESSAGE) => Err(trouble),
            _ => Ok(()),
        }
    }
}

/// The header that lets an append through only if nothing came after `last`.
pub(super) fn expecting(mut headers: HeaderMap, last: u64) -> HeaderMap {
    headers.insert("Nats-Expected-Last-Sequence", last.to_string());
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackside_log::Draft;

    fn frame(first: u64, size: usize) -> trackside_log::Frame {
        let body = vec![first as u8; size];
        let draft = Draft { rows: 3, meta: b"{}", sections: &[(1, &body)], ..Draft::default() };
        let mut bytes = Vec::new();
        message::seal(&draft, message::Seal { epoch: 2, first, tag: 1, limit: 1 << 20 }, &mut bytes).unwrap();
        message::open(&bytes, "test").unwrap()
    }

    fn stored(frames: &[(trackside_log::Frame, usize)]) -> Vec<Stored> {
        let all = frames.iter().flat_map(|(frame, limit)| messages(frame, *limit));
        (1..)
            .zip(all)
            .map(|(sequence, (headers, payload))| Stored { sequence, subject: "s".into(), headers, payload })
            .collect()
    }

    #[test]
    fn frames_are_cut_and_put_together_and_what_is_half_does_not_count() {
        let mut stored =
            stored(&[(frame(0, 100), 1 << 20), (frame(3, 1000), 300), (frame(6, 1000), 300), (frame(6, 10), 300)]);
        assert_eq!(stored.len(), 1 + 5 + 5 + 1);
        stored.remove(10); // the last part of the third: its append was given up
        let mut assembly = Assembly::default();
        let found: Vec<_> =
            stored.into_iter().filter_map(|stored| assembly.take("t", stored)).map(Result::unwrap).collect();
        let places: Vec<_> = found.iter().map(|placed| (placed.frame.info.first, placed.sequence)).collect();
        assert_eq!(places, [(0, 1), (3, 6), (6, 12)]);
        assert_eq!(found[1].frame.bytes(), frame(3, 1000).bytes());
    }

    #[test]
    fn a_spoilt_message_is_an_error() {
        let mut stored = stored(&[(frame(9, 100), 1 << 20)]);
        let mut bytes = stored[0].payload.to_vec();
        bytes[200] ^= 1;
        stored[0].payload = bytes.into();
        let error = Assembly::default().take("t", stored.remove(0)).unwrap().unwrap_err();
        assert!(error.to_string().contains("offsets 9 to 12"), "{error}");
    }
}
