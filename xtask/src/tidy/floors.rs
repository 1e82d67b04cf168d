//! The floors of the house: which crate may import which, and what it may touch.
//!
//! A crate is a permission. Manifests are read for imports; sources are searched for the doors of the standard library
//! (files, network, clock) that a manifest does not show. Tests are free to touch what they like.

use super::Finding;
use crate::repo::Repo;
use crate::rust::Source;

/// What a crate may do.
struct Room {
    name: &'static str,
    floor: u8,
    /// Crates that it must not import, of this house from below or from outside.
    never: &'static [&'static str],
    /// Words that its shipped code must not hold.
    no_words: &'static [&'static str],
}

const RUNTIMES: &[&str] = &["tokio", "axum", "hyper", "reqwest", "libc", "memmap2", "async-std", "smol"];
const DISK: &[&str] = &["std::fs", "File::open", "File::create"];
const NETWORK: &[&str] = &["std::net", "TcpStream", "UdpSocket"];
const CLOCK: &[&str] = &["SystemTime::now", "Instant::now", "Utc::now", "Timestamp::now", "Zoned::now"];
const OUTSIDE: &[&str] = &["std::process", "std::env::", "std::thread"];

/// The house, from the ground up.
const ROOMS: &[Room] = &[
    Room { name: "trackside-core", floor: 0, never: RUNTIMES, no_words: &[] },
    Room {
        name: "trackside-log",
        floor: 0,
        never: &["arrow", "arrow-array", "arrow-ipc", "tokio", "axum", "hyper", "serde"],
        no_words: NETWORK,
    },
    Room { name: "trackside-operators", floor: 1, never: RUNTIMES, no_words: &[] },
    Room { name: "trackside-sql", floor: 1, never: &["axum", "hyper", "reqwest"], no_words: &[] },
    Room { name: "trackside-connectors", floor: 1, never: &["clap", "pyo3"], no_words: &[] },
    Room {
        name: "trackside-engine",
        floor: 2,
        never: &["axum", "hyper", "clap"],
        no_words: &["println!", "eprintln!"],
    },
    Room {
        name: "trackside-server",
        floor: 3,
        never: &["trackside-operators", "trackside-connectors", "trackside-log", "trackside-sql"],
        no_words: &[],
    },
    Room { name: "trackside-python", floor: 4, never: &[], no_words: &[] },
    // Measures all of it; nothing imports it.
    Room { name: "trackside-bench", floor: 5, never: &[], no_words: &[] },
    // Breaks all of it on purpose; nothing imports it.
    Room { name: "trackside-faults", floor: 5, never: &[], no_words: &[] },
    // Looks for bytes that break a parser; outside of the workspace, so it has no lints to take.
    Room { name: "trackside-fuzz", floor: 5, never: &[], no_words: &[] },
];

/// Rooms of pure functions: no disk, no network, no clock, no threads.
const PURE: &[&str] = &["trackside-core", "trackside-operators", "trackside-sql"];

const FIX_IMPORT: &str = "imports go down only: take what you need as an argument or a trait of trackside-core, or move \
                          the code to the crate that may import it (ARCHITECTURE.md, the floors)";
const FIX_TOUCH: &str = "this crate must not touch it: take the value as an argument (time comes as data, bytes come \
                         from the caller), or move the code up a floor";

fn room(name: &str) -> Option<&'static Room> {
    ROOMS.iter().find(|room| room.name == name)
}

/// Crates import from lower floors only, and never what their room forbids.
pub(super) fn imports(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repo.files.iter().filter(|file| file.path.ends_with("Cargo.toml") && file.path.contains('/')) {
        let name = file.text.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        let Some(name) = name else { continue };
        for (line, section, import) in dependencies(&file.text) {
            if let Some(what) = forbidden(name, section, import) {
                findings.push(Finding::new(&*file.path, line, what, FIX_IMPORT));
            }
        }
        if !file.text.contains("[lints]\nworkspace = true") && !file.text.contains("\n[workspace]\n") {
            findings.push(Finding::new(
                &*file.path,
                1,
                "the crate does not take the workspace's lints",
                "add `[lints]` with `workspace = true`",
            ));
        }
        if name != "xtask" && room(name).is_none() {
            findings.push(Finding::new(
                &*file.path,
                1,
                format!("`{name}` has no floor"),
                "add its room to ROOMS in xtask/src/tidy/floors.rs and to ARCHITECTURE.md",
            ));
        }
    }
    findings
}

