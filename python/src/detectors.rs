//! `RecordExcess` and `Ens4`: the built-in detector and forecaster, over whole columns.
//!
//! Columns come as anything that NumPy reads and are copied once (twenty bytes a row), so that the work runs detached
//! from the interpreter whatever Python does to its arrays meanwhile. Answers go out without a copy.

use crate::array::{Array, kinds};
use crate::wrong;
use numpy::{AllowTypeChange, PyArrayLike1};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use serde::de::DeserializeOwned;
use std::mem::take;
use trackside_core::component;
use trackside_operators::detect::record_excess;
use trackside_operators::forecast::ens4;

type Ids<'py> = PyArrayLike1<'py, i32, AllowTypeChange>;
type Times<'py> = PyArrayLike1<'py, i64, AllowTypeChange>;
type Values<'py> = PyArrayLike1<'py, f64, AllowTypeChange>;

/// The rows of one update, owned.
struct Rows {
    series: Vec<u32>,
    times: Vec<i64>,
    values: Vec<f64>,
}

impl Rows {
    fn new(series: &Ids<'_>, times: &Times<'_>, values: &Values<'_>) -> PyResult<Self> {
        let (times, values) = (times.as_array().to_vec(), values.as_array().to_vec());
        let id = |id: &i32| u32::try_from(*id).map_err(|_| wrong(format!("series {id}; ids are 0 or more")));
        let series = series.as_array().iter().map(id).collect::<PyResult<Vec<_>>>()?;
        if series.len() != times.len() || times.len() != values.len() {
            let (a, b, c) = (series.len(), times.len(), values.len());
            return Err(wrong(format!("{a} series ids, {b} times and {c} values; give one of each for a row")));
        }
        Ok(Self { series, times, values })
    }
}

fn parse<C: DeserializeOwned>(json: &str) -> PyResult<C> {
    let value = serde_json::from_str(json).map_err(|error| wrong(format!("the options are no JSON: {error}")))?;
    component::config(value).map_err(wrong)
}

fn floats(values: &mut Vec<f64>) -> Array {
    Array::new(take(values), kinds::F8)
}

fn integers(values: &mut Vec<i64>) -> Array {
    Array::new(take(values), kinds::I8)
}

/// The anomaly detector: record excess with refractory time, all series of one field.
#[pyclass(module = "trackside._native")]
pub(crate) struct RecordExcess {
    detector: record_excess::RecordExcess,
    scores: record_excess::Scores,
}

#[pymethods]
impl RecordExcess {
    /// `config` is JSON; unknown or wrong options are a ValueError.
    #[new]
    fn new(config: &str) -> PyResult<Self> {
        let config: record_excess::Config = parse(config)?;
        config.check().map_err(wrong)?;
        Ok(Self { detector: record_excess::RecordExcess::new(config), scores: Default::default() })
    }

    /// One entry a row: score, anomaly, ready, expected, lower, upper; and reasons, a list of (row, text).
    fn update<'py>(
        &mut self,
        py: Python<'py>,
        series: Ids<'py>,
        times: Times<'py>,
        values: Values<'py>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let rows = Rows::new(&series, &times, &values)?;
        let (detector, scores) = (&mut self.detector, &mut self.scores);
        py.detach(|| detector.update(&rows.series, &rows.times, &rows.values, scores));
        let answer = PyDict::new(py);
        answer.set_item("score", floats(&mut scores.score))?;
        answer.set_item("anomaly", Array::booleans(take(&mut scores.anomaly)))?;
        answer.set_item("ready", Array::booleans(take(&mut scores.ready)))?;
        answer.set_item("expected", floats(&mut scores.expected))?;
        answer.set_item("lower", floats(&mut scores.lower))?;
        answer.set_item("upper", floats(&mut scores.upper))?;
        answer.set_item("reasons", take(&mut scores.reason))?;
        Ok(answer)
    }

    /// The whole state, as bytes.
    fn snapshot<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.detector.snapshot())
    }

    /// Take over the state of a detector with the same options; ValueError when it does not fit, and nothing changes.
    fn restore(&mut self, state: &[u8]) -> PyResult<()> {
        self.detector.restore(state).map_err(wrong)
    }
}

/// The forecaster: an ensemble of online experts, all series of one field.
#[pyclass(module = "trackside._native")]
pub(crate) struct Ens4 {
    forecaster: ens4::Ens4,
    forecasts: ens4::Forecasts,
}

#[pymethods]
impl Ens4 {
    /// `config` is JSON; unknown or wrong options are a ValueError.
    #[new]
    fn new(config: &str) -> PyResult<Self> {
        let config: ens4::Config = parse(config)?;
        config.check().map_err(wrong)?;
        Ok(Self { forecaster: ens4::Ens4::new(config), forecasts: Default::default() })
    }

    /// One entry a forecast: row, made_at, for_time (ns), mean, lower, upper.
    /// One entry a row: expected, expected_lower, expected_upper, ready.
    fn update<'py>(
        &mut self,
        py: Python<'py>,
        series: Ids<'py>,
        times: Times<'py>,
        values: Values<'py>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let rows = Rows::new(&series, &times, &values)?;
        let (forecaster, out) = (&mut self.forecaster, &mut self.forecasts);
        py.detach(|| forecaster.update(&rows.series, &rows.times, &rows.values, out));
        let answer = PyDict::new(py);
        answer.set_item("row", integers(&mut out.row))?;
        answer.set_item("made_at", integers(&mut out.made_at))?;
        answer.set_item("for_time", integers(&mut out.for_time))?;
        answer.set_item("mean", floats(&mut out.mean))?;
        answer.set_item("lower", floats(&mut out.lower))?;
        answer.set_item("upper", floats(&mut out.upper))?;
        answer.set_item("expected", floats(&mut out.expected))?;
        answer.set_item("expected_lower", floats(&mut out.expected_lower))?;
        answer.set_item("expected_upper", floats(&mut out.expected_upper))?;
        answer.set_item("ready", Array::booleans(take(&mut out.ready)))?;
        Ok(answer)
    }

    /// The whole state, as bytes.
    fn snapshot<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.forecaster.snapshot())
    }

    /// Take over the state of a forecaster with the same options; ValueError when it does not fit, and nothing changes.
    fn restore(&mut self, state: &[u8]) -> PyResult<()> {
        self.forecaster.restore(state).map_err(wrong)
    }
}
