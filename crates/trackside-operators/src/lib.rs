//! trackside-operators
