//! A model in a worker process of its own: started, asked, timed, killed.
//!
//! The worker's end of a socket pair is its standard input, so nothing else is inherited and the engine's death
//! closes it: a worker never outlives its engine. What it prints is logged, and its last lines explain its death.

use super::wire::{self, HeaderKind};
use super::{tail, update};
use crate::config::ModelSection;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use trackside_core::model::{ModelCard, ModelFault, ModelReply, ModelRequest, ModelRuntime, TailReply, TailRequest};

/// Importing a model may take longer than scoring a batch.
const LOAD_DEADLINE: Duration = Duration::from_secs(120);
/// Time for a worker to end by itself.
const STOP_DEADLINE: Duration = Duration::from_secs(2);
/// Time for a dying worker to say why.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Last lines of output kept to explain a death.
const TAIL_LINES: usize = 30;
/// Longest line of a worker's output that is kept.
const LINE_BYTES: u64 = 4096;

/// One model, one partition, one process.
pub struct ProcessRuntime {
    python: PathBuf,
    model: ModelSection,
    base: PathBuf,
    partition: u32,
    tags: Vec<String>,
    worker: Option<Worker>,
    fields: usize,
}

struct Worker {
    child: Child,
    socket: UnixStream,
    tail: Arc<Mutex<VecDeque<String>>>,
    write_timeout: Option<Duration>,
}

impl ProcessRuntime {
    /// A runtime that is not started yet. `base` is the folder of the pipeline file.
    pub fn new(python: PathBuf, model: ModelSection, base: PathBuf, partition: u32, tags: Vec<String>) -> Self {
        Self { python, model, base, partition, tags, worker: None, fields: 0 }
    }

    fn spawn(&self) -> io::Result<Worker> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut child = Command::new(&self.python)
            .args(["-m", "trackside.worker"])
            .env("TRACKSIDE_WORKER_FD", "0")
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its own group: Ctrl-C is ours to handle, and whatever the model starts dies with it.
            .process_group(0)
            .spawn()?;
        let tail = Arc::default();
        follow(child.stdout.take(), &self.model.name, &tail);
        follow(child.stderr.take(), &self.model.name, &tail);
        Ok(Worker { child, socket: ours, tail, write_timeout: None })
    }

    fn ask(&mut self, header: &Value, body: &[u8], deadline: Duration) -> Result<(Value, Vec<u8>), ModelFault> {
        self.send(HeaderKind::Json, header.to_string().as_bytes(), body, deadline)
    }

    fn send(
        &mut self,
        kind: HeaderKind,
        header: &[u8],
        body: &[u8],
        deadline: Duration,
    ) -> Result<(Value, Vec<u8>), ModelFault> {
        let Some(worker) = &mut self.worker else { return Err(ModelFault::Died("the worker is not running".into())) };
        match worker.exchange(kind, header, body, deadline) {
            Ok(answer) => Ok(answer),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let (pid, last_words) = (worker.child.id(), worker.abort());
                self.kill();
                let seconds = deadline.as_secs_f64();
                Err(ModelFault::Late(format!("no answer within {seconds:.1} s; worker {pid} was killed{last_words}")))
            }
            Err(error) => {
                let why = worker.obituary(&error);
                self.kill();
                Err(ModelFault::Died(why))
            }
        }
    }

    fn kill(&mut self) {
        if let Some(mut worker) = self.worker.take() {
            worker.kill();
        }
    }
}

