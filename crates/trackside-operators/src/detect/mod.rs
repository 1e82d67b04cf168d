//! Detectors: how unusual is each row of a series?
