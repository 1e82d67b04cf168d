//! The engine as a whole, over a real log, real files and real tables.

#![allow(clippy::unwrap_used)] // in a test a panic is the report

mod config;
mod flow;
mod follow;
mod formats;
mod letters;
mod models;
mod reload;
mod support;
mod tails;
