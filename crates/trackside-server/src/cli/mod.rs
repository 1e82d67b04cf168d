//! The command line: what can be typed, and which file does it.
//!
//! Exit codes: 0 done, 1 failed, 2 the command line or the pipeline file is wrong, 3 something outside is not available
//! (a port, the data directory), 130 interrupted twice. People get words, and with `--json` programs get JSON, one value
//! a line where there are several.

mod check;
mod client;
mod components;
mod dead;
mod demo;
mod init;
mod log;
mod place;
mod python;
mod ready;
mod reload;
mod run;
mod signals;
mod status;
mod sums;
mod tap;
mod terminal;
mod token;
mod up;

use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use trackside_engine::{Options, StartError};

/// What a command may end with beside success.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) message: String,
}

/// Something went wrong.
pub(crate) const FAILED: i32 = 1;
/// The command line or the pipeline file is wrong.
pub(crate) const USAGE: i32 = 2;
/// A port or a data directory is not available.
pub(crate) const UNAVAILABLE: i32 = 3;
/// A second signal while draining.
pub(crate) const INTERRUPTED: i32 = 130;

impl Failure {
    pub(crate) fn new(code: i32, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }

    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::new(FAILED, message)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let code = match &error {
            StartError::Unavailable(_) => UNAVAILABLE,
            StartError::Mismatch(_) => USAGE,
            StartError::Failed(_) => FAILED,
        };
        Self::new(code, error)
    }
}

/// Events from sensors, cleaned in Rust, scored in Python, shown live, kept in tables.
#[derive(Debug, Parser)]
#[command(name = "trackside", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run on this machine's own sensors and a simulated fleet: page, models, tables; needs no file
    Demo(demo::Arguments),
    /// Run a pipeline file
    Up(up::Arguments),
    /// Make a running pipeline take over what changed in its file
    Reload(reload::Arguments),
    /// Check a pipeline file and say in words what it does
    Check(check::Arguments),
    /// Write a pipeline file to start from
    Init(init::Arguments),
    /// Print rows of a topic, also beside a running pipeline
    Tap(tap::Arguments),
    /// Show how a pipeline does: the running one, or what its data directory tells
    Status(status::Arguments),
    /// List what was rejected, send it round again, or let it go
    Dead(dead::Arguments),
    /// Look over the log of a data directory, verify it, put damage right
    Log(log::Arguments),
    /// Print the JSON Schema of pipeline files, for editors
    Schema,
    /// List sources, cleaners and sinks
    Components(Json),
    /// Print the token, and an address that opens the page
    Token(token::Arguments),
}

impl Command {
    /// Whether a program reads the answer: then failures are JSON, too.
    fn json(&self) -> bool {
        match self {
            Self::Demo(arguments) => arguments.json.json,
            Self::Up(arguments) => arguments.json.json,
            Self::Check(arguments) => arguments.json.json,
            Self::Reload(arguments) => arguments.json.json,
            Self::Init(arguments) => arguments.json.json,
            Self::Tap(arguments) => arguments.json.json,
            Self::Status(arguments) => arguments.json.json,
            Self::Token(arguments) => arguments.json.json,
            Self::Dead(arguments) => arguments.json(),
            Self::Log(arguments) => arguments.json(),
            Self::Components(json) => json.json,
            Self::Schema => false,
        }
    }
}

/// `--json`.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Json {
    /// JSON instead of words
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which pipeline or data directory is meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct Where {
    /// Pipeline file; `pipeline.toml` when neither it nor --data is given
    pub(crate) file: Option<PathBuf>,
    /// Data directory, or the pipeline file that names it
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    pub(crate) data: Option<PathBuf>,
}

/// Runs the command; the exit code.
pub(crate) fn main(arguments: impl IntoIterator<Item = OsString>, options: Options) -> i32 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors. A terminal that is gone cannot be told so.
            _ = error.print();
            return if error.use_stderr() { USAGE } else { 0 };
        }
    };
    terminal::start_log();
    let json = cli.command.json();
    let result = match cli.command {
        Command::Demo(arguments) => demo::run(&arguments, options),
        Command::Up(arguments) => up::run(&arguments, options),
        Command::Check(arguments) => check::run(&arguments, &options),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Tap(arguments) => tap::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Dead(arguments) => dead::run(&arguments),
        Command::Log(arguments) => log::run(&arguments),
        Command::Schema => components::schema(),
        Command::Components(arguments) => components::run(arguments.json),
        Command::Token(arguments) => token::run(&arguments),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            terminal::error(&failure.message);
            if json {
                terminal::say_json(&serde_json::json!({ "error": failure.message, "code": failure.code }));
            }
            failure.code
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
