//! The data directory: its lock, its format, and the number of partitions that it was made for.

use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::ErrorKind::{InvalidInput, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem, Unsupported};
use std::io::{self, Write};
use std::path::Path;
use trackside_core::log::LogError;

/// Why a pipeline cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another engine has the directory, a port is taken: something outside must change first.
    #[error("{0}")]
    Unavailable(String),
    /// The pipeline file and the data directory do not fit together.
    #[error("{0}")]
    Mismatch(String),
    /// Anything else, with what, where and what to do.
    #[error("{0}")]
    Failed(String),
}

impl From<LogError> for StartError {
    fn from(error: LogError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The format that this version writes.
const FORMAT: u32 = 1;

/// `meta.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    format: u32,
    partitions: u32,
    pipeline: String,
    series: Vec<String>,
}

/// What every `meta.json` says, of whatever format.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Makes the directory, or checks that it fits.
pub(crate) fn open(data: &Path, pipeline: &str, partitions: u32, series: &[String]) -> Result<(), StartError> {
    let cannot = |what: &str, error: &io::Error| {
        StartError::Unavailable(format!(
            "the data directory `{}` cannot be {what}: {error}; choose another with `data = …` under [pipeline], or make room and give access",
            data.display()
        ))
    };
    let path = data.join("meta.json");
    match fs::read(&path) {
        Ok(bytes) => check(&bytes, data, pipeline, partitions, series),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => {
            make(data).map_err(|error| cannot("made", &error))?;
            let meta = Meta { format: FORMAT, partitions, pipeline: pipeline.to_owned(), series: series.to_vec() };
            write(data, &path, &meta).map_err(|error| cannot("written", &error))
        }
        Err(error) => Err(cannot("read", &error)),
    }
}

/// Makes the directory and those above it, durably: what is acknowledged lies in it. Those that are there already may have
/// been made by a process that died before it could sync them, so they are synced as well, as far up as we may.
fn make(data: &Path) -> io::Result<()> {
    let new = data.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).count();
    fs::create_dir_all(data)?;
    for (nth, above) in data.ancestors().skip(1).enumerate() {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match File::open(above).and_then(|dir| dir.sync_all()) {
            Err(error) if nth >= new && is_not_ours(&error) => break,
            done => done?,
        }
    }
    Ok(())
}

/// A directory that we may not open or cannot sync, and that was there before.
fn is_not_ours(error: &io::Error) -> bool {
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | InvalidInput | Unsupported)
}

fn check(bytes: &[u8], data: &Path, pipeline: &str, partitions: u32, series: &[String]) -> Result<(), StartError> {
    let unreadable = |error: serde_json::Error| {
        StartError::Mismatch(format!(
            "`{}/meta.json` cannot be read: {error}; restore it, or choose another data directory",
            data.display()
        ))
    };
    // The format comes first: another one may well say other things.
    let Format { format } = serde_json::from_slice(bytes).map_err(unreadable)?;
    if format != FORMAT {
        return Err(StartError::Mismatch(format!(
            "`{}` has format {format}, this version writes {FORMAT}; use the version that made it",
            data.display()
        )));
    }
    let meta: Meta = serde_json::from_slice(bytes).map_err(unreadable)?;
    if meta.partitions != partitions {
        return Err(StartError::Mismatch(format!(
            "`{}` was made with {} partitions and the pipeline file says {partitions}; set `partitions = {}` under [pipeline], or choose another data directory",
            data.display(),
            meta.partitions,
            meta.partitions
        )));
    }
    if meta.pipeline != pipeline {
        return Err(StartError::Mismatch(format!(
            "`{}` belongs to the pipeline `{}`, this one is `{pipeline}`; choose another data directory, or take back the name",
            data.display(),
            meta.pipeline
        )));
    }
    if meta.series != series {
        return Err(StartError::Mismatch(format!(
            "in `{}` a series is named by {:?}, the pipeline file says {series:?}; state and partitions go by series: take it back, or choose another data directory",
            data.display(),
            meta.series
        )));
    }
    Ok(())
}

fn write(data: &Path, path: &Path, meta: &Meta) -> io::Result<()> {
    let aside = data.join("meta.json.new");
    let mut file = File::create(&aside)?;
    file.write_all(serde_json::to_string_pretty(meta)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    File::open(data)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_partition_count_is_named_with_the_fix() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        open(&data, "p", 2, &[]).unwrap();
        open(&data, "p", 2, &[]).unwrap();
        let message = open(&data, "p", 3, &[]).unwrap_err().to_string();
        assert!(open(&data, "q", 2, &[]).unwrap_err().to_string().contains("belongs to the pipeline `p`"));
        assert!(open(&data, "p", 2, &["d".into()]).unwrap_err().to_string().contains("named by []"));
        assert!(message.contains("made with 2 partitions") && message.contains("partitions = 2"), "{message}");
    }
}
