//! Sources: where events enter. To add one: write its file and add its line to [`SOURCES`].

mod again;
pub mod file;
mod fleet;
mod follow;
pub mod generate;
pub mod host;
pub mod http;
mod http_intake;
mod http_listen;
pub mod mqtt;
mod pace;
mod streams;
mod tail;

use arrow::array::RecordBatch;
use trackside_core::component::Component;
use trackside_core::dead_letter::DeadLetter;
use trackside_core::position::Span;
use trackside_core::source::{BuildSource, Delivery, Door, Refused, SourceState};

/// Every source that there is.
pub const SOURCES: &[Component<BuildSource>] =
    &[file::COMPONENT, generate::COMPONENT, host::COMPONENT, http::COMPONENT, mqtt::COMPONENT];

/// Hands a part of a stream through the door, again and again while there is no room; false when the pipeline is
/// stopping.
pub(crate) fn hand_over(door: &dyn Door, rows: Option<RecordBatch>, dead: &[DeadLetter], span: Option<Span>) -> bool {
    let mut refused = false;
    loop {
        // A refused delivery is gone; what it held is shared, so that a second one costs little.
        let delivery = Delivery { rows: rows.clone(), dead: dead.to_vec(), span: span.clone(), ack: None };
        match door.deliver(delivery) {
            Ok(()) => {
                if refused {
                    door.state(SourceState::Running, None);
                }
                return true;
            }
            Err(Refused::Stopping) => return false,
            Err(Refused::Full { reason, retry_after }) => {
                refused = true;
                door.state(SourceState::BackingOff, Some(format!("no room: {reason}")));
                if door.wait_stop(retry_after) {
                    return false;
                }
            }
        }
    }
}
