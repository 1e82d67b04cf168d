//! `trackside components` and `trackside schema`: what the engine says of itself.

use super::Failure;
use super::terminal::{say, say_json};

/// Lists sources, cleaners and sinks.
pub(crate) fn run(json: bool) -> Result<i32, Failure> {
    let components = trackside_engine::components();
    if json {
        say_json(&components);
        return Ok(0);
    }
    let width = components.iter().map(|component| component.name.len()).max().unwrap_or(0);
    for (kind, block) in [("source", "[[source]]"), ("cleaner", "[[clean]]"), ("sink", "[[sink]]")] {
        say(block);
        for component in components.iter().filter(|component| component.kind == kind) {
            say(format!("  {:width$}  {}", component.name, component.summary));
        }
    }
    say("\n`trackside components --json` has an example and the settings of each.");
    Ok(0)
}

/// Prints the JSON Schema of pipeline files.
pub(crate) fn schema() -> Result<i32, Failure> {
    // A schema is a tree of JSON values already.
    say(serde_json::to_string_pretty(&trackside_engine::pipeline_schema()).unwrap_or_default());
    Ok(0)
}
