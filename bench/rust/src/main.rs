//! The Rust half of the benchmarks: `bench/__main__.py` runs it, once for each figure, and makes the tables.
//!
//! Each command prints one line of JSON. It measures and checks counts, it judges nothing.
//!
//! ```text
//! trackside-bench generate LINES FILE        the workload, the same bytes each time
//! trackside-bench count FILE                 what the job's definition, taken literally, makes of it
//! trackside-bench clean FILE ROUNDS          ourselves and the ceiling in memory, alternating
//! trackside-bench ceiling FILE ROUNDS        the ceiling alone (for a profiler)
//! trackside-bench up FILE FOLDER             the real engine: file, log, tables
//! trackside-bench up-unsynced FILE FOLDER    the same without a single fsync
//! trackside-bench append-loop FOLDER PYTHON  log and worker: rows stamped just before the append
//! trackside-bench door-loop FOLDER PYTHON    the whole engine and a worker: the same from its door on
//! ```

mod append_loop;
mod ceiling;
mod clean;
mod count;
mod door_loop;
mod fsync;
mod job;
mod lines;
mod measure;
mod up;
mod workload;

use anyhow::{Context, Result, bail};
use std::io::Write;
use std::path::Path;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let answer = match words[..] {
        ["generate", lines, file] => workload::generate(number(lines)?, Path::new(file))?,
        ["count", file] => serde_json::to_value(count::count(&read(file)?))?,
        ["clean", file, rounds] => clean::against_ceiling(&read(file)?, number(rounds)?)?,
        ["ours", file, rounds] => clean::alone(&read(file)?, number(rounds)?)?,
        ["ceiling", file, rounds] => ceiling::alone(&read(file)?, number(rounds)?)?,
        ["up", file, folder] => up::run(Path::new(file), Path::new(folder))?,
        ["up-unsynced", file, folder] => {
            fsync::leave_out();
            up::run(Path::new(file), Path::new(folder))?
        }
        ["append-loop", folder, python] => append_loop::run(Path::new(folder), Path::new(python))?,
        ["door-loop", folder, python] => door_loop::run(Path::new(folder), Path::new(python))?,
        _ => {
            bail!(
                "give one of: generate, count, clean, ours, ceiling, up, up-unsynced, append-loop, door-loop; \
                 see bench/README.md"
            )
        }
    };
    writeln!(std::io::stdout(), "{answer}")?;
    Ok(())
}

fn number(text: &str) -> Result<usize> {
    text.parse().with_context(|| format!("`{text}` is not a whole number"))
}

fn read(path: &str) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read `{path}`; make it with `generate`"))
}
