//! A model's runtime, and whether the model can be loaded in it: asked before anything depends on the answer.

use crate::config::{ModelMode, ModelSection, Pipeline};
use crate::data_dir::StartError;
use crate::engine::Options;
use crate::worker::process::ProcessRuntime;
use std::path::PathBuf;
use trackside_core::model::{ModelFault, ModelRuntime};

/// Loads a model and lets go of it again; what stands in the way, in words, with the traceback of its own lines.
pub fn try_model(pipeline: &Pipeline, options: &Options, section: &ModelSection) -> Result<(), String> {
    let mut runtime = runtime(pipeline, options, section, 0).map_err(|error| error.to_string())?;
    let loaded = runtime.start(None);
    runtime.stop();
    loaded.map(|_| ()).map_err(|fault| match fault {
        ModelFault::CannotLoad { error, traceback } if !traceback.is_empty() => {
            format!("{error}\n{}", traceback.trim_end())
        }
        other => other.to_string(),
    })
}

/// Where a model of this pipeline runs; nothing is started yet.
pub(crate) fn runtime(
    pipeline: &Pipeline,
    options: &Options,
    section: &ModelSection,
    partition: u32,
) -> Result<Box<dyn ModelRuntime>, StartError> {
    let (base, tags) = (&pipeline.base, pipeline.layout.tags());
    match section.mode {
        ModelMode::Process => {
            let named = || std::env::var_os("TRACKSIDE_PYTHON").map(PathBuf::from);
            let python = options.python.clone().or_else(named).unwrap_or_else(|| "python3".into());
            Ok(Box::new(ProcessRuntime::new(python, section.clone(), base.clone(), partition, tags.to_vec())))
        }
        ModelMode::InProcess => match &options.in_process {
            Some(factory) => Ok(factory(section, base, partition, tags)),
            None => Err(StartError::Mismatch(format!(
                "model `{}` has `mode = \"in_process\"`, which needs the `trackside` command of the Python package; use that, or `mode = \"process\"`",
                section.name
            ))),
        },
    }
}