impl ModelRuntime for ProcessRuntime {
    fn start(&mut self, state: Option<&[u8]>) -> Result<ModelCard, ModelFault> {
        self.kill();
        let cannot = |error: String| ModelFault::CannotLoad { error, traceback: String::new() };
        let worker = self.spawn().map_err(|error| {
            cannot(format!("`{}` could not be started: {error}; install the `trackside` package for that interpreter, or set TRACKSIDE_PYTHON", self.python.display()))
        })?;
        self.worker = Some(worker);
        let model = &self.model;
        let load = json!({
            "op": "load", "use": model.code, "base": self.base, "name": model.name, "partition": self.partition,
            "tags": self.tags, "fields": model.named_fields(), "options": model.options,
        });
        let (answer, _) = self.ask(&load, b"", LOAD_DEADLINE)?;
        if let Some(ModelFault::Raised { error, traceback }) = wire::fault(&answer) {
            self.kill();
            return Err(ModelFault::CannotLoad { error, traceback });
        }
        let card: ModelCard = serde_json::from_value(answer)
            .map_err(|error| cannot(format!("the worker described the model in a form we do not know: {error}")))?;
        self.fields = card.fields.len();
        if let Some(state) = state {
            self.restore(state)?;
        }
        Ok(card)
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), ModelFault> {
        let (answer, _) = self.ask(&json!({ "op": "restore" }), state, LOAD_DEADLINE)?;
        wire::fault(&answer).map_or(Ok(()), Err)
    }

    fn update(&mut self, request: &ModelRequest) -> Result<ModelReply, ModelFault> {
        let deadline = if request.replay { LOAD_DEADLINE.max(self.model.deadline.0) } else { self.model.deadline.0 };
        let (header, body) = self.send(HeaderKind::Update, &update::encode(request), b"", deadline)?;
        wire::reply(header, &body, request, self.fields)
    }

    fn tail(&mut self, request: &TailRequest) -> Option<Result<TailReply, ModelFault>> {
        let deadline = request.wait + self.model.deadline.0;
        let (header, body) = match self.send(HeaderKind::Tail, &tail::encode(request), b"", deadline) {
            Ok(answer) => answer,
            Err(fault) => return Some(Err(fault)),
        };
        if let Some(error) = wire::unable(&header) {
            tracing::warn!(
                model = self.model.name,
                error,
                "a worker cannot wait for rows by itself; it is told of them"
            );
            return None;
        }
        Some(wire::tail_reply(header, &body, request, self.fields))
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, ModelFault> {
        let (header, body) = self.ask(&json!({ "op": "snapshot" }), b"", LOAD_DEADLINE)?;
        wire::fault(&header).map_or(Ok(body), Err)
    }

    fn stop(&mut self) {
        if self.worker.is_some() {
            _ = self.ask(&json!({ "op": "stop" }), b"", STOP_DEADLINE);
        }
        if let Some(mut worker) = self.worker.take() {
            worker.end();
        }
    }

    fn pid(&self) -> Option<u32> {
        self.worker.as_ref().map(|worker| worker.child.id())
    }
}

impl Drop for ProcessRuntime {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Worker {
    fn exchange(
        &mut self,
        kind: HeaderKind,
        header: &[u8],
        body: &[u8],
        deadline: Duration,
    ) -> io::Result<(Value, Vec<u8>)> {
        let until = Instant::now() + deadline;
        if self.write_timeout != Some(deadline) {
            self.socket.set_write_timeout(Some(deadline))?;
            self.write_timeout = Some(deadline);
        }
        wire::send(&mut self.socket, kind, header, body).map_err(timed_out)?;
        let mut prefix = [0; wire::PREFIX];
        self.read(&mut prefix, until)?;
        let garbage =
            || io::Error::new(io::ErrorKind::InvalidData, "the worker sent something that is not the protocol");
        let (header, body) = wire::lengths(&prefix).ok_or_else(garbage)?;
        let (mut head, mut rest) = (vec![0; header], vec![0; body]);
        self.read(&mut head, until)?;
        self.read(&mut rest, until)?;
        Ok((serde_json::from_slice(&head).map_err(|_| garbage())?, rest))
    }

    fn read(&mut self, mut into: &mut [u8], until: Instant) -> io::Result<()> {
        while !into.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            // Polled, not read with a time-out: a blocked read of a Unix socket is woken once more when the other side
            // takes our message off, a poll for input is not.
            let mut socket = [PollFd::new(&self.socket, PollFlags::IN)];
            match rustix::event::poll(&mut socket, Some(&timespec(left))) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            match self.socket.read(into) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => into = &mut into[read..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(timed_out(error)),
            }
        }
        Ok(())
    }

