//! The end of `clean`, where a runtime that can waits by itself: the next row then wakes the model's process, and not this
//! thread, which would only tell it.
//!
//! Nothing else changes: which rows were taken is computed here once more from the log, and their answers are one append
//! with the position. Where the answer does not fit, or none comes, the rows are asked about like any others.

use super::batch::Batch;
use super::{ModelStage, Session, WAIT, from_fault};
use crate::run::clean::from_log;
use std::time::Instant;
use trackside_core::error::Failure;
use trackside_core::log::End;
use trackside_core::model::{ModelFault, TailReply, TailRequest};

/// How waiting at the end has gone so far.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// The runtime cannot wait by itself.
    unable: bool,
    /// It died while it waited, and has scored nothing since.
    pub(super) died: bool,
}

impl ModelStage {
    /// Waits until there is something after the position; what a runtime took by itself is committed. False when nothing
    /// came.
    pub(super) fn wait(&mut self, session: &mut Session) -> Result<bool, Failure> {
        let offset = session.position.offset;
        let place = match session.tail.unable || self.reader.published() > offset {
            true => None,
            false => self.reader.lend(),
        };
        let Some(place) = place else { return Ok(self.reader.wait(offset, End::Published, WAIT)) };
        let request = TailRequest {
            place,
            model: self.model.name.clone(),
            offset,
            max_rows: self.model.max_batch,
            max_frames: if session.card.split { 1 } else { usize::MAX },
            wait: WAIT,
        };
        let asked = Instant::now();
        match self.runtime.tail(&request) {
            Some(Ok(TailReply { to, .. })) if to == offset => {
                // One that does not wait as long as it was asked to must not keep this thread busy.
                Ok(self.reader.wait(offset, End::Published, WAIT.saturating_sub(asked.elapsed())))
            }
            Some(Ok(answer)) => self.take(session, &request, &answer).map(|()| true),
            Some(Err(fault)) => self.fail(session, &request, fault).map(|()| true),
            None => {
                session.tail.unable = true;
                Ok(self.reader.wait(offset, End::Published, WAIT))
            }
        }
    }

    /// The rows that a runtime says it took, and their answers.
    fn take(&mut self, session: &mut Session, request: &TailRequest, answer: &TailReply) -> Result<(), Failure> {
        match self.gathered(request, answer.to)? {
            Some(batch) if batch.range.to == answer.to && batch.rows() == answer.reply.rows => {
                if batch.rows() == 0 {
                    return self.commit(session, &batch, None, None);
                }
                self.accept(session, &batch, &answer.reply)
            }
            _ => {
                let (rows, from, to) = (answer.reply.rows, request.offset, answer.to);
                let error =
                    format!("the worker answered for {rows} rows of offsets {from} to {to}, which are not those");
                self.fail(session, request, ModelFault::Raised { error, traceback: String::new() })
            }
        }
    }

    /// It failed: on the rows that came meanwhile, which are asked about in parts, or while nothing had come.
    fn fail(&mut self, session: &mut Session, request: &TailRequest, fault: ModelFault) -> Result<(), Failure> {
        if let Some(batch) = self.gathered(request, u64::MAX)?.filter(|batch| batch.rows() > 0) {
            return self.survive(session, batch, fault);
        }
        // Killed from outside while it had nothing to do: brought back at once, but not again and again.
        if session.tail.died {
            return Err(from_fault(fault));
        }
        self.note(&fault);
        session.card = self.bring_back(session.position).map_err(from_fault)?;
        session.tail.died = true;
        Ok(())
    }

    /// The batch that the request was about, up to `limit`.
    fn gathered(&mut self, request: &TailRequest, limit: u64) -> Result<Option<Batch>, Failure> {
        let frames = self.read(request.offset).map_err(from_log)?;
        Batch::gather(&frames, request.offset, request.max_rows, request.max_frames, limit).map_err(from_log)
    }
}
