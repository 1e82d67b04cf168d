//! trackside-core
