//! trackside-connectors
