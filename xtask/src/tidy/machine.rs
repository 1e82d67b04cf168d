//! The repository works on any machine: no file names somebody's folders, or the registry that packages come from.
//!
//! Which registry cargo, pip and npm ask is the machine's own configuration. A lock file names versions and hashes.

use super::Finding;
use crate::repo::{File, Repo};

/// Put together here, so that this file does not find itself.
const FOLDERS: &[&str] = &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Use", "rs/")];
/// What the ordinary clients read or write when a registry is chosen.
const REGISTRIES: &[&str] =
    &["\"resolved\":", "registry=", "index-url", "extra-index", "find-links", "[source.", "[registries"];
/// How every lock file of cargo names its own registry.
const CRATES: &str = "registry+https://github.com/rust-lang/crates.io-index";

const FIX_FOLDER: &str = "use a path relative to the repository, to a temporary folder or to the pipeline file";
const FIX_REGISTRY: &str =
    "leave the choice of a registry to the machine; for npm keep `omit-lockfile-registry-resolved=true`";

/// Searches every text file for folders, and the files of the package clients for registries.
pub(super) fn check(repo: &Repo) -> Vec<Finding> {
    repo.files.iter().flat_map(|file| folders(file).into_iter().chain(registries(file))).collect()
}

fn folders(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, text) in file.lines() {
        for folder in FOLDERS.iter().filter(|folder| holds_folder(text, folder)) {
            findings.push(Finding::new(
                &*file.path,
                line,
                format!("`{folder}`: a folder of somebody's machine"),
                FIX_FOLDER,
            ));
        }
    }
    findings
}

/// Whether the folder stands there as the start of a path, not inside a longer one or an address.
fn holds_folder(text: &str, folder: &str) -> bool {
    text.match_indices(folder).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | '*' | '~'))
    })
}

fn registries(file: &File) -> Vec<Finding> {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let of_a_client = matches!(name, "package-lock.json" | ".npmrc" | "Cargo.lock" | "pyproject.toml" | "Makefile")
        || file.path.starts_with(".ci/")
        || file.path.starts_with(".cargo/")
        || name.starts_with("requirements");
    let mut findings = Vec::new();
    for (line, text) in file.lines().filter(|_| of_a_client) {
        // `omit-lockfile-registry-resolved=` is the switch that keeps hosts out.
        let text = text.replace("registry-resolved=", "");
        let foreign = name == "Cargo.lock" && text.starts_with("source = ") && !text.contains(CRATES);
        if foreign || REGISTRIES.iter().any(|word| text.contains(word)) {
            findings.push(Finding::new(&*file.path, line, "a registry is named", FIX_REGISTRY));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::places;
    use super::*;

    #[test]
    fn folders_of_a_machine_are_found() {
        let (home, work) = (FOLDERS[0], FOLDERS[2]);
        let text = format!("cd {home}ann/x\nsee docs{work}x\n\"{work}a\"\n");
        assert_eq!(places(&check(&Repo::of(&[("a.md", &text)]))), ["a.md:1", "a.md:3"]);
    }

    #[test]
    fn registries_are_found_in_the_files_of_package_clients() {
        let repo = Repo::of(&[
            ("web/package-lock.json", "{\n\"resolved\": \"there\"}\n"),
            ("web/.npmrc", "omit-lockfile-registry-resolved=true\nregistry=there\n"),
            ("Cargo.lock", &format!("source = \"{CRATES}\"\nsource = \"registry+there\"\n")),
            ("docs/a.md", "registry=there\n"),
        ]);
        assert_eq!(places(&check(&repo)), ["web/package-lock.json:2", "web/.npmrc:2", "Cargo.lock:2"]);
    }
}
