//! The command as its users meet it: the real binary, real pipelines, real HTTP over TCP.

mod api;
mod auth;
mod command;
mod running;
