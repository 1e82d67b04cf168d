//! Repair: what can be put right in a data directory that no engine runs on.
//!
//! Guarantee: nothing that was acknowledged is deleted, nothing in the middle is cut or overwritten. Damaged bytes stay
//! where they are; a copy goes to `quarantine/` beside their segment, with a note that tells what was lost, so that the
//! next verification knows of it. Readers step over the gap as before, and the offsets keep their place. A damaged list of
//! epochs is written anew from the segments' names, a damaged snapshot is moved aside, both kept. Without `apply` only
//! what would be done is told.

use crate::catalog;
use crate::catalog::log_inspect::{Damage, Inspector};
use crate::data_dir::StartError;
use crate::inspect::{Finding, Scope, Severity, verify};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Folder of what was set aside, beside the segments and in the data directory.
const QUARANTINE: &str = "quarantine";

/// What was done about a finding, or would be.
#[derive(Debug, Clone, Serialize)]
pub struct Action {
    /// The finding.
    pub finding: Finding,
    /// What is done, or why nothing is.
    pub action: String,
    /// Whether it was done.
    pub done: bool,
    /// Whether there is something to do.
    pub possible: bool,
}

/// Everything that a repair did or would do.
#[derive(Debug, Clone, Serialize)]
pub struct Repairs {
    /// Whether it was done, or only told.
    pub applied: bool,
    /// Finding by finding.
    pub actions: Vec<Action>,
}

impl Repairs {
    /// Damage that is left: not applied, or nothing can be done here.
    pub fn left(&self) -> usize {
        self.actions.iter().filter(|action| action.finding.severity == Severity::Damage && !action.done).count()
    }
}

/// The note beside a copy of damaged bytes.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    segment: String,
    at: u64,
    length: u64,
    /// Offsets that were lost: first, and first that was not.
    lost: Option<(u64, u64)>,
    what: String,
}

impl Note {
    fn of(finding: &Finding) -> Option<Self> {
        let segment = finding.file.file_name()?.to_str()?.to_owned();
        let (at, length) = (finding.at?, finding.length?);
        Some(Self { segment, at, length, lost: finding.lost, what: finding.what.clone() })
    }

    fn path(&self, finding: &Finding) -> Option<PathBuf> {
        // Of two gaps at one place (a missing segment has no bytes) each has its own note.
        let lost = self.lost.map_or_else(String::new, |(from, to)| format!("-{from}-{to}"));
        Some(finding.file.parent()?.join(QUARANTINE).join(format!("{}@{}{lost}.json", self.segment, self.at)))
    }
}

/// Damage that was noted before, and is just as it was then, is known.
pub(super) fn recognise(finding: &mut Finding) {
    if finding.severity != Severity::Damage || !matches!(finding.kind, "frame" | "header") {
        return;
    }
    let noted = || {
        let note = Note::of(finding)?;
        let text = fs::read(note.path(finding)?).ok()?;
        Some(serde_json::from_slice::<Note>(&text).ok()? == note)
    };
    if noted() == Some(true) {
        finding.severity = Severity::Known;
    }
}

/// Verifies, and puts right what can be. With `apply` the data directory's lock is taken first and held throughout.
pub fn repair(scope: &Scope, apply: bool, progress: &mut dyn FnMut(u64, u64)) -> Result<Repairs, StartError> {
    let lock = apply.then(|| catalog::lock(&scope.data)).transpose();
    let _lock = lock.map_err(|error| StartError::Unavailable(error.to_string()))?;
    let log = Inspector::new(&scope.data)?;
    let report = verify(scope, progress)?;
    let actions = report.findings.into_iter().map(|finding| act(&log, &scope.data, finding, apply)).collect();
    Ok(Repairs { applied: apply, actions })
}

fn act(log: &Inspector, data: &Path, finding: Finding, apply: bool) -> Action {
    let plan = Plan::of(&finding);
    let possible = plan.does_something();
    let mut action = Action { action: plan.words(&finding), done: false, possible, finding };
    if possible && apply {
        match plan.run(log, data, &action.finding) {
            Ok(told) => (action.action, action.done) = (told, true),
            Err(error) => action.action = format!("{}: failed: {error}", action.action),
        }
    }
    action
}

