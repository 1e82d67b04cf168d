//! Where a model's code runs: in a worker process ([`process`]), fed over a socket ([`wire`]) with places in the log
//! that it maps by itself ([`update`]), or asked to wait for the next rows there ([`tail`]).

pub mod process;
pub mod tail;
pub mod update;
pub mod wire;
