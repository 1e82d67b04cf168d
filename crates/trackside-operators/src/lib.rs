//! trackside-operators

pub mod detect;
pub mod forecast;
pub mod state;
