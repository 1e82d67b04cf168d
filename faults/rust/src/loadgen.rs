//! `loadgen`: sends events and notes what it sent and what it was told, for a verifier that trusts nobody.
//!
//! It runs in a process of its own and is never killed. Each event is noted in `intent.log` before its first byte
//! leaves, and each answer in `ack.log` when it came, so the two files together say what the tables must hold: an
//! acknowledged event exactly once, one whose answer is unknown at most once, a refused one not at all.
//!
//! A connection owns its devices, waits for each answer, and sends what is unknown again with the same event ids before
//! it goes on: so a device's order in the table is its order here. Some of what is refused or unknown is given up, as
//! real clients do, and some of what was acknowledged is sent again, over any connection.
//!
//! ```text
//! trackside-faults loadgen --url 127.0.0.1:7878 --token T --notes DIR --rate 5000 --events 100000
//! ```
//! A line on stdin, or its end, stops it; it then sends what is unknown again until it knows, and prints one JSON line.

mod event;
mod file;
mod http;
mod notes;

use event::{Event, Maker, Mix};
use notes::{Answer, Notes};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Events that may be sent again later, the newest.
const MAX_REMEMBERED: usize = 20_000;
/// How long what is unknown is sent again at the end.
const LAST_PATIENCE: Duration = Duration::from_secs(60);
/// Pause before a connection that was refused or broken is tried again.
const AGAIN: Duration = Duration::from_millis(5);
/// Pause after an answer that says "later": far below `Retry-After`, so that the end of a fault is seen at once.
const LATER: Duration = Duration::from_millis(50);

/// What is sent, where, and how fast.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Host and port that take `POST /ingest`
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "file")]
    url: Option<String>,
    /// Token of the server
    #[arg(long, default_value = "")]
    token: String,
    /// Writes to this file in place of HTTP, in pieces that cut lines anywhere
    #[arg(long, conflicts_with = "url")]
    file: Option<PathBuf>,
    /// Folder of intent.log and ack.log
    #[arg(long)]
    notes: PathBuf,
    /// Events a second, of all connections
    #[arg(long, default_value_t = 5000.0)]
    rate: f64,
    /// Ends after so many; without it, when told
    #[arg(long)]
    events: Option<u64>,
    /// Connections, each with devices of its own
    #[arg(long, default_value_t = 4)]
    connections: u32,
    /// Events of a body
    #[arg(long, default_value_t = 20)]
    batch: usize,
    /// Devices
    #[arg(long, default_value_t = 40)]
    devices: u32,
    /// What devices' names begin with
    #[arg(long, default_value = "d")]
    fleet: String,
    /// Share of events that are sent twice: in the same body, or later over any connection
    #[arg(long, default_value_t = 0.05)]
    duplicates: f64,
    /// Share of events that cleaning rejects
    #[arg(long, default_value_t = 0.01)]
    outliers: f64,
    /// Share of lines that are cut off, for the door to reject
    #[arg(long, default_value_t = 0.005)]
    broken: f64,
    /// Share of refused or unknown bodies that are given up
    #[arg(long, default_value_t = 0.1)]
    given_up: f64,
    /// Whatever is drawn is drawn from it; also the first part of every event id
    #[arg(long, default_value_t = 1)]
    seed: u32,
}

/// What all connections share.
struct Load {
    options: Options,
    notes: Notes,
    /// Events still to be made; the last one made ends the run.
    left: AtomicU64,
    stop: AtomicBool,
    /// Acknowledged events, to be sent again.
    again: Mutex<VecDeque<Event>>,
    repeats: AtomicU64,
}

/// Runs to its end; what is printed.
pub(crate) fn run(options: Options) -> anyhow::Result<serde_json::Value> {
    let load = Arc::new(Load {
        notes: Notes::create(&options.notes)?,
        left: AtomicU64::new(options.events.unwrap_or(u64::MAX)),
        stop: AtomicBool::new(false),
        again: Mutex::default(),
        repeats: AtomicU64::new(0),
        options,
    });
    let told = load.clone();
    // It ends with the process: nobody waits for what is never said.
    thread::spawn(move || {
        _ = std::io::stdin().read_line(&mut String::new());
        told.stop.store(true, Ordering::Relaxed);
    });
    let connections = if load.options.file.is_some() { 1 } else { load.options.connections };
    let workers: Vec<_> = (0..connections)
        .map(|number| {
            let load = load.clone();
            thread::spawn(move || match &load.options.file {
                Some(path) => file::write(&load, path),
                None => Connection::new(&load, number).run(),
            })
        })
        .collect();
    for worker in workers {
        worker.join().map_err(|_| anyhow::anyhow!("a connection's thread panicked"))??;
    }
    let mut summary = load.notes.summary();
    summary["repeats"] = load.repeats.load(Ordering::Relaxed).into();
    Ok(summary)
}

