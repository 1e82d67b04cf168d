//! What compilers and linters cannot say: `cargo xtask tidy`.
//!
//! A rule is a file here and a line in [`RULES`]. It reads the repository and answers with findings, each with the
//! place, what is wrong and how to make it right. There is no way to switch a rule off but one: a file that is longer
//! than allowed may be on a list, with a length that may only shrink (see [`length`]).

mod components;
mod decisions;
mod dependencies;
mod floors;
mod headers;
mod length;
mod links;
mod machine;
mod unfinished;
mod unwraps;

use crate::repo::Repo;
use std::fmt;

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    what: String,
    fix: &'static str,
}

impl Finding {
    /// A finding at a line, numbered from 1.
    pub(crate) fn new(path: impl Into<String>, line: usize, what: impl Into<String>, fix: &'static str) -> Self {
        Self { path: path.into(), line, what: what.into(), fix }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}\n    {}", self.path, self.line, self.what, self.fix)
    }
}

/// A rule of the house.
struct Rule {
    /// In a few words.
    name: &'static str,
    check: fn(&Repo) -> Vec<Finding>,
}

/// Every rule.
const RULES: &[Rule] = &[
    Rule { name: "imports go down only", check: floors::imports },
    Rule { name: "a crate touches only what it may", check: floors::permissions },
    Rule { name: "the catalogue alone names components", check: floors::catalogue },
    Rule { name: "every file says what it is for", check: headers::check },
    Rule { name: "files stay short", check: length::check },
    Rule { name: "every unwrap has its reason", check: unwraps::check },
    Rule { name: "nothing is left unfinished", check: unfinished::check },
    Rule { name: "nothing names a machine or a registry", check: machine::check },
    Rule { name: "what is built in may be given away", check: dependencies::licences },
    Rule { name: "the knot moves together", check: dependencies::knot },
    Rule { name: "every component is listed and documented", check: components::check },
    Rule { name: "decisions are numbered and whole", check: decisions::check },
    Rule { name: "links lead somewhere", check: links::check },
];

/// Runs every rule; the error is all findings in words.
pub(crate) fn run(repo: &Repo) -> Result<String, String> {
    let mut report = String::new();
    let mut count = 0;
    for rule in RULES {
        let mut findings = (rule.check)(repo);
        findings.sort();
        if !findings.is_empty() {
            report += &format!("{}:\n", rule.name);
        }
        for finding in &findings {
            report += &format!("  {finding}\n");
        }
        count += findings.len();
    }
    match count {
        0 => Ok(format!("tidy: {} files keep {} rules", repo.files.len(), RULES.len())),
        1 => Err(report + "tidy: 1 finding"),
        _ => Err(report + &format!("tidy: {count} findings")),
    }
}

/// In tests: where a rule finds something, as `path:line`.
#[cfg(test)]
fn places(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|finding| format!("{}:{}", finding.path, finding.line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_rule_place_and_fix() {
        let repo = Repo::of(&[("crates/trackside-core/src/a.rs", "fn a() {}\n")]);
        let report = run(&repo).unwrap_err();
        assert!(report.contains("every file says what it is for:\n  crates/trackside-core/src/a.rs:1: "), "{report}");
        assert!(report.ends_with("tidy: 1 finding"), "{report}");
        assert_eq!(run(&Repo::default()).unwrap(), format!("tidy: 0 files keep {} rules", RULES.len()));
    }
}
