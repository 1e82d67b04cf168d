//! The rows of `clean` that a model is asked about next, and how they are split when one of them kills.

use crate::ledger::{Counts, add, lost_before, names};
use crate::run::clean::same_columns;
use crate::worker::tail::Run;
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use std::collections::BTreeSet;
use std::sync::Arc;
use trackside_core::batch;
use trackside_core::dead_letter::Stage;
use trackside_core::log::{Frame, LogError, SectionKind};
use trackside_core::model::{FrameSlice, ModelRequest};
use trackside_core::position::InputRange;

/// Rows of `clean` that a replay must leave out, because the output says that the model never learnt from them.
#[derive(Debug, Default)]
pub(super) struct Excluded {
    /// Single rows that became dead letters.
    pub(super) dead: BTreeSet<u64>,
    /// Ranges that were skipped.
    pub(super) skipped: Vec<(u64, u64)>,
}

impl Excluded {
    /// The offset after the skipped range that holds `offset`, if one does.
    fn after_skipped(&self, offset: u64) -> Option<u64> {
        self.skipped.iter().find(|(from, to)| (*from..*to).contains(&offset)).map(|(_, to)| *to)
    }

    /// The first skipped offset after `offset`.
    fn next_skipped(&self, offset: u64) -> Option<u64> {
        self.skipped.iter().map(|(from, _)| *from).filter(|from| *from > offset).min()
    }
}

/// A frame that brings a dead letter's row back to this model gets it as its one row, at its own offset: so a replay finds it
/// where it was learnt, and a letter about it names a place of its own. Other models' pass as frames without rows.
pub(crate) fn sent_back(mut frame: Frame, model: &str) -> Frame {
    let ours = frame.meta.letter.as_ref().is_some_and(|word| word.is_retry_at(Stage::Model) && word.component == model);
    if ours && let Some(section) = frame.sections.iter_mut().find(|section| section.kind == SectionKind::Retried) {
        section.kind = SectionKind::Rows;
        frame.num_rows = 1;
    }
    frame
}

/// Rows `from..to` of a frame.
#[derive(Debug, Clone)]
struct Slice {
    frame: Arc<Frame>,
    from: usize,
    to: usize,
}

impl Slice {
    /// Of a row that came back: the offset in `clean` under which its answer is kept.
    fn key(&self) -> Option<u64> {
        key(&self.frame)
    }
}

fn key(frame: &Frame) -> Option<u64> {
    let word = frame.meta.letter.as_ref().filter(|_| frame.num_rows > 0)?;
    Some(word.offset.unwrap_or(frame.first))
}

/// A run of rows of one epoch, and the input range that it covers (frames without rows included).
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    slices: Vec<Slice>,
    pub(crate) range: InputRange,
}

impl Batch {
    /// The rows from `offset` on, up to `max_rows` and to `limit`; none when the frames hold nothing there.
    pub(crate) fn gather(
        frames: &[Arc<Frame>],
        offset: u64,
        max_rows: usize,
        max_frames: usize,
        limit: u64,
    ) -> Result<Option<Self>, LogError> {
        let Some(first) = frames.iter().find(|frame| frame.end > offset) else { return Ok(None) };
        let mut batch = Self { slices: Vec::new(), range: InputRange { epoch: first.epoch, from: offset, to: offset } };
        let mut room = max_rows;
        for frame in
            frames.iter().filter(|frame| frame.end > offset && frame.epoch == first.epoch && frame.first < limit)
        {
            if batch.slices.len() == max_frames || room == 0 {
                break;
            }
            // A row that came back is counted apart, so it is a batch of its own.
            if batch.slices.first().is_some_and(|slice| slice.key().is_some() || key(frame).is_some()) {
                break;
            }
            // The first frame is not looked into: its rows are decoded while the worker is at work.
            if let Some(slice) = batch.slices.first()
                && !same_columns(&slice.frame, frame)?
            {
                break;
            }
            let from = offset.saturating_sub(frame.first) as usize;
            let held = frame.num_rows;
            let to = held.min(from + room).min((limit - frame.first) as usize);
            if to > from {
                room -= to - from;
                batch.slices.push(Slice { frame: frame.clone(), from, to });
            }
            batch.range.to = if to >= held { frame.end } else { frame.first + to as u64 };
        }
        Ok((batch.range.to > batch.range.from).then_some(batch))
    }

