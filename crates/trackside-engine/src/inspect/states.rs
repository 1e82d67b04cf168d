//! Snapshots and tables: is each file whole, and does it stand where the log can vouch for it?

use crate::inspect::{Finding, Known, Partitions, Severity, Verification, input_of};
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use trackside_core::position::{CLEAN, Position, RECEIVED};
use xxhash_rust::xxh3::xxh3_64;

/// Folder of the tables' manifests.
const MANIFESTS: &str = "_manifests";
/// A Parquet file begins and ends with it.
const PARQUET: &[u8; 4] = b"PAR1";

/// The part of a manifest that is looked at.
#[derive(Deserialize)]
struct Manifest {
    position: Option<Position>,
    newest: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    path: String,
    bytes: u64,
}

/// The head of a snapshot, read here without the code that wrote it.
#[derive(Deserialize)]
struct Head {
    epoch: u32,
    offset: u64,
    length: u64,
    hash: String,
}

/// Where a snapshot stands, if it is whole.
fn position_of(file: &Path) -> io::Result<Position> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the snapshot does not match its checksum");
    let bytes = fs::read(file)?;
    let line = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(damaged)?;
    let head: Head = serde_json::from_slice(&bytes[..line]).map_err(|_| damaged())?;
    let state = &bytes[line + 1..];
    let whole = state.len() as u64 == head.length && format!("{:016x}", xxh3_64(state)) == head.hash;
    if whole { Ok(Position { epoch: head.epoch, offset: head.offset }) } else { Err(damaged()) }
}

/// Entries of a folder with their names, in order; none if it is not there.
fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let listed = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut entries: Vec<_> =
        listed.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect();
    entries.sort();
    entries
}

/// Every snapshot: whole, and at a position that its input has.
pub(super) fn snapshots(data: &Path, known: &Partitions, report: &mut Verification) {
    for (stage, folder) in entries(&data.join("snapshots")) {
        for (partition, folder) in entries(&folder) {
            let Ok(number) = partition.parse() else { continue };
            let place = (stage.clone(), number);
            for (_, file) in entries(&folder).into_iter().filter(|(name, _)| name.ends_with(".snap")) {
                report.snapshots += 1;
                let wrong = match position_of(&file) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None, // replaced meanwhile
                    Err(error) => Some(format!("{error}; the older one is used, or the state is made anew")),
                    Ok(position) => input(known, &place).and_then(|input| stands(position, input)),
                };
                if let Some(what) = wrong {
                    report.add(Finding::new("snapshot", &place, &file, what));
                }
            }
        }
    }
}

fn input<'k>(known: &'k Partitions, (stage, partition): &(String, u32)) -> Option<&'k Known> {
    let topic = if stage == CLEAN { RECEIVED } else { input_of(stage)? };
    known.get(&(topic.to_owned(), *partition))
}

/// Why a position cannot be one of this log.
fn stands(position: Position, log: &Known) -> Option<String> {
    let survey = &log.survey;
    let newest = survey.epochs.last().map_or(0, |last| last.epoch);
    if position.epoch > newest {
        return Some(format!("it stands in epoch {}, and the log's newest is {newest}", position.epoch));
    }
    let later = survey.epochs.iter().find(|start| start.epoch > position.epoch);
    let end = later.map_or(survey.published, |next| next.first_offset);
    (position.offset > end).then(|| {
        format!("it stands at offset {}, and epoch {} of the log ends at {end}", position.offset, position.epoch)
    })
}

/// Every table's manifest and files.
pub(super) fn tables(folders: &[PathBuf], known: &Partitions, report: &mut Verification) {
    for folder in folders {
        for (topic, manifests) in entries(&folder.join(MANIFESTS)) {
            let table = folder.join(&topic);
            for (name, file) in entries(&manifests).into_iter().filter(|(name, _)| name.ends_with(".json")) {
                report.tables += 1;
                let Some(place) = part(&topic, &name) else { continue };
                manifest(&place, &file, &table, known, report);
            }
            for (day, folder) in entries(&table).into_iter().filter(|(name, _)| name.starts_with("day=")) {
                for (name, file) in entries(&folder).into_iter().filter(|(name, _)| name.ends_with(".parquet")) {
                    if !is_parquet(&file).unwrap_or(true) {
                        let place = (topic.clone(), partition_of(&name).unwrap_or(0));
                        let what = format!("no whole Parquet file ({day}); restore it from a backup");
                        report.add(Finding::new("table", &place, &file, what));
                    }
                }
            }
        }
    }
}

fn manifest(place: &(String, u32), file: &Path, table: &Path, known: &Partitions, report: &mut Verification) {
    let mut add = |severity, file: &Path, what: String| {
        report.add(Finding { severity, ..Finding::new("table", place, file, what) });
    };
    let read = fs::read(file).map_err(|error| error.to_string());
    let manifest: Manifest = match read.and_then(|text| serde_json::from_slice(&text).map_err(|e| e.to_string())) {
        Ok(manifest) => manifest,
        Err(error) => return add(Severity::Damage, file, format!("the manifest cannot be read: {error}")),
    };
    if let (Some(position), Some(log)) = (manifest.position, known.get(place))
        && let Some(what) = stands(position, log)
    {
        add(Severity::Damage, file, format!("{what}: the table belongs to another log"));
    }
    for entry in manifest.newest {
        let path = table.join(&entry.path);
        match fs::metadata(&path).map(|metadata| metadata.len()) {
            Ok(bytes) if bytes == entry.bytes => {}
            Ok(bytes) => {
                let what = format!("it has {bytes} bytes, and {} were committed", entry.bytes);
                add(Severity::Damage, &path, what);
            }
            // Days may be deleted by hand.
            Err(_) => {
                add(Severity::Pending, &path, "a file of the newest commit is missing; was its day deleted?".into())
            }
        }
    }
}

/// Topic of the log and partition behind a manifest's name: `p0003.json`, or `scores.a-p0003.json` where the table is
/// read over sections of another topic.
fn part(table: &str, name: &str) -> Option<(String, u32)> {
    let name = name.strip_suffix(".json")?;
    let (origin, partition) = name.rsplit_once("-p").unwrap_or((table, name.strip_prefix('p').unwrap_or(name)));
    Some((origin.to_owned(), partition.parse().ok()?))
}

/// The partition in a table file's name: `[<origin>-]p0003-<from>-<to>-e<epoch>.parquet`.
fn partition_of(name: &str) -> Option<u32> {
    name.split('-').find_map(|part| part.strip_prefix('p')?.parse().ok())
}

fn is_parquet(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() < 12 {
        return Ok(false);
    }
    let (mut head, mut tail) = ([0; 4], [0; 4]);
    file.read_exact(&mut head)?;
    file.seek(SeekFrom::End(-4))?;
    file.read_exact(&mut tail)?;
    Ok(&head == PARQUET && &tail == PARQUET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_partition_and_the_origin() {
        assert_eq!(part("clean", "p0003.json"), Some(("clean".into(), 3)));
        assert_eq!(part("dead-letter", "scores.a-p1-p0012.json"), Some(("scores.a-p1".into(), 12)));
        assert_eq!(part("clean", "x.json"), None);
        assert_eq!(partition_of("clean-p0002-00-01-e000001.parquet"), Some(2));
    }

    #[test]
    fn a_cut_file_is_no_parquet() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.parquet");
        fs::write(&file, b"PAR1........PAR1").unwrap();
        assert!(is_parquet(&file).unwrap());
        fs::write(&file, b"PAR1........PA").unwrap();
        assert!(!is_parquet(&file).unwrap());
    }
}
