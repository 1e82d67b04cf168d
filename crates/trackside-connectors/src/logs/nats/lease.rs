//! Leases: who owns a partition says so again and again, and whoever stops saying so has lost it.
//!
//! They are politeness, not safety: they keep two engines from taking the same partition from each other in turns. What
//! keeps a stale owner from writing is the sequence that every append expects. A lease is a message that the server
//! forgets after its time; nobody's clock is compared with anybody else's.

use super::config::{Config, Names};
use super::link::{self, Link, Trouble, code};
use async_nats::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use trackside_core::log::LogError;

/// A lease is renewed so many times within its time.
const RENEWALS: u32 = 3;

/// How often a lease that somebody else holds is looked at: is that one alive?
const LOOK: Duration = Duration::from_millis(100);

/// The server forgets a lease a little later than it could.
const SLACK: Duration = Duration::from_secs(2);

/// Longest that giving one back may take: an engine that ends does not wait for servers that are away.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// What a lease says of its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    /// Of the data directory: its next process takes over at once, for the directory's lock tells that the last one is gone.
    pub(super) id: String,
    pub(super) host: String,
    pub(super) pid: u32,
}

/// The leases of this process.
pub(super) struct Leases {
    link: Arc<Link>,
    stream: String,
    owner: Owner,
    /// How long the servers remember a lease that is not renewed; what the stream says counts, not this file.
    millis: AtomicU64,
    /// By subject the sequence of the newest message.
    held: Mutex<BTreeMap<String, u64>>,
    /// Renewing and giving back take turns: a lease that is renewed while it is given back would outlive its owner.
    turn: tokio::sync::Mutex<()>,
}

impl Leases {
    pub(super) fn new(link: Arc<Link>, config: &Config, owner: Owner) -> Arc<Self> {
        let stream = Names::leases(&config.prefix);
        let (held, turn) = (Mutex::default(), tokio::sync::Mutex::default());
        let millis = AtomicU64::new(config.lease_s * 1000);
        let leases = Arc::new(Self { link, stream, owner, millis, held, turn });
        let weak = Arc::downgrade(&leases);
        leases.link.spawn(async move {
            loop {
                let Some(every) = weak.upgrade().map(|leases| leases.time() / RENEWALS) else { return };
                tokio::time::sleep(every).await;
                let Some(leases) = weak.upgrade() else { return };
                leases.renew().await;
            }
        });
        leases
    }

    /// Makes the stream of leases.
    pub(super) fn prepare(&self, config: &Config) -> Result<(), Trouble> {
        let nanos = config.lease_s * 1_000_000_000;
        let stream = json!({
            "name": self.stream, "subjects": [Names::all(&config.prefix, "lease")], "num_replicas": config.replicas,
            "max_age": nanos, "duplicate_window": nanos.min(1_000_000_000), "max_msgs_per_subject": 1,
            "storage": "file", "discard": "old",
        });
        let made = self.link.ask(&format!("STREAM.CREATE.{}", self.stream), &stream).or_else(|trouble| {
            // There already, with the time of an older pipeline file, which then counts.
            self.link.ask(&format!("STREAM.INFO.{}", self.stream), &serde_json::Value::Null).map_err(|_| trouble)
        })?;
        if let Some(nanos) = made["config"]["max_age"].as_u64().filter(|nanos| *nanos > 0) {
            self.millis.store((nanos / 1_000_000).max(1), Relaxed);
        }
        Ok(())
    }

    fn time(&self) -> Duration {
        Duration::from_millis(self.millis.load(Relaxed))
    }

