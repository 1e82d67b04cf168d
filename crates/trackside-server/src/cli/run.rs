//! Runs a pipeline with its server, until it is asked to end or has nothing left to do: what `up` and `demo` share.
//!
//! The order of the start: credentials, port, engine, views, server, ready. What can fail without a trace fails first.
//! The end: sources stop, what was taken flows through, tables are committed, and the sums are told.

use super::place::Note;
use super::ready::{Ready, open_browser, things_to_try};
use super::signals::{Asked, Signals};
use super::terminal::{StatusLine, note, say, say_json};
use super::{FAILED, Failure, UNAVAILABLE, USAGE, sums};
use crate::http::{App, Auth, Listener, Server, token};
use crate::views::Views;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use trackside_engine::{Engine, ModelStatus, Options, Pipeline, StageState, Status, Summary};

/// Longest drain after a signal.
const DRAIN: Duration = Duration::from_secs(10);
/// Rows in flight that do not become fewer for so long are left for the next start.
const STALLED: Duration = Duration::from_secs(60);
/// The same, where all of them wait for models whose code cannot be loaded: a file that is being saved is there by then.
const UNLOADED: Duration = Duration::from_secs(3);
/// How often the run looks whether it is at its end.
const LOOK: Duration = Duration::from_millis(50);
/// How often the status line is written.
const STATUS_LINE: Duration = Duration::from_secs(1);
/// How long the demo waits for a worker's process id before it tells what to try.
const WORKERS: Duration = Duration::from_secs(8);
/// Threads that answer requests.
const HTTP_THREADS: usize = 2;

/// When a run ends, beside a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    Stopped,
    /// All finite sources are delivered.
    Idle,
    /// So long after it was ready.
    After(Duration),
}

/// A run to be.
pub(crate) struct Run {
    pub(crate) pipeline: Pipeline,
    pub(crate) options: Options,
    /// Address in place of the pipeline file's.
    pub(crate) listen: Option<String>,
    /// Takes a port nearby where the wanted one is in use.
    pub(crate) near: bool,
    pub(crate) until: Until,
    pub(crate) json: bool,
    pub(crate) browser: bool,
    /// Tells what to try, as the demo does.
    pub(crate) tries: bool,
}

impl Run {
    /// Runs it; the exit code.
    pub(crate) fn run(self) -> Result<i32, Failure> {
        let data = std::path::absolute(self.pipeline.data()).map_err(Failure::failed)?;
        let listener = if self.options.stages.server { Some(self.listener(&data)?) } else { None };
        let Run { pipeline, options, until, json, browser, tries, .. } = self;
        let engine = Engine::start(pipeline, options)?;
        let door = listener.map(|listener| Ok::<_, Failure>((listener, views(&engine)?))).transpose()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(HTTP_THREADS)
            .thread_name("http")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| Failure::failed(format!("the server cannot be started: {error}")))?;
        let session = Session { engine, data, until, json, browser, tries, line: StatusLine::default() };
        let code = runtime.block_on(session.run(door));
        runtime.shutdown_timeout(Duration::from_secs(1));
        code
    }

    fn listener(&self, data: &Path) -> Result<Listener, Failure> {
        let listen = self.listen.clone().unwrap_or_else(|| self.pipeline.server.listen.clone());
        check_credentials(&listen, data)?;
        let listener = if self.near { Listener::bind_near(&listen) } else { Listener::bind(&listen) };
        listener.map_err(unavailable)
    }
}

fn views(engine: &Engine) -> Result<Views, Failure> {
    let pipeline = engine.pipeline();
    let models: Vec<String> = pipeline.models.iter().map(|model| model.name.clone()).collect();
    Views::start(engine.log(), &pipeline.layout, pipeline.pipeline.partitions, &models)
        .map_err(|error| Failure::failed(format!("the views cannot be started: {error}")))
}

/// Refuses to listen beyond this machine with a token that nobody asked for.
fn check_credentials(listen: &str, data: &Path) -> Result<(), Failure> {
    let addresses = crate::http::resolve(listen).map_err(unavailable)?;
    let wide = addresses.iter().any(|address| !address.ip().is_loopback());
    if wide && token::given(data).map_err(Failure::failed)?.is_none() {
        let message = format!(
            "`{listen}` can be reached from other machines, and no token was chosen; set {}, or write one to `{}`, or listen on 127.0.0.1",
            token::VARIABLE,
            data.join(token::FILE).display()
        );
        return Err(Failure::new(USAGE, message));
    }
    Ok(())
}

fn unavailable(error: io::Error) -> Failure {
    let code = if error.kind() == io::ErrorKind::InvalidInput { USAGE } else { UNAVAILABLE };
    Failure::new(code, error)
}

/// A run at work.
struct Session {
    engine: Arc<Engine>,
    data: PathBuf,
    until: Until,
    json: bool,
    browser: bool,
    tries: bool,
    line: StatusLine,
}

