//! Which log a data directory has: files of its own, or streams on NATS.
//!
//! The pipeline file decides, once: `<data>/log.json` notes a log that is elsewhere, with how to reach it, so that
//! `status`, `tap` and notebooks find it with nothing but the directory. It may hold a password, so it is for its owner.

use super::{Embedded, FileStore, Files, Home, Nats, Store, embedded, nats};
use crate::data_dir::StartError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use trackside_core::component::{config, schema_of};
use trackside_core::error::ConfigError;
use trackside_core::log::{Durability, Log, LogError};
use trackside_core::position::RECEIVED;

/// The note in the data directory.
const NOTE: &str = "log.json";
/// How long somebody who only looks waits for servers.
const PATIENCE: Duration = Duration::from_secs(5);
/// The `type`s that there are.
const TYPES: [&str; 2] = ["embedded", "nats"];

/// `[log]`: where the log is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum LogSection {
    /// In files of the data directory.
    #[default]
    Embedded,
    /// In NATS JetStream.
    Nats(Box<nats::Config>),
}

/// What `[log]` holds when the log is in files: nothing.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Serialize, Deserialize)]
struct Note {
    id: String,
    nats: nats::Config,
}

/// Reads `[log]`; relative paths begin at the pipeline file's folder, and streams are named after the pipeline.
pub(crate) fn section(value: Option<&Value>, base: &Path, pipeline: &str) -> Result<LogSection, ConfigError> {
    let Some(value) = value else { return Ok(LogSection::Embedded) };
    let mut settings = value.as_object().cloned().unwrap_or_default();
    match settings.remove("type").as_ref().and_then(Value::as_str) {
        Some("embedded") => config::<Nothing>(settings.into()).map(|_| LogSection::Embedded),
        Some("nats") => {
            let mut nats: nats::Config = config(settings.into())?;
            if nats.prefix.is_empty() {
                pipeline.clone_into(&mut nats.prefix);
            }
            nats.credentials = nats.credentials.map(|path| base.join(path));
            nats.ca = nats.ca.map(|path| base.join(path));
            match nats.problem() {
                Some((key, why)) => Err(ConfigError::new(key, why)),
                None => Ok(LogSection::Nats(Box::new(nats))),
            }
        }
        Some(other) => Err(ConfigError::unknown("type", "log", other, TYPES)),
        None => {
            let help = "write `type = \"embedded\"` or `type = \"nats\"`";
            Err(ConfigError::new("", "`type` is missing").with_help(help))
        }
    }
}

/// JSON Schema of `[log]`.
pub(super) fn schema() -> Value {
    let one = |name: &str, mut schema: Value| {
        if let Some(properties) = schema.as_object_mut() {
            let held = properties.entry("properties").or_insert_with(|| json!({}));
            held["type"] = json!({ "const": name });
        }
        schema
    };
    json!({ "oneOf": [
        one("embedded", schema_of::<Nothing>().to_value()),
        one("nats", schema_of::<nats::Config>().to_value()),
    ] })
}

/// The log of a data directory, to look at.
pub(crate) fn log(data: &Path) -> Result<Arc<dyn Log>, LogError> {
    match read(data)? {
        Some(note) => Ok(Arc::new(Nats::open(note.nats, home(data, note.id), PATIENCE)?)),
        None => Ok(Arc::new(Embedded::open(data, Default::default())?)),
    }
}

/// What an engine keeps things in.
pub(crate) struct Owned {
    pub(crate) log: Arc<dyn Log>,
    /// Where its snapshots lie.
    pub(crate) store: Arc<dyn Store>,
}

