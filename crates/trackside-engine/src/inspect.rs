//! Looking over a data directory: what its log consists of, and whether everything in it is what was written.
//!
//! [`info`] reads names and headers. [`verify`] reads every byte: each frame (header, checksums, order, epochs, no hole),
//! each derived frame's input (is it there, in the reign that wrote it, without a gap or an overlap?), each snapshot, and
//! what tables say of themselves. Both need no lock and change nothing, so they may run beside the engine. [`repair`]
//! puts right what can be, with the lock held; see there.

mod derived;
mod repair;
mod states;

use crate::catalog::log_inspect::{Damage, Flaw, Inspector, Survey};
use crate::inspect::derived::Ranges;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use trackside_core::log::LogError;
use trackside_core::position::{CLEAN, RECEIVED};

pub use repair::{Action, Repairs, repair};

/// Findings are listed up to this many; all are counted.
const MAX_FINDINGS: usize = 10_000;

/// Where to look.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The data directory.
    pub data: PathBuf,
    /// Folders of tables: `<data>/tables`, and those that sinks name themselves.
    pub tables: Vec<PathBuf>,
}

/// One partition of a topic.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionInfo {
    /// The topic.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// The first offset that is kept.
    pub first: u64,
    /// First offset that is not published.
    pub published: u64,
    /// First offset that is not durable.
    pub durable: u64,
    /// Its reigns, oldest first: (epoch, first offset).
    pub epochs: Vec<(u32, u64)>,
    /// Segments that count.
    pub segments: usize,
    /// Segments that later ones took over.
    pub superseded: usize,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Formats of the segments.
    pub formats: Vec<u16>,
    /// Copies of damaged bytes that were set aside.
    pub quarantined: usize,
}

/// What a log consists of.
#[derive(Debug, Clone, Serialize)]
pub struct LogInfo {
    /// The data directory.
    pub data: PathBuf,
    /// Bytes on the disk.
    pub bytes: u64,
    /// All partitions of all topics.
    pub partitions: Vec<PartitionInfo>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something that was durable is not what was written.
    Damage,
    /// Damage that `repair` has set aside and noted before.
    Known,
    /// Nothing is lost: the next start puts it right by itself.
    Pending,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// `frame`, `header`, `meta`, `input`, `snapshot`, `table`.
    pub kind: &'static str,
    /// The topic, or the stage that a snapshot belongs to.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub at: Option<u64>,
    /// How many bytes.
    pub length: Option<u64>,
    /// Offsets that were lost: first, and first that was not.
    pub lost: Option<(u64, u64)>,
    /// What is wrong.
    pub what: String,
}

impl Finding {
    fn new(kind: &'static str, place: &(String, u32), file: &Path, what: impl Into<String>) -> Self {
        let (topic, partition) = place.clone();
        let (severity, file) = (Severity::Damage, file.to_path_buf());
        Self { severity, kind, topic, partition, file, at: None, length: None, lost: None, what: what.into() }
    }

    fn of_damage(place: &(String, u32), damage: &Damage) -> Self {
        Self {
            at: Some(damage.at),
            length: Some(damage.length),
            lost: Some((damage.offsets.start, damage.offsets.end)),
            ..Self::new("frame", place, &damage.path, damage.what.clone())
        }
    }

    fn of_flaw(place: &(String, u32), flaw: &Flaw) -> Self {
        let own = flaw.path.extension().is_some_and(|ending| ending == "seg");
        let at = own.then_some(0);
        // The control page is made anew by every start; the segments' names tell what the list of epochs did.
        let severity = if flaw.path.ends_with("control") { Severity::Pending } else { Severity::Damage };
        Self { severity, at, length: at, ..Self::new("header", place, &flaw.path, flaw.what.clone()) }
    }
}

/// What a reading of everything came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verification {
    /// No damage, but what is known.
    pub sound: bool,
    /// Sound frames.
    pub frames: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Partitions that were read.
    pub partitions: usize,
    /// Snapshots that were read.
    pub snapshots: usize,
    /// Tables' partitions that were looked at.
    pub tables: usize,
    /// What was found; the first [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// All findings of damage.
    pub damaged: u64,
}

impl Verification {
    fn add(&mut self, finding: Finding) {
        self.damaged += u64::from(finding.severity == Severity::Damage);
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        }
    }
}

/// What the checks behind the frames know of a partition.
struct Known {
    survey: Survey,
    /// Offsets that were lost.
    lost: Vec<Range<u64>>,
    /// Of a derived topic.
    ranges: Ranges,
}

/// By topic and partition.
type Partitions = BTreeMap<(String, u32), Known>;

