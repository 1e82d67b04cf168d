//! What an acknowledgement of the servers is worth, in words: JetStream acknowledges before it syncs, unless told not to.
//!
//! By default a server syncs its files every two minutes and acknowledges at once; a power cut then takes acknowledged
//! events with it. `sync_interval: always` closes that gap on each server; replicas narrow it to the case that most of
//! them lose power together. Which of it holds stands in the server's monitoring page, and the replicas in the stream.

use super::Config;
use super::link::Link;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// Longest that the monitoring page may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What acknowledged means on these servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Promise {
    /// Servers that keep each event.
    pub replicas: u8,
    /// Whether the server syncs before it acknowledges; none when it could not be asked.
    pub sync_always: Option<bool>,
    /// The server's version.
    pub server: String,
}

impl Promise {
    /// In a few words.
    pub fn words(&self) -> String {
        let sync = match self.sync_always {
            Some(true) => "each synced before it acknowledges",
            Some(false) => "acknowledged before it is synced",
            None => "sync not known",
        };
        format!("NATS JetStream {}, replicas {}, {sync}", self.server, self.replicas)
    }

    /// What is weak about it, and what to do; none when an acknowledged event survives a power cut.
    pub fn weakness(&self) -> Option<String> {
        let Self { replicas, sync_always, .. } = self;
        match (sync_always, replicas) {
            (Some(true), _) => None,
            (Some(false), 1) => Some(
                "JetStream acknowledges before it syncs: a power cut takes up to the last two minutes of acknowledged \
                 events; set `sync_interval: always` in the server's `jetstream` section, or `replicas = 3` under [log]"
                    .into(),
            ),
            (Some(false), _) => Some(format!(
                "JetStream acknowledges before it syncs: acknowledged events survive the loss of a server, but not a power \
                 cut of most of the {replicas} at once; set `sync_interval: always` in the servers' `jetstream` section"
            )),
            (None, 1) => Some(
                "whether JetStream syncs before it acknowledges is not known, and there is one replica; set \
                 `sync_interval: always` in the server's `jetstream` section and `monitor = \"http://host:8222\"` under \
                 [log], or `replicas = 3`"
                    .into(),
            ),
            (None, _) => Some(format!(
                "whether JetStream syncs before it acknowledges is not known; with {replicas} replicas acknowledged events \
                 survive the loss of a server; set `monitor = \"http://host:8222\"` under [log] to have it checked"
            )),
        }
    }
}

/// Asks the server, and its monitoring page if the pipeline file says where it is.
pub(super) fn ask(link: &Link, config: &Config) -> Promise {
    let sync_always = config.monitor.as_deref().and_then(|address| match sync_always(address) {
        Ok(always) => Some(always),
        Err(why) => {
            tracing::warn!(address, why, "the monitoring page of NATS cannot be read");
            None
        }
    });
    Promise { replicas: config.replicas, sync_always, server: link.client().server_info().version }
}

fn sync_always(address: &str) -> Result<bool, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
    let url = format!("{}/varz", address.trim_end_matches('/'));
    let mut page = agent.get(&url).call().map_err(|error| error.to_string())?;
    let text = page.body_mut().read_to_string().map_err(|error| error.to_string())?;
    let page: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    Ok(page["jetstream"]["config"]["sync_always"].as_bool().unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_set_ups_are_said_in_words() {
        let weakness = |sync_always, replicas| {
            Promise { replicas, sync_always, server: String::new() }.weakness().unwrap_or_default()
        };
        assert_eq!((weakness(Some(true), 1), weakness(Some(true), 3)), (String::new(), String::new()));
        assert!(weakness(Some(false), 1).contains("acknowledges before it syncs: a power cut takes"));
        assert!(weakness(Some(false), 3).contains("most of the 3 at once"));
        assert!(weakness(None, 1).contains("is not known") && weakness(None, 3).contains("`monitor ="));
    }
}
