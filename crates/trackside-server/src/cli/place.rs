//! Where a pipeline's data directory is, and where its server listens.
//!
//! A running server notes its address in `<data>/server.json`, so that `status` and `token` find it. The file is a hint:
//! whoever reads it asks the address, and takes silence for "not running".

use super::{Failure, USAGE, Where};
use crate::http::token;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use trackside_engine::Pipeline;

/// Pipeline file that is meant when none is given.
pub(crate) const FILE: &str = "pipeline.toml";
/// Note of a running server.
const NOTE: &str = "server.json";

/// Reads and checks a pipeline file; what is wrong with it is told with file, line and column.
pub(crate) fn load(file: &Path) -> Result<Pipeline, Failure> {
    Pipeline::load(file).map_err(|diagnostics| Failure::new(USAGE, diagnostics))
}

/// The data directory that is meant. A running pipeline's is found also by a file that is broken by now.
pub(crate) fn data(given: &Where) -> Result<PathBuf, Failure> {
    named(given).or_else(|failure| likely(given).ok_or(failure))
}

fn named(given: &Where) -> Result<PathBuf, Failure> {
    match (&given.file, &given.data) {
        (_, Some(data)) if data.is_file() => Ok(load(data)?.data()),
        (_, Some(data)) => existing(data),
        (Some(file), None) if file.is_dir() => existing(file),
        (Some(file), None) => Ok(load(file)?.data()),
        (None, None) if Path::new(FILE).is_file() => Ok(load(Path::new(FILE))?.data()),
        (None, None) => Err(Failure::new(
            USAGE,
            format!("there is no `{FILE}` here; name a pipeline file, or a data directory with `--data DIR`"),
        )),
    }
}

/// Where a file that cannot be read whole says that its data lies, if a pipeline runs there.
fn likely(given: &Where) -> Option<PathBuf> {
    let file = given.file.as_deref().or(given.data.as_deref()).unwrap_or(Path::new(FILE));
    let text = std::fs::read_to_string(file).ok()?;
    let named = text.lines().filter_map(|line| line.trim_start().strip_prefix("data")?.trim_start().strip_prefix('='));
    let named = named.filter_map(|value| value.split(['"', '\'']).nth(1)).next().unwrap_or("data");
    let data = file.parent().unwrap_or(Path::new("")).join(named);
    Note::read(&data).map(|_| data)
}

fn existing(data: &Path) -> Result<PathBuf, Failure> {
    match data.is_dir() {
        true => Ok(data.to_path_buf()),
        false => Err(Failure::new(
            USAGE,
            format!(
                "there is no data directory `{}`; `data` under [pipeline] names it, and `trackside up` makes it",
                data.display()
            ),
        )),
    }
}

/// A running server, as it notes itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) url: String,
    pub(crate) pid: u32,
}

impl Note {
    /// Writes it down. A directory that cannot be written has stopped the engine before; without the note `status` reads
    /// the log instead.
    pub(crate) fn write(&self, data: &Path) {
        let text = serde_json::to_vec(self).unwrap_or_default();
        if let Err(error) = std::fs::write(data.join(NOTE), text) {
            tracing::warn!(%error, "the server's address could not be noted; `trackside status` will not find it");
        }
    }

    pub(crate) fn read(data: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(data.join(NOTE)).ok()?).ok()
    }

    pub(crate) fn remove(data: &Path) {
        _ = std::fs::remove_file(data.join(NOTE));
    }
}

/// The token that belongs to a data directory, if there is one.
pub(crate) fn token(data: &Path) -> Result<Option<String>, Failure> {
    token::given(data).map_err(Failure::failed)
}
