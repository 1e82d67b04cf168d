//! `trackside-faults`: breaks Trackside on purpose and looks whether its promises hold.
//!
//! `up` is the product's own command with the planted bugs compiled in: `TRACKSIDE_PLANTED_BUG=name` chooses one, and
//! without it the command is the product.

#![allow(clippy::print_stdout, reason = "a command prints")]

mod bugs;
mod disk;
mod loadgen;
mod sim;
mod sweep;

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// Breaks Trackside on purpose and looks whether its promises hold
#[derive(Debug, Parser)]
#[command(name = "trackside-faults", max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The product's own command (`trackside up …`), with the bug that TRACKSIDE_PLANTED_BUG names
    #[command(disable_help_flag = true)]
    Up {
        /// Handed to `trackside up` as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Sends events and notes what it sent and what it was told
    Loadgen(loadgen::Options),
    /// The product's log, cleaning and tables on a simulated disk that fails by a seed
    Sim(sim::Options),
    /// A disk in memory, mounted by FUSE, whose power can be cut
    Disk(disk::Options),
    /// Torn tails and flipped bits, at every place of a log
    Sweep(sweep::SweepOptions),
}

fn main() -> ExitCode {
    let code = match Cli::parse().command {
        Command::Up { arguments } => up(arguments),
        Command::Loadgen(options) => loadgen::run(options).map(|summary| {
            println!("{summary}");
            ExitCode::SUCCESS
        }),
        Command::Disk(options) => disk::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Sweep(options) => sweep::run(options).map(|well| ExitCode::from(u8::from(!well))),
        Command::Sim(options) => sim::run(options).map(|well| ExitCode::from(u8::from(!well))),
    };
    code.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

fn up(arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    bugs::plant(std::env::var(bugs::VARIABLE).ok().as_deref().filter(|name| !name.is_empty()))?;
    let command = ["trackside", "up"].map(OsString::from).into_iter().chain(arguments);
    let code = trackside_server::main(command, trackside_engine::Options::default());
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}
