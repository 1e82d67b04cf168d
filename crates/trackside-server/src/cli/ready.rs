//! What is said once a pipeline runs: where the page is, what runs, and for the demo three things to try.

use super::terminal::{note, say};
use serde::Serialize;
use std::path::Path;
use std::process::{Command, Stdio};
use trackside_engine::{Engine, Status};

/// The first line of `up --json`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ready {
    ready: bool,
    /// Of the page and the API; null with `port` in a process without a server.
    pub(crate) url: Option<String>,
    /// Opens the page, as often as it is asked.
    pub(crate) token_url: Option<String>,
    pub(crate) port: Option<u16>,
    pid: u32,
    pipeline: String,
    /// Stages that run here, if not all do.
    only: Option<String>,
    pub(crate) data: String,
    sources: Vec<String>,
    models: Vec<String>,
}

impl Ready {
    pub(crate) fn new(engine: &Engine, data: &Path) -> Self {
        let (pipeline, stages) = (engine.pipeline(), engine.stages());
        let sources = pipeline.sources.iter().filter(|_| stages.ingest);
        let models = pipeline.models.iter().filter(|_| stages.models);
        Self {
            ready: true,
            url: None,
            token_url: None,
            port: None,
            pid: std::process::id(),
            pipeline: pipeline.pipeline.name.clone(),
            only: Some(stages).filter(|stages| !stages.all()).map(|stages| stages.to_string()),
            data: data.display().to_string(),
            sources: sources.map(|source| source.name.clone()).collect(),
            models: models.map(|model| model.name.clone()).collect(),
        }
    }

    /// With the server's address.
    #[must_use]
    pub(crate) fn at(mut self, url: &str, port: u16, token: &str) -> Self {
        (self.url, self.port) = (Some(url.to_owned()), Some(port));
        self.token_url = Some(format!("{url}/?token={token}"));
        self
    }

    /// For people; `one_time` opens the page once.
    pub(crate) fn say(&self, one_time: Option<&str>) {
        say(format!("trackside {} · {}", env!("CARGO_PKG_VERSION"), self.pipeline));
        if let Some(only) = &self.only {
            say(format!("  stages   {only}; the others run elsewhere"));
        }
        if let Some(one_time) = one_time {
            say(format!("  page     {one_time}"));
        }
        let list = |names: &[String]| if names.is_empty() { "none".into() } else { names.join(", ") };
        say(format!("  sources  {}", list(&self.sources)));
        say(format!("  models   {}", list(&self.models)));
        say(format!("  data     {}", self.data));
        say("  Ctrl-C ends it when all that was taken is through.");
    }
}

/// Three things to try beside a running demo.
pub(crate) fn things_to_try(ready: &Ready, status: &Status) {
    say("\nThree things to try, in another terminal:");
    say("  1 send an event, and see its series appear on the page");
    let token = Path::new(&ready.data).join("token");
    say(format!(
        "    curl -H \"Authorization: Bearer $(cat '{}')\" {}/ingest -d '{{\"device\":\"kettle\",\"sensor\":\"temp\",\"value\":21.5}}'",
        token.display(),
        ready.url.as_deref().unwrap_or_default()
    ));
    match status.models.iter().find_map(|model| Some((&model.name, model.pid?))) {
        Some((name, pid)) => {
            say(format!(
                "  2 kill the worker of model `{name}`: nothing stops, nothing is lost, it is back in a second"
            ));
            say(format!("    kill -9 {pid}"));
        }
        None => {
            say("  2 see what happens to events that cannot be read: they are kept, with the reason");
            say(format!("    trackside tap dead-letter --data '{}'", ready.data));
        }
    }
    say("  3 ask the tables, while they are written");
    let tables = Path::new(&ready.data).join("tables/clean/*/*.parquet");
    say(format!(
        "    duckdb -c \"SELECT device, sensor, count(*), avg(value) FROM '{}' GROUP BY ALL ORDER BY ALL\"\n",
        tables.display()
    ));
}

/// Opens a browser where there is a desktop; where there is none, or it fails, the address stands on the terminal.
pub(crate) fn open_browser(url: &str) {
    let desktop =
        ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let program = match (cfg!(target_os = "macos"), desktop) {
        (true, _) => "open",
        (false, true) => "xdg-open",
        (false, false) => return,
    };
    let mut command = Command::new(program);
    let quiet = command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match quiet.spawn() {
        // It is waited for beside the run, so that it leaves no zombie.
        Ok(mut child) => _ = std::thread::spawn(move || child.wait()),
        Err(_) => note(format!("no browser could be opened ({program}); open the address yourself")),
    }
}
