//! What can go wrong at a component's border, and what the caller is to do about it.
//!
//! Bad *data* is not an error: it becomes a dead letter (see [`crate::dead_letter`]). These types are for bad
//! configuration and for failures of the world. Only the engine's `policy.rs` acts on [`Failure`].

use std::fmt;

/// A value in the pipeline file that cannot be used.
///
/// `path` leads from the component's own table to the value (`limits.temp[0]`), so that whoever holds the file can
/// point at line and column. The message is lower case, names the value and the choices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    /// From the component's table to the value, in the form `a.b[0]`; empty for the table itself.
    pub path: String,
    /// What is wrong, in words.
    pub message: String,
    /// What to do about it; empty when the message says it all.
    pub help: String,
}

impl ConfigError {
    /// An error at `path` without further help.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), help: String::new() }
    }

    /// The same error with advice.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// "unknown `kind` `given`; did you mean `x`?" or, where nothing is close, the list of choices.
    pub fn unknown<'a>(
        path: impl Into<String>,
        kind: &str,
        given: &str,
        choices: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let choices: Vec<&str> = choices.into_iter().collect();
        Self::new(path, format!("unknown {kind} `{given}`{}", suggestion(given, &choices)))
    }
}

/// `; did you mean …?` when one of the choices is close to what was given, else `; choose from …`.
pub fn suggestion(given: &str, choices: &[&str]) -> String {
    let close = choices
        .iter()
        .map(|choice| (strsim::damerau_levenshtein(given, choice), choice))
        .filter(|(distance, choice)| *distance <= 1 + choice.len().max(given.len()) / 4)
        .min_by_key(|(distance, _)| *distance);
    match close {
        Some((_, choice)) => format!("; did you mean `{choice}`?"),
        None if choices.is_empty() => String::new(),
        None => format!("; choose from {}", choices.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// What the engine does after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The same again later: the world may heal.
    Retry,
    /// This delivery can never succeed; set it aside as a dead letter and go on.
    Reject,
    /// A human is needed; stop this component and say so.
    Stop,
}

/// A failure of a source, sink or model at work.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What to do next.
    pub action: Action,
    /// What happened, with the value and the fix.
    pub message: String,
    /// The cause below, for the log.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// The world may heal: try again.
    pub fn retry(message: impl fmt::Display) -> Self {
        Self { action: Action::Retry, message: message.to_string(), source: None }
    }

    /// This delivery is beyond help.
    pub fn reject(message: impl fmt::Display) -> Self {
        Self { action: Action::Reject, message: message.to_string(), source: None }
    }

    /// A human is needed.
    pub fn stop(message: impl fmt::Display) -> Self {
        Self { action: Action::Stop, message: message.to_string(), source: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_named_and_a_far_one_gets_the_list() {
        assert_eq!(suggestion("mqqt", &["http", "mqtt"]), "; did you mean `mqtt`?");
        assert_eq!(suggestion("banana", &["http", "mqtt"]), "; choose from `http`, `mqtt`");
    }
}
