//! The repository as the rules see it: every file that is tracked or would be, with its text, and every package that it
//! is built from.
//!
//! Rules never touch the disk themselves, so their tests hand them a repository made of literals.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A text file of the repository.
#[derive(Debug, Clone, Default)]
pub(crate) struct File {
    /// From the root, with `/`.
    pub(crate) path: String,
    /// Its contents.
    pub(crate) text: String,
}

impl File {
    /// What stands behind the last dot of its name; the whole name when there is none.
    pub(crate) fn extension(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.rsplit('.').next().unwrap_or_default()
    }

    /// Its lines, numbered from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// A package from a registry that is built in on this machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// What it says of its licence; empty when it says nothing.
    pub(crate) licence: String,
}

impl From<(&str, &str)> for Package {
    fn from((name, licence): (&str, &str)) -> Self {
        Self { name: name.into(), licence: licence.into() }
    }
}

/// All text files and packages.
#[derive(Debug, Default)]
pub(crate) struct Repo {
    /// In the order of their paths.
    pub(crate) files: Vec<File>,
    /// In the order of their names.
    pub(crate) packages: Vec<Package>,
}

impl Repo {
    /// Reads the repository that this crate was built in. Binary files are left out.
    pub(crate) fn open() -> Result<Self, String> {
        let root = root();
        let listed = run(&root, "git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
        let mut paths: Vec<String> = listed.split('\0').filter(|path| !path.is_empty()).map(Into::into).collect();
        paths.sort();
        paths.dedup();
        let read = |path: String| std::fs::read_to_string(root.join(&path)).ok().map(|text| File { path, text });
        Ok(Self { files: paths.into_iter().filter_map(read).collect(), packages: packages(&root)? })
    }

    /// The file at this path.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Files whose path begins and ends so.
    pub(crate) fn matching(&self, start: &str, end: &str) -> impl Iterator<Item = &File> {
        self.files.iter().filter(move |file| file.path.starts_with(start) && file.path.ends_with(end))
    }

    /// A repository made of literals.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| File { path: (*path).into(), text: (*text).into() };
        Self { files: files.iter().map(file).collect(), packages: Vec::new() }
    }
}

/// The packages of registries that are built in on this machine, as cargo tells.
fn packages(root: &Path) -> Result<Vec<Package>, String> {
    let version = run(root, "rustc", &["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc does not tell its host")?;
    let told = run(root, "cargo", &["metadata", "--format-version", "1", "--filter-platform", host])?;
    let told: Value = serde_json::from_str(&told).map_err(|error| format!("cargo metadata: {error}"))?;
    let packages = told["packages"].as_array().into_iter().flatten().filter(|package| !package["source"].is_null());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(packages.map(|package| Package { name: text(&package["name"]), licence: text(&package["license"]) }).collect())
}

/// What a command prints, or what it complains of.
fn run(root: &Path, program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root)
        .output()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} {} failed: {}", arguments.join(" "), said.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_knows_its_kind() {
        let file = |path: &str| File { path: path.into(), ..File::default() };
        assert_eq!(file("a/b.rs").extension(), "rs");
        assert_eq!(file("a.b/Makefile").extension(), "Makefile");
        assert_eq!(file(".ci/run").extension(), "run");
    }

    #[test]
    fn the_repository_finds_itself() {
        assert!(Repo::open().unwrap().file("xtask/src/repo.rs").is_some());
    }
}
