//! Links between the repository's own pages lead to files that are there.

use super::Finding;
use crate::repo::Repo;

/// Follows every relative link of every page.
pub(super) fn check(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repo.matching("", ".md") {
        for (line, text) in file.lines() {
            for target in targets(text).filter(|target| !exists(repo, &resolve(&file.path, target))) {
                let what = format!("the link `{target}` leads nowhere");
                findings.push(Finding::new(
                    &*file.path,
                    line,
                    what,
                    "name a file of the repository, relative to this page",
                ));
            }
        }
    }
    findings
}

/// The relative targets of a line's links, without their anchors.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', '#', ' ']).next()?;
        (!target.is_empty() && !target.contains(':')).then_some(target)
    })
}

/// The path that `target` names on the page `from`.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." | "" => {}
            ".." => _ = parts.pop(),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// A file, binary ones included, or a folder that holds one.
fn exists(repo: &Repo, path: &str) -> bool {
    let folder = format!("{path}/");
    path.is_empty()
        || repo.files.iter().any(|file| file.path == path || file.path.starts_with(&folder))
        || (!cfg!(test) && crate::repo::root().join(path).exists())
}

#[cfg(test)]
mod tests {
    use super::super::places;
    use super::*;

    #[test]
    fn dead_links_are_found() {
        let page = "[a](adr/0001.md#x) [b](../README.md)\n[c](gone.md) [d](#here) [e](mailto:x)\n[f](adr/)\n[g](../../up.md)\n";
        let repo = Repo::of(&[("docs/page.md", page), ("docs/adr/0001.md", ""), ("README.md", "")]);
        assert_eq!(places(&check(&repo)), ["docs/page.md:2", "docs/page.md:4"]);
    }
}
