//! `trackside init`: writes a pipeline file that runs, with a word on each line that one will want to change.

use super::place::FILE;
use super::terminal::{say, say_json};
use super::{Failure, Json, USAGE};
use clap::Args;
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use trackside_core::error::suggestion;

/// A pipeline to start from.
struct Template {
    name: &'static str,
    summary: &'static str,
    /// Names and contents, the pipeline file first.
    files: &'static [(&'static str, &'static str)],
}

/// Every template.
const TEMPLATES: &[Template] = &[
    Template {
        name: "http",
        summary: "events that programs post as JSON or line protocol",
        files: &[(FILE, include_str!("../../templates/http.toml"))],
    },
    Template {
        name: "mqtt",
        summary: "messages of an MQTT broker, acknowledged once they are on the disk",
        files: &[(FILE, include_str!("../../templates/mqtt.toml"))],
    },
    Template {
        name: "file",
        summary: "a CSV or NDJSON file, read once, followed, or replayed",
        files: &[
            (FILE, include_str!("../../templates/file.toml")),
            ("events.csv", include_str!("../../templates/events.csv")),
        ],
    },
    Template {
        name: "host",
        summary: "this machine's own sensors",
        files: &[(FILE, include_str!("../../templates/host.toml"))],
    },
    Template {
        name: "model",
        summary: "a model of your own, on a simulated fleet",
        files: &[
            (FILE, include_str!("../../templates/model.toml")),
            ("my_models.py", include_str!("../../templates/my_models.py")),
        ],
    },
];

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Which one; see --list
    #[arg(default_value = "http")]
    template: String,
    /// Overwrite files that are there
    #[arg(long)]
    force: bool,
    /// List the templates
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

pub(crate) fn run(arguments: &Arguments) -> Result<i32, Failure> {
    if arguments.list {
        list(arguments.json.json);
        return Ok(0);
    }
    let template = TEMPLATES.iter().find(|template| template.name == arguments.template).ok_or_else(|| {
        let names: Vec<&str> = TEMPLATES.iter().map(|template| template.name).collect();
        Failure::new(
            USAGE,
            format!("unknown template `{}`{}", arguments.template, suggestion(&arguments.template, &names)),
        )
    })?;
    if let Some((name, _)) = template.files.iter().find(|(name, _)| !arguments.force && Path::new(name).exists()) {
        return Err(Failure::new(USAGE, format!("`{name}` is there already; `--force` overwrites it")));
    }
    for (name, text) in template.files {
        write(name, text, arguments.force)
            .map_err(|error| Failure::failed(format!("`{name}` cannot be written: {error}")))?;
    }
    let files: Vec<&str> = template.files.iter().map(|(name, _)| *name).collect();
    if arguments.json.json {
        say_json(&json!({ "template": template.name, "files": files }));
    } else {
        say(format!("wrote {}", files.join(" and ")));
        say("next: `trackside check` says what it does, `trackside up` runs it");
    }
    Ok(0)
}

fn list(json: bool) {
    if json {
        let all: Vec<_> =
            TEMPLATES.iter().map(|template| json!({ "name": template.name, "summary": template.summary })).collect();
        say_json(&all);
    } else {
        TEMPLATES.iter().for_each(|template| _ = say(format!("{:6} {}", template.name, template.summary)));
    }
}

fn write(name: &str, text: &str, force: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).truncate(true);
    let mut file = if force { options.create(true) } else { options.create_new(true) }.open(name)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackside_engine::Pipeline;

    #[test]
    fn every_template_is_a_pipeline() {
        for template in TEMPLATES {
            let folder = tempfile::tempdir().unwrap();
            for (name, text) in template.files {
                std::fs::write(folder.path().join(name), text).unwrap();
            }
            if let Err(errors) = Pipeline::load(&folder.path().join(FILE)) {
                panic!("{}: {errors}", template.name);
            }
        }
    }
}
