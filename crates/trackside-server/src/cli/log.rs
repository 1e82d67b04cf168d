//! `trackside log info | verify | repair`: the log of a data directory, looked over and put right.
//!
//! `info` and `verify` need no lock and change nothing; they may run beside the engine. `repair` tells what it would do,
//! and does it with `--apply`, for which no engine may run. Damage makes the exit code 1.

use super::terminal::{StatusLine, count, note, say, say_json};
use super::{FAILED, Failure, Json, Where, place};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use trackside_core::log::LogError;
use trackside_engine::inspect::{self, Finding, LogInfo, PartitionInfo, Repairs, Scope, Severity, Verification};

/// How often progress is shown.
const SHOW: Duration = Duration::from_millis(200);
/// Findings that are printed one by one; `--json` prints all.
const SHOWN: usize = 50;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Topics, partitions, offsets, epochs, segments, bytes and formats
    Info(Place),
    /// Read every frame, snapshot and manifest, and report what is not as it was written
    Verify(Place),
    /// Set damage aside and note it; without --apply only tell what would be done
    Repair(Repair),
}

#[derive(Debug, Args)]
struct Place {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    json: Json,
}

#[derive(Debug, Args)]
struct Repair {
    #[command(flatten)]
    place: Place,
    /// Do it; no engine may run on the data directory
    #[arg(long)]
    apply: bool,
    /// Only tell what would be done, as without --apply
    #[arg(long, conflicts_with = "apply")]
    dry_run: bool,
}

