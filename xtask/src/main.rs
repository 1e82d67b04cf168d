//! The repository's own tools, run as `cargo xtask COMMAND`.
//!
//! `tidy` checks what compilers and linters cannot say; `docs` writes the reference pages from what the components
//! say of themselves. Nothing imports this crate, and it is in no wheel.

#![allow(clippy::print_stdout, reason = "a command prints")]

mod docs;
mod repo;
mod rust;
mod tidy;

use repo::Repo;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  tidy                           check the repository's own rules
  docs [--check] [--from FILE]   write docs/reference/{sources,cleaners,sinks}.md, or check that they are up to date;
                                 FILE holds what `trackside components --json` prints (default: ask the one in .venv)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["tidy"] => Repo::open().and_then(|repo| tidy::run(&repo)),
        ["docs", options @ ..] => docs::run(options),
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
