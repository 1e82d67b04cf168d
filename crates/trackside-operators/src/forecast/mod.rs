//! Forecasters: what will a series be in the next rows, and how sure is that?
//!
//! A forecaster takes rows of many series in arrival order, learns from each, and now and then says what comes next, with a
//! band. When it speaks depends on event times alone, so a stream gives the same forecasts however it is cut into batches, and
//! after a snapshot and a restore at any row.
//!
//! - [`ens4`]: an ensemble of online experts, the default of `trackside.models:Forecast`.

pub mod ens4;

mod autoregression;
mod clock;
mod conformal;
mod ensemble;
mod history;
mod holt_winters;
mod naive;
mod plan;
