//! The log in NATS JetStream: each partition is a stream, each frame a message (a large one several).
//!
//! Guarantee: an append that was acknowledged is in the stream once, whatever was lost on the way; a stale owner appends
//! nothing; a reader is given whole, verified frames in order. An acknowledged frame is as durable as the servers make
//! it: see [`Promise`], which tells that in words.
//!
//! ```no_run
//! use std::time::Duration;
//! use trackside_connectors::logs::nats::{Config, Home, Nats};
//! use trackside_core::log::{FrameDraft, Log};
//!
//! let config = Config { prefix: "plant-7".into(), ..Config::default() };
//! let home = Home { id: "what the data directory is called".into(), spool: "data/spool".into() };
//! let log = Nats::open(config, home, Duration::from_secs(5))?;
//! let mut writer = log.writer("received", 0, &mut |_| true)?;
//! writer.append(&FrameDraft::default())?; // stored when this returns
//! # Ok::<(), trackside_core::log::LogError>(())
//! ```

mod config;
mod ends;
mod lease;
mod link;
mod promise;
mod reader;
mod spool;
mod states;
mod stream;
mod writer;

pub use config::Config;
pub use promise::Promise;
pub use states::States;

use config::Names;
use ends::Ends;
use lease::{Lease, Leases, Owner};
use link::{Link, patiently};
use serde_json::json;
use spool::Spool;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use stream::Partition;
use trackside_core::log::{Durability, FrameHead, FrameMeta, Log, LogError, LogReader, LogWriter};
use trackside_log::AlignedBytes;

use super::embedded::in_words;

/// Ends by topic and partition.
type AllEnds = Mutex<BTreeMap<(String, u32), Arc<Ends>>>;
/// Partitions that have their writer in this process.
type Owned = Arc<Mutex<HashSet<(String, u32)>>>;

/// What this machine keeps for the log.
#[derive(Debug, Clone)]
pub struct Home {
    /// Names the data directory for good: its next process may take the partitions of the last one over at once.
    pub id: String,
    /// Folder for frames that workers map. What lies there is only good for the process that wrote it.
    pub spool: PathBuf,
}

/// The log of one pipeline on NATS.
pub struct Nats {
    link: Arc<Link>,
    home: Home,
    config: Config,
    leases: Arc<Leases>,
    owner: Owner,
    ends: AllEnds,
    owned: Owned,
}

impl Nats {
    /// Connects; unreachable servers are waited for, `patience` at most.
    pub fn open(config: Config, home: Home, patience: Duration) -> Result<Self, LogError> {
        let link = Arc::new(Link::connect(&config, patience)?);
        let host = sysinfo::System::host_name().unwrap_or_default();
        let owner = Owner { id: home.id.clone(), host, pid: std::process::id() };
        let leases = Leases::new(link.clone(), &config, owner.clone());
        Ok(Self { link, home, config, leases, owner, ends: Mutex::default(), owned: Arc::default() })
    }

    /// Removes what earlier processes of this data directory left in its spool; for its one owner.
    pub fn clear_spool(&self) {
        spool::clear(&self.home.spool);
    }

    /// What an acknowledgement of these servers is worth.
    pub fn promise(&self) -> Promise {
        promise::ask(&self.link, &self.config)
    }

    /// Where the pipeline's snapshots lie: beside its log, for whichever host takes a stage over.
    pub fn snapshots(&self) -> Result<States, LogError> {
        Ok(States::open(self.link.clone(), &self.config)?)
    }

    /// Deletes the message that holds an offset, behind the owner's back: what exams do, and nobody else.
    pub fn lose(&self, topic: &str, partition: u32, offset: u64) -> Result<(), LogError> {
        let place = self.partition(topic, partition);
        let Some(info) = place.info()? else { return Ok(()) };
        if let Some((sequence, _)) = place.seek(offset, info)? {
            place.delete(sequence)?;
        }
        Ok(())
    }

    fn partition(&self, topic: &str, partition: u32) -> Partition {
        let mut all = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = all.entry((topic.to_owned(), partition)).or_default().clone();
        let names = Arc::new(Names::new(&self.config.prefix, topic, partition));
        Partition { link: self.link.clone(), names, ends }
    }
}

