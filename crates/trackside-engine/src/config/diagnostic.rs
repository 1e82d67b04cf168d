//! An error in a pipeline file, told so that the reader can fix it: file, line, column, what, and what to do.

use super::document::{Document, Place};
use std::fmt;
use std::path::{Path, PathBuf};
use trackside_core::error::ConfigError;

/// One thing wrong with a pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    /// The file.
    pub file: PathBuf,
    /// Line and column.
    #[serde(flatten)]
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub help: String,
    /// The line of the file.
    pub source_line: String,
}

impl Diagnostic {
    pub(super) fn new(file: &Path, document: &Document, block: &str, error: ConfigError) -> Self {
        let path = match (block.is_empty(), error.path.is_empty()) {
            (true, _) => error.path,
            (false, true) => block.to_owned(),
            (false, false) => format!("{block}.{}", error.path),
        };
        let place = document.place(&path);
        Self {
            file: file.into(),
            place,
            message: error.message,
            help: error.help,
            source_line: document.line(place).to_owned(),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column } = self.place;
        if line == 0 {
            let help = if self.help.is_empty() { String::new() } else { format!("\n  = {}", self.help) };
            return write!(f, "{}: {}{help}", self.file.display(), self.message);
        }
        writeln!(f, "{}:{line}:{column}: {}", self.file.display(), self.message)?;
        let gutter = " ".repeat(line.to_string().len());
        writeln!(f, "{gutter} |\n{line} | {}", self.source_line)?;
        write!(f, "{gutter} | {}^", " ".repeat(column.saturating_sub(1)))?;
        if !self.help.is_empty() {
            write!(f, "\n{gutter} = {}", self.help)?;
        }
        Ok(())
    }
}

/// All that is wrong with a pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            write!(f, "{}{diagnostic}", if index > 0 { "\n\n" } else { "" })?;
        }
        Ok(())
    }
}
