//! Writes the reference pages of sources, cleaners and sinks from what the components say of themselves.
//!
//! The command `trackside components --json` prints every component with its summary, an example and the JSON Schema of
//! its block. Nothing on these pages is written by hand, so none can be out of date: `--check` compares.

use crate::repo::root;
use serde_json::Value;
use std::fmt::Write as _;
use std::process::Command;

/// A page: the kind of component, its file, its title and what is true for all of them.
struct Page {
    kind: &'static str,
    file: &'static str,
    block: &'static str,
    head: &'static str,
}

const PAGES: &[Page] = &[
    Page {
        kind: "source",
        file: "docs/reference/sources.md",
        block: "[[source]]",
        head: "# Sources\n\nWhere events enter. Every `[[source]]` block may also have `name` (default: its type; rows and sums are \
               counted under it). A source is acknowledged only after its events are written and fsynced; each says \
               what it promises.\n",
    },
    Page {
        kind: "cleaner",
        file: "docs/reference/cleaners.md",
        block: "[[clean]]",
        head: "# Cleaners\n\nWhat happens to events between `received` and `clean`, in the order of the `[[clean]]` blocks. Every block \
               may also have `name` (default: its type; filtered rows are counted under it). Findings are bits of \
               `<field>_quality`: see the [glossary](../glossary.md).\n",
    },
    Page {
        kind: "sink",
        file: "docs/reference/sinks.md",
        block: "[[sink]]",
        head: "# Sinks\n\nWhere rows leave. Every `[[sink]]` block names a `topic` (`clean`, `received`, `scores.<model>`, \
               `forecasts.<model>`, `dead-letter`) and may have a `name` (default: its type and topic). Sinks are given \
               durable rows only.\n",
    },
];

const MARK: &str =
    "<!-- Written by `cargo xtask docs` from what the components say of themselves: edit their files. -->\n\n";

/// How deep tables inside tables are described.
const DEEPEST: usize = 3;

/// `cargo xtask docs [--check] [--from FILE]`.
pub(crate) fn run(options: &[&str]) -> Result<String, String> {
    let (check, from) = match options {
        [] => (false, None),
        ["--check"] => (true, None),
        ["--from", file] => (false, Some(*file)),
        ["--check", "--from", file] | ["--from", file, "--check"] => (true, Some(*file)),
        _ => return Err(format!("unknown options `{}`; choose from `--check`, `--from FILE`", options.join(" "))),
    };
    let text =
        from.map_or_else(ask, |file| std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}")))?;
    let components: Vec<Value> =
        serde_json::from_str(&text).map_err(|error| format!("the listing of components is no JSON array: {error}"))?;
    for page in PAGES {
        let (path, text) = (root().join(page.file), render(page, &components));
        if !check {
            std::fs::write(&path, text).map_err(|error| format!("{}: {error}", page.file))?;
        } else if let Some(line) = first_difference(&std::fs::read_to_string(&path).unwrap_or_default(), &text) {
            return Err(format!(
                "{}:{line}: not what the components say; run `cargo xtask docs` and commit it",
                page.file
            ));
        }
    }
    Ok(format!("docs: {} components on {} pages", components.len(), PAGES.len()))
}

