//! Models in this very process: `mode = "in_process"`.
//!
//! The same messages as over a worker's socket, handed to `trackside.harness.Harness.call` without the socket, and the
//! same checks of the answer: a model cannot tell the difference, and neither can its scores. What it lacks is a
//! wall: no deadline can stop a model here, and a crash in native code takes the engine along.
//!
//! The interpreter is held only within a call. Engine threads that come after it has ended are told that it has.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trackside_core::model::{ModelCard, ModelFault, ModelReply, ModelRequest, ModelRuntime};
use trackside_engine::worker::{update, wire};
use trackside_engine::{ModelSection, RuntimeFactory};

/// Makes a runtime for each model and partition.
pub(crate) fn factory() -> RuntimeFactory {
    Arc::new(|model: &ModelSection, base: &Path, partition, tags: &[String]| {
        Box::new(InProcess {
            model: model.clone(),
            base: base.to_path_buf(),
            partition,
            tags: tags.to_vec(),
            harness: None,
            fields: 0,
        })
    })
}

/// One model on one partition.
struct InProcess {
    model: ModelSection,
    base: PathBuf,
    partition: u32,
    tags: Vec<String>,
    /// `trackside.harness.Harness`, once it is loaded.
    harness: Option<Py<PyAny>>,
    /// How many fields the model scores.
    fields: usize,
}

impl InProcess {
    /// Sends one message; hands the answer's header and body to `read`.
    fn ask<T>(
        &self,
        header: &Value,
        body: &[u8],
        read: impl FnOnce(Value, &[u8]) -> Result<T, ModelFault>,
    ) -> Result<T, ModelFault> {
        self.exchange("call", &[header.to_string().as_bytes(), body], read)
    }

    /// Calls a method of the harness that answers as over the socket.
    fn exchange<T>(
        &self,
        method: &str,
        message: &[&[u8]],
        read: impl FnOnce(Value, &[u8]) -> Result<T, ModelFault>,
    ) -> Result<T, ModelFault> {
        attached(|py| {
            let Some(harness) = &self.harness else { return Err(ModelFault::Died("the model is not loaded".into())) };
            let message = PyTuple::new(py, message.iter().map(|part| PyBytes::new(py, part)));
            let message = message.map_err(|error| raised(py, &error))?;
            let answer = harness.bind(py).call_method1(method, message).map_err(|error| raised(py, &error))?;
            let (header, body): (Bound<'_, PyBytes>, Bound<'_, PyBytes>) =
                answer.extract().map_err(|error| raised(py, &error))?;
            let header = serde_json::from_slice(header.as_bytes()).map_err(|error| ModelFault::Raised {
                error: format!("the model's answer cannot be used: {error}"),
                traceback: String::new(),
            })?;
            read(header, body.as_bytes())
        })
    }

    fn forget(&mut self) {
        if let Some(harness) = self.harness.take() {
            // Let go of it attached: whatever the model frees on its end runs now, on this thread. Without an interpreter
            // there is nothing left to free.
            Python::try_attach(|py| drop(harness.into_bound(py)));
        }
    }
}

impl ModelRuntime for InProcess {
    fn start(&mut self, state: Option<&[u8]>) -> Result<ModelCard, ModelFault> {
        self.forget();
        let cannot = |fault| match fault {
            ModelFault::Raised { error, traceback } => ModelFault::CannotLoad { error, traceback },
            other => other,
        };
        let made = attached(|py| {
            let made = py.import("trackside.harness").and_then(|module| module.getattr("Harness")?.call0());
            made.map(Bound::unbind).map_err(|error| raised(py, &error))
        });
        self.harness = Some(made.map_err(cannot)?);
        let model = &self.model;
        let load = json!({
            "op": "load", "use": model.code, "base": self.base, "name": model.name, "partition": self.partition,
            "tags": self.tags, "fields": model.named_fields(), "options": model.options,
        });
        let card = self.ask(&load, b"", |header, _| match wire::fault(&header) {
            Some(fault) => Err(fault),
            None => serde_json::from_value::<ModelCard>(header).map_err(|error| ModelFault::Raised {
                error: format!("the package described the model in a form we do not know: {error}"),
                traceback: String::new(),
            }),
        });
        let card = card.map_err(cannot)?;
        self.fields = card.fields.len();
        if let Some(state) = state {
            self.restore(state)?;
        }
        Ok(card)
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), ModelFault> {
        self.ask(&json!({ "op": "restore" }), state, |header, _| wire::fault(&header).map_or(Ok(()), Err))
    }

    fn update(&mut self, request: &ModelRequest) -> Result<ModelReply, ModelFault> {
        let fields = self.fields;
        let read = |header, body: &[u8]| wire::reply(header, body, request, fields);
        self.exchange("call_update", &[&update::encode(request)], read)
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, ModelFault> {
        let saved = |header: Value, body: &[u8]| wire::fault(&header).map_or_else(|| Ok(body.to_vec()), Err);
        self.ask(&json!({ "op": "snapshot" }), b"", saved)
    }

    fn stop(&mut self) {
        self.forget();
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.forget();
    }
}

fn attached<T>(call: impl FnOnce(Python<'_>) -> Result<T, ModelFault>) -> Result<T, ModelFault> {
    Python::try_attach(call).unwrap_or_else(|| Err(ModelFault::Died("the Python interpreter has ended".into())))
}

/// An exception that the harness itself did not turn into an answer: an import that failed, memory that ran out.
fn raised(py: Python<'_>, error: &PyErr) -> ModelFault {
    let traceback = error.traceback(py).and_then(|traceback| traceback.format().ok()).unwrap_or_default();
    ModelFault::Raised { error: error.to_string(), traceback }
}
