//! The one integration binary of this crate.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may stop at what it did not expect, and say what it left out"
)]

mod clean_cases;
mod clean_exam;
mod clean_job;
mod cleaners;
mod data;
mod detect_exam;
mod forecast_exam;
mod messy;
mod nab;
mod nab_forecast;