    /// The part that a replay from `offset` must work through next, with the rows that it leaves out.
    pub(super) fn gather_replay(
        frames: &[Arc<Frame>],
        offset: u64,
        max_rows: usize,
        limit: u64,
        excluded: &Excluded,
    ) -> Result<Option<(Option<Self>, u64)>, LogError> {
        if let Some(after) = excluded.after_skipped(offset) {
            return Ok(Some((None, after)));
        }
        let limit = excluded.next_skipped(offset).map_or(limit, |skipped| skipped.min(limit));
        let batch = Self::gather(frames, offset, max_rows, usize::MAX, limit)?;
        Ok(batch.map(|batch| {
            let to = batch.range.to;
            (Some(batch), to)
        }))
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.slices.iter().map(|slice| slice.to - slice.from).sum()
    }

    /// Wall clock at which its oldest frame was received.
    pub(super) fn received_at(&self) -> Option<i64> {
        self.slices.first().map(|slice| slice.frame.ingest_time)
    }

    /// The question that a runtime is asked.
    pub(super) fn request(&self, replay: bool, excluded: &Excluded) -> ModelRequest {
        let frame = |slice: &Slice| {
            let location = slice.frame.location.clone()?;
            Some(FrameSlice { location, base: slice.frame.first, from: slice.from, to: slice.to })
        };
        let skip = excluded.dead.range(self.range.from..self.range.to).copied().collect();
        ModelRequest { frames: self.slices.iter().filter_map(frame).collect(), skip, replay }
    }

    /// The rows as they lie in memory, a run of each frame.
    pub(crate) fn runs(&self) -> Vec<Run> {
        let run = |slice: &Slice| {
            let rows = slice.frame.sections.iter().find(|section| section.kind == SectionKind::Rows)?;
            Some(Run { base: slice.frame.first, section: rows.bytes()?.clone(), from: slice.from, to: slice.to })
        };
        self.slices.iter().filter_map(run).collect()
    }

    /// Offset of each row in `clean`.
    pub(super) fn offsets(&self) -> Vec<u64> {
        self.slices.iter().flat_map(|slice| (slice.from..slice.to).map(|row| slice.frame.first + row as u64)).collect()
    }

    /// Offset in `clean` under which each row's answer is kept: its own, unless it came back.
    pub(super) fn keys(&self) -> Vec<u64> {
        match self.slices.first().and_then(Slice::key) {
            Some(key) => vec![key],
            None => self.offsets(),
        }
    }

    /// Counts its rows as worked through, and those before them that stood in a damaged part of the log as lost. Where the
    /// log was `trimmed` before the model was new, the rows before its first one are skipped, not lost.
    pub(super) fn count(&self, counts: &mut Counts, trimmed: bool) {
        if self.slices.first().and_then(Slice::key).is_some() {
            return add(counts, names::RETRIED, self.rows() as u64);
        }
        for slice in &self.slices {
            let missing = lost_before(&slice.frame, slice.from, names::CLEAN, counts);
            if trimmed && !counts.contains_key(names::CONSUMED) {
                add(counts, names::CONSUMED, missing);
                add(counts, names::SKIPPED, missing);
            } else {
                add(counts, names::LOST, missing);
            }
            add(counts, names::CONSUMED, (slice.to - slice.from) as u64);
        }
    }

    /// The rows as one batch; none when there are none.
    pub(super) fn table(&self) -> Result<Option<RecordBatch>, ArrowError> {
        let mut rows = Vec::with_capacity(self.slices.len());
        for slice in &self.slices {
            let held = slice.frame.rows().map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
            rows.extend(held.map(|held| held.slice(slice.from, slice.to - slice.from)));
        }
        batch::concat(&rows)
    }