    /// Takes a partition that nobody holds, or that an earlier process of the same data directory held. One whose owner
    /// is no longer heard of is waited for, until its lease has run out: a host that takes over from a dead one starts.
    pub(super) fn take(self: &Arc<Self>, subject: &str, what: &str) -> Result<Lease, LogError> {
        let until = Instant::now() + self.time() + SLACK;
        let (mut expected, mut heard): (u64, Option<(u64, Owner)>) = (0, None);
        for round in 0.. {
            if round > 1 {
                std::thread::sleep(LOOK);
            }
            match self.link.run(say(self.link.client(), subject.to_owned(), self.owner.clone(), expected)) {
                Ok(sequence) => {
                    self.lock().insert(subject.to_owned(), sequence);
                    return Ok(Lease { leases: self.clone(), subject: subject.to_owned() });
                }
                Err(trouble) if trouble.is_wrong_sequence() => expected = 0,
                Err(trouble) => return Err(trouble.into()),
            }
            let held = self.link.stored(&self.stream, &json!({"last_by_subj": subject}))?;
            let owner: Option<Owner> = held.as_ref().and_then(|held| serde_json::from_slice(&held.payload).ok());
            let sequence = held.map_or(0, |held| held.sequence);
            match (owner.filter(|owner| owner.id != self.owner.id), &heard) {
                // Nobody's by now, or ours from before, which is taken over.
                (None, _) => expected = sequence,
                (Some(owner), Some((before, _))) if *before != sequence => return Err(owned(what, &owner, "alive")),
                (Some(owner), None) => {
                    let (pid, host, seconds) = (owner.pid, &owner.host, self.time().as_secs_f64());
                    tracing::info!(
                        "{what} was owned by process {pid} on `{host}`; it is free {seconds} s after that one was last heard of"
                    );
                    heard = Some((sequence, owner));
                }
                (Some(owner), Some(_)) if Instant::now() > until => return Err(owned(what, &owner, "still the owner")),
                _ => {}
            }
            if Instant::now() > until {
                break;
            }
        }
        Err(LogError::Other(format!("{what} was just taken by another process; stop that one first")))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn renew(&self) {
        let subjects: Vec<String> = self.lock().keys().cloned().collect();
        for subject in subjects {
            let _turn = self.turn.lock().await;
            let Some(sequence) = self.lock().get(&subject).copied() else { continue };
            let mut said = say(self.link.client(), subject.clone(), self.owner.clone(), sequence).await;
            if said.as_ref().is_err_and(Trouble::is_wrong_sequence) {
                // It ran out while we were away; nobody may have taken it meanwhile.
                said = say(self.link.client(), subject.clone(), self.owner.clone(), 0).await;
            }
            match said {
                Ok(sequence) => _ = self.lock().get_mut(&subject).map(|newest| *newest = sequence),
                Err(trouble) => tracing::warn!(subject, why = trouble.words(), "a lease could not be renewed"),
            }
        }
    }
}

fn owned(what: &str, Owner { pid, host, .. }: &Owner, state: &str) -> LogError {
    LogError::Other(format!("{what} is owned by process {pid} on `{host}`, which is {state}; stop that one first"))
}

async fn say(client: async_nats::Client, subject: String, owner: Owner, expected: u64) -> Result<u64, Trouble> {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string());
    let payload = serde_json::to_vec(&owner).unwrap_or_default();
    link::publish(client, subject, headers, payload.into()).await
}

/// A partition held; given back when dropped.
pub(super) struct Lease {
    leases: Arc<Leases>,
    subject: String,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // If it fails the lease runs out by itself; gone already is as good.
        let (leases, subject) = (self.leases.clone(), self.subject.clone());
        let back = async move {
            let back = tokio::time::timeout(GIVE_BACK, give_back(leases, subject)).await;
            back.unwrap_or_else(|_| Err(Trouble::Unknown("NATS does not answer".into())))
        };
        if let Err(trouble) = self.leases.link.run(back) {
            tracing::debug!(why = trouble.words(), "a lease was not given back; it runs out by itself");
        }
    }
}

async fn give_back(leases: Arc<Leases>, subject: String) -> Result<(), Trouble> {
    let _turn = leases.turn.lock().await;
    let Some(sequence) = leases.lock().remove(&subject) else { return Ok(()) };
    let call = format!("STREAM.MSG.DELETE.{}", leases.stream);
    match link::ask(leases.link.client(), call, json!({"seq": sequence, "no_erase": true})).await {
        Err(trouble) if !trouble.is(code::NO_MESSAGE) => Err(trouble),
        _ => Ok(()),
    }
}
