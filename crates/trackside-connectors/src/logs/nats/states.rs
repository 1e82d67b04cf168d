//! Snapshots in JetStream: one stream a pipeline, one subject a snapshot, so that any host can take a stage over.
//!
//! Guarantee: what is seen is whole. A state is cut into pieces as frames are; all but the last lie under a subject that
//! no listing shows, and the last one, under the snapshot's own, is the commit. Pieces of one save carry one tag, so that
//! two saves of the same name never mix. What is missing all the same, the checksum in the snapshot's head tells.

use super::config::{Config, Names};
use super::link::{Link, Stored, Trouble, code};
use crate::snapshots::{Shelf, Store};
use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use trackside_core::error::Failure;
use trackside_core::log::LogError;

const PIECE: &str = "Trackside-Piece";
const SAVE: &str = "Trackside-Save";
/// Kinds of subjects: what a listing shows, and what it does not.
const STATE: &str = "state";
const REST: &str = "piece";

/// The snapshots of a pipeline on NATS.
pub struct States {
    link: Arc<Link>,
    prefix: String,
    stream: String,
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("States").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl States {
    /// Opens the stream, and makes it if there is none.
    pub(super) fn open(link: Arc<Link>, config: &Config) -> Result<Self, Trouble> {
        let (prefix, stream) = (config.prefix.clone(), Names::snapshots(&config.prefix));
        match link.ask(&format!("STREAM.INFO.{stream}"), &Value::Null) {
            Err(trouble) if trouble.is(code::STREAM_NOT_FOUND) => {
                let subjects = [STATE, REST].map(|kind| format!("{}.*", Names::all(&prefix, kind)));
                let settings = json!({
                    "name": stream, "subjects": subjects,
                    "num_replicas": config.replicas, "storage": "file", "retention": "limits", "discard": "new",
                });
                link.ask(&format!("STREAM.CREATE.{stream}"), &settings)?;
            }
            found => _ = found?,
        }
        Ok(Self { link, prefix, stream })
    }

    /// Deletes a message of a snapshot: what exams do, and nobody else.
    pub fn lose(&self, shelf: &Shelf, name: &str, commit: bool) -> Result<(), LogError> {
        let subject = self.subject(shelf, if commit { STATE } else { REST }, name);
        if let Some(stored) = self.link.stored(&self.stream, &json!({"last_by_subj": subject}))? {
            let call = format!("STREAM.MSG.DELETE.{}", self.stream);
            self.link.ask(&call, &json!({"seq": stored.sequence, "no_erase": true}))?;
        }
        Ok(())
    }

    fn subject(&self, shelf: &Shelf, kind: &str, name: &str) -> String {
        Names::snapshot(&self.prefix, &shelf.stage, shelf.partition, kind, name)
    }

    /// Names of which there is something.
    fn names(&self, shelf: &Shelf, kind: &str) -> Result<BTreeSet<String>, Trouble> {
        let filter = json!({"subjects_filter": self.subject(shelf, kind, "*")});
        let info = self.link.ask(&format!("STREAM.INFO.{}", self.stream), &filter)?;
        let subjects = info["state"]["subjects"].as_object();
        Ok(subjects.into_iter().flatten().map(|(subject, _)| Names::snapshot_name(subject)).collect())
    }

    /// Deletes the messages of a subject that came before a sequence; without one, all.
    fn purge(&self, subject: &str, before: Option<u64>) -> Result<(), Trouble> {
        let body = match before {
            Some(sequence) => json!({"filter": subject, "seq": sequence}),
            None => json!({"filter": subject}),
        };
        self.link.ask(&format!("STREAM.PURGE.{}", self.stream), &body).map(drop)
    }

    /// Pieces whose save came to no end: its process was killed.
    fn sweep(&self, shelf: &Shelf) -> Result<(), Trouble> {
        let whole = self.names(shelf, STATE)?;
        let left = self.names(shelf, REST)?;
        left.difference(&whole).try_for_each(|name| self.purge(&self.subject(shelf, REST, name), None))
    }

    fn put(&self, shelf: &Shelf, name: &str, bytes: &[u8]) -> Result<(), Trouble> {
        self.sweep(shelf)?;
        // Half of what the server takes, so that a piece also fits an answer in Base64.
        let limit = (self.link.max_payload() / 2).max(4096);
        let (pieces, tag) = (bytes.len().div_ceil(limit).max(1), RandomState::new().build_hasher().finish());
        let (state, rest) = (self.subject(shelf, STATE, name), self.subject(shelf, REST, name));
        let mut first = None;
        for number in 1..=pieces {
            let mut headers = HeaderMap::new();
            headers.insert(PIECE, format!("{number}/{pieces}"));
            headers.insert(SAVE, format!("{tag:016x}"));
            let piece = &bytes[(number - 1) * limit..bytes.len().min(number * limit)];
            let subject = if number == pieces { &state } else { &rest };
            let sequence = self.link.publish(subject, headers, Bytes::copy_from_slice(piece))?;
            first.get_or_insert(sequence);
        }
        // What an earlier save of the same name has left.
        self.purge(&state, first)?;
        self.purge(&rest, first)
    }

    fn get(&self, shelf: &Shelf, name: &str) -> Result<Option<Vec<u8>>, Trouble> {
        let state = json!({"last_by_subj": self.subject(shelf, STATE, name)});
        let Some(last) = self.link.stored(&self.stream, &state)? else { return Ok(None) };
        let Some((save, of, _)) = told(&last) else { return Ok(Some(Vec::new())) };
        let (mut pieces, mut sequence) = (BTreeMap::new(), 1);
        while pieces.len() as u64 + 1 < of {
            let next = json!({"seq": sequence, "next_by_subj": self.subject(shelf, REST, name)});
            let Some(stored) = self.link.stored(&self.stream, &next)? else { break };
            sequence = stored.sequence + 1;
            if let Some((_, _, number)) = told(&stored).filter(|(of_save, ..)| *of_save == save) {
                pieces.insert(number, stored.payload);
            }
        }
        pieces.insert(of, last.payload);
        Ok(Some(pieces.values().flat_map(|piece| piece.iter().copied()).collect()))
    }
}

/// What a message says of itself: its save, of how many pieces, and which it is.
fn told(stored: &Stored) -> Option<(String, u64, u64)> {
    let (number, of) = stored.headers.get(PIECE)?.as_str().split_once('/')?;
    Some((stored.headers.get(SAVE)?.as_str().to_owned(), of.parse().ok()?, number.parse().ok()?))
}

fn failure(trouble: Trouble) -> Failure {
    Failure::retry(format!("snapshots on NATS: {}", trouble.words()))
}

impl Store for States {
    fn list(&self, shelf: &Shelf) -> Result<Vec<String>, Failure> {
        Ok(self.names(shelf, STATE).map_err(failure)?.into_iter().collect())
    }

    fn read(&self, shelf: &Shelf, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        self.get(shelf, name).map_err(failure)
    }

    fn write(&self, shelf: &Shelf, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        self.put(shelf, name, bytes).map_err(failure)
    }

    fn remove(&self, shelf: &Shelf, name: &str) -> Result<(), Failure> {
        self.purge(&self.subject(shelf, STATE, name), None)
            .and_then(|()| self.purge(&self.subject(shelf, REST, name), None))
            .map_err(failure)
    }
}
