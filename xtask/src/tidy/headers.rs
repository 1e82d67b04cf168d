//! Every source file opens with a few words on what it is for.

use super::Finding;
use crate::repo::{File, Repo};

/// Checks the first line that is more than a formality.
pub(super) fn check(repo: &Repo) -> Vec<Finding> {
    repo.files.iter().filter_map(finding).collect()
}

fn finding(file: &File) -> Option<Finding> {
    let (opens, fix): (&[&str], _) = match file.extension() {
        "rs" => (&["//!"], "open with `//!`: its duty, its promise, what it does not do"),
        "py" => (&["\"\"\"", "r\"\"\""], "open with a docstring: what it is for"),
        "pyi" => (&["\"\"\"", "#"], "open with a docstring: what it is for"),
        "ts" | "mjs" | "css" => (&["//", "/*"], "open with a comment: what it is for"),
        "sh" => (&["#"], "open with a comment: what it is for"),
        _ if file.text.starts_with("#!") => (&["#", "\"\"\""], "open with a comment: what it is for"),
        _ => return None,
    };
    let first = file.lines().find(|(_, line)| !line.trim().is_empty() && !is_formality(line));
    match first {
        Some((_, line)) if opens.iter().any(|open| line.starts_with(open)) => None,
        Some((number, _)) => Some(Finding::new(&*file.path, number, "the file does not say what it is for", fix)),
        None => Some(Finding::new(&*file.path, 1, "the file is empty", "say what it is for, or delete it")),
    }
}

/// Lines that may stand above the words: an interpreter, an inner attribute.
fn is_formality(line: &str) -> bool {
    line.starts_with("#!")
}

#[cfg(test)]
mod tests {
    use super::super::places;
    use super::*;

    #[test]
    fn files_without_words_are_found() {
        let repo = Repo::of(&[
            ("a.rs", "//! Does a.\n"),
            ("b.rs", "\nuse std;\n"),
            ("c.py", "#!/usr/bin/env python3\n\"\"\"Does c.\"\"\"\n"),
            ("d.py", "import sys\n"),
            ("e.py", ""),
            ("f.ts", "// Draws f.\n"),
            ("g.ts", "export {}\n"),
            (".ci/h", "#!/bin/sh\necho\n"),
            ("py.typed", ""),
        ]);
        assert_eq!(places(&check(&repo)), ["b.rs:2", "d.py:1", "e.py:1", "g.ts:1", ".ci/h:2"]);
    }
}
