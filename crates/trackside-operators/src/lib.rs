//! What is computed from events: cleaners, detectors, forecasters.
//!
//! All are pure functions of batches and a bounded state: no clock, no file, no network, no seedless chance. The same rows
//! in the same order give the same answers to the bit, however they were cut into batches, and after a restart from a
//! snapshot at any row. Every one of them sits that exam.
//!
//! - [`clean`]: cleaners for the chain between `received` and `clean`, listed in [`CLEANERS`].
//! - [`detect`]: how unusual is a row?
//! - [`forecast`]: what comes next?
//! - [`state`]: what they keep between batches, and the bytes of a snapshot.

pub mod clean;
pub mod detect;
pub mod forecast;
pub mod state;

pub use clean::CLEANERS;