/// The topic that another one is derived from.
fn input_of(topic: &str) -> Option<&'static str> {
    match topic {
        RECEIVED => None,
        CLEAN => Some(RECEIVED),
        _ => Some(CLEAN),
    }
}

/// What the log of a data directory consists of.
pub fn info(data: &Path) -> Result<LogInfo, LogError> {
    let log = Inspector::new(data)?;
    let mut partitions = Vec::new();
    for (topic, numbers) in log.topics()? {
        for partition in numbers {
            let survey = log.survey(&topic, partition)?;
            let mut formats: Vec<u16> = survey.segments.iter().filter_map(|segment| segment.format).collect();
            formats.sort_unstable();
            formats.dedup();
            partitions.push(PartitionInfo {
                topic: topic.clone(),
                partition,
                first: survey.first,
                published: survey.published,
                durable: survey.durable,
                epochs: survey.epochs.iter().map(|start| (start.epoch, start.first_offset)).collect(),
                segments: survey.segments.len(),
                superseded: survey.superseded,
                bytes: survey.segments.iter().map(|segment| segment.bytes).sum(),
                formats,
                quarantined: survey.quarantined,
            });
        }
    }
    let bytes = partitions.iter().map(|partition| partition.bytes).sum();
    Ok(LogInfo { data: data.to_path_buf(), bytes, partitions })
}

/// Reads everything; `progress` is told how many bytes of how many are done.
pub fn verify(scope: &Scope, progress: &mut dyn FnMut(u64, u64)) -> Result<Verification, LogError> {
    let log = Inspector::new(&scope.data)?;
    let mut report = Verification::default();
    let mut known = Partitions::new();
    let mut places: Vec<(String, u32)> = log
        .topics()?
        .into_iter()
        .flat_map(|(topic, numbers)| numbers.into_iter().map(move |n| (topic.clone(), n)))
        .collect();
    // Downstream first: what is derived meanwhile stands on an input that is read later.
    places
        .sort_by_key(|(topic, partition)| (input_of(topic).map_or(2, |input| u8::from(input == RECEIVED)), *partition));
    let total = places.iter().map(|(topic, partition)| size(&log, topic, *partition)).sum::<Result<u64, _>>()?;
    let mut done = 0;
    for place in places {
        let mut tell = |bytes: u64| {
            done += bytes;
            progress(done.min(total), total);
        };
        let partition = partition(&log, &place, &mut report, &mut tell)?;
        known.insert(place, partition);
    }
    derived::check(&known, &mut report);
    states::snapshots(&scope.data, &known, &mut report);
    states::tables(&scope.tables, &known, &mut report);
    report.findings.iter_mut().for_each(repair::recognise);
    report.damaged -= report.findings.iter().filter(|finding| finding.severity == Severity::Known).count() as u64;
    report.sound = report.damaged == 0;
    Ok(report)
}

fn size(log: &Inspector, topic: &str, partition: u32) -> Result<u64, LogError> {
    Ok(log.survey(topic, partition)?.segments.iter().map(|segment| segment.bytes).sum())
}

fn partition(
    log: &Inspector,
    place: &(String, u32),
    report: &mut Verification,
    progress: &mut dyn FnMut(u64),
) -> Result<Known, LogError> {
    let (topic, partition) = place;
    let mut ranges = Ranges::new(input_of(topic).is_some());
    let mut unread = Vec::new();
    let mut each = |head: Result<_, LogError>, file: &Path, at: u64| match head {
        Ok(head) => ranges.take(&head, file, at),
        Err(error) if unread.len() < MAX_FINDINGS => {
            unread.push(Finding { at: Some(at), ..Finding::new("meta", place, file, error.to_string()) });
        }
        Err(_) => {}
    };
    let verified = log.verify(topic, *partition, &mut each, progress)?;
    report.frames += verified.frames;
    report.rows += verified.rows;
    report.bytes += verified.bytes;
    report.partitions += 1;
    verified.damage.iter().for_each(|damage| report.add(Finding::of_damage(place, damage)));
    verified.flaws.iter().for_each(|flaw| report.add(Finding::of_flaw(place, flaw)));
    unread.into_iter().for_each(|finding| report.add(finding));
    if let Some(torn) = &verified.torn {
        report.add(Finding { severity: Severity::Pending, ..Finding::of_damage(place, torn) });
    }
    let lost = verified.damage.iter().map(|damage| damage.offsets.clone()).collect();
    // Taken after the frames: an input that was read later is at least as long as what stands on it.
    Ok(Known { survey: log.survey(topic, *partition)?, lost, ranges })
}
