//! Do derived frames stand on an input that is there? Each tells the range it was made from: the ranges must follow each
//! other without a gap or an overlap, and end within what the input's reign wrote.

use crate::inspect::{Finding, Known, MAX_FINDINGS, Partitions, Severity, Verification, input_of};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use trackside_core::log::FrameHead;
use trackside_core::position::InputRange;

/// Where a frame lies.
#[derive(Debug, Clone)]
struct Place {
    file: PathBuf,
    at: u64,
    offset: u64,
}

/// What the frames of one partition say of their input.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    derived: bool,
    /// The last frame's end, and the range that it was made from.
    last: Option<(u64, InputRange)>,
    /// By epoch of the input, the highest end, and the frame that says so.
    ends: BTreeMap<u32, (u64, Place)>,
    gaps: Vec<(Range<u64>, Place)>,
    wrong: Vec<(String, Place)>,
}

impl Ranges {
    pub(super) fn new(derived: bool) -> Self {
        Self { derived, ..Self::default() }
    }

    /// Takes the next sound frame.
    pub(super) fn take(&mut self, head: &FrameHead, file: &Path, at: u64) {
        if !self.derived {
            return;
        }
        let place = || Place { file: file.to_path_buf(), at, offset: head.first };
        let Some(input) = head.meta.input else {
            return self.wrong("a derived frame does not tell its input".into(), place());
        };
        // Behind a frame of this topic that was lost nothing can be said of the range between.
        let before = self.last.filter(|(end, _)| *end == head.first).map(|(_, input)| input);
        match before {
            _ if input.to < input.from => {
                self.wrong(format!("its input {}..{} goes backwards", input.from, input.to), place());
            }
            Some(before) if input.from < before.to => {
                let twice = format!("input {}..{} was worked through twice", input.from, before.to.min(input.to));
                self.wrong(twice, place());
            }
            Some(before) if input.from > before.to && self.gaps.len() < MAX_FINDINGS => {
                self.gaps.push((before.to..input.from, place()));
            }
            _ => {}
        }
        self.last = Some((head.end, input));
        let end = self.ends.entry(input.epoch).or_insert_with(|| (0, place()));
        if input.to > end.0 {
            *end = (input.to, place());
        }
    }

    fn wrong(&mut self, what: String, place: Place) {
        if self.wrong.len() < MAX_FINDINGS {
            self.wrong.push((what, place));
        }
    }
}

/// Compares every derived partition with its input.
pub(super) fn check(known: &Partitions, report: &mut Verification) {
    for (place, partition) in known {
        let Some(topic) = input_of(&place.0) else { continue };
        let finding = |what: String, at: &Place| {
            let lies = Finding { at: Some(at.at), ..Finding::new("input", place, &at.file, what) };
            // What was not durable is dropped by the next start, if its input did not survive.
            let pending = at.offset >= partition.survey.durable;
            Finding { severity: if pending { Severity::Pending } else { Severity::Damage }, ..lies }
        };
        for (what, at) in &partition.ranges.wrong {
            report.add(finding(format!("the frame at offset {}: {what}", at.offset), at));
        }
        let Some(input) = known.get(&(topic.to_owned(), place.1)) else {
            if partition.ranges.last.is_some() {
                report.add(Finding::new("input", place, Path::new(topic), format!("its input `{topic}` is missing")));
            }
            continue;
        };
        for (gap, at) in partition.ranges.gaps.iter().filter(|(gap, _)| !excused(gap, input)) {
            let what = format!("input {}..{} of `{topic}` was not worked through", gap.start, gap.end);
            report.add(finding(what, at));
        }
        for (epoch, (to, at)) in &partition.ranges.ends {
            if let Some(why) = beyond(*epoch, *to, input) {
                report.add(finding(format!("the frame at offset {} stands on input up to {to}: {why}", at.offset), at));
            }
        }
    }
}

/// A gap is no loss of this stage's if the input itself is lost there, or was given up since.
fn excused(gap: &Range<u64>, input: &Known) -> bool {
    gap.end <= input.survey.first || input.lost.iter().any(|lost| lost.start < gap.end && gap.start < lost.end)
}

/// Why input up to `to` cannot have been there in that reign.
fn beyond(epoch: u32, to: u64, input: &Known) -> Option<String> {
    let epochs = &input.survey.epochs;
    let Some(reign) = epochs.iter().position(|start| start.epoch == epoch) else {
        // Reigns before what is kept are forgotten.
        let forgotten = epochs.first().is_none_or(|oldest| epoch < oldest.epoch) && to <= input.survey.published;
        return (!forgotten).then(|| format!("its input has no epoch {epoch}"));
    };
    let end = epochs.get(reign + 1).map_or(input.survey.published, |next| next.first_offset);
    (to > end).then(|| format!("epoch {epoch} of its input ends at {end}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::log_inspect::Survey;
    use trackside_core::log::FrameMeta;

    fn head(first: u64, end: u64, from: u64, to: u64) -> FrameHead {
        let input = Some(InputRange { epoch: 1, from, to });
        FrameHead { epoch: 1, first, end, meta: FrameMeta { input, ..FrameMeta::default() } }
    }

    fn known(topic: &str, published: u64, ranges: Ranges) -> ((String, u32), Known) {
        let survey = Survey { published, durable: published, ..Survey::default() };
        ((topic.to_owned(), 0), Known { survey, lost: Vec::new(), ranges })
    }

    fn found(frames: &[FrameHead], lost: Option<Range<u64>>) -> Vec<String> {
        let mut ranges = Ranges::new(true);
        frames.iter().for_each(|frame| ranges.take(frame, Path::new("x.seg"), 64));
        let mut partitions = Partitions::from([known("clean", 90, ranges), known("received", 100, Ranges::new(false))]);
        partitions.values_mut().for_each(|partition| partition.lost = lost.clone().into_iter().collect());
        let mut report = Verification::default();
        check(&partitions, &mut report);
        report.findings.into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn ranges_follow_each_other() {
        assert!(found(&[head(0, 9, 0, 10), head(9, 20, 10, 30)], None).is_empty());
        let twice = found(&[head(0, 9, 0, 10), head(9, 20, 8, 30)], None);
        assert!(twice[0].contains("input 8..10 was worked through twice"), "{twice:?}");
        let gap = found(&[head(0, 9, 0, 10), head(9, 20, 12, 30)], None);
        assert!(gap[0].contains("input 10..12 of `received` was not worked through"), "{gap:?}");
        assert!(found(&[head(0, 9, 0, 10), head(9, 20, 12, 30)], Some(10..12)).is_empty());
        assert!(found(&[head(0, 9, 0, 10), head(12, 20, 20, 30)], None).is_empty(), "a frame of its own is missing");
    }

    #[test]
    fn an_input_that_never_was_is_found() {
        let text = found(&[head(0, 9, 0, 101)], None);
        assert!(text[0].contains("its input has no epoch 1"), "{text:?}");
        assert!(found(&[head(0, 9, 0, 100)], None).is_empty(), "the oldest epochs are forgotten");
    }
}