/// Why `name` must not import `import`, if so.
fn forbidden(name: &str, section: &str, import: &str) -> Option<String> {
    if import == "xtask" {
        return Some(format!("`{name}` imports `xtask`, which nothing may import"));
    }
    let (here, there) = (room(name), room(import));
    if name == "xtask" {
        return there.map(|_| format!("`xtask` imports `{import}`: the repository's tools stand beside the house"));
    }
    let here = here?;
    if there.is_some_and(|there| there.floor > here.floor) {
        return Some(format!("`{name}` (floor {}) imports `{import}` from above it", here.floor));
    }
    // Tests may look sideways and use what the crate itself may not.
    if section == "dev-dependencies" {
        return None;
    }
    let sideways = there.is_some_and(|there| there.floor == here.floor);
    // The ground floor is two rooms: connectors adapt the log to core's contract, neither ground room knows the other.
    if sideways {
        return Some(format!("`{name}` imports `{import}` from its own floor"));
    }
    here.never.contains(&import).then(|| format!("`{name}` imports `{import}`"))
}

/// The dependencies of a manifest: (line, section, name).
fn dependencies(text: &str) -> Vec<(usize, &str, &str)> {
    let mut section = "";
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = header.rsplit('.').next().unwrap_or_default();
        } else if section.ends_with("dependencies") && line.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            found.push((index + 1, section, name));
        }
    }
    found
}

/// Shipped code holds no word that its room forbids.
pub(super) fn permissions(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for room in ROOMS {
        let words: Vec<&str> = match PURE.contains(&room.name) {
            true => [DISK, NETWORK, CLOCK, OUTSIDE, room.no_words].concat(),
            false => room.no_words.to_vec(),
        };
        for file in repo.matching(&format!("crates/{}/src/", room.name), ".rs") {
            let source = Source::new(&file.path, &file.text);
            for (line, code) in source.shipped() {
                for word in words.iter().filter(|word| code.contains(**word)) {
                    findings.push(Finding::new(&*file.path, line, format!("`{word}` in `{}`", room.name), FIX_TOUCH));
                }
            }
        }
    }
    findings
}

/// In the engine one file alone names components; everyone else asks it.
pub(super) fn catalogue(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repo.matching("crates/trackside-engine/src/", ".rs").filter(|file| !file.path.ends_with("/catalog.rs"))
    {
        let source = Source::new(&file.path, &file.text);
        for (line, code) in source.shipped() {
            for room in ["trackside_operators", "trackside_connectors", "trackside_sql"] {
                if code.contains(room) {
                    let what = format!("`{room}` outside catalog.rs");
                    findings.push(Finding::new(
                        &*file.path,
                        line,
                        what,
                        "let catalog.rs name it, and take it from there",
                    ));
                }
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::places;
    use super::*;

    fn manifest(name: &str, dependencies: &str) -> Repo {
        let text = format!("[package]\nname = \"{name}\"\n{dependencies}\n[lints]\nworkspace = true\n");
        Repo::of(&[(&format!("crates/{name}/Cargo.toml"), &text)])
    }

    fn imports_of(name: &str, dependencies: &str) -> usize {
        imports(&manifest(name, dependencies)).len()
    }

    #[test]
    fn imports_up_sideways_and_of_the_forbidden_are_found() {
        assert_eq!(imports_of("trackside-engine", "[dependencies]\ntrackside-core.workspace = true\ntokio = \"1\""), 0);
        assert_eq!(imports_of("trackside-core", "[dependencies]\ntrackside-engine.workspace = true"), 1);
        assert_eq!(imports_of("trackside-log", "[dependencies]\ntrackside-core = { path = \"x\" }\narrow = \"1\""), 2);
        assert_eq!(imports_of("trackside-connectors", "[dependencies]\ntrackside-operators.workspace = true"), 1);
        assert_eq!(imports_of("trackside-server", "[dependencies]\ntrackside-log.workspace = true"), 1);
        assert_eq!(imports_of("trackside-operators", "[target.'cfg(unix)'.dependencies]\ntokio.workspace = true"), 1);
        assert_eq!(imports_of("trackside-core", "[dev-dependencies]\ntokio.workspace = true"), 0);
        assert_eq!(imports_of("trackside-core", "[dev-dependencies]\ntrackside-engine.workspace = true"), 1);
        assert_eq!(imports_of("trackside-engine", "[dependencies]\nxtask.workspace = true"), 1);
        assert_eq!(imports_of("trackside-shed", ""), 1);
    }

    #[test]
    fn the_clock_and_the_disk_are_found_but_not_in_tests() {
        let text = "//! Never `std::fs`.\nlet now = Instant::now();\n#[cfg(test)]\nmod tests { use std::fs; }\n";
        let repo =
            Repo::of(&[("crates/trackside-operators/src/a.rs", text), ("crates/trackside-engine/src/a.rs", text)]);
        assert_eq!(places(&permissions(&repo)), ["crates/trackside-operators/src/a.rs:2"]);
    }

    #[test]
    fn only_the_catalogue_names_components() {
        let text = "//! Of `trackside_operators`.\nuse trackside_operators::CLEANERS;\n";
        let files = ["catalog.rs", "start.rs"].map(|name| format!("crates/trackside-engine/src/{name}"));
        let repo = Repo::of(&[(&files[0], text), (&files[1], text)]);
        assert_eq!(places(&catalogue(&repo)), ["crates/trackside-engine/src/start.rs:2"]);
    }
}
