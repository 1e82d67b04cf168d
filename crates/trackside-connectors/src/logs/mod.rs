//! Logs: where frames are kept. `embedded` keeps them in files of this machine, `nats` on JetStream's servers.

pub mod embedded;
pub mod inspect;
pub mod ipc;
pub mod mapped;
#[cfg(feature = "nats")]
pub mod nats;
pub mod testing;
