//! Words on dead letters enter `received` here, like a tick does: a frame of their own, one append.
//!
//! What was rejected at the door comes as rows that are received now. What a later stage rejected comes as a section that
//! no offset counts, for the event itself was received long ago.

use super::split::by_partition;
use super::{Received, lock};
use crate::ledger::{add, names};
use crate::wall::now;
use arrow::array::RecordBatch;
use std::sync::atomic::Ordering::Relaxed;
use trackside_core::dead_letter::{LetterAction, LetterWord, Stage};
use trackside_core::log::{FrameDraft, FrameKind, FrameMeta, LogError, SectionKind};

impl Received {
    /// How many partitions there are.
    pub(crate) fn partitions(&self) -> u32 {
        self.partitions.len() as u32
    }

    /// Rows by the partition that their series belongs to.
    pub(crate) fn shares(&self, rows: &RecordBatch) -> Vec<(u32, RecordBatch)> {
        let shares = by_partition(rows, self.layout.tags(), self.partitions.len());
        (0..).zip(shares).filter_map(|(partition, rows)| Some((partition, rows?))).collect()
    }

    /// Appends a word, with the rows that it sends back; the first offset behind it. It is durable after a sync.
    pub(crate) fn say(&self, partition: u32, word: LetterWord, rows: Option<RecordBatch>) -> Result<u64, LogError> {
        let partition = &self.partitions[partition as usize];
        let count = rows.as_ref().map_or(0, RecordBatch::num_rows) as u64;
        // A partition's share of what the door rejected; a word that only closes has no rows.
        let received = if word.stage == Stage::Ingest { count } else { 0 };
        let section = if received > 0 { SectionKind::Rows } else { SectionKind::Retried };
        let mut writer = lock(&partition.writer);
        self.settle(partition, &mut writer);
        let mut counts = writer.counts.clone();
        add(&mut counts, names::RECEIVED, received);
        add(&mut counts, names::RETRIED_INGEST, received);
        add(&mut counts, names::ROWLESS, u64::from(received == 0));
        add(&mut counts, names::LETTERS, 1);
        if word.action == LetterAction::Retry {
            match word.stage {
                Stage::Ingest => {}
                Stage::Clean => add(&mut counts, names::RETRIED_CLEAN, count),
                Stage::Model => add(&mut counts, &format!("{}{}", names::RETRIED_MODEL, word.component), count),
            }
        }
        let (sources, letter) = (writer.sources.clone(), Some(Box::new(word)));
        let meta = FrameMeta { kind: FrameKind::Letter, input: None, sources, counts, letter };
        let sections = rows.map(|rows| (section, rows)).into_iter().collect();
        let draft = FrameDraft { meta, ingest_time: now(), sections };
        let appended = writer.log.append(&draft)?;
        partition.board.publish(&draft.meta.counts, appended.end);
        (writer.counts, writer.end) = (draft.meta.counts, appended.end);
        self.appended.fetch_add(received, Relaxed);
        partition.commits.published();
        Ok(appended.end)
    }
}
