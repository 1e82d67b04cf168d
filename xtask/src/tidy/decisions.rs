//! Decisions (docs/adr) are numbered without gaps and tell context, decision and consequences.

use super::Finding;
use crate::repo::Repo;

const FOLDER: &str = "docs/adr/";
const PARTS: &[&str] = &["## Context", "## Decision", "## Consequences"];

/// Checks numbers, titles and parts.
pub(super) fn check(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, file) in repo.matching(FOLDER, ".md").enumerate() {
        let number = format!("{:04}", index + 1);
        if !file.path[FOLDER.len()..].starts_with(&format!("{number}-")) {
            let what = format!("the next decision would be {number}");
            findings.push(Finding::new(&*file.path, 1, what, "name it NNNN-title.md, numbers without gaps"));
        }
        if !file.text.starts_with(&format!("# {number} ")) {
            findings.push(Finding::new(
                &*file.path,
                1,
                format!("the title does not begin with {number}"),
                "open with `# NNNN Title`",
            ));
        }
        for part in PARTS.iter().filter(|part| !file.lines().any(|(_, line)| line == **part)) {
            findings.push(Finding::new(
                &*file.path,
                1,
                format!("no `{part}`"),
                "a decision has context, decision and consequences",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::places;
    use super::*;

    #[test]
    fn gaps_and_missing_parts_are_found() {
        let body = "\n## Context\n## Decision\n## Consequences\n";
        let text = |title: &str| format!("# {title}{body}");
        let (one, three, bare) = (text("0001 One"), text("0003 Three"), "# 0003 Bare\n## Context\n".to_string());
        let good = Repo::of(&[("docs/adr/0001-one.md", &one)]);
        assert!(check(&good).is_empty());
        let bad = Repo::of(&[("docs/adr/0001-one.md", &one), ("docs/adr/0003-three.md", &three)]);
        assert_eq!(places(&check(&bad)), ["docs/adr/0003-three.md:1", "docs/adr/0003-three.md:1"]);
        let bare = Repo::of(&[("docs/adr/0001-one.md", &one), ("docs/adr/0002-bare.md", &bare)]);
        assert_eq!(check(&bare).len(), 3);
    }
}
