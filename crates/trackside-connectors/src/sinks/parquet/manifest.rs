//! The manifest: how far a partition of a table has come. Its replacement is the commit.
//!
//! Guarantee: a file of the table counts if and only if its range ends at or before the manifest's position; what lies
//! beyond is of a commit that did not happen, and is removed before the next one. It stays small for life: sums over
//! all commits, and the files of the newest.

use crate::sinks::files::{Files, finished_name};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use trackside_core::error::Failure;
use trackside_core::planted::{Bug, planted};
use trackside_core::position::Position;

/// Folder of the manifests, beside those of the tables: a table's own folder holds tables' files and nothing else, so
/// that a reader may be pointed at it as well as at a glob.
pub const FOLDER: &str = "_manifests";
const VERSION: u32 = 1;

/// How far a partition of a table has come, and what it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format of this file.
    pub version: u32,
    /// First position that is not in the table.
    pub position: Option<Position>,
    /// Rows of all commits.
    pub rows: u64,
    /// Files of all commits.
    pub files: u64,
    /// Bytes of all commits.
    pub bytes: u64,
    /// The files of the newest commit.
    pub newest: Vec<Entry>,
}

/// One file of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path in the table's folder.
    pub path: String,
    /// Its rows.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
}

impl Manifest {
    /// Reads the manifest; none if the table is new.
    pub fn load(files: &Files, path: &Path) -> Result<Option<Self>, Failure> {
        let Some(bytes) = files.read(path)? else { return Ok(None) };
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| {
            Failure::stop(format!(
                "`{}` is damaged ({error}); restore it from a backup, or move it and the table's folder away: the table \
                 is then written anew from what the log still holds",
                path.display()
            ))
        })?;
        if manifest.version > VERSION {
            return Err(Failure::stop(format!(
                "`{}` was written by a newer Trackside (format {}, this one reads up to {VERSION}); use that one",
                path.display(),
                manifest.version
            )));
        }
        Ok(Some(manifest))
    }

    /// Makes this the manifest: the commit.
    pub fn store(&self, files: &Files, path: &Path) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Failure::stop(format!("a manifest: {error}")))?;
        files.replace(path, &text)
    }

    /// The manifest after a commit up to `position` that added these files.
    #[must_use]
    pub fn after(&self, position: Position, newest: Vec<Entry>) -> Self {
        Self {
            version: VERSION,
            position: Some(position),
            rows: self.rows + newest.iter().map(|entry| entry.rows).sum::<u64>(),
            files: self.files + newest.len() as u64,
            bytes: self.bytes + newest.iter().map(|entry| entry.bytes).sum::<u64>(),
            newest,
        }
    }
}

/// Which part of a topic a sink instance writes: names its manifest and its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The topic in the log, where it is not the table's own.
    pub origin: Option<String>,
    /// The partition.
    pub partition: u32,
}

impl Part {
    /// Where its manifest lies.
    pub fn manifest(&self, manifests: &Path) -> PathBuf {
        manifests.join(format!("{self}.json"))
    }

    /// The manifest of this part, after the table was put in order: what a commit that did not happen left behind is
    /// removed. A second instance's files (another partition, another origin) are left alone.
    pub fn recover(&self, files: &Files, table: &Path, manifests: &Path) -> Result<Manifest, Failure> {
        let path = self.manifest(manifests);
        match Manifest::load(files, &path)? {
            Some(manifest) => {
                // A commit that failed at its last step may be seen and not be durable yet.
                files.sync_dir(manifests)?;
                let committed = manifest.position.map_or(0, |position| position.offset);
                let beyond = |end: u64| end > committed && !planted(Bug::IgnorePosition);
                let mut folders = BTreeSet::new();
                for (file, _) in self.files(files, table)?.iter().filter(|(_, end)| end.is_none_or(beyond)) {
                    files.remove(file)?;
                    folders.extend(file.parent().map(Path::to_path_buf));
                }
                // Else a power loss brings them back, and later commits have made their range look committed.
                folders.iter().try_for_each(|folder| files.sync_dir(folder))?;
                Ok(manifest)
            }
            // The manifest is written before the first file, so files without one are not ours to judge: they may hold
            // what the log has long let go of.
            None if self.files(files, table)?.is_empty() => {
                let manifest = Manifest { version: VERSION, ..Manifest::default() };
                manifest.store(files, &path).map(|()| manifest)
            }
            None => Err(Failure::stop(format!(
                "`{}` is missing, though the table has files of its partition; restore it from a backup, or move the \
                 table's folder away: it is then written anew from what the log still holds",
                path.display()
            ))),
        }
    }

    /// The files of this part, with the end of their range; none for those that are still under way.
    fn files(&self, files: &Files, table: &Path) -> Result<Vec<(PathBuf, Option<u64>)>, Failure> {
        let mut found = Vec::new();
        for day in files.list(table)?.iter().filter(|name| name.starts_with("day=")) {
            let dir = table.join(day);
            for name in files.list(&dir)? {
                let finished = finished_name(&name);
                if let Some((_, end)) = self.range_of(finished) {
                    found.push((dir.join(&name), (finished == name).then_some(end)));
                }
            }
        }
        Ok(found)
    }

