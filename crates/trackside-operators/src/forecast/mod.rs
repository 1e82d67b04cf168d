//! Forecasters: what will a series be next?
