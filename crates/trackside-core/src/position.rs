//! Where a reader stands: offsets count rows of one partition, epochs count its owners' reigns.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The topic that holds events as received.
pub const RECEIVED: &str = "received";
/// The topic that holds events after cleaning.
pub const CLEAN: &str = "clean";
/// The dead letters of all stages, read as one topic.
pub const DEAD_LETTER: &str = "dead-letter";
/// Prefix of a model's topic: its scores, and in a second section its forecasts.
pub const SCORES_PREFIX: &str = "scores.";
/// Prefix under which the forecasts in a model's topic are read.
pub const FORECASTS_PREFIX: &str = "forecasts.";

/// A place in one partition. The epoch tells an offset that came back after a power loss from the one that was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The reign in which the row was written.
    pub epoch: u32,
    /// Rows before this one.
    pub offset: u64,
}

/// The input `[from, to)` that a frame was derived from; never crosses an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRange {
    /// Epoch of the input.
    pub epoch: u32,
    /// First offset read.
    pub from: u64,
    /// First offset not read.
    pub to: u64,
}

/// How far a stream is held. Stored as a number, or as two where there is a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredStand", into = "StoredStand")]
pub struct Stand {
    /// The next byte, row or offset to read.
    pub at: u64,
    /// A hash of what lay before it, where the source gave one: it tells a stream that was rewritten in place.
    pub check: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredStand {
    Plain(u64),
    Checked(u64, u32),
}

impl From<StoredStand> for Stand {
    fn from(stored: StoredStand) -> Self {
        match stored {
            StoredStand::Plain(at) => Self { at, check: None },
            StoredStand::Checked(at, check) => Self { at, check: Some(check) },
        }
    }
}

impl From<u64> for Stand {
    fn from(at: u64) -> Self {
        Self { at, check: None }
    }
}

impl From<Stand> for StoredStand {
    fn from(stand: Stand) -> Self {
        stand.check.map_or(Self::Plain(stand.at), |check| Self::Checked(stand.at, check))
    }
}

/// Positions of one source, by stream (a file's identity, a Kafka partition).
pub type SourcePositions = BTreeMap<String, Stand>;

/// What a replayable source delivers in one go: `[from, to)` of one of its streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Which stream of the source.
    pub stream: String,
    /// First position covered.
    pub from: u64,
    /// First position not covered.
    pub to: u64,
    /// Hash of what lies before `to`, for sources whose streams may be rewritten in place.
    pub check: Option<u32>,
}

/// Where a replayable source goes on after a restart.
///
/// Partitions commit on their own, so after a crash they may stand at different places. The source reads again from
/// the lowest; the door leaves out what a partition already holds. For that no delivery may straddle a place where a
/// partition stands: see [`Resume::limit`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resume {
    /// By stream, the positions at which the partitions stand, ascending, without repeats.
    pub stands: BTreeMap<String, Vec<u64>>,
    /// By stream, what lay before some of these positions: (position, hash).
    pub checks: BTreeMap<String, Vec<(u64, u32)>>,
}

impl Resume {
    /// Where to begin reading the stream (0 when it was never read).
    pub fn start(&self, stream: &str) -> u64 {
        self.stands.get(stream).and_then(|s| s.first().copied()).unwrap_or(0)
    }

    /// The position that a delivery beginning at `from` must not cross, if any.
    pub fn limit(&self, stream: &str, from: u64) -> Option<u64> {
        self.stands.get(stream)?.iter().copied().find(|stand| *stand > from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_resumes_at_the_lowest_stand_and_stops_at_the_others() {
        let resume = Resume { stands: [("f".to_string(), vec![100, 250])].into(), ..Resume::default() };
        assert_eq!(resume.start("f"), 100);
        assert_eq!(resume.limit("f", 100), Some(250));
        assert_eq!(resume.limit("f", 250), None);
        assert_eq!(resume.start("unseen"), 0);
    }

    #[test]
    fn a_stand_is_stored_as_a_number_or_as_two() {
        let stored = r#"{"a":7,"b":[9,4294967295]}"#;
        let positions: SourcePositions = serde_json::from_str(stored).unwrap();
        assert_eq!(positions["a"], Stand { at: 7, check: None });
        assert_eq!(positions["b"], Stand { at: 9, check: Some(u32::MAX) });
        assert_eq!(serde_json::to_string(&positions).unwrap(), stored);
    }
}
