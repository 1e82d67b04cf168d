//! `trackside check`: everything that is wrong with a pipeline file at once, or in words what it does.
//!
//! Models are loaded as `up` would load them, and let go of: a typo in an import is found here, not an hour later.

use super::place::FILE;
use super::python::{has_package, interpreter};
use super::terminal::{note, say, say_json};
use super::{Failure, Json, USAGE};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;
use trackside_engine::{Block, ModelMode, ModelSection, Options, Pipeline, try_model};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Pipeline file
    #[arg(default_value = FILE)]
    file: PathBuf,
    /// Do not load the models
    #[arg(long)]
    no_load: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

pub(crate) fn run(arguments: &Arguments, options: &Options) -> Result<i32, Failure> {
    match Pipeline::load(&arguments.file) {
        Ok(pipeline) => {
            let wanted = !arguments.no_load && !pipeline.models.is_empty();
            let untried = wanted && !has_package(&interpreter(options));
            let broken = if wanted && !untried { unloadable(&pipeline, options) } else { Vec::new() };
            if arguments.json.json {
                let words = if broken.is_empty() { words(&pipeline) } else { Vec::new() };
                let ok = broken.is_empty();
                say_json(&json!({ "ok": ok, "file": arguments.file, "errors": [], "models": broken, "words": words }));
                return Ok(if ok { 0 } else { USAGE });
            }
            if broken.is_empty() {
                words(&pipeline).iter().for_each(|line| _ = say(line));
                if untried {
                    // The command alone, without the Python package.
                    let python = interpreter(options);
                    note(format!("the models were not loaded: `{}` has no `trackside` package", python.display()));
                }
                return Ok(0);
            }
            broken.iter().for_each(|Unloadable { model, code, why }| {
                note(format!("model `{model}`: `{code}` cannot be loaded: {why}\n"));
            });
            Err(to_mend(broken.len(), arguments))
        }
        Err(diagnostics) if arguments.json.json => {
            say_json(&json!({ "ok": false, "file": arguments.file, "errors": diagnostics.0 }));
            Ok(USAGE)
        }
        Err(diagnostics) => {
            note(diagnostics.to_string());
            Err(to_mend(diagnostics.0.len(), arguments))
        }
    }
}

fn to_mend(count: usize, arguments: &Arguments) -> Failure {
    let plural = if count == 1 { "" } else { "s" };
    Failure::new(USAGE, format!("{count} thing{plural} to mend in `{}`", arguments.file.display()))
}

/// A model that `up` could not load, and why not.
#[derive(Serialize)]
struct Unloadable<'a> {
    model: &'a str,
    code: &'a str,
    why: String,
}

fn unloadable<'a>(pipeline: &'a Pipeline, options: &Options) -> Vec<Unloadable<'a>> {
    let trial = |section: &'a ModelSection| {
        let why = try_model(pipeline, options, section).err()?;
        Some(Unloadable { model: &section.name, code: &section.code, why })
    };
    pipeline.models.iter().filter_map(trial).collect()
}

/// The pipeline, told in sentences.
pub(crate) fn words(pipeline: &Pipeline) -> Vec<String> {
    let schema = &pipeline.layout.config;
    let series = if schema.series.is_empty() {
        "all events are one series".into()
    } else {
        format!("a series is named by {}", and(&schema.series))
    };
    let fields: Vec<String> =
        schema.fields.iter().map(|(name, kind)| format!("{name} ({})", format!("{kind:?}").to_lowercase())).collect();
    let mut lines = vec![
        format!("`{}` is fine: pipeline `{}`.", pipeline.file.display(), pipeline.pipeline.name),
        format!("Events: {series}; fields {}.", and(&fields)),
        match pipeline.sources.is_empty() {
            true => "Sources: none; add a `[[source]]`, or nothing will come.".into(),
            false => format!("Sources: {}.", and(&names(&pipeline.sources))),
        },
        match pipeline.cleaners.is_empty() {
            true => "Cleaning: none; `clean` holds the rows as received.".into(),
            false => format!("Cleaning: {}.", names(&pipeline.cleaners).join(", then ")),
        },
    ];
    for model in &pipeline.models {
        let at = match model.mode {
            ModelMode::Process => "in a worker process",
            ModelMode::InProcess => "inside this process",
        };
        let fields = model.named_fields();
        let fields = if fields.is_empty() { "the fields that it chooses".into() } else { and(&fields) };
        lines.push(format!("Model `{}`: {} looks at {fields}, {at}.", model.name, model.code));
    }
    lines.extend(
        pipeline.sinks.iter().map(|sink| format!("Sink `{}`: {} takes `{}`.", sink.name, sink.kind, sink.topic)),
    );
    let partitions = pipeline.pipeline.partitions;
    lines.push(format!(
        "Data: `{}`, {partitions} partition{}.",
        pipeline.data().display(),
        if partitions == 1 { "" } else { "s" }
    ));
    lines.push(format!("Page and API: {}.", pipeline.server.listen));
    lines.extend(log_words(pipeline));
    lines
}

/// Where the log is, if it is not in the data directory, and what an acknowledgement is worth there.
fn log_words(pipeline: &Pipeline) -> Vec<String> {
    match pipeline.log_durability() {
        None => Vec::new(),
        Some(Ok(durability)) => {
            let weakness = durability.weakness.map(|weakness| format!("Weak: {weakness}."));
            std::iter::once(format!("Log: {}.", durability.words)).chain(weakness).chain([hosts(pipeline)]).collect()
        }
        Some(Err(error)) => vec![format!("Log: {error}; `trackside up` waits for it."), hosts(pipeline)],
    }
}

/// A log on servers is shared by processes.
fn hosts(pipeline: &Pipeline) -> String {
    let up = format!("trackside up {} --only", pipeline.file.display());
    format!(
        "Hosts: one runs all stages, or each runs some: `{up} ingest,clean,sinks,server` here and `{up} models` there, each with a data directory of its own."
    )
}

fn names(blocks: &[Block]) -> Vec<String> {
    blocks
        .iter()
        .map(
            |block| {
                if block.name == block.kind { block.kind.clone() } else { format!("{} ({})", block.name, block.kind) }
            },
        )
        .collect()
}

fn and(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_pipeline_is_told_in_sentences() {
        let text = "[pipeline]\nname = \"p\"\n[schema]\nseries = [\"device\", \"sensor\"]\nfields = { value = \"float\", ok = \"boolean\" }\n[[clean]]\ntype = \"range\"\nfield = \"value\"\nmax = 3\n";
        let lines = words(&Pipeline::parse(Path::new("p.toml"), text).unwrap());
        assert_eq!(lines[1], "Events: a series is named by device and sensor; fields value (float) and ok (boolean).");
        assert!(lines[2].contains("nothing will come") && lines[3].contains("Cleaning: range"));
    }
}
