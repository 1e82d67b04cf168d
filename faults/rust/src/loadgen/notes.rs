//! The two logs of what was sent and what was answered, as CSV with a header row.
//!
//! `intent.log`: `id,device,seq,kind,hash,t`, one line an event, written before its first byte leaves. `ack.log`:
//! `id,state,t` (acked, refused or unknown), one line an event and answer. `t` is microseconds since 1970.

use super::event::Event;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a body's sender knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 2xx: durable.
    Acked,
    /// 4xx or 503: nothing stored.
    Refused(u16),
    /// 500, or no whole answer.
    Unknown,
    /// Nobody listened.
    Unsent,
}

impl Answer {
    fn name(self) -> &'static str {
        match self {
            Self::Acked => "acked",
            Self::Refused(_) => "refused",
            Self::Unknown | Self::Unsent => "unknown",
        }
    }
}

/// Both logs, and sums over them.
#[derive(Debug)]
pub(crate) struct Notes {
    intents: Mutex<File>,
    answers: Mutex<File>,
    sums: Mutex<Sums>,
}

#[derive(Debug, Default)]
struct Sums {
    sent: u64,
    acked: u64,
    refused: u64,
    unknown: u64,
    /// Of acknowledged bodies, in µs.
    latencies: Vec<u32>,
}

impl Notes {
    pub(crate) fn create(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut intents = File::create(folder.join("intent.log"))?;
        let mut answers = File::create(folder.join("ack.log"))?;
        intents.write_all(b"id,device,seq,kind,hash,t\n")?;
        answers.write_all(b"id,state,t\n")?;
        Ok(Self { intents: Mutex::new(intents), answers: Mutex::new(answers), sums: Mutex::default() })
    }

    /// Notes events that are about to be sent.
    pub(crate) fn intend(&self, events: &[Event]) -> anyhow::Result<()> {
        let (mut text, t) = (String::new(), now());
        for event in events {
            let Event { id, device, seq, kind, hash, .. } = event;
            writeln!(text, "{id:032x},{device},{seq},{},{hash},{t}", kind.name())?;
        }
        self.intents.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes())?;
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).sent += events.len() as u64;
        Ok(())
    }

    /// Notes the answer to a body that held these events.
    pub(crate) fn answer(&self, events: &[Event], answer: Answer, took: Duration) -> anyhow::Result<()> {
        let (mut text, t) = (String::new(), now());
        for event in events {
            writeln!(text, "{:032x},{},{t}", event.id, answer.name())?;
        }
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes())?;
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let count = events.len() as u64;
        match answer {
            Answer::Acked => {
                sums.acked += count;
                sums.latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
            }
            Answer::Refused(_) => sums.refused += count,
            Answer::Unknown | Answer::Unsent => sums.unknown += count,
        }
        Ok(())
    }

    /// The sums; latencies are of whole bodies, in milliseconds.
    pub(crate) fn summary(&self) -> Value {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.latencies.sort_unstable();
        let at = |share: f64| {
            let place = (sums.latencies.len() as f64 * share) as usize;
            sums.latencies.get(place).map_or(Value::Null, |us| (f64::from(*us) / 1e3).into())
        };
        json!({
            "sent": sums.sent, "acked": sums.acked, "refused": sums.refused, "unknown": sums.unknown,
            "ack_ms_p50": at(0.5), "ack_ms_p99": at(0.99), "ack_ms_max": at(0.999_999),
        })
    }
}

fn now() -> u128 {
    // A clock before 1970 notes 0: the notes' times are for reading, not for judging.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros())
}
