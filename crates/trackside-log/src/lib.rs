//! The embedded log: an ordered, durable sequence of frames per topic and partition, on the local disk.
//!
//! It knows bytes: what `meta` and the sections of a frame mean is the caller's business, and it touches neither Arrow nor an async
//! runtime. One process writes a data directory ([`DirLock`]), one [`Writer`] a partition; any number of [`Reader`]s in
//! this and other processes follow it and are woken, not made to poll.
//!
//! Two ends: *published* moves with each append, *durable* with each [`Syncer::sync`]. The format is described in
//! `docs/reference/log-format.md`; how it survives a crash, in the modules `recovery` and `sync`.
//!
//! See [`Store`] for an example.

mod bytes;
mod control;
mod epochs;
mod error;
mod frame;
mod header;
mod lock;
mod log;
pub mod mapped;
pub mod message;
mod partition;
pub mod planted;
mod reader;
mod recovery;
mod retention;
mod scan;
mod segment;
mod sync;
mod tail;
mod verify;
mod vfs;
mod wake;

pub use bytes::{ALIGN, AlignedBytes};
pub use control::{CONTROL_BYTES, ControlMemory, ControlWords, MappedControl};
pub use epochs::EpochStart;
pub use error::{Error, Result};
pub use frame::{Draft, Frame, FrameInfo, Location, OwnedFrameInfo, Section};
pub use header::{FORMAT, HEADER_BYTES, MAX_SECTIONS};
pub use lock::DirLock;
pub use log::{Options, Store};
pub use partition::{Appended, Writer};
pub use reader::Reader;
pub use recovery::Recovery;
pub use scan::Damage;
pub use segment::SEGMENT_HEADER_BYTES;
pub use sync::Syncer;
pub use verify::{Each, Flaw, SegmentInfo, Survey, Verified};
pub use vfs::{Access, Fault, FaultyVfs, Mode, Op, OpKind, Random, RealVfs, SimulatedVfs, Vfs, VfsFile};
pub use wake::Waiter;
