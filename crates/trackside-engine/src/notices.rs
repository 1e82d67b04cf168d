//! What a human should look at: a full disk, a log that lost something, a file that could not be taken over.
//!
//! They are gathered anew for each status; only since when each holds is remembered.

use crate::config::Pipeline;
use crate::derived::lock;
use crate::engine::{Engine, Parts};
use crate::wall::now;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Mutex;
use trackside_core::log::{Health, Losses};
use trackside_core::position::{CLEAN, RECEIVED};

/// Damaged places that a notice names.
const MAX_PLACES: usize = 5;

/// How grave a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It works; look at it when you can.
    Warning,
    /// Something does not work, or is gone.
    Error,
}

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// What it is about; the same for as long as it holds.
    pub key: String,
    /// How grave it is.
    pub level: Level,
    /// What is the matter, in words.
    pub text: String,
    /// What to do about it.
    pub help: String,
    /// Since when, ms since 1970.
    pub since_ms: i64,
}

impl Notice {
    fn new(key: impl Into<String>, level: Level, text: impl Into<String>, help: &str) -> Self {
        Self { key: key.into(), level, text: text.into(), help: help.into(), since_ms: 0 }
    }
}

/// Since when each notice holds.
pub(crate) type Since = Mutex<BTreeMap<String, i64>>;

/// All that there are now, the gravest first.
pub(crate) fn gather(engine: &Engine, parts: &Parts, pipeline: &Pipeline) -> Vec<Notice> {
    let mut found: Vec<Notice> = disk(engine).into_iter().chain(reload(engine)).collect();
    for partition in 0..pipeline.pipeline.partitions {
        let (sync, losses) = (engine.received.syncer(partition), engine.received.losses(partition));
        of_log(&mut found, RECEIVED, partition, &sync.health(), &losses);
    }
    let clean = engine.clean.iter().map(|part| (CLEAN.to_owned(), &part.writer));
    let models = parts.models.iter().flat_map(|model| {
        let topic = model.section.topic();
        model.partitions.iter().map(move |part| (topic.clone(), &part.writer))
    });
    let mut partition = BTreeMap::<String, u32>::new();
    for (topic, writer) in clean.chain(models) {
        let number = partition.entry(topic.clone()).or_default();
        let (health, losses) = {
            let writer = lock(writer);
            (writer.syncer().health(), writer.losses())
        };
        of_log(&mut found, &topic, *number, &health, &losses);
        *number += 1;
    }
    date(&engine.noticed, &mut found);
    found.sort_by_key(|notice| std::cmp::Reverse(notice.level == Level::Error));
    found
}

fn date(since: &Since, found: &mut [Notice]) {
    let mut since = lock(since);
    since.retain(|key, _| found.iter().any(|notice| notice.key == *key));
    for notice in found {
        notice.since_ms = *since.entry(notice.key.clone()).or_insert_with(|| now() / 1_000_000);
    }
}

fn disk(engine: &Engine) -> Option<Notice> {
    const HELP: &str = "make room, or move the data directory to a larger disk; all goes on by itself, nothing is lost";
    let full = engine.space.full()?;
    Some(Notice::new("disk", Level::Error, format!("{full}; sources wait (HTTP answers 503)"), HELP))
}

fn reload(engine: &Engine) -> Option<Notice> {
    let last = lock(&engine.last_reload).clone().filter(|last| !last.ok)?;
    let text = format!("the changed pipeline file was not taken over: {}", last.text.join("; "));
    Some(Notice::new(
        "reload",
        Level::Warning,
        text,
        "mend the file and run `trackside reload`; until then all runs on as it was",
    ))
}

fn of_log(found: &mut Vec<Notice>, topic: &str, partition: u32, health: &Health, losses: &Losses) {
    let key = |what: &str| format!("{what}/{topic}/{partition}");
    if let Some(why) = &health.read_only {
        let text = format!("partition {partition} of `{topic}` can no longer be written: {why}");
        let help =
            "look at the disk and its cables (`dmesg`), then start the pipeline again: what was acknowledged is kept";
        found.push(Notice::new(key("read-only"), Level::Error, text, help));
    }
    if health.repairs > 0 {
        let text = format!(
            "the disk failed to sync partition {partition} of `{topic}` {} times; its rows were written anew and are safe",
            health.repairs
        );
        let help = "look at the disk (`dmesg`, `smartctl`) and replace it before it gets worse";
        found.push(Notice::new(key("repaired"), Level::Warning, text, help));
    }
    if let Some(lost) = &losses.lost {
        let text = format!(
            "rows {} to {} of partition {partition} of `{topic}` had been written for good and are gone",
            lost.start, lost.end
        );
        let help = "the disk did not keep what it had confirmed: look at it and at its write cache; `trackside log verify` shows the rest";
        found.push(Notice::new(key("lost"), Level::Error, text, help));
    }
    if !losses.damaged.is_empty() {
        let places: Vec<&str> = losses.damaged.iter().take(MAX_PLACES).map(String::as_str).collect();
        let text = format!(
            "partition {partition} of `{topic}` is damaged at {} places: {}",
            losses.damaged.len(),
            places.join("; ")
        );
        let help = "look at the disk; `trackside log verify` shows what is left, and a backup may still have it";
        found.push(Notice::new(key("damaged"), Level::Error, text, help));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_of_a_log_is_a_notice_that_keeps_its_date() {
        let health = Health { read_only: Some("no medium".into()), repairs: 2 };
        let losses = Losses { lost: Some(10..20), damaged: vec!["`x.seg` at byte 64: bad sum".into()] };
        let mut found = Vec::new();
        of_log(&mut found, "received", 1, &Health::default(), &Losses::default());
        assert!(found.is_empty());
        of_log(&mut found, "received", 1, &health, &losses);
        let keys: Vec<_> = found.iter().map(|notice| notice.key.as_str()).collect();
        assert_eq!(keys, ["read-only/received/1", "repaired/received/1", "lost/received/1", "damaged/received/1"]);
        assert!(found.iter().all(|notice| !notice.help.is_empty()) && found[3].text.contains("at 1 places: `x.seg`"));
        let since = Since::default();
        date(&since, &mut found);
        let first = found[0].since_ms;
        lock(&since).insert(found[0].key.clone(), first - 5);
        date(&since, &mut found);
        assert_eq!(found[0].since_ms, first - 5);
        date(&since, &mut []);
        assert!(lock(&since).is_empty());
    }
}
