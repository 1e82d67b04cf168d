//! What operators and models keep between batches, and how it is written down.
//!
//! - [`codec`]: the bytes of a snapshot: little-endian, versioned, checked on the way back in.

pub mod codec;
