//! Every conversation with the outside: sources, sinks, logs, snapshots, and the formats they speak.
//!
//! This room may open sockets and files. It never cleans, never decides and never names another component: it turns
//! what arrives into batches, and durable batches into what others read.

pub mod formats;
pub mod logs;
pub mod sinks;
pub mod snapshots;
pub mod sources;
pub mod testing;