impl Load {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// How many of `wanted` events may still be made.
    fn take(&self, wanted: u64) -> u64 {
        let take = |left: u64| Some(left.saturating_sub(wanted));
        // The closure always answers.
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
        before.min(wanted)
    }

    fn mix(&self) -> Mix {
        Mix { outliers: self.options.outliers, broken: self.options.broken }
    }

    fn remember(&self, events: &[Event]) {
        let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        again.extend(events.iter().filter(|event| event.repeatable()).cloned());
        let beyond = again.len().saturating_sub(MAX_REMEMBERED);
        again.drain(..beyond);
    }

    /// One acknowledged event, over whichever connection it came.
    fn remembered(&self, place: usize) -> Option<Event> {
        let again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        (!again.is_empty()).then(|| again[place % again.len()].clone())
    }
}

/// Keeps a rate without trying to make up for a fault's pause all at once.
struct Pace {
    next: Instant,
    each: Duration,
}

impl Pace {
    fn new(rate: f64) -> Self {
        Self { next: Instant::now(), each: Duration::from_secs_f64(1.0 / rate.max(0.001)) }
    }

    fn wait(&mut self) {
        let now = Instant::now();
        thread::sleep(self.next.saturating_duration_since(now));
        self.next = self.next.max(now) + self.each;
    }
}

struct Connection<'a> {
    load: &'a Load,
    maker: Maker,
    client: http::Client,
}

impl<'a> Connection<'a> {
    fn new(load: &'a Load, number: u32) -> Self {
        let options = &load.options;
        let devices = (number..options.devices.max(options.connections)).step_by(options.connections as usize);
        Self {
            load,
            maker: Maker::new(options.seed, number, &options.fleet, devices.collect()),
            client: http::Client::new(options.url.clone().unwrap_or_default(), options.token.clone()),
        }
    }

    fn run(mut self) -> anyhow::Result<()> {
        let options = &self.load.options;
        let mut pace = Pace::new(options.rate / f64::from(options.connections) / options.batch as f64);
        while !self.load.stopped() {
            pace.wait();
            let count = self.load.take(options.batch as u64);
            if count == 0 {
                break;
            }
            let events: Vec<Event> = (0..count).map(|_| self.maker.next(self.load.mix())).collect();
            self.load.notes.intend(&events)?;
            self.send(events)?;
        }
        Ok(())
    }

    /// Sends a body until its fate is known, or it is given up.
    fn send(&mut self, mut events: Vec<Event>) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut stopped_at = None;
        while !events.is_empty() {
            if self.load.stopped() && stopped_at.get_or_insert_with(Instant::now).elapsed() > LAST_PATIENCE {
                return Ok(());
            }
            let body = self.body(&events);
            let sent = Instant::now();
            let answer = self.client.post("/ingest", &body);
            if answer == Answer::Unsent {
                thread::sleep(AGAIN);
                continue;
            }
            self.load.notes.answer(&events, answer, sent.elapsed())?;
            let gives_up = !self.load.stopped() && self.maker.chance(self.load.options.given_up);
            match answer {
                Answer::Acked => {
                    self.load.remember(&events);
                    return Ok(());
                }
                Answer::Refused(status) if status != 503 || gives_up => return Ok(()),
                Answer::Refused(_) => thread::sleep(LATER),
                _ if gives_up => return Ok(()),
                // A cut-off line has no id that cleaning could know it by: twice sent would be twice dead.
                _ => events.retain(Event::repeatable),
            }
            if began.elapsed() > LAST_PATIENCE && self.load.stopped() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The lines, and behind them some that were sent before: of this body, or of one that was acknowledged.
    fn body(&mut self, events: &[Event]) -> Vec<u8> {
        let mut body: Vec<u8> = events.iter().flat_map(|event| event.line.iter().copied()).collect();
        for event in events {
            if !self.maker.chance(self.load.options.duplicates) {
                continue;
            }
            let same_body = self.maker.chance(0.5) && event.repeatable();
            let other = if same_body { Some(event.clone()) } else { self.load.remembered(self.maker.draw()) };
            if let Some(other) = other {
                body.extend_from_slice(&other.line);
                self.load.repeats.fetch_add(1, Ordering::Relaxed);
            }
        }
        body
    }
}