impl Arguments {
    pub(super) fn json(&self) -> bool {
        match &self.what {
            What::Info(place) | What::Verify(place) => place.json.json,
            What::Repair(repair) => repair.place.json.json,
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<i32, Failure> {
    match &arguments.what {
        What::Info(place) => {
            let info = inspect::info(&place::data(&place.place)?).map_err(unreadable)?;
            if place.json.json {
                _ = say_json(&info)
            } else {
                print(info_lines(&info))
            }
            Ok(0)
        }
        What::Verify(place) => {
            let scope = scope(&place.place)?;
            let report = with_progress(|progress| inspect::verify(&scope, progress)).map_err(unreadable)?;
            if place.json.json {
                _ = say_json(&report)
            } else {
                print(verify_lines(&report))
            }
            Ok(if report.sound { 0 } else { FAILED })
        }
        What::Repair(repair) => {
            let scope = scope(&repair.place.place)?;
            let repairs = with_progress(|progress| inspect::repair(&scope, repair.apply, progress))?;
            if repair.place.json.json {
                _ = say_json(&repairs)
            } else {
                print(repair_lines(&repairs))
            }
            Ok(if repairs.left() == 0 { 0 } else { FAILED })
        }
    }
}

/// The data directory, and the folders of its tables; a pipeline file may name some of its own.
fn scope(given: &Where) -> Result<Scope, Failure> {
    let data = place::data(given)?;
    let mut tables = vec![data.join("tables")];
    let file = given.file.clone().or_else(|| given.data.clone()).unwrap_or_else(|| PathBuf::from(place::FILE));
    if file.is_file() {
        let pipeline = place::load(&file)?;
        let paths = pipeline.sinks.iter().filter_map(|sink| sink.settings.get("path")?.as_str());
        tables.extend(paths.map(|path| pipeline.base.join(path)));
        tables.sort();
        tables.dedup();
    }
    Ok(Scope { data, tables })
}

fn unreadable(error: LogError) -> Failure {
    Failure::failed(format!("the log cannot be read: {error}"))
}

/// Runs something long, showing on a terminal how far it is.
fn with_progress<T>(work: impl FnOnce(&mut dyn FnMut(u64, u64)) -> T) -> T {
    let (mut line, mut shown) = (StatusLine::default(), Instant::now());
    let result = work(&mut |done, total| {
        if shown.elapsed() >= SHOW {
            shown = Instant::now();
            line.show(&format!("{} of {} read", size(done), size(total)));
        }
    });
    line.clear();
    result
}

fn print(lines: Vec<String>) {
    lines.iter().all(say);
}

/// Bytes in the unit that fits.
fn size(bytes: u64) -> String {
    match bytes {
        0..=1023 => format!("{bytes} B"),
        1024..=1_048_575 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..=1_073_741_823 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

fn info_lines(info: &LogInfo) -> Vec<String> {
    let mut lines =
        vec![format!("{}  {} in {} partitions", info.data.display(), size(info.bytes), info.partitions.len())];
    let width = info.partitions.iter().map(|partition| partition.topic.len()).max().unwrap_or(0);
    for partition in &info.partitions {
        let PartitionInfo { topic, partition: number, first, published, durable, epochs, .. } = partition;
        let epoch = epochs.last().map_or(0, |(epoch, _)| *epoch);
        let formats: Vec<String> = partition.formats.iter().map(u16::to_string).collect();
        let mut line = format!(
            "  {topic:width$} {number}  offsets {}..{}  durable {}  epoch {epoch} of {}  {} segments, {}, format {}",
            count(*first),
            count(*published),
            count(*durable),
            epochs.len(),
            partition.segments,
            size(partition.bytes),
            if formats.is_empty() { "?".into() } else { formats.join(" and ") },
        );
        if partition.quarantined > 0 {
            line.push_str(&format!(", {} in quarantine", partition.quarantined));
        }
        lines.push(line);
    }
    if info.partitions.is_empty() {
        lines.push("  no log yet; `trackside up` makes it".into());
    }
    lines
}

fn verify_lines(report: &Verification) -> Vec<String> {
    let mut lines: Vec<String> = report.findings.iter().take(SHOWN).map(finding_line).collect();
    if report.findings.len() > SHOWN {
        lines.push(format!("  … and {} more; --json tells all", report.findings.len() - SHOWN));
    }
    let read = format!(
        "{} frames with {} rows in {} partitions ({}), {} snapshots, {} manifests of tables",
        count(report.frames),
        count(report.rows),
        report.partitions,
        size(report.bytes),
        report.snapshots,
        report.tables
    );
    let known = report.findings.iter().filter(|finding| finding.severity == Severity::Known).count();
    lines.push(match (report.damaged, known) {
        (0, 0) => format!("sound: {read}"),
        (0, known) => format!("sound but for {known} known places of damage: {read}"),
        (damaged, _) => format!("damaged in {} places: {read}", count(damaged)),
    });
    if !report.sound {
        note("`trackside log repair` tells what can be done");
    }
    lines
}

fn finding_line(finding: &Finding) -> String {
    let word = match finding.severity {
        Severity::Damage => "DAMAGE ",
        Severity::Known => "known  ",
        Severity::Pending => "pending",
    };
    let at = finding.at.map_or_else(String::new, |at| format!(" at byte {at}"));
    let length =
        finding.length.filter(|length| *length > 0).map_or_else(String::new, |bytes| format!(", {bytes} bytes"));
    let lost = finding.lost.filter(|(from, to)| from < to);
    let lost = lost.map_or_else(String::new, |(from, to)| format!("; offsets {from}..{to} of `{}`", finding.topic));
    format!("{word} {}{at}{length}: {}{lost}", finding.file.display(), finding.what)
}

fn repair_lines(repairs: &Repairs) -> Vec<String> {
    let mut lines = Vec::new();
    for action in repairs.actions.iter().take(SHOWN) {
        lines.push(finding_line(&action.finding));
        let word = match (action.done, action.possible) {
            (true, _) => "done",
            (false, true) => "would",
            (false, false) => "  ",
        };
        lines.push(format!("  {word:5} {}", action.action));
    }
    if repairs.actions.len() > SHOWN {
        lines.push(format!("  … and {} more; --json tells all", repairs.actions.len() - SHOWN));
    }
    let possible = repairs.actions.iter().filter(|action| action.possible).count();
    let done = repairs.actions.iter().filter(|action| action.done).count();
    lines.push(match (repairs.applied, possible) {
        (_, 0) => "nothing to repair".into(),
        (true, _) => format!("{done} of {possible} done"),
        (false, _) => format!("{possible} to do; nothing was changed: `--apply` does it"),
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_its_place_and_what_was_lost() {
        let finding = Finding {
            severity: Severity::Damage,
            kind: "frame",
            topic: "clean".into(),
            partition: 0,
            file: "x.seg".into(),
            at: Some(64),
            length: Some(192),
            lost: Some((3, 5)),
            what: "the frame's bytes do not match its checksum".into(),
        };
        let line = finding_line(&finding);
        assert_eq!(
            line,
            "DAMAGE  x.seg at byte 64, 192 bytes: the frame's bytes do not match its checksum; offsets 3..5 of `clean`"
        );
        assert_eq!([size(5), size(2048), size(3 << 20), size(5 << 30)], ["5 B", "2.0 KiB", "3.0 MiB", "5.00 GiB"]);
    }
}
