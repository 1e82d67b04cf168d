//! The log, from the outside.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // helpers of tests panic and print like tests do

mod basics;
mod crash;
mod damage;
mod fsync;
mod full;
mod power;
mod processes;
mod support;
mod verify;
