//! Nothing is left for later inside the code: what is missing is an issue, and what is there works.

use super::Finding;
use crate::repo::Repo;

/// Put together here, so that this file does not find itself.
const WORDS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("#[", "ignore"),
    concat!("mark.", "skip("),
    concat!("mark.", "xfail"),
];

const FIX: &str = "finish it, or take it out and file an issue; a test that needs a missing program skips by name";

/// Searches every source file.
pub(super) fn check(repo: &Repo) -> Vec<Finding> {
    let sources = |extension| matches!(extension, "rs" | "py" | "pyi" | "ts" | "mjs" | "css" | "toml" | "Makefile");
    let mut findings = Vec::new();
    for file in repo.files.iter().filter(|file| sources(file.extension())) {
        for (line, text) in file.lines() {
            for word in WORDS.iter().filter(|word| text.contains(**word)) {
                findings.push(Finding::new(&*file.path, line, format!("`{word}`"), FIX));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::places;
    use super::*;

    #[test]
    fn leftovers_are_found() {
        let text = format!("//! A.\n// {}: later\nfn a() {{}}\n", WORDS[0]);
        assert_eq!(places(&check(&Repo::of(&[("a.rs", &text), ("a.md", &text)]))), ["a.rs:2"]);
    }
}
