//! Logs: where frames are kept. `embedded` keeps them in files of this machine.

pub mod embedded;
pub mod inspect;
pub mod ipc;
pub mod mapped;
