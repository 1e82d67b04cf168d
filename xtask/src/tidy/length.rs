//! Files stay short enough to be read in one go.
//!
//! The list beside this file is a ratchet: it may name a file that is longer, with its length. The length may shrink,
//! never grow, and a file that fits again must leave the list.

use super::Finding;
use crate::repo::Repo;

/// Lines that a source file may have.
const MOST: usize = 600;
/// Where the exceptions stand, one `path length` a line.
const LIST: &str = "xtask/src/tidy/long_files.txt";

/// Counts the lines of every source file.
pub(super) fn check(repo: &Repo) -> Vec<Finding> {
    let listed = repo.file(LIST).map_or(Vec::new(), |list| exceptions(&list.text));
    let mut findings = Vec::new();
    for file in &repo.files {
        if !matches!(file.extension(), "rs" | "py" | "ts" | "mjs" | "css") {
            continue;
        }
        let lines = file.text.lines().count();
        let most = listed.iter().find(|(_, path, _)| *path == file.path).map_or(MOST, |(_, _, most)| *most);
        if lines > most {
            let what = format!("the file has {lines} lines; {most} are allowed");
            findings.push(Finding::new(
                &*file.path,
                lines,
                what,
                "one file, one story: move what is another story to a file of its own",
            ));
        }
    }
    for (line, path, _) in &listed {
        let lines = repo.file(path).map_or(0, |file| file.text.lines().count());
        if lines <= MOST {
            findings.push(Finding::new(
                LIST,
                *line,
                format!("`{path}` has {lines} lines"),
                "it fits: take it off the list",
            ));
        }
    }
    findings
}

/// The entries of the list: (line, path, length).
fn exceptions(text: &str) -> Vec<(usize, &str, usize)> {
    let entry = |(index, line): (usize, _)| {
        let (path, length) = str::split_once(line, ' ')?;
        Some((index + 1, path, length.trim().parse().ok()?))
    };
    text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')).filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::super::places;
    use super::*;

    #[test]
    fn long_files_are_found_and_the_list_only_shrinks() {
        let (short, long) = ("x\n".repeat(MOST), "x\n".repeat(MOST + 5));
        let list = "# path length\nb.rs 605\nc.rs 604\nshort.rs 700\ngone.rs 700\n";
        let files = [("a.rs", &*long), ("b.rs", &*long), ("c.rs", &*long), ("short.rs", &*short), (LIST, list)];
        let found = places(&check(&Repo::of(&files)));
        assert_eq!(found, ["a.rs:605", "c.rs:605", &format!("{LIST}:4"), &format!("{LIST}:5")]);
    }
}
