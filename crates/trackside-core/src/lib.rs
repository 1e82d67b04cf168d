//! The words and the contracts of Trackside, and nothing else.
//!
//! Every other room speaks in these types: a batch of events ([`batch`]), the layout it has ([`schema`]), where it
//! stands ([`position`]), the log that keeps it ([`log`]), and the four kinds of component that touch it
//! ([`source`], [`operator`], [`model`], [`sink`]). This crate knows no file, no network, no clock and no runtime:
//! whatever it computes, it computes from its arguments.

pub mod batch;
pub mod builder;
pub mod component;
pub mod dead_letter;
pub mod error;
pub mod log;
pub mod model;
pub mod operator;
pub mod planted;
pub mod position;
pub mod quality;
pub mod row;
pub mod schema;
pub mod series;
pub mod sink;
pub mod source;
pub mod testing;
pub mod time;
pub mod work;
