//! Two readings of a pipeline file compared: what is different, in words, and what cannot change while it runs.

use crate::config::{Block, ModelSection, Pipeline};
use serde::Serialize;
use serde_json::{Map, Value};
use trackside_core::error::ConfigError;

/// One thing that a reload changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `source`, `clean`, `model`, `sink`, `pipeline` or `retention`.
    pub block: &'static str,
    /// Name of the block.
    pub name: String,
    /// `added`, `removed` or `changed`.
    pub what: &'static str,
    /// What that meant, in words.
    pub text: String,
}

impl Change {
    pub(crate) fn new(block: &'static str, name: &str, what: &'static str, text: impl Into<String>) -> Self {
        Self { block, name: name.to_owned(), what, text: text.into() }
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.block == self.name {
            true => write!(f, "{}: {}", self.block, self.text),
            false => write!(f, "{} {}: {}", self.block, self.name, self.text),
        }
    }
}

/// What the new file asks for that a running pipeline cannot do, by path.
pub(crate) fn forbidden(old: &Pipeline, new: &Pipeline) -> Vec<(String, ConfigError)> {
    const OTHER: &str = "take it back, or start another pipeline with it";
    const RESTART: &str = "take it back, or end the pipeline and start it again with this file: nothing is lost";
    let mut found = Vec::new();
    let mut refuse = |path: &str, message: String, help: &str| {
        found.push((String::new(), ConfigError::new(path, message).with_help(help)));
    };
    let (was, is) = (&old.pipeline, &new.pipeline);
    if was.name != is.name {
        refuse("pipeline.name", format!("the pipeline is `{}`; its name is part of its data", was.name), OTHER);
    }
    if was.data != is.data {
        let message = format!("the running pipeline has its data in `{}`", was.data.display());
        refuse("pipeline.data", message, RESTART);
    }
    if was.partitions != is.partitions {
        let message = format!("the data was made with {} partitions; their number is fixed", was.partitions);
        refuse("pipeline.partitions", message, OTHER);
    }
    if old.server.listen != new.server.listen {
        let message = format!("the running server listens on `{}` and keeps its port", old.server.listen);
        refuse("server.listen", message, RESTART);
    }
    if old.log != new.log {
        refuse("log", "the log of a running pipeline stays where it is".to_owned(), RESTART);
    }
    for key in of_sections(&old.log, &new.log) {
        refuse(&format!("log.{key}"), format!("`{key}` of [log] changed; the running pipeline keeps its log"), RESTART);
    }
    let (was, is) = (json(&old.layout.config), json(&new.layout.config));
    for key in different(&was, &is) {
        let (message, help) = match key.as_str() {
            "series" => ("state and partitions go by series, which cannot change".to_owned(), OTHER),
            _ => (format!("`{key}` of [schema] changed; everything that runs was built on it"), RESTART),
        };
        refuse(&format!("schema.{key}"), message, help);
    }
    found
}

/// Keys whose values are not the same on both sides.
pub(crate) fn different(was: &Value, is: &Value) -> Vec<String> {
    let empty = Map::new();
    let (was, is) = (was.as_object().unwrap_or(&empty), is.as_object().unwrap_or(&empty));
    let mut keys: Vec<String> = was.keys().filter(|key| is.get(*key) != was.get(*key)).cloned().collect();
    keys.extend(is.keys().filter(|key| !was.contains_key(*key)).cloned());
    keys
}

/// What differs between two blocks of one name.
pub(crate) fn keys_of_blocks(was: &Block, is: &Block) -> Vec<String> {
    let mut keys = different(&was.settings, &is.settings);
    keys.extend((was.kind != is.kind).then(|| "type".to_owned()));
    keys.extend((was.topic != is.topic).then(|| "topic".to_owned()));
    keys
}

/// What differs between two readings of a section.
pub(crate) fn of_sections(was: &impl Serialize, is: &impl Serialize) -> Vec<String> {
    different(&json(was), &json(is))
}

