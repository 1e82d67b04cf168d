//! `trackside up`: runs a pipeline file.

use super::place::{FILE, load};
use super::run::{Run, Until};
use super::{Failure, Json, USAGE};
use clap::Args;
use std::path::PathBuf;
use trackside_engine::{Options, Stages};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Pipeline file
    #[arg(default_value = FILE)]
    file: PathBuf,
    /// End when all finite sources are delivered, and print the sums
    #[arg(long)]
    until_idle: bool,
    /// Address and port of page and API, in place of the pipeline file's; port 0 picks a free one
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Run these stages and leave the others to other processes on the same log (needs `[log] type = "nats"`): some of
    /// ingest, clean, models, sinks, server
    #[arg(long, value_name = "STAGES")]
    only: Option<String>,
    #[command(flatten)]
    pub(super) json: Json,
}

pub(crate) fn run(arguments: &Arguments, options: Options) -> Result<i32, Failure> {
    let stages = arguments.only.as_deref().map_or(Ok(Stages::default()), str::parse);
    let stages = stages.map_err(|error: String| Failure::new(USAGE, format!("--only: {error}")))?;
    let run = Run {
        pipeline: load(&arguments.file)?,
        options: Options { stages, ..options },
        listen: arguments.listen.clone(),
        near: false,
        until: if arguments.until_idle { Until::Idle } else { Until::Stopped },
        json: arguments.json.json,
        browser: false,
        tries: false,
    };
    run.run()
}