/// The log of a pipeline, for an engine; servers that are not there yet are waited for.
pub(crate) fn own(section: &LogSection, partitions: u32, data: &Path) -> Result<Owned, StartError> {
    let note = read(data)?;
    match (section, note) {
        (LogSection::Embedded, None) => {
            let log = Embedded::open(data, Default::default())?;
            Ok(Owned { log: Arc::new(log), store: Arc::new(FileStore::new(&Files::default(), data)) })
        }
        (LogSection::Embedded, Some(_)) => Err(StartError::Mismatch(format!(
            "the log of `{}` is in NATS; take back `[log]`, or choose another data directory",
            data.display()
        ))),
        (LogSection::Nats(_), None) if data.join(embedded::FOLDER).exists() => Err(StartError::Mismatch(format!(
            "`{}` has its log in files; take back `[log]`, or choose another data directory for NATS",
            data.display()
        ))),
        (LogSection::Nats(config), note) => {
            let id =
                note.map_or_else(|| format!("{:016x}", RandomState::new().build_hasher().finish()), |note| note.id);
            let note = Note { id: id.clone(), nats: (**config).clone() };
            write(data, &note).map_err(|error| {
                StartError::Failed(format!("`{}/{NOTE}` cannot be written: {error}", data.display()))
            })?;
            let log = Nats::open((**config).clone(), home(data, id), Duration::MAX)?;
            log.clear_spool();
            fits(&log, partitions)?;
            if let Some(weakness) = log.promise().weakness() {
                tracing::warn!("{weakness}");
            }
            let states = log.snapshots()?;
            Ok(Owned { log: Arc::new(log), store: Arc::new(states) })
        }
    }
}

/// Another host may have made the streams.
fn fits(log: &Nats, partitions: u32) -> Result<(), StartError> {
    let there = log.topics()?.into_iter().find(|(topic, _)| topic == RECEIVED).map_or(0, |(_, held)| held.len());
    if there > partitions as usize {
        return Err(StartError::Mismatch(format!(
            "NATS holds {there} partitions of this pipeline and the pipeline file says {partitions}; set `partitions = {there}` under [pipeline], or another `prefix` under [log]"
        )));
    }
    Ok(())
}

/// What an acknowledgement will be worth, asked of servers that are there now.
pub(crate) fn durability(section: &LogSection, data: &Path) -> Option<Result<Durability, LogError>> {
    let LogSection::Nats(config) = section else { return None };
    let log = Nats::open((**config).clone(), home(data, "check".into()), Duration::ZERO);
    Some(log.map(|log| log.durability()))
}

fn home(data: &Path, id: String) -> Home {
    Home { id, spool: data.join("spool") }
}

fn read(data: &Path) -> Result<Option<Note>, LogError> {
    let path = data.join(NOTE);
    let unreadable = |why: &dyn std::fmt::Display| {
        LogError::Other(format!(
            "`{}` cannot be read: {why}; it is written anew by `trackside up` when it is gone",
            path.display()
        ))
    };
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| unreadable(&error)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(unreadable(&error)),
    }
}

fn write(data: &Path, note: &Note) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let aside = data.join("log.json.new");
    _ = fs::remove_file(&aside);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(serde_json::to_string_pretty(note)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, data.join(NOTE))?;
    fs::File::open(data)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(section: Value) -> Result<LogSection, String> {
        super::section(Some(&section), Path::new("/p"), "plant").map_err(|error| error.to_string())
    }

    #[test]
    fn the_section_names_one_log() {
        assert_eq!(super::section(None, Path::new(""), "p").unwrap(), LogSection::Embedded);
        assert_eq!(read(json!({"type": "embedded"})).unwrap(), LogSection::Embedded);
        let LogSection::Nats(config) = read(json!({"type": "nats", "credentials": "me.creds"})).unwrap() else {
            panic!()
        };
        assert_eq!((&*config.prefix, config.credentials.unwrap().to_str()), ("plant", Some("/p/me.creds")));
        assert!(read(json!({"type": "nast"})).unwrap_err().contains("did you mean `nats`"));
        assert!(read(json!({"type": "nats", "replicas": 2})).unwrap_err().contains("1, 3 or 5"));
        assert!(read(json!({"type": "embedded", "servers": []})).is_err() && read(json!({})).is_err());
    }

    #[test]
    fn a_data_directory_keeps_its_log() {
        let data = tempfile::tempdir().unwrap();
        let note = Note { id: "a".into(), nats: nats::Config::default() };
        write(data.path(), &note).unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(data.path().join(NOTE)).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        let refused = own(&LogSection::Embedded, 1, data.path()).err().unwrap().to_string();
        assert!(refused.contains("is in NATS"), "{refused}");
        let files = tempfile::tempdir().unwrap();
        fs::create_dir(files.path().join("log")).unwrap();
        let refused = own(&LogSection::Nats(Box::new(note.nats)), 1, files.path()).err().unwrap().to_string();
        assert!(refused.contains("has its log in files"), "{refused}");
    }
}
