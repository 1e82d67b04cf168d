//! `[log] type = "nats"`: where the servers are, and what is asked of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Settings of the log in NATS JetStream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Addresses of one server or of several of a cluster.
    pub servers: Vec<String>,
    /// Begins the names of all streams; two pipelines on the same servers differ in it. By default the pipeline's name.
    pub prefix: String,
    /// Servers that keep each partition: 1, 3 or 5.
    pub replicas: u8,
    /// MiB that one partition of one topic may take on the servers; 0 for whatever these allow. Full is refused, never dropped.
    pub max_mib: u64,
    /// Seconds after which a partition whose owner has vanished is free for another one.
    pub lease_s: u64,
    /// A token.
    pub token: Option<String>,
    /// A user, with `password`.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<String>,
    /// A credentials file (JWT and key), relative to the pipeline file.
    pub credentials: Option<PathBuf>,
    /// A certificate authority (PEM), relative to the pipeline file: the connection is then TLS.
    pub ca: Option<PathBuf>,
    /// The server's monitoring address (`http://host:8222`): there stands whether it syncs before it acknowledges.
    pub monitor: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".into()],
            prefix: String::new(),
            replicas: 1,
            max_mib: 0,
            lease_s: 10,
            token: None,
            user: None,
            password: None,
            credentials: None,
            ca: None,
            monitor: None,
        }
    }
}

impl Config {
    /// What is wrong with it: the key, and why.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        if self.servers.is_empty() {
            return Some(("servers", "no server is named; write `servers = [\"nats://host:4222\"]`".into()));
        }
        if ![1, 3, 5].contains(&self.replicas) {
            return Some(("replicas", format!("{} replicas; choose 1, 3 or 5", self.replicas)));
        }
        if !(1..=3600).contains(&self.lease_s) {
            return Some(("lease_s", format!("a lease of {} s; choose 1 to 3600", self.lease_s)));
        }
        (self.user.is_some() != self.password.is_some())
            .then(|| ("user", "`user` and `password` go together; write both, or `token`".into()))
    }
}

/// The names of a partition's stream and subjects.
///
/// Names of pipelines and topics hold letters, digits, `-`, `_` and `.`; a dot would end a subject's token, so it
/// becomes `=`, which no name can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) stream: String,
    /// Frames.
    pub(super) frames: String,
    /// Starts of reigns.
    pub(super) reigns: String,
    /// New ends, for readers elsewhere; kept nowhere.
    pub(super) news: String,
    /// The owner's lease, in the stream of leases.
    pub(super) lease: String,
}

impl Names {
    pub(super) fn new(prefix: &str, topic: &str, partition: u32) -> Self {
        let (prefix, topic) = (plain(prefix), plain(topic));
        let subject = |kind: &str| format!("trackside.{prefix}.{topic}.{partition}.{kind}");
        Self {
            stream: format!("{prefix}~{topic}~{partition}"),
            frames: subject("frame"),
            reigns: subject("reign"),
            news: subject("news"),
            lease: subject("lease"),
        }
    }

    /// The stream of all leases.
    pub(super) fn leases(prefix: &str) -> String {
        format!("{}~~leases", plain(prefix))
    }

    /// The stream of all snapshots.
    pub(super) fn snapshots(prefix: &str) -> String {
        format!("{}~~snapshots", plain(prefix))
    }

    /// The subjects of a shelf's snapshots, one a name; `kind` tells finished ones from pieces.
    pub(super) fn snapshot(prefix: &str, stage: &str, partition: u32, kind: &str, name: &str) -> String {
        format!("trackside.{}.{}.{partition}.{kind}.{}", plain(prefix), plain(stage), plain(name))
    }

    /// A snapshot's name, as its subject ends.
    pub(super) fn snapshot_name(subject: &str) -> String {
        subject.rsplit('.').next().unwrap_or_default().replace('=', ".")
    }

    /// The lease of what has no partition.
    pub(super) fn claim(prefix: &str, what: &str) -> String {
        format!("trackside.{}.~{}.0.lease", plain(prefix), plain(what))
    }

    /// The subject of all partitions' frames, or leases.
    pub(super) fn all(prefix: &str, kind: &str) -> String {
        format!("trackside.{}.*.*.{kind}", plain(prefix))
    }

    /// Topic and partition of a stream's name.
    pub(super) fn parse(stream: &str, prefix: &str) -> Option<(String, u32)> {
        let (topic, partition) = stream.strip_prefix(&plain(prefix))?.strip_prefix('~')?.rsplit_once('~')?;
        Some((topic.replace('=', "."), partition.parse().ok()?))
    }
}

fn plain(name: &str) -> String {
    name.replace('.', "=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again_and_do_not_collide() {
        let names = Names::new("plant.7", "scores.a-b", 12);
        assert_eq!(
            (&*names.stream, &*names.frames),
            ("plant=7~scores=a-b~12", "trackside.plant=7.scores=a-b.12.frame")
        );
        assert_eq!(Names::parse(&names.stream, "plant.7"), Some(("scores.a-b".into(), 12)));
        assert_eq!(Names::parse(&names.stream, "plant"), None);
        for other in [Names::leases("plant.7"), Names::snapshots("plant.7")] {
            assert_eq!(Names::parse(&other, "plant.7"), None);
        }
        let snapshot = Names::snapshot("plant.7", "scores.a", 3, "state", "ab-1-2.snap");
        assert_eq!(snapshot, "trackside.plant=7.scores=a.3.state.ab-1-2=snap");
        assert_eq!(Names::snapshot_name(&snapshot), "ab-1-2.snap");
        assert_ne!(Names::new("a", "b.c", 0).stream, Names::new("a.b", "c", 0).stream);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(Config::default().problem(), None);
        let wrong = |change: &dyn Fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.problem().map(|(key, _)| key)
        };
        assert_eq!(wrong(&|c| c.servers.clear()), Some("servers"));
        assert_eq!(wrong(&|c| c.replicas = 2), Some("replicas"));
        assert_eq!(wrong(&|c| c.lease_s = 0), Some("lease_s"));
        assert_eq!(wrong(&|c| c.user = Some("me".into())), Some("user"));
    }
}
