//! The command as its users meet it: the real binary, real pipelines, real HTTP over TCP.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod api;
mod auth;
mod command;
mod dead;
mod log;
mod notices;
mod reload;
mod running;
