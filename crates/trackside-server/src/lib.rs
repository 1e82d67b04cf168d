//! trackside-server
