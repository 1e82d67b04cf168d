//! What is built in may be given away, and the crates that must move together have one version each.
//!
//! The licences are those that `deny.toml` allows; cargo tells what each package says of itself.

use super::Finding;
use crate::repo::Repo;

const ALLOWED: &str = "deny.toml";
const LOCK: &str = "Cargo.lock";
/// Two copies of one of these compile, and then do not fit together: docs/adr/0002-dependencies.md.
const KNOT: &[&str] =
    &["arrow", "arrow-array", "arrow-schema", "parquet", "pyo3", "pyo3-arrow", "datafusion", "object_store"];

const FIX_LICENCE: &str = "build on something else, or argue for its licence in deny.toml";
const FIX_KNOT: &str = "move the whole knot in one commit: docs/adr/0002-dependencies.md";

/// The licence of each package is allowed.
pub(super) fn licences(repo: &Repo) -> Vec<Finding> {
    let text = repo.file(ALLOWED).map_or("", |file| &file.text);
    let list = text.split_once("allow = [").and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
    let allowed: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    let finding = |package: &crate::repo::Package| {
        let what = format!("`{}` is under `{}`", package.name, package.licence);
        Finding::new(ALLOWED, 1, what, FIX_LICENCE)
    };
    repo.packages.iter().filter(|package| !permits(&package.licence, &allowed)).map(finding).collect()
}

/// Whether an SPDX expression can be met by the allowed licences. `OR` binds looser than `AND`.
fn permits(expression: &str, allowed: &[&str]) -> bool {
    let expression = expression.trim().replace('/', " OR ");
    if let Some(parts) = split(&expression, " OR ") {
        return parts.iter().any(|part| permits(part, allowed));
    }
    if let Some(parts) = split(&expression, " AND ") {
        return parts.iter().all(|part| permits(part, allowed));
    }
    match expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        Some(inside) => permits(inside, allowed),
        None => allowed.contains(&expression.as_str()),
    }
}

/// The parts between the separators that stand outside parentheses; none when there is no such separator.
fn split<'a>(text: &'a str, separator: &str) -> Option<Vec<&'a str>> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && at >= from && text[at..].starts_with(separator) => {
                parts.push(&text[from..at]);
                from = at + separator.len();
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    (parts.len() > 1).then_some(parts)
}

/// The lock file holds one version of each crate of the knot.
pub(super) fn knot(repo: &Repo) -> Vec<Finding> {
    let Some(lock) = repo.file(LOCK) else { return Vec::new() };
    let mut findings = Vec::new();
    for name in KNOT {
        let entry = format!("name = \"{name}\"");
        let copies: Vec<usize> = lock.lines().filter(|(_, line)| *line == entry).map(|(line, _)| line).collect();
        for line in copies.iter().skip(1) {
            findings.push(Finding::new(LOCK, *line, format!("`{name}` is locked {} times", copies.len()), FIX_KNOT));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::places;
    use super::*;

    #[test]
    fn expressions_are_met_or_not() {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"];
        for good in
            ["MIT", "GPL-3.0 OR MIT", "MIT/Zlib", "(MIT OR GPL-3.0) AND Unicode-3.0", "Apache-2.0 WITH LLVM-exception"]
        {
            assert!(permits(good, &allowed), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Zlib) AND (GPL-3.0)", ""] {
            assert!(!permits(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn foreign_licences_and_second_copies_are_found() {
        let mut repo = Repo::of(&[
            (ALLOWED, "[licenses]\nallow = [\n  \"MIT\",\n]\n"),
            (LOCK, "name = \"arrow\"\nname = \"serde\"\nname = \"arrow\"\nname = \"serde\"\n"),
        ]);
        repo.packages = [("a", "MIT"), ("b", "GPL-3.0")].map(crate::repo::Package::from).into();
        assert_eq!(places(&licences(&repo)), ["deny.toml:1"]);
        assert_eq!(places(&knot(&repo)), ["Cargo.lock:3"]);
    }
}
