//! Outside tests every `unwrap` and `expect` says why it cannot fail, in a comment on its line or above its statement.

use super::Finding;
use crate::repo::Repo;
use crate::rust::Source;

const FIX: &str = "return an error, or say in a comment why it cannot fail";

/// Searches everything that ships.
pub(super) fn check(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repo.matching("crates/", ".rs").chain(repo.matching("python/src/", ".rs")) {
        let source = Source::new(&file.path, &file.text);
        let lines: Vec<&str> = file.text.lines().collect();
        for (line, code) in source.shipped() {
            // A literal tells `Option::expect` from a parser's method of that name; `code` has its inside blanked out.
            let raw = lines[line - 1];
            let unwraps = |call: &&str| code.contains(call.trim_end_matches('"')) && raw.contains(call);
            let call = [".unwrap()", ".expect(\""].iter().copied().find(unwraps);
            if let Some(call) = call.filter(|_| !has_reason(&lines, line - 1)) {
                findings.push(Finding::new(
                    &*file.path,
                    line,
                    format!("`{}` without its reason", call.trim_end_matches(['(', '"', ')'])),
                    FIX,
                ));
            }
        }
    }
    findings
}

/// Whether the line carries a comment, or its statement has one inside or above.
fn has_reason(lines: &[&str], at: usize) -> bool {
    if lines[at].contains("// ") {
        return true;
    }
    for line in lines[..at].iter().rev().map(|line| line.trim()) {
        if (line.starts_with("//") && !line.starts_with("///")) || line.contains("reason = \"") {
            return true;
        }
        if line.is_empty() || line.ends_with([';', '{', '}']) {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::places;
    use super::*;

    #[test]
    fn only_unwraps_without_a_reason_are_found() {
        let text = "\
let a = b.unwrap(); // checked above
// The map was filled with every key.
let c = d
    .get(0)
    .expect(\"a key\");
let e = f.unwrap();
let g = \".unwrap()\";
/// Not `.unwrap()`.
let h = i.unwrap_or(0);
cursor.expect(b',', \"expected a comma\")?;
#[cfg(test)]
mod tests { fn j() { k.unwrap(); } }
";
        assert_eq!(places(&check(&Repo::of(&[("crates/x/src/a.rs", text)]))), ["crates/x/src/a.rs:6"]);
    }
}