impl Session {
    async fn run(mut self, door: Option<(Listener, Views)>) -> Result<i32, Failure> {
        let mut signals =
            Signals::listen().map_err(|error| Failure::failed(format!("signals cannot be taken: {error}")))?;
        let mut ready = Ready::new(&self.engine, &self.data);
        let served = match door {
            None => None,
            Some((listener, views)) => {
                let token = token::load(&self.data).map_err(Failure::failed)?;
                let address = listener.address;
                let (closing, closed) = watch::channel(false);
                let app = App::new(self.engine.clone(), views, Auth::new(token.clone(), address), address, closed);
                let server = Server::start(listener, app.router(), closing).map_err(Failure::failed)?;
                Note { url: app.url().to_owned(), pid: std::process::id() }.write(&self.data);
                ready = ready.at(app.url(), address.port(), &token);
                Some((app, server))
            }
        };
        let app = served.as_ref().map(|(app, _)| app);
        self.greet(&ready, app)?;
        let asked = self.wait(&mut signals, &ready, app).await;
        signals.end_at_next();
        self.line.clear();
        if asked {
            note("ending: what was taken flows through; once more ends it at once");
        }
        let summary = self.drain().await?;
        if let Some((app, server)) = served {
            server.close().await;
            drop(app);
            Note::remove(&self.data);
        }
        self.tell_end(&summary);
        // After a signal rows may wait in the log for the next start; a run that was to deliver all of them must have.
        let delivered = asked || (self.engine.under_way(&summary.sums) == 0 && self.is_whole());
        Ok(if summary.balanced && delivered { 0 } else { FAILED })
    }

    fn greet(&self, ready: &Ready, app: Option<&Arc<App>>) -> Result<(), Failure> {
        if self.json {
            say_json(ready);
            return Ok(());
        }
        let one_time = || app.map(|app| app.one_time_url()).transpose().map_err(Failure::failed);
        ready.say(one_time()?.as_deref());
        if self.browser
            && let Some(url) = one_time()?
        {
            open_browser(&url);
        }
        Ok(())
    }

    /// Waits for the end; true when a signal asked for it.
    async fn wait(&mut self, signals: &mut Signals, ready: &Ready, app: Option<&Arc<App>>) -> bool {
        let began = Instant::now();
        let mut look = tokio::time::interval(LOOK);
        let mut shown = Instant::now();
        let mut progress = Progress::new();
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::End => return true,
                    Asked::Reload => reload(self.engine.clone(), app.cloned()),
                },
                _ = look.tick() => {}
            }
            let over = match self.until {
                Until::Stopped => false,
                Until::Idle => self.engine.sources_ended(),
                Until::After(time) => began.elapsed() >= time,
            };
            if over {
                self.engine.stop_sources(Instant::now() + STALLED);
            }
            let due = shown.elapsed() >= STATUS_LINE;
            if !over && !due && !self.tries {
                continue;
            }
            let status = self.engine.status();
            if self.tries && (status.models.iter().all(|model| model.pid.is_some()) || began.elapsed() > WORKERS) {
                self.tries = false;
                things_to_try(ready, &status);
            }
            if due && !self.json {
                shown = Instant::now();
                self.line.show(&sums::progress(&status));
            }
            if over && progress.is_at_end(&status, self.engine.under_way(&status.sums)) {
                for model in unloaded(&status) {
                    let why = model.last_error.as_deref().and_then(|error| error.lines().next()).unwrap_or("no words");
                    let name = &model.name;
                    note(format!(
                        "model `{name}` cannot be loaded ({why}); its rows wait in the log, mend it and run again"
                    ));
                }
                return false;
            }
        }
    }

    async fn drain(&self) -> Result<Summary, Failure> {
        let engine = self.engine.clone();
        tokio::task::spawn_blocking(move || engine.drain(DRAIN))
            .await
            .map_err(|error| Failure::failed(format!("the pipeline could not be drained: {error}")))
    }

    /// Whether no source or sink gave up before its end; why one did was told when it happened.
    fn is_whole(&self) -> bool {
        self.engine.status().stages.iter().all(|stage| stage.state != StageState::Stopped)
    }

    fn tell_end(&self, summary: &Summary) {
        if self.json {
            let mut value = serde_json::to_value(summary).unwrap_or_default();
            value["data"] = self.data.display().to_string().into();
            say_json(&value);
        } else {
            sums::end(summary, &self.data).iter().for_each(|line| _ = say(line));
        }
    }
}

/// Models whose code cannot be loaded, and that have rows to score.
fn unloaded(status: &Status) -> impl Iterator<Item = &ModelStatus> {
    let waits = |name: &str| status.sums.models.get(name).is_some_and(|sum| sum.in_flight > 0);
    status.models.iter().filter(move |model| model.cannot_load && waits(&model.name))
}

/// Whether nothing is in flight but what waits for such models.
fn only_unloaded(status: &Status) -> bool {
    let waits: u64 =
        unloaded(status).filter_map(|model| status.sums.models.get(&model.name)).map(|s| s.in_flight).sum();
    waits == status.sums.in_flight()
}

/// Takes over the changed pipeline file meanwhile. A failure is told by the log; so is what changed, in a line here.
fn reload(engine: Arc<Engine>, app: Option<Arc<App>>) {
    tokio::task::spawn_blocking(move || {
        if let Ok(changes) = app.map_or_else(|| engine.reload(), |app| app.reload()) {
            match changes.as_slice() {
                [] => note("reloaded: the pipeline file is unchanged"),
                changes => changes.iter().for_each(|change| note(format!("reloaded: {change}"))),
            }
        }
    });
}

/// Whether rows in flight still become fewer, once no more come in.
struct Progress {
    in_flight: u64,
    since: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { in_flight: u64::MAX, since: Instant::now() }
    }

    fn is_at_end(&mut self, status: &Status, in_flight: u64) -> bool {
        if in_flight != self.in_flight {
            (self.in_flight, self.since) = (in_flight, Instant::now());
        }
        let patience = if unloaded(status).next().is_some() && only_unloaded(status) { UNLOADED } else { STALLED };
        in_flight == 0 || self.since.elapsed() > patience
    }
}
