//! What a cleaner's loop found in a batch, and what is done with it.
//!
//! The loop only notes; acting comes after it, so that the loop stays tight and borrows little. Findings are rare.

use super::setting::text_number;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trackside_core::operator::OnFinding;
use trackside_core::work::Work;

/// What a cleaner does with a finding that has no better value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Irreplaceable {
    /// Note it in the field's quality code.
    #[default]
    Mark,
    /// Leave the row out, counted by rule.
    Drop,
    /// Make the row a dead letter.
    Reject,
}

impl From<Irreplaceable> for OnFinding {
    fn from(action: Irreplaceable) -> Self {
        match action {
            Irreplaceable::Mark => Self::Mark,
            Irreplaceable::Drop => Self::Drop,
            Irreplaceable::Reject => Self::Reject,
        }
    }
}

/// One value that does not pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finding {
    /// Row in the batch.
    pub(super) row: usize,
    /// What `replace` puts in its place; NaN when there is nothing better, and the value is only marked.
    pub(super) better: f64,
    /// Which of the verdict's words say what is wrong.
    pub(super) words: usize,
}

/// Goes on after "`value` = 99" in a dead letter: what is wrong, and what the better value is.
pub(super) type Words = (&'static str, &'static str);

/// How the findings of one cleaner are named and dealt with.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Name of the cleaner's block.
    pub(super) name: String,
    /// Number of the field that was judged.
    pub(super) field: usize,
    /// Its name.
    pub(super) field_name: String,
    /// The quality bit of the finding.
    pub(super) bit: u16,
    /// What to do.
    pub(super) action: OnFinding,
    /// All that can be wrong.
    pub(super) words: &'static [Words],
}

impl Verdict {
    /// Deals with the findings and empties the list; its room is kept for the next batch.
    pub(super) fn act(&self, work: &mut Work, findings: &mut Vec<Finding>) {
        for Finding { row, better, words } in findings.drain(..) {
            work.quality_mut(self.field)[row] |= self.bit;
            match self.action {
                OnFinding::Mark => {}
                OnFinding::Replace if better.is_nan() => {}
                OnFinding::Replace => work.replace(self.field, row, better),
                OnFinding::Drop => work.drop_row(row, &self.name),
                OnFinding::Reject => {
                    let reason = self.reason(self.words[words], work.float_mut(self.field).values[row], better);
                    work.reject(row, &self.name, reason);
                }
            }
        }
    }

    fn reason(&self, (wrong, near): Words, value: f64, better: f64) -> String {
        let reason = format!("`{}` = {} {wrong}", self.field_name, text_number(value));
        if better.is_nan() { reason } else { format!("{reason}; {near} is {}", text_number(better)) }
    }
}
