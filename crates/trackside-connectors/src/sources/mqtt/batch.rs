//! Messages gathered into one delivery.
//!
//! Guarantee: a delivery that the door refused is kept as it is and offered again; nothing is added to it meanwhile, and
//! nothing of it is lost.

use super::packet::Publish;
use super::payload::Payload;
use super::session::Number;
use arrow::array::RecordBatch;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;
use trackside_core::builder::EventBuilder;
use trackside_core::dead_letter::DeadLetter;
use trackside_core::source::{Delivery, Door, Outcome, Refused, SourceState};

/// Most messages of a delivery.
const MAX_MESSAGES: usize = 1000;
/// Bytes of payload after which a delivery is full.
const MAX_BYTES: usize = 1 << 20;
/// How long a delivery waits for more messages while another is on its way to the disk.
const LINGER: Duration = Duration::from_millis(5);

/// What became of a delivery, by its number.
pub(super) type Settled = (Number, Outcome);

/// The messages gathered so far.
pub(super) struct Batch {
    rows: EventBuilder,
    dead: Vec<DeadLetter>,
    /// Number and QoS of the messages that are to be acknowledged.
    ids: Vec<(u16, u8)>,
    messages: usize,
    bytes: usize,
    since: Option<Instant>,
    /// The rows of a delivery that was refused.
    refused: Option<(Option<RecordBatch>, Instant)>,
}

/// What came of offering a batch to the door.
pub(super) enum Offer {
    /// Accepted: so many messages, and those of them that are to be acknowledged. `stored` is false where there was
    /// nothing to store.
    Accepted { messages: usize, ids: Vec<(u16, u8)>, stored: bool },
    /// To be offered again.
    Refused,
    /// The pipeline is stopping: the broker keeps the messages.
    Stopping,
}

impl Batch {
    pub(super) fn new(rows: EventBuilder) -> Self {
        Self { rows, dead: Vec::new(), ids: Vec::new(), messages: 0, bytes: 0, since: None, refused: None }
    }

    /// Adds a message.
    pub(super) fn add(&mut self, message: &Publish, payload: &mut Payload, arrival: i64) {
        payload.decode(message, arrival, &mut self.rows, &mut self.dead);
        if message.qos > 0 {
            self.ids.push((message.id, message.qos));
        }
        self.messages += 1;
        self.bytes += message.payload.len();
        self.since.get_or_insert_with(Instant::now);
    }

    /// Packet numbers mean nothing any more.
    pub(super) fn forget_ids(&mut self) {
        self.ids.clear();
    }

    /// Messages gathered.
    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    /// Whether no more can be added.
    pub(super) fn is_full(&self) -> bool {
        self.messages >= MAX_MESSAGES || self.bytes >= MAX_BYTES || self.refused.is_some()
    }

    /// When it is to be handed over: at once while the disk is idle, for then waiting gains nothing.
    pub(super) fn due(&self, disk_is_idle: bool) -> Option<Instant> {
        let since = self.since?;
        match &self.refused {
            Some((_, again)) => Some(*again),
            None if disk_is_idle || self.is_full() => Some(since),
            None => Some(since + LINGER),
        }
    }

    /// Offers the batch to the door as this delivery.
    pub(super) fn offer(&mut self, door: &dyn Door, number: Number, settled: &UnboundedSender<Settled>) -> Offer {
        let (rows, again) = match self.refused.take() {
            Some((rows, _)) => (rows, true),
            None => ((!self.rows.is_empty()).then(|| self.rows.finish()), false),
        };
        let stored = rows.is_some() || !self.dead.is_empty();
        let answer = if stored {
            let settled = settled.clone();
            // Nobody listens any more once the source has ended.
            let ack = Box::new(move |outcome| _ = settled.send((number, outcome)));
            door.deliver(Delivery { rows: rows.clone(), dead: self.dead.clone(), span: None, ack: Some(ack) })
        } else {
            Ok(())
        };
        match answer {
            Ok(()) => {
                if again {
                    door.state(SourceState::Running, None);
                }
                Offer::Accepted { messages: self.clear(), ids: std::mem::take(&mut self.ids), stored }
            }
            Err(Refused::Full { reason, retry_after }) => {
                door.state(SourceState::BackingOff, Some(format!("no room: {reason}; the broker keeps what comes")));
                self.refused = Some((rows, Instant::now() + retry_after.max(LINGER)));
                Offer::Refused
            }
            Err(Refused::Stopping) => {
                self.clear();
                self.ids.clear();
                Offer::Stopping
            }
        }
    }

    fn clear(&mut self) -> usize {
        self.dead.clear();
        (self.bytes, self.since) = (0, None);
        std::mem::take(&mut self.messages)
    }
}