    /// The name of a file with the rows of `from..to`. Names sort by partition, then by offset.
    pub fn file_name(&self, epoch: u32, from: u64, to: u64) -> String {
        format!("{self}-{from:020}-{to:020}-e{epoch:06}.parquet")
    }

    /// The range in a file's name, if the file is one of this part.
    fn range_of(&self, name: &str) -> Option<(u64, u64)> {
        let mut parts = name.strip_prefix(&self.to_string())?.strip_prefix('-')?.split('-');
        let range = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let epoch = parts.next()?.strip_prefix('e')?.strip_suffix(".parquet")?.parse().ok()?;
        (self.file_name(epoch, range.0, range.1) == name).then_some(range)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Ends in a part of fixed width, so that no origin's name can be the beginning of another's.
        match &self.origin {
            Some(origin) => write!(f, "{origin}-p{:04}", self.partition),
            None => write!(f, "p{:04}", self.partition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use trackside_log::{Random, SimulatedVfs};

    fn part(origin: Option<&str>, partition: u32) -> Part {
        Part { origin: origin.map(str::to_owned), partition }
    }

    #[test]
    fn names_tell_the_range_and_belong_to_one_part() {
        let name = part(None, 3).file_name(2, 100, 200);
        assert_eq!(name, "p0003-00000000000000000100-00000000000000000200-e000002.parquet");
        assert_eq!(part(None, 3).range_of(&name), Some((100, 200)));
        assert_eq!(part(None, 4).range_of(&name), None);
        assert_eq!(part(Some("clean"), 3).range_of(&name), None);
        let name = part(Some("scores.a-p0003"), 3).file_name(2, 100, 200);
        assert_eq!(part(Some("scores.a"), 3).range_of(&name), None);
        assert!(part(None, 0).file_name(9, 99, 100) < part(None, 0).file_name(1, 100, 101));
    }

    #[test]
    fn only_what_is_beyond_the_position_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (files, day, part) = (Files::default(), dir.path().join("day=2024-01-01"), part(None, 0));
        files.create_dir(dir.path(), &day).unwrap();
        let kept = ["p0001-00000000000000000100-00000000000000000200-e000001.parquet", "mine.parquet", ".mine.tmp"];
        for name in kept {
            files.replace(&day.join(name), b"").unwrap();
        }
        let manifest = part.recover(&files, dir.path(), dir.path()).unwrap();
        files.replace(&day.join(part.file_name(1, 0, 100)), b"").unwrap();
        files.replace(&day.join(part.file_name(1, 100, 200)), b"").unwrap();
        files.write_aside(&day.join(part.file_name(1, 0, 100)), b"").unwrap();
        let manifest = manifest.after(Position { epoch: 1, offset: 100 }, Vec::new());
        manifest.store(&files, &part.manifest(dir.path())).unwrap();
        assert_eq!(part.recover(&files, dir.path(), dir.path()).unwrap(), manifest);
        let mut left: Vec<String> = kept.iter().map(|name| name.to_string()).collect();
        left.push(part.file_name(1, 0, 100));
        left.sort();
        assert_eq!(files.list(&day).unwrap(), left);
    }

    #[test]
    fn what_was_removed_does_not_come_back_with_the_power() {
        let disk = SimulatedVfs::new(1);
        let (files, table, part) = (Files::new(Arc::new(disk.clone())), Path::new("/t"), part(None, 0));
        let (dir, day) = (table.join("m"), table.join("day=2024-01-01"));
        for dir in [&dir, &day] {
            files.create_dir(Path::new("/"), dir).unwrap();
        }
        let manifest = part.recover(&files, table, &dir).unwrap();
        let stale = day.join(part.file_name(1, 100, 200));
        files.replace(&stale, b"of a commit that did not happen").unwrap();
        manifest.after(Position { epoch: 1, offset: 100 }, Vec::new()).store(&files, &part.manifest(&dir)).unwrap();
        part.recover(&files, table, &dir).unwrap();
        for seed in 0..32 {
            let found = Files::new(Arc::new(disk.lose_power(&mut Random(seed))));
            assert!(!found.exists(&stale).unwrap(), "seed {seed}");
        }
    }

    #[test]
    fn files_without_their_manifest_are_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let (files, day, part) = (Files::default(), dir.path().join("day=2024-01-01"), part(None, 0));
        files.create_dir(dir.path(), &day).unwrap();
        let file = day.join(part.file_name(1, 0, 100));
        files.replace(&file, b"").unwrap();
        assert!(part.recover(&files, dir.path(), dir.path()).unwrap_err().message.contains("is missing"));
        assert!(files.exists(&file).unwrap());
    }

    #[test]
    fn a_damaged_or_newer_manifest_stops_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        let (files, path) = (Files::default(), dir.path().join("m.json"));
        assert_eq!(Manifest::load(&files, &path).unwrap(), None);
        files.replace(&path, b"{").unwrap();
        assert!(Manifest::load(&files, &path).unwrap_err().message.contains("is damaged"));
        let newer = Manifest { version: VERSION + 1, ..Manifest::default() };
        newer.store(&files, &path).unwrap();
        assert!(Manifest::load(&files, &path).unwrap_err().message.contains("newer Trackside"));
    }
}