/// What a finding calls for.
enum Plan {
    /// Copy the bytes, note the loss.
    SetAside,
    /// Write the list of epochs anew.
    Epochs,
    /// Move the file to `<data>/quarantine/`.
    Move,
    /// Nothing here.
    Nothing(&'static str),
}

impl Plan {
    fn of(finding: &Finding) -> Self {
        match (finding.severity, finding.kind) {
            (Severity::Known, _) => Self::Nothing("set aside and noted before; nothing is left to do"),
            (Severity::Pending, _) => Self::Nothing("the next start puts it right by itself"),
            (_, "frame") => Self::SetAside,
            (_, "header") if finding.file.ends_with("epochs") => Self::Epochs,
            (_, "header") => Self::SetAside,
            (_, "snapshot") => Self::Move,
            (_, "meta") => Self::Nothing("written by a later version? use that one"),
            (_, "table") => Self::Nothing(
                "restore it from a backup, or move the table's folder away: it is written anew from the log",
            ),
            _ => Self::Nothing("it cannot be put right here; restore the topic from a backup"),
        }
    }

    fn does_something(&self) -> bool {
        !matches!(self, Self::Nothing(_))
    }

    fn words(&self, finding: &Finding) -> String {
        match self {
            Self::SetAside if finding.length == Some(0) => {
                "note the loss in quarantine/; readers step over the gap".into()
            }
            Self::SetAside => "copy the bytes to quarantine/ and note the loss; readers step over them".into(),
            Self::Epochs => "write it anew from the segments' names; the broken one is kept in quarantine/".into(),
            Self::Move => format!("move it to {QUARANTINE}/; the older snapshot, or a replay, takes its place"),
            Self::Nothing(why) => format!("nothing: {why}"),
        }
    }

    /// Does it; says what was done.
    fn run(&self, log: &Inspector, data: &Path, finding: &Finding) -> io::Result<String> {
        match self {
            Self::SetAside => set_aside(log, finding),
            Self::Epochs => {
                let made = log.restore_epochs(&finding.topic, finding.partition).map_err(io::Error::other)?;
                Ok(made.map_or_else(|| "it is sound by now".into(), |path| format!("wrote {} anew", path.display())))
            }
            Self::Move => {
                let below = finding.file.strip_prefix(data).unwrap_or(&finding.file);
                let target = data.join(QUARANTINE).join(below);
                let folder = target.parent().unwrap_or(data);
                fs::create_dir_all(folder)?;
                fs::rename(&finding.file, &target)?;
                File::open(folder)?.sync_all()?;
                Ok(format!("moved it to {}", target.display()))
            }
            Self::Nothing(why) => Ok((*why).to_owned()),
        }
    }
}

fn set_aside(log: &Inspector, finding: &Finding) -> io::Result<String> {
    let note = Note::of(finding).ok_or_else(|| io::Error::other("the place is not known"))?;
    let lost = note.lost.unwrap_or_default();
    let mut told = Vec::new();
    if note.length > 0 {
        let offsets = Range { start: lost.0, end: lost.1 };
        let (path, what) = (finding.file.clone(), finding.what.clone());
        let damage = Damage { path, at: note.at, length: note.length, offsets, what, quarantined: None };
        let copy = log.set_aside(&finding.topic, finding.partition, &damage);
        let copy = copy.ok_or_else(|| io::Error::other("the bytes could not be copied; is there room?"))?;
        told.push(format!("copied {} bytes to {}", note.length, copy.display()));
    }
    let path = note.path(finding).ok_or_else(|| io::Error::other("the place is not known"))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = File::create(&path)?;
    file.write_all(serde_json::to_string_pretty(&note)?.as_bytes())?;
    file.sync_all()?;
    File::open(folder)?.sync_all()?;
    told.push(format!("noted the loss in {}", path.display()));
    Ok(told.join("; "))
}
