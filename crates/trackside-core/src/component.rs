//! What a component tells about itself. From these entries come the listing, the JSON schema, the reference page, the
//! Python class and the exam: one `const` list per folder, and adding a component is adding a file and a line.

use crate::error::ConfigError;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

/// One component: `B` is the function that builds its kind.
#[derive(Debug, Clone, Copy)]
pub struct Component<B> {
    /// Its `type` in the pipeline file.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// A block of a pipeline file that works as it stands; the exam and the reference page use it.
    pub example: &'static str,
    /// JSON Schema of its block.
    pub schema: fn() -> schemars::Schema,
    /// Builds it.
    pub build: B,
}

/// The entry of that name, or an error that names the nearest.
pub fn find<'a, B>(list: &'a [Component<B>], kind: &str, name: &str) -> Result<&'a Component<B>, ConfigError> {
    list.iter()
        .find(|component| component.name == name)
        .ok_or_else(|| ConfigError::unknown("type", kind, name, list.iter().map(|component| component.name)))
}

/// The JSON Schema of a configuration, without references, so that it can stand inside another.
pub fn schema_of<C: JsonSchema>() -> schemars::Schema {
    let settings =
        schemars::generate::SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<C>()
}

/// Reads a component's configuration from its block. The keys that every block may have (`type`, `name`, …) must have
/// been taken out. An error names the path to the value.
pub fn config<C: DeserializeOwned>(block: serde_json::Value) -> Result<C, ConfigError> {
    serde_path_to_error::deserialize(block).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        in_words(path, &error.into_inner().to_string())
    })
}

/// Turns serde's words for unknown keys into ours, with the nearest name.
fn in_words(path: String, message: &str) -> ConfigError {
    for (start, kind) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        if let Some((given, rest)) = message.strip_prefix(start).and_then(|rest| rest.split_once('`')) {
            let choices: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
            return ConfigError::unknown(path, kind, given, choices);
        }
    }
    if let Some(key) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return ConfigError::new(path, format!("`{key}` is missing")).with_help(format!("add `{key} = …`"));
    }
    ConfigError::new(path, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(serde::Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Config {
        window: usize,
    }

    #[test]
    fn errors_name_the_key_and_the_nearest() {
        let error = config::<Config>(json!({"widnow": 3})).unwrap_err();
        assert_eq!(
            (error.path.as_str(), error.message.as_str()),
            ("widnow", "unknown key `widnow`; did you mean `window`?")
        );
        let error = config::<Config>(json!({"window": "x"})).unwrap_err();
        assert_eq!(error.path, "window");
        assert_eq!(config::<Config>(json!({})).unwrap_err().message, "`window` is missing");
    }
}
