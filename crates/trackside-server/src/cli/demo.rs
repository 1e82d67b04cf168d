//! `trackside demo`: this machine's own sensors and a simulated fleet, with both models, the page and tables.
//!
//! It needs no file and writes nothing outside its data directory: a fresh one among the system's temporary files, or
//! the one that `--data` names, with which it goes on where it stood.

use super::run::{Run, Until};
use super::terminal::note;
use super::{Failure, Json, USAGE, python};
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use trackside_core::position::{FORECASTS_PREFIX, SCORES_PREFIX};
use trackside_engine::{Options, Pipeline};

const PIPELINE: &str = include_str!("../../templates/demo.toml");

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// End after so many seconds, when all is delivered, and print the sums
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Keep the data here, and go on with it the next time; otherwise a fresh temporary folder
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address and port of page and API; without it 127.0.0.1:7878, or the next free port
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Open no browser
    #[arg(long)]
    no_open: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

pub(crate) fn run(arguments: &Arguments, mut options: Options) -> Result<i32, Failure> {
    let json = arguments.json.json;
    let mut pipeline = pipeline(arguments.data.as_deref())?;
    let python = python::interpreter(&options);
    if python::has_package(&python) {
        options.python = Some(python);
    } else {
        note(format!(
            "`{}` cannot import the trackside package, so the demo runs without models; `pip install trackside` brings them",
            python.display()
        ));
        without_models(&mut pipeline);
    }
    let run = Run {
        pipeline,
        options,
        near: arguments.listen.is_none(),
        listen: arguments.listen.clone(),
        until: arguments.seconds.map_or(Until::Stopped, |seconds| Until::After(Duration::from_secs(seconds))),
        json,
        browser: !json && !arguments.no_open && arguments.seconds.is_none(),
        tries: !json,
    };
    run.run()
}

/// The built-in pipeline over a data directory.
fn pipeline(data: Option<&Path>) -> Result<Pipeline, Failure> {
    let mut pipeline =
        Pipeline::parse(Path::new("demo.toml"), PIPELINE).map_err(|diagnostics| Failure::new(USAGE, diagnostics))?;
    let data = data.map_or_else(fresh, Path::to_path_buf);
    pipeline.pipeline.data = std::path::absolute(data).map_err(Failure::failed)?;
    Ok(pipeline)
}

/// A folder that nobody has used: process ids come again, but not in the same microsecond.
fn fresh() -> PathBuf {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() % 1_000_000_000;
    std::env::temp_dir().join(format!("trackside-demo-{}-{micros}", std::process::id()))
}

fn without_models(pipeline: &mut Pipeline) {
    pipeline.models.clear();
    pipeline.sinks.retain(|sink| !sink.topic.starts_with(SCORES_PREFIX) && !sink.topic.starts_with(FORECASTS_PREFIX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_pipeline_is_right_with_and_without_models() {
        let mut pipeline = pipeline(None).unwrap_or_else(|failure| panic!("{}", failure.message));
        assert_eq!(pipeline.models.len(), 2);
        assert!(pipeline.data().is_absolute() && fresh() != fresh());
        without_models(&mut pipeline);
        assert!(pipeline.sinks.iter().any(|sink| sink.topic == "clean") && pipeline.models.is_empty());
    }
}