/// What differs between two models of one name.
pub(crate) fn keys_of_models(was: &ModelSection, is: &ModelSection) -> Vec<String> {
    of_sections(was, is)
}

/// Whether a model with these changes can go on with the states that the other saved.
pub(crate) fn keeps_snapshots(keys: &[String]) -> bool {
    !keys.iter().any(|key| ["use", "field", "fields", "options"].contains(&key.as_str()))
}

/// `` `a` and `b` changed ``.
pub(crate) fn changed(keys: &[String]) -> String {
    let ticked: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    match ticked.as_slice() {
        [] => "unchanged".into(),
        [one] => format!("{one} changed"),
        [first @ .., last] => format!("{} and {last} changed", first.join(", ")),
    }
}

/// What changed in the chain of cleaners.
pub(crate) fn of_chain(was: &[Block], is: &[Block]) -> Vec<Change> {
    let mut changes = Vec::new();
    for block in is {
        match was.iter().find(|old| old.name == block.name) {
            None => changes.push(Change::new("clean", &block.name, "added", "added, remembers nothing yet")),
            Some(old) if !old.same_as(block) => {
                let text = format!("{}, begins anew", changed(&keys_of_blocks(old, block)));
                changes.push(Change::new("clean", &block.name, "changed", text));
            }
            Some(_) => {}
        }
    }
    for old in was.iter().filter(|old| !is.iter().any(|block| block.name == old.name)) {
        changes.push(Change::new("clean", &old.name, "removed", "removed"));
    }
    let kept = |all: &[Block], other: &[Block]| -> Vec<String> {
        all.iter().map(|block| block.name.clone()).filter(|name| other.iter().any(|b| b.name == *name)).collect()
    };
    if kept(was, is) != kept(is, was) {
        changes.push(Change::new(
            "clean",
            "clean",
            "changed",
            "the order of the cleaners changed; they keep their state",
        ));
    }
    changes
}

fn json(value: &impl Serialize) -> Value {
    // Sections are tables of plain values, which always have a form in JSON.
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const BASE: &str = "[pipeline]\nname = \"p\"\n\n[schema]\nseries = [\"d\"]\nfields = { v = \"float\", n = \"integer\" }\n\n[[clean]]\ntype = \"dedupe\"\nby = \"n\"\n\n[[clean]]\ntype = \"range\"\nfield = \"v\"\nmax = 3\n";

    fn parse(text: &str) -> Pipeline {
        Pipeline::parse(Path::new("p.toml"), text).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn what_cannot_change_is_shown_where_it_stands_with_what_to_do() {
        let new = parse(
            &BASE.replace("name = \"p\"", "name = \"p\"\npartitions = 2").replace("v = \"float\"", "v = \"integer\""),
        );
        let errors = new.explain(forbidden(&parse(BASE), &new)).to_string();
        assert!(errors.contains("p.toml:3:1: the data was made with 1 partitions"), "{errors}");
        assert!(
            errors.contains("p.toml:7:1: `fields` of [schema] changed") && errors.contains("start it again"),
            "{errors}"
        );
        assert!(forbidden(&new, &new).is_empty());
    }

    #[test]
    fn changes_of_the_chain_are_told() {
        let was = parse(BASE).cleaners;
        let told = |is: &[Block]| of_chain(&was, is).iter().map(Change::to_string).collect::<Vec<_>>();
        assert!(told(&was).is_empty());
        let is = parse(&BASE.replace("max = 3", "max = 4\nmin = 1")).cleaners;
        assert_eq!(told(&is), ["clean range: `max` and `min` changed, begins anew"]);
        assert_eq!(told(&is[..1]), ["clean range: removed"]);
        let turned: Vec<Block> = was.iter().rev().cloned().collect();
        assert_eq!(told(&turned), ["clean: the order of the cleaners changed; they keep their state"]);
    }
}
