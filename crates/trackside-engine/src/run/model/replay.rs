//! Bringing a runtime back to where its output ends: its newest snapshot, and the rows since.
//!
//! A row that was scored once may fail now: the model's code was changed. It is found by replaying ever smaller batches where
//! the replay failed, and is then left out: the score that it has stays, the state never hears of it.

use super::batch::{Batch, Excluded};
use super::{BUDGET, ModelStage};
use crate::catalog::Snapshot;
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use std::collections::BTreeSet;
use trackside_core::error::Failure;
use trackside_core::log::{End, FrameKind, LogError, SectionKind};
use trackside_core::model::{ModelCard, ModelFault};
use trackside_core::position::Position;

/// Rows that one replay may leave out before the model as a whole counts as broken.
const MAX_LEFT_OUT: usize = 100;

/// A replay that failed, and on which rows if it was the model.
struct Stuck {
    fault: ModelFault,
    batch: Option<Batch>,
}

impl From<ModelFault> for Stuck {
    fn from(fault: ModelFault) -> Self {
        Self { fault, batch: None }
    }
}

impl From<LogError> for Stuck {
    fn from(error: LogError) -> Self {
        ModelFault::Died(format!("the log could not be replayed: {error}")).into()
    }
}

impl From<Failure> for Stuck {
    fn from(failure: Failure) -> Self {
        ModelFault::Died(format!("the snapshots cannot be read: {failure}")).into()
    }
}

/// What earlier tries of the same replay have shown.
#[derive(Default)]
struct Narrowed {
    /// Up to this offset batches are so small.
    until: u64,
    rows: usize,
    /// A single row on which it failed once. That may have been chance: somebody kills workers.
    suspect: Option<u64>,
    left_out: BTreeSet<u64>,
}

impl Narrowed {
    /// Most rows of a batch that begins at `offset`.
    fn max_rows(&self, offset: u64, usual: usize) -> usize {
        if offset < self.until { self.rows } else { usual }
    }

    /// Takes in that a batch failed; whether another try can come further.
    fn note(&mut self, batch: &Batch) -> bool {
        let [row] = batch.offsets()[..] else {
            (self.until, self.rows, self.suspect) = (batch.range.to, batch.rows().div_ceil(2), None);
            return true;
        };
        if self.suspect.replace(row) == Some(row) {
            (self.until, self.suspect) = (0, None);
            return self.left_out.insert(row) && self.left_out.len() <= MAX_LEFT_OUT;
        }
        true
    }
}

impl ModelStage {
    /// Starts the runtime with the newest snapshot and replays the rows between it and `position`.
    pub(super) fn bring_back(&mut self, position: Position) -> Result<ModelCard, ModelFault> {
        let mut narrowed = Narrowed::default();
        let card = loop {
            let known = narrowed.left_out.len();
            match self.replay(position, &narrowed) {
                Ok(card) => break card,
                Err(Stuck { fault, batch: Some(batch) }) if narrowed.note(&batch) => {
                    if narrowed.left_out.len() > known {
                        let offset = batch.range.from;
                        tracing::warn!(model = self.model.name, offset, error = %fault, "a model fails on a row that was scored before; its state is brought back without it");
                    }
                }
                Err(Stuck { fault, .. }) => return Err(fault),
            }
        };
        let pid = self.runtime.pid();
        self.tell(|state| {
            state.version.clone_from(&card.version);
            state.pid = pid;
            state.state = "running";
        });
        Ok(card)
    }

    /// One try.
    fn replay(&mut self, position: Position, narrowed: &Narrowed) -> Result<ModelCard, Stuck> {
        let oldest = self.reader.oldest()?;
        let mut snapshot = self.snapshots.load(position)?.filter(|snapshot| snapshot.position.offset >= oldest);
        // A snapshot begins with the end of the output at its time: what was dead since is looked up from there.
        let split = |snapshot: &Snapshot| {
            snapshot.state.split_first_chunk::<8>().map(|(output, state)| (u64::from_le_bytes(*output), state.to_vec()))
        };
        let mut held = snapshot.as_ref().and_then(split);
        let card = match self.runtime.start(held.as_ref().map(|(_, state)| state.as_slice())) {
            Err(ModelFault::Raised { error, .. }) if held.is_some() => {
                // Another version of the model: it learns anew from what the log still holds.
                tracing::warn!(
                    model = self.model.name,
                    error,
                    "the model refused its snapshot; the rows are replayed instead"
                );
                (snapshot, held) = (None, None);
                self.runtime.start(None)?
            }
            other => other?,
        };
        let mut offset = snapshot.as_ref().map_or(oldest, |snapshot| snapshot.position.offset);
        if offset >= position.offset {
            return Ok(card);
        }
        let mut excluded = self.excluded(held.map(|(output, _)| output))?;
        excluded.dead.extend(&narrowed.left_out);
        while offset < position.offset {
            let frames = self.read(offset)?;
            let max_rows = narrowed.max_rows(offset, self.model.max_batch);
            let replayed = Batch::gather_replay(&frames, offset, max_rows, position.offset, &excluded)?;
            let Some((batch, to)) = replayed else { break };
            if let Some(batch) = batch.filter(|batch| batch.rows() > 0)
                && let Err(fault) = self.runtime.update(&batch.request(true, &excluded))
            {
                return Err(Stuck { fault, batch: Some(batch) });
            }
            offset = to;
        }
        Ok(card)
    }

    /// What the output from `from` on says was dead or skipped.
    fn excluded(&mut self, from: Option<u64>) -> Result<Excluded, LogError> {
        let mut excluded = Excluded::default();
        let mut offset = from.unwrap_or(0).max(self.output.oldest()?);
        loop {
            let frames = self.output.read(offset, BUDGET, End::Published)?;
            let Some(last) = frames.last() else { return Ok(excluded) };
            offset = last.end;
            for frame in &frames {
                if let (FrameKind::Skipped, Some(input)) = (frame.meta.kind, frame.meta.input) {
                    excluded.skipped.push((input.from, input.to));
                }
                let offsets = frame
                    .section(SectionKind::DeadLetters)?
                    .and_then(|letters| letters.column_by_name("offset").cloned());
                if let Some(offsets) = offsets.as_ref().and_then(|column| column.as_primitive_opt::<Int64Type>()) {
                    excluded.dead.extend(offsets.iter().flatten().map(|offset| offset as u64));
                }
            }
        }
    }
}
