//! Every component stands in its folder's list, under its file's name, and on its reference page.
//!
//! A component is a module with a public `build`. The list is the `const` slice in the folder's `mod.rs`; the page is
//! the one that `cargo xtask docs` writes.

use super::Finding;
use crate::repo::Repo;
use crate::rust::Source;

/// Folders of components: where, and the page that describes them.
const FOLDERS: &[(&str, &str)] = &[
    ("crates/trackside-connectors/src/sources/", "docs/reference/sources.md"),
    ("crates/trackside-operators/src/clean/", "docs/reference/cleaners.md"),
    ("crates/trackside-connectors/src/sinks/", "docs/reference/sinks.md"),
];

/// Compares files, list and page of each folder.
pub(super) fn check(repo: &Repo) -> Vec<Finding> {
    FOLDERS.iter().flat_map(|(folder, page)| check_folder(repo, folder, page)).collect()
}

fn check_folder(repo: &Repo, folder: &str, page: &str) -> Vec<Finding> {
    let path = format!("{folder}mod.rs");
    let Some(list) = repo.file(&path) else { return Vec::new() };
    let built = components(repo, folder);
    let mut findings = Vec::new();
    for (name, file) in &built {
        if !list.text.contains(&format!("{name}::build")) && !list.text.contains(&format!("{name}::COMPONENT")) {
            findings.push(Finding::new(
                *file,
                1,
                format!("`{name}` is not in the list"),
                "add its line to the const list in mod.rs",
            ));
        }
        if !repo.file(page).is_some_and(|page| page.text.contains(&format!("## `{name}`"))) {
            findings.push(Finding::new(
                *file,
                1,
                format!("`{name}` is not in {page}"),
                "run `cargo xtask docs` and commit the page",
            ));
        }
    }
    for (file, line, name) in names(repo, &path, &built) {
        if !built.iter().any(|(built, at)| *built == name && (*at == file || path == file)) {
            let what = format!("`{name}` is no component of that file's name");
            findings.push(Finding::new(
                file,
                line,
                what,
                "name the file after the component's `type`, or delete the entry",
            ));
        }
    }
    findings
}

/// Modules of the folder with a public `build`: (name, path).
fn components<'a>(repo: &'a Repo, folder: &str) -> Vec<(&'a str, &'a str)> {
    let name = |path: &'a str| match path[folder.len()..].strip_suffix(".rs")?.split_once('/') {
        None => Some(&path[folder.len()..path.len() - 3]).filter(|name| *name != "mod"),
        Some((name, "mod")) => Some(&path[folder.len()..folder.len() + name.len()]),
        Some(_) => None,
    };
    let builds = |path: &str, text: &str| {
        Source::new(path, text).shipped().any(|(_, code)| {
            ["pub fn build(", "pub const COMPONENT", "pub(super) fn build(", "pub(crate) fn build("]
                .iter()
                .any(|b| code.starts_with(b))
        })
    };
    repo.matching(folder, ".rs")
        .filter(|f| builds(&f.path, &f.text))
        .filter_map(|f| Some((name(&f.path)?, &*f.path)))
        .collect()
}

/// The names that the list and the components give: (path, line, name).
fn names<'a>(repo: &'a Repo, list: &'a str, built: &[(&str, &'a str)]) -> Vec<(&'a str, usize, &'a str)> {
    let mut found = Vec::new();
    for path in built.iter().map(|(_, path)| *path).chain([list]) {
        let text = repo.file(path).map_or("", |file| &file.text);
        let lines: Vec<&str> = text.lines().collect();
        let shipped: Vec<usize> = Source::new(path, text).shipped().map(|(line, _)| line).collect();
        found.extend(shipped.into_iter().filter_map(|line| Some((path, line, given_name(lines[line - 1])?))));
    }
    found
}

/// The `x` of a line `name: "x",`.
fn given_name(text: &str) -> Option<&str> {
    text.trim().trim_start_matches("Component {").trim().strip_prefix("name: \"")?.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::super::places;
    use super::*;

    #[test]
    fn what_is_not_listed_or_documented_or_there_is_found() {
        let folder = FOLDERS[2].0;
        let path = |name: &str| format!("{folder}{name}");
        let list =
            "//! Sinks.\nComponent {\n name: \"stdout\",\n build: stdout::build,\n}\nComponent {\n name: \"gone\",\n";
        let build = "pub fn build() {}\n";
        let repo = Repo::of(&[
            (&path("mod.rs"), list),
            (&path("stdout.rs"), build),
            (&path("webhook/mod.rs"), "pub const COMPONENT: X = Component {\n    name: \"hook\",\n};\n"),
            (&path("webhook/queue.rs"), "pub fn build_queue() {}\n"),
            ("docs/reference/sinks.md", "## `stdout`\n"),
        ]);
        let webhook = format!("{folder}webhook/mod.rs:1");
        assert_eq!(
            places(&check(&repo)),
            [&*webhook, &webhook, &webhook.replace(":1", ":2"), &format!("{folder}mod.rs:7")]
        );
    }
}
