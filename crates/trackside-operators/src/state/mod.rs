//! What operators and models keep between batches, and how it is written down.
//!
//! - [`codec`]: the bytes of a snapshot: little-endian, versioned, checked on the way back in.
//! - `rls`: recursive least squares, the one piece of linear algebra that detectors and forecasters share.

pub mod codec;
pub(crate) mod rls;