    /// The first half of the rows, and the rest.
    pub(super) fn halves(&self) -> (Self, Self) {
        let mut left = Self { slices: Vec::new(), range: self.range };
        let mut right = Self { slices: Vec::new(), range: self.range };
        let mut room = self.rows().div_ceil(2);
        for slice in &self.slices {
            let taken = room.min(slice.to - slice.from);
            room -= taken;
            let cut = slice.from + taken;
            if taken > 0 {
                left.slices.push(Slice { to: cut, ..slice.clone() });
                left.range.to = slice.frame.first + cut as u64;
            }
            if cut < slice.to {
                right.slices.push(Slice { from: cut, ..slice.clone() });
            }
        }
        right.range.from = left.range.to;
        (left, right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackside_core::log::{FrameMeta, SectionKind};
    use trackside_core::testing::events;

    fn frame(first: u64, rows: usize) -> Arc<Frame> {
        let values: Vec<_> = (0..rows).map(|row| (row as i64, "a", row as f64)).collect();
        let sections = if rows == 0 { vec![] } else { vec![(SectionKind::Rows, events(&values)).into()] };
        Arc::new(Frame {
            epoch: 1,
            first,
            end: first + rows.max(1) as u64,
            num_rows: rows,
            meta: FrameMeta::default(),
            ingest_time: 0,
            sections,
            location: None,
        })
    }

    #[test]
    fn a_batch_takes_parts_of_frames_and_covers_empty_ones() {
        let frames = [frame(0, 3), frame(3, 0), frame(4, 5)];
        let gather = |from, rows, limit| Batch::gather(&frames, from, rows, 99, limit).unwrap();
        let batch = gather(1, 4, u64::MAX).unwrap();
        assert_eq!((batch.offsets(), batch.range.to), (vec![1, 2, 4, 5], 6));
        let batch = gather(3, 1, 4).unwrap();
        assert_eq!((batch.rows(), batch.range.to), (0, 4));
        assert!(gather(9, 4, u64::MAX).is_none());
    }

    #[test]
    fn rows_before_the_first_are_lost_or_were_never_kept_for_a_new_model() {
        let mut first = Arc::unwrap_or_clone(frame(70, 3));
        first.meta.counts = [(names::CLEAN.to_owned(), 73)].into();
        let batch = Batch::gather(&[Arc::new(first)], 70, 9, 9, u64::MAX).unwrap().unwrap();
        let counted = |trimmed| {
            let mut counts = Counts::new();
            batch.count(&mut counts, trimmed);
            [names::CONSUMED, names::SKIPPED, names::LOST].map(|name| counts.get(name).copied().unwrap_or(0))
        };
        assert_eq!((counted(true), counted(false)), ([73, 70, 0], [3, 0, 70]));
    }

    #[test]
    fn halves_meet_and_cover_the_whole_down_to_a_row() {
        let batch = Batch::gather(&[frame(0, 3), frame(3, 0), frame(4, 2)], 0, 99, 99, u64::MAX).unwrap().unwrap();
        let mut rows = Vec::new();
        let mut stack = vec![batch.clone()];
        let mut at = 0;
        while let Some(part) = stack.pop() {
            if part.rows() <= 1 {
                assert_eq!(part.range.from, at);
                at = part.range.to;
                rows.extend(part.offsets());
            } else {
                let (left, right) = part.halves();
                stack.extend([right, left]);
            }
        }
        assert_eq!((rows, at), (vec![0, 1, 2, 4, 5], batch.range.to));
    }

    #[test]
    fn a_row_that_came_back_is_a_batch_of_its_own_under_its_old_key() {
        use trackside_core::dead_letter::{LetterAction, LetterWord};
        use trackside_core::log::FrameKind;
        let word = LetterWord {
            id: "scores.m/0/9/0".parse().unwrap(),
            action: LetterAction::Retry,
            stage: Stage::Model,
            component: "m".into(),
            offset: Some(1),
        };
        let back = |model| {
            let mut frame = Arc::unwrap_or_clone(frame(5, 0));
            frame.meta =
                FrameMeta { kind: FrameKind::Letter, letter: Some(Box::new(word.clone())), ..FrameMeta::default() };
            frame.sections = vec![(SectionKind::Retried, events(&[(1, "a", 1.0)])).into()];
            Arc::new(sent_back(frame, model))
        };
        let frames = [frame(3, 2), back("m"), frame(6, 2)];
        let gather = |frames: &[Arc<Frame>], from| Batch::gather(frames, from, 99, 99, u64::MAX).unwrap().unwrap();
        let all = [3, 5, 6].map(|from| gather(&frames, from));
        assert_eq!(all.each_ref().map(|batch| batch.range.to), [5, 6, 8]);
        let counts = |batch: &Batch| {
            let mut counts = Counts::new();
            batch.count(&mut counts, false);
            counts
        };
        assert_eq!((all[1].keys(), all[1].offsets()), (vec![1], vec![5]));
        assert_eq!((counts(&all[1]).get("retried"), counts(&all[1]).get("consumed")), (Some(&1), None));
        assert_eq!((all[2].keys(), counts(&all[2]).get("consumed")), (vec![6, 7], Some(&2)));
        assert_eq!(all[1].table().unwrap().unwrap().num_rows(), 1);
        let others = [frame(3, 2), back("other"), frame(6, 2)];
        assert_eq!(gather(&others, 3).keys(), [3, 4, 6, 7]);
    }

    #[test]
    fn a_replay_steps_over_what_was_skipped() {
        let frames = [frame(0, 10)];
        let excluded = Excluded { dead: [2].into(), skipped: vec![(4, 7)] };
        let next = |offset| Batch::gather_replay(&frames, offset, 99, 10, &excluded).unwrap().unwrap();
        let (batch, to) = next(0);
        assert_eq!((batch.unwrap().request(true, &excluded).skip, to), (vec![2], 4));
        assert_eq!(next(4).1, 7);
        assert_eq!(next(7).0.unwrap().offsets(), [7, 8, 9]);
    }
}
