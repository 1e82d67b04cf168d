//! The plain `trackside` binary: everything but models that run inside this process (`mode = "in_process"`).

use std::process::ExitCode;
use trackside_engine::Options;

fn main() -> ExitCode {
    let code = trackside_server::main(std::env::args_os(), Options::default());
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
