//! Pipelines in a folder of their own.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use trackside_engine::{Engine, Options, Pipeline, StartError, Summary};

/// Longest wait for a condition; far beyond what any takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A pipeline of `device` and `value` with the given blocks.
pub(crate) fn text(partitions: u32, blocks: &str) -> String {
    format!(
        r#"[pipeline]
name = "test"
partitions = {partitions}
snapshot_every = "50ms"

[schema]
time = {{ field = "ts", unit = "ms" }}
series = ["device"]
fields = {{ value = "float", seq = "integer" }}

{blocks}
"#
    )
}

pub(crate) fn load(folder: &Path, text: &str) -> Pipeline {
    Pipeline::parse(&folder.join("pipeline.toml"), text).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn start(folder: &Path, text: &str) -> Arc<Engine> {
    try_start(folder, text, Options::default()).unwrap()
}

pub(crate) fn try_start(folder: &Path, text: &str, options: Options) -> Result<Arc<Engine>, StartError> {
    Engine::start(load(folder, text), options)
}

/// Waits until the sources came to their end, then brings everything to rest.
pub(crate) fn finish(engine: &Engine) -> Summary {
    wait("the sources to end", || engine.sources_ended());
    engine.drain(PATIENCE)
}

pub(crate) fn wait(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `count` events of five devices; every 100th line is broken, every 50th is sent twice.
pub(crate) fn events(count: usize) -> String {
    let mut text = String::new();
    for n in 0..count {
        let (device, seq) = (n % 5, n / 5);
        let line = format!(
            "{{\"ts\":{},\"device\":\"d{device}\",\"value\":{}.5,\"seq\":{seq}}}\n",
            1_700_000_000_000u64 + n as u64,
            n % 17
        );
        if n % 100 == 99 {
            text.push_str("{\"ts\":17\n");
        }
        text.push_str(&line);
        if n % 50 == 49 {
            text.push_str(&line);
        }
    }
    text
}
