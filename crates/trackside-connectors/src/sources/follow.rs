//! Following: files are read as they grow, through rotation, truncation and new files of a pattern.
//!
//! Each round first looks where every path leads now, then reads what is there. A file that lost its name is read on
//! until it has been quiet for a while, for its writer may not have noticed yet; one that was rewritten is left at
//! once and begun anew.

use super::file::{File, Reading};
use super::streams::Streams;
use super::tail::{Found, Tail, inode};
use std::time::Instant;
use trackside_core::error::Failure;
use trackside_core::source::{Door, SourceState};

/// A file without a name is closed after so many polls without growth (5 s by default).
const QUIET_POLLS: u32 = 20;

/// A file that is followed.
struct Followed {
    tail: Tail,
    found: Found,
    /// When it grew last.
    grew: Instant,
    /// It is read for the last time.
    closing: bool,
}

/// Reads all files that match as they grow, until the stop.
pub(super) fn follow(source: &File, door: &dyn Door) -> Result<(), Failure> {
    let mut files: Vec<Followed> = Vec::new();
    let mut streams = Streams::default();
    let mut reading = Reading::new(&source.mapping, door);
    let quiet = source.config.poll.0.saturating_mul(QUIET_POLLS);
    let (mut state, mut settled) = (None, false);
    loop {
        files.iter_mut().for_each(|file| locate(source, file, &mut streams));
        let mut moved = open_new(source, &mut files, &mut streams, door)?;
        for file in &mut files {
            // Its end is an end only when nobody writes to it any more.
            file.closing = match file.found {
                Found::Same => false,
                Found::Rewritten => true,
                Found::Other => file.grew.elapsed() >= quiet,
            };
            while let Some(whole) = reading.step(&mut file.tail, file.closing, None)? {
                if !whole {
                    return Ok(());
                }
                (file.grew, moved) = (Instant::now(), true);
            }
        }
        let closed = files.iter().any(|file| file.closing);
        settled &= !moved && !closed;
        for file in files.extract_if(.., |file| file.closing).filter(|file| file.tail.is_deleted()) {
            streams.end(&file.tail.stream);
        }
        if !settled && (closed || !moved) {
            let open: Vec<&str> = files.iter().map(|file| file.tail.stream.as_str()).collect();
            settled = streams.forget_followed(door, &open);
        }
        let missing = files.is_empty().then(|| format!("no file `{}` yet", source.path.display()));
        let now = (if moved { SourceState::Running } else { SourceState::Waiting }, missing);
        if state.as_ref() != Some(&now) {
            door.state(now.0, now.1.clone());
            state = Some(now);
        }
        if !moved && door.wait_stop(source.config.poll.0) {
            return Ok(());
        }
    }
}

/// Finds a file again, perhaps under another name of the pattern.
fn locate(source: &File, file: &mut Followed, streams: &mut Streams) {
    file.found = file.tail.look(&file.tail.path);
    match file.found {
        Found::Same => {}
        Found::Rewritten => {
            file.tail.cut_off();
            streams.end(&file.tail.stream);
        }
        Found::Other => {
            let paths = source.paths().unwrap_or_default();
            if let Some(path) = paths.into_iter().find(|path| file.tail.look(path) == Found::Same) {
                file.tail.path = path;
                file.found = Found::Same;
            }
        }
    }
}

/// Opens what is not followed yet; whether there was any.
fn open_new(source: &File, files: &mut Vec<Followed>, streams: &mut Streams, door: &dyn Door) -> Result<bool, Failure> {
    let before = files.len();
    for path in source.paths()? {
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        let inode = inode(&metadata);
        if files.iter().any(|file| file.tail.inode == inode && file.found != Found::Rewritten) {
            continue;
        }
        // What was delivered since the start counts as well: a file may have been read, left and found again.
        let opened = Tail::open(&path, None, streams, &door.resume(), source.open_decoder(&path)?);
        match opened {
            Ok(tail) => {
                let (found, grew, closing) = (Found::Same, Instant::now(), false);
                files.extend(tail.map(|tail| Followed { tail, found, grew, closing }));
            }
            // It went away between the two looks.
            Err(_) if !path.exists() => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(files.len() > before)
}