impl Log for Nats {
    fn writer(
        &self,
        topic: &str,
        partition: u32,
        keep: &mut dyn FnMut(&FrameHead) -> bool,
    ) -> Result<Box<dyn LogWriter>, LogError> {
        let what = format!("partition {partition} of `{topic}`");
        let ownership = Ownership::take(&self.owned, topic, partition).ok_or_else(|| {
            LogError::Other(format!("{what} already has its writer in this process; drop that one first"))
        })?;
        let place = self.partition(topic, partition);
        patiently(|| Ok(self.leases.prepare(&self.config)?))?;
        let lease = patiently(|| self.leases.take(&place.names.lease, &what))?;
        let rights = Rights { _lease: lease, _ownership: ownership };
        Ok(Box::new(writer::Writer::open(place, &self.config, self.owner.clone(), rights, keep)?))
    }

    fn prepare(&self, topic: &str, partition: u32) -> Result<(), LogError> {
        Ok(self.partition(topic, partition).create(&self.config)?)
    }

    fn claim(&self, what: &str) -> Result<Box<dyn Send + Sync>, LogError> {
        patiently(|| Ok(self.leases.prepare(&self.config)?))?;
        let subject = Names::claim(&self.config.prefix, what);
        let what = format!("stage `{what}` of this pipeline");
        Ok(Box::new(patiently(|| self.leases.take(&subject, &what))?))
    }

    fn reader(&self, topic: &str, partition: u32) -> Result<Box<dyn LogReader>, LogError> {
        let place = self.partition(topic, partition);
        let stream = place.names.stream.clone();
        Ok(Box::new(reader::Reader::open(place, &stream)?))
    }

    fn mapped_reader(&self, topic: &str, partition: u32) -> Result<Box<dyn LogReader>, LogError> {
        let place = self.partition(topic, partition);
        let stream = place.names.stream.clone();
        let spool = Spool::new(&self.home.spool, &stream);
        Ok(Box::new(reader::Reader::open(place, &stream)?.spooled(spool)))
    }

    fn durability(&self) -> Durability {
        let promise = self.promise();
        Durability { words: promise.words(), weakness: promise.weakness() }
    }

    fn topics(&self) -> Result<Vec<(String, Vec<u32>)>, LogError> {
        let mut found: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        let mut offset = 0;
        loop {
            let subject = Names::all(&self.config.prefix, "frame");
            let page = self.link.ask("STREAM.NAMES", &json!({"subject": subject, "offset": offset}))?;
            let names = page["streams"].as_array().cloned().unwrap_or_default();
            for name in names.iter().filter_map(|name| name.as_str()) {
                if let Some((topic, partition)) = Names::parse(name, &self.config.prefix) {
                    found.entry(topic).or_default().push(partition);
                }
            }
            offset += names.len();
            if names.is_empty() || offset as u64 >= page["total"].as_u64().unwrap_or(0) {
                break;
            }
        }
        found.values_mut().for_each(|partitions| partitions.sort_unstable());
        Ok(found.into_iter().collect())
    }
}

/// What a writer holds as long as it lives, given back in this order.
struct Rights {
    _lease: Lease,
    _ownership: Ownership,
}

/// The right to write a partition within this process.
struct Ownership {
    owned: Owned,
    key: (String, u32),
}

impl Ownership {
    fn take(owned: &Owned, topic: &str, partition: u32) -> Option<Self> {
        let key = (topic.to_owned(), partition);
        let taken = owned.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        taken.then(|| Self { owned: owned.clone(), key })
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

fn head(frame: &trackside_log::Frame) -> Result<FrameHead, LogError> {
    let info = &frame.info;
    let meta: FrameMeta = serde_json::from_slice(&info.meta).map_err(|error| {
        LogError::Damaged(format!(
            "the frame at offset {} (epoch {}) says of itself what is not understood: {error}; \
             was it written by a later version?",
            info.first, info.epoch
        ))
    })?;
    Ok(FrameHead { epoch: info.epoch, first: info.first, end: info.end, meta })
}

/// A frame's bytes as the owner of the buffers that point into them.
struct Shared(Arc<AlignedBytes>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

fn shared(frame: &trackside_log::Frame) -> Shared {
    Shared(frame.shared())
}
