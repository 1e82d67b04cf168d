//! Detectors: how unusual is each row of a series, judged by the rows before it?
//!
//! A detector takes rows of many series in arrival order, one call a batch, and keeps a bounded state per series. It is
//! causal (score first, then learn) and sees time only as data, so a stream gives the same bits however it is cut into
//! batches, and after a snapshot and a restore at any row.
//!
//! - [`record_excess`]: univariate, four streams, the default of `trackside.models:Anomaly`.

pub mod record_excess;

mod ar6;
mod excess;
mod streams;
mod time_of_day;