/// What the installed command says.
fn ask() -> Result<String, String> {
    let command = root().join(".venv/bin/trackside");
    let advice = "run `make wheel` first, or give --from FILE";
    let output = Command::new(&command)
        .args(["components", "--json"])
        .output()
        .map_err(|error| format!("cannot run .venv/bin/trackside: {error}; {advice}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!(".venv/bin/trackside components --json failed: {}; {advice}", said.trim()));
    }
    String::from_utf8(output.stdout).map_err(|_| "the listing of components is not UTF-8".into())
}

/// The first line, from 1, in which two texts differ.
fn first_difference(left: &str, right: &str) -> Option<usize> {
    if left == right {
        return None;
    }
    let same = left.lines().zip(right.lines()).take_while(|(left, right)| left == right).count();
    Some(same + 1)
}

fn render(page: &Page, components: &[Value]) -> String {
    let mut out = format!("{MARK}{}", page.head);
    for component in components.iter().filter(|component| component["kind"] == page.kind) {
        let text = |key: &str| component[key].as_str().unwrap_or_default();
        _ = write!(out, "\n## `{}`\n\n{}\n\n", text("name"), sentence(text("summary")));
        _ = write!(out, "```toml\n{}```\n", example(page.block, text("example")));
        let mut rows = Vec::new();
        keys(&component["schema"], &component["schema"], "", 0, &mut rows);
        if !rows.is_empty() {
            _ = write!(out, "\n| key | type | default | |\n|---|---|---|---|\n{}", rows.concat());
        }
    }
    out
}

/// The example as it would stand in a pipeline file.
fn example(block: &str, text: &str) -> String {
    let head = if text.contains("[[") { String::new() } else { format!("{block}\n") };
    format!("{head}{}\n", text.trim())
}

/// A row for each key of the object, and for those of the objects inside it.
fn keys(schema: &Value, object: &Value, prefix: &str, depth: usize, rows: &mut Vec<String>) {
    let Some(properties) = object["properties"].as_object() else { return };
    let required = |key: &str| object["required"].as_array().is_some_and(|keys| keys.iter().any(|k| k == key));
    for (key, property) in properties {
        let target = resolve(schema, property);
        let name = format!("{prefix}{key}");
        let default = match property.get("default").or_else(|| target.get("default")) {
            _ if required(key) => "required".into(),
            Some(Value::Null) | None => String::new(),
            Some(value) => format!("`{value}`"),
        };
        let about = property["description"].as_str().or_else(|| target["description"].as_str()).unwrap_or_default();
        let about = format!("{about}{}", choices(schema, target));
        rows.push(format!(
            "| `{name}` | {} | {} | {} |\n",
            cell(&kind(schema, property)),
            cell(&default),
            cell(&about)
        ));
        if depth < DEEPEST {
            keys(schema, target, &format!("{name}."), depth + 1, rows);
        }
    }
}

/// Follows references, and steps through wrappers of one alternative (`Option<T>`, a described reference).
fn resolve<'a>(schema: &'a Value, value: &'a Value) -> &'a Value {
    let mut at = value;
    // References form no cycles without an object between them; the bound is for broken schemas.
    for _ in 0..16 {
        if let Some(name) = at["$ref"].as_str().and_then(|target| target.strip_prefix("#/$defs/")) {
            at = &schema["$defs"][name];
            continue;
        }
        let alternatives = ["allOf", "anyOf"].iter().find_map(|key| at[key].as_array());
        match alternatives.map(|all| all.iter().filter(|one| one["type"] != "null").collect::<Vec<_>>()).as_deref() {
            Some([one]) => at = one,
            _ => break,
        }
    }
    at
}

/// The type of a value, in words.
fn kind(schema: &Value, value: &Value) -> String {
    let at = resolve(schema, value);
    if let Some(values) = at["enum"].as_array() {
        return join(values.iter().filter(|value| !value.is_null()).map(|value| format!("`{value}`")));
    }
    if let Some(value) = at.get("const") {
        return format!("`{value}`");
    }
    if let Some(all) = ["oneOf", "anyOf"].iter().find_map(|key| at[key].as_array()) {
        return join(all.iter().filter(|one| one["type"] != "null").map(|one| kind(schema, one)));
    }
    let types: Vec<&str> = match &at["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect(),
        _ => vec!["any value"],
    };
    join(types.into_iter().map(|name| match (name, &at["items"], &at["additionalProperties"]) {
        ("array", items @ Value::Object(_), _) => format!("array of {}", kind(schema, items)),
        ("object", _, values @ Value::Object(_)) => format!("table of {}", kind(schema, values)),
        ("object", _, _) => "table".into(),
        ("number", _, _) => "float".into(),
        (name, _, _) => name.into(),
    }))
}

fn join(parts: impl Iterator<Item = String>) -> String {
    let mut parts: Vec<String> = parts.collect();
    parts.dedup();
    parts.join(" or ")
}

/// What the values of a choice mean, where they say so.
fn choices(schema: &Value, at: &Value) -> String {
    let mut out = String::new();
    for one in at["oneOf"].as_array().into_iter().flatten() {
        let one = resolve(schema, one);
        if let (Some(value), Some(about)) = (one.get("const"), one["description"].as_str()) {
            _ = write!(out, " `{value}`: {about}");
        }
    }
    out
}

/// The text with a capital in front and a full stop behind.
fn sentence(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", chars.as_str())
}

/// Text that fits a cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn component() -> Value {
        json!({"kind": "sink", "name": "stdout", "summary": "prints rows", "example": "type = \"stdout\"\n", "schema": {
            "type": "object",
            "properties": {
                "format": {"description": "How a row\nis written.", "$ref": "#/$defs/Format", "default": "json"},
                "every": {"type": ["integer", "null"], "default": null},
                "where": {"type": "string", "description": "a | b"},
                "limits": {"type": ["object", "null"], "additionalProperties": {"type": "array", "items": {"type": "number"}}},
                "retry": {"anyOf": [{"$ref": "#/$defs/Retry"}, {"type": "null"}]}
            },
            "required": ["where"],
            "$defs": {
                "Format": {"oneOf": [{"const": "json", "description": "One object a line."}, {"const": "text"}]},
                "Retry": {"type": "object", "properties": {"most": {"type": "integer", "default": 3}}}
            }
        }})
    }

    #[test]
    fn a_page_tells_every_key() {
        let page = render(&PAGES[2], &[component()]);
        for line in [
            "## `stdout`\n\nPrints rows.\n",
            "```toml\n[[sink]]\ntype = \"stdout\"\n```",
            "| `format` | `\"json\"` or `\"text\"` | `\"json\"` | How a row is written. `\"json\"`: One object a line. |",
            "| `every` | integer |  |  |",
            "| `where` | string | required | a \\| b |",
            "| `limits` | table of array of float |  |  |",
            "| `retry` | table |  |  |",
            "| `retry.most` | integer | `3` |  |",
        ] {
            assert!(page.contains(line), "{line} not in\n{page}");
        }
        assert!(!render(&PAGES[0], &[component()]).contains("stdout"));
    }

    #[test]
    fn a_difference_is_told_by_its_line() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
        assert_eq!(first_difference("a\n", "a\nb\n"), Some(2));
    }

    #[test]
    fn options_that_are_not_there_are_named() {
        assert!(run(&["--chekc"]).unwrap_err().contains("unknown options `--chekc`"));
    }
}
