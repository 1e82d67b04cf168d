//! The engine as a whole, over a real log, real files and real tables.

mod config;
mod flow;
mod models;
mod support;
