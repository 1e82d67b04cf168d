//! The plain `trackside` binary: everything but models that run inside a Python interpreter.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::SUCCESS
}
