//! trackside-log