    /// How it died, in words.
    fn obituary(&mut self, error: &io::Error) -> String {
        let pid = self.child.id();
        let deadline = Instant::now() + LAST_WORDS;
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
                _ => break None,
            }
        };
        let how = status.map_or_else(|| error.to_string(), |status| status.to_string());
        format!("worker {pid} died ({how}){}", self.last_words())
    }

    /// Asks a hung worker for its traceback, which Python prints on SIGABRT, and gives it a moment.
    fn abort(&mut self) -> String {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            _ = kill_process(pid, Signal::ABORT);
        }
        let deadline = Instant::now() + LAST_WORDS;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.last_words()
    }

    fn last_words(&self) -> String {
        let tail: Vec<String> = self.tail.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        if tail.is_empty() { String::new() } else { format!("; its last words:\n{}", tail.join("\n")) }
    }

    fn kill(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            _ = kill_process_group(group, Signal::KILL);
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }

    /// Waits for it to end by itself, for a while.
    fn end(&mut self) {
        let deadline = Instant::now() + STOP_DEADLINE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.kill();
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// A socket's own time-out comes as `WouldBlock`.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

/// So many lines of a worker's output are logged in a second; a model that prints for each row would fill the disk.
const LINES_A_SECOND: u32 = 200;

/// How much was logged in this second.
struct Pace {
    since: Instant,
    lines: u32,
    left_out: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// And say that so many lines before were left out.
    Log {
        left_out: u64,
    },
    LeaveOut,
}

impl Pace {
    fn next(&mut self, now: Instant) -> Next {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            (self.since, self.lines) = (now, 0);
        }
        if self.lines == LINES_A_SECOND {
            self.left_out += 1;
            return Next::LeaveOut;
        }
        self.lines += 1;
        Next::Log { left_out: std::mem::take(&mut self.left_out) }
    }
}

/// Logs what the worker prints and keeps its last lines. Ends with the pipe.
fn follow(pipe: Option<impl Read + Send + 'static>, model: &str, tail: &Arc<Mutex<VecDeque<String>>>) {
    let Some(pipe) = pipe else { return };
    let (model, tail) = (model.to_owned(), Arc::clone(tail));
    let read = move || {
        let mut lines = BufReader::new(pipe);
        let mut line = Vec::new();
        let mut pace = Pace { since: Instant::now(), lines: 0, left_out: 0 };
        // A line without an end is cut, so that a model that prints a gigabyte costs four kilobytes.
        while matches!(lines.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line), Ok(read) if read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            match pace.next(Instant::now()) {
                Next::LeaveOut => {}
                Next::Log { left_out } => {
                    if left_out > 0 {
                        tracing::warn!(target: "trackside::model", model, left_out, "a model prints more than is logged");
                    }
                    tracing::info!(target: "trackside::model", model, "{text}");
                }
            }
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.push_back(text);
            if tail.len() > TAIL_LINES {
                tail.pop_front();
            }
            line.clear();
        }
    };
    // Without the thread the worker's output would block it once the pipe is full; then it is late, and killed.
    _ = std::thread::Builder::new().name("worker-output".into()).spawn(read);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_a_second_are_logged_and_the_rest_is_counted() {
        let start = Instant::now();
        let mut pace = Pace { since: start, lines: 0, left_out: 0 };
        let logged = (0..500).filter(|_| pace.next(start) != Next::LeaveOut).count();
        assert_eq!(logged, LINES_A_SECOND as usize);
        let later = start + Duration::from_secs(1);
        assert_eq!(pace.next(later), Next::Log { left_out: 500 - u64::from(LINES_A_SECOND) });
        assert_eq!(pace.next(later), Next::Log { left_out: 0 });
    }
}
