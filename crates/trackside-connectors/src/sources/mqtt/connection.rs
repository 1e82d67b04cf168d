//! The conversation with a broker: one loop that reads, hands over, acknowledges and keeps the connection alive.
//!
//! Guarantee: what has come and is not durable is bounded by `max_inflight`; at the bound, or while the door refuses, the
//! socket is not read (so the broker waits), but pings go on. A lost connection is tried again for as long as the pipeline
//! runs, with a pause that grows to [`MAX_PAUSE`].

use super::batch::{Batch, Offer, Settled};
use super::broker::{Address, Stream, refusal};
use super::packet::{self, Connect, Incoming, Publish, Reader, Version};
use super::payload::Payload;
use super::session::{Arrival, Session};
use bytes::BytesMut;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use trackside_core::builder::EventBuilder;
use trackside_core::source::{Door, Outcome, SourceState};

/// How long connecting, the broker's first answers and a write may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause before the first new try; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause before a new try.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// A connection that lasted so long ends the row of failures.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// How often the stop is looked for.
const TICK: Duration = Duration::from_millis(50);
/// How long a stop waits for the acknowledgements of what was handed over.
const DRAIN: Duration = Duration::from_secs(5);
/// Bytes read at once, at most.
const READ: usize = 64 << 10;
/// Number of the SUBSCRIBE: the only packet of ours that needs one.
const SUBSCRIBE_ID: u16 = 1;

/// What a connection is made with.
pub(super) struct Settings {
    pub(super) address: Address,
    pub(super) version: Version,
    pub(super) client_id: String,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) keep_alive: u16,
    pub(super) session_expiry: u32,
    pub(super) max_inflight: u16,
    pub(super) max_message: usize,
    pub(super) topics: Vec<String>,
    pub(super) qos: u8,
}

/// How a connection ended.
enum Ended {
    /// As asked.
    Stopped,
    /// With this reason.
    Lost(String),
}

/// The source at work, over all its connections.
pub(super) struct Client<'a> {
    settings: &'a Settings,
    payload: &'a mut Payload,
    door: Arc<dyn Door>,
    session: Session,
    batch: Batch,
    /// Whether this process has subscribed in the session that the broker keeps.
    subscribed: bool,
    /// Bounded by the deliveries under way, which `max_inflight` bounds.
    settled: (UnboundedSender<Settled>, UnboundedReceiver<Settled>),
}

/// One connection.
struct Wire {
    stream: Box<dyn Stream>,
    reader: Reader,
    input: BytesMut,
    output: BytesMut,
    keep_alive: Duration,
    heard: Instant,
    pinged: Instant,
}

impl<'a> Client<'a> {
    pub(super) fn new(settings: &'a Settings, payload: &'a mut Payload, door: Arc<dyn Door>) -> Self {
        let batch = Batch::new(EventBuilder::new(door.layout().clone()));
        let session = Session::default();
        Self { settings, payload, door, session, batch, subscribed: false, settled: unbounded_channel() }
    }

    /// Runs until the pipeline stops.
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        while !self.door.stopping() {
            let begun = Instant::now();
            let Ended::Lost(reason) = self.connection().await else { return };
            failures = if begun.elapsed() > GOOD_FOR { 1 } else { failures + 1 };
            let pause = pause(failures);
            let text = format!("{}: {reason}; next try in {:.1} s", self.settings.address, pause.as_secs_f64());
            tracing::warn!(broker = %self.settings.address, %reason, "the connection to the MQTT broker is lost");
            self.door.state(SourceState::BackingOff, Some(text));
            self.pause(pause).await;
        }
    }

    /// Waits before the next try; deliveries go on meanwhile.
    async fn pause(&mut self, pause: Duration) {
        let end = Instant::now() + pause;
        while Instant::now() < end && !self.door.stopping() {
            self.hand_over();
            match timeout_at(end.min(Instant::now() + TICK), self.settled.1.recv()).await {
                Ok(Some((number, Outcome::Durable))) => self.session.durable(number, |_, _| {}),
                Ok(Some((number, Outcome::Unknown(_)))) => self.session.unknown(number),
                Ok(None) | Err(_) => {}
            }
        }
    }

    async fn connection(&mut self) -> Ended {
        let mut wire = match timeout(PATIENCE, self.connect()).await {
            Ok(Ok(wire)) => wire,
            Ok(Err(reason)) => return Ended::Lost(reason),
            Err(_) => return Ended::Lost(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        match self.converse(&mut wire).await {
            Ok(()) => Ended::Stopped,
            Err(reason) => Ended::Lost(reason),
        }
    }

    /// Connects and subscribes.
    async fn connect(&mut self) -> Result<Wire, String> {
        let settings = self.settings;
        let stream = settings.address.open().await.map_err(|error| format!("cannot connect: {error}"))?;
        let mut wire = Wire {
            stream,
            reader: Reader::new(settings.version, settings.max_message),
            input: BytesMut::with_capacity(READ),
            output: BytesMut::new(),
            keep_alive: Duration::from_secs(settings.keep_alive.into()),
            heard: Instant::now(),
            pinged: Instant::now(),
        };
        let connect = Connect {
            client_id: &settings.client_id,
            keep_alive: settings.keep_alive,
            username: settings.username.as_deref(),
            password: settings.password.as_deref(),
            session_expiry: settings.session_expiry,
            receive_maximum: settings.max_inflight,
        };
        packet::connect(settings.version, &connect, &mut wire.output);
        wire.flush().await?;
        let Incoming::ConnAck(answer) = wire.next().await? else {
            return Err("the broker did not answer the CONNECT first; is it an MQTT broker?".into());
        };
        if answer.code != 0 {
            let words = refusal(settings.version, answer.code, answer.reason.as_deref());
            return Err(format!("the broker refuses: {words}"));
        }
        if let Some(seconds) = answer.keep_alive {
            wire.keep_alive = Duration::from_secs(seconds.into());
        }
        self.session.begin(answer.session_present);
        if !answer.session_present {
            self.batch.forget_ids();
            self.subscribed = false;
        }
        if self.subscribed {
            self.door.state(SourceState::Running, None);
        } else {
            let Settings { version, topics, qos, .. } = settings;
            packet::subscribe(*version, SUBSCRIBE_ID, topics, *qos, &mut wire.output);
            wire.flush().await?;
        }
        Ok(wire)
    }

    /// Reads, hands over and acknowledges until the connection is lost or the pipeline stops.
    async fn converse(&mut self, wire: &mut Wire) -> Result<(), String> {
        let mut stop: Option<Instant> = None;
        loop {
            while stop.is_none() && self.has_room() {
                match wire.reader.next(&mut wire.input).map_err(|error| error.to_string())? {
                    Some(packet) => self.packet(packet, wire)?,
                    None => break,
                }
            }
            let handed_over = self.hand_over();
            while let Ok(settled) = self.settled.1.try_recv() {
                self.settle(settled, wire)?;
            }
            wire.keep_alive()?;
            wire.flush().await?;
            if stop.is_none() && self.door.stopping() {
                stop = Some(Instant::now() + DRAIN);
            }
            if let Some(end) = stop.filter(|end| self.session.unsettled() == 0 || Instant::now() >= *end) {
                packet::disconnect(&mut wire.output);
                let left = timeout_at(end + TICK, wire.flush()).await;
                tracing::debug!(?left, "left the broker");
                return Ok(());
            }
            if handed_over && !wire.input.is_empty() {
                continue;
            }
            let reading = stop.is_none() && self.has_room();
            if !reading {
                // Whoever does not listen cannot complain of silence.
                wire.heard = Instant::now();
            }
            let tick = Instant::now() + TICK;
            let wake = self.batch.due(self.session.unsettled() == 0).map_or(tick, |due| due.min(tick));
            wire.input.reserve(READ);
            tokio::select! {
                settled = self.settled.1.recv() => {
                    if let Some(settled) = settled {
                        self.settle(settled, wire)?;
                    }
                }
                read = wire.stream.read_buf(&mut wire.input), if reading => match read {
                    Ok(0) => return Err("the broker closed the connection".into()),
                    Ok(_) => wire.heard = Instant::now(),
                    Err(error) => return Err(format!("cannot read: {error}")),
                },
                () = sleep_until(wake) => {}
            }
        }
    }

    fn has_room(&self) -> bool {
        let held = self.session.unsettled() + self.batch.messages();
        !self.batch.is_full() && held < usize::from(self.settings.max_inflight)
    }

    fn packet(&mut self, packet: Incoming, wire: &mut Wire) -> Result<(), String> {
        match packet {
            Incoming::Publish(message) => self.message(&message, wire),
            Incoming::PubRel(id) => {
                self.session.release(id);
                packet::complete(id, &mut wire.output);
            }
            Incoming::SubAck(codes) => self.sub_ack(&codes)?,
            Incoming::Disconnect(code, reason) => {
                return Err(format!("the broker left: {}", refusal(self.settings.version, code, reason.as_deref())));
            }
            Incoming::PingResp | Incoming::ConnAck(_) => {}
        }
        Ok(())
    }

    fn message(&mut self, message: &Publish, wire: &mut Wire) {
        let arrival = if message.qos == 0 { Arrival::Take } else { self.session.arrive(message.id, message.again) };
        match arrival {
            Arrival::Take => self.batch.add(message, self.payload, self.door.now()),
            Arrival::Acknowledge => acknowledge(&mut self.session, wire, message.id, message.qos),
            Arrival::Wait => {}
        }
    }

    fn sub_ack(&mut self, codes: &[u8]) -> Result<(), String> {
        for (code, topic) in codes.iter().zip(&self.settings.topics) {
            if *code >= 0x80 {
                let words = refusal(self.settings.version, *code, None);
                return Err(format!("the broker refuses the topic `{topic}`: {words}"));
            }
        }
        self.subscribed = true;
        self.door.state(SourceState::Running, None);
        Ok(())
    }

    /// Hands the batch over if it is due; true if the door accepted it.
    fn hand_over(&mut self) -> bool {
        let due = self.batch.due(self.session.unsettled() == 0);
        if due.is_none_or(|due| due > Instant::now()) {
            return false;
        }
        let number = self.session.upcoming();
        let Offer::Accepted { messages, ids, stored } = self.batch.offer(&*self.door, number, &self.settled.0) else {
            return false;
        };
        self.session.handed_over(messages, ids);
        if !stored {
            // Nothing to write down: as durable as it will ever be. The receiver lives as long as `self`.
            _ = self.settled.0.send((number, Outcome::Durable));
        }
        true
    }

    fn settle(&mut self, (number, outcome): Settled, wire: &mut Wire) -> Result<(), String> {
        match outcome {
            Outcome::Durable => {
                let mut ready = Vec::new();
                self.session.durable(number, |id, qos| ready.push((id, qos)));
                ready.into_iter().for_each(|(id, qos)| acknowledge(&mut self.session, wire, id, qos));
                Ok(())
            }
            Outcome::Unknown(reason) => {
                self.session.unknown(number);
                Err(format!("{reason}; messages that are not acknowledged come again"))
            }
        }
    }
}

fn acknowledge(session: &mut Session, wire: &mut Wire, id: u16, qos: u8) {
    if qos < 2 {
        session.release(id);
    }
    packet::acknowledge(qos, id, &mut wire.output);
}

impl Wire {
    async fn flush(&mut self) -> Result<(), String> {
        if self.output.is_empty() {
            return Ok(());
        }
        let write = async {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await
        };
        match timeout(PATIENCE, write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(format!("cannot write: {error}")),
            Err(_) => return Err("the broker does not read what is sent to it".into()),
        }
        self.output.clear();
        Ok(())
    }

    /// The next packet, however long it takes.
    async fn next(&mut self) -> Result<Incoming, String> {
        loop {
            if let Some(packet) = self.reader.next(&mut self.input).map_err(|error| error.to_string())? {
                return Ok(packet);
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Err("the broker closed the connection without an answer".into()),
                Ok(_) => {}
                Err(error) => return Err(format!("cannot read: {error}")),
            }
        }
    }

    /// Pings in time, and gives up a broker that is silent for too long. 0 means no keep-alive.
    fn keep_alive(&mut self) -> Result<(), String> {
        if self.keep_alive.is_zero() {
            return Ok(());
        }
        if self.heard.elapsed() > self.keep_alive * 3 / 2 {
            return Err(format!("the broker was silent for {} s", self.heard.elapsed().as_secs()));
        }
        if self.pinged.elapsed() >= self.keep_alive / 2 {
            self.pinged = Instant::now();
            packet::ping(&mut self.output);
        }
        Ok(())
    }
}

/// Doubles from try to try, cut by up to a half at random, so that a thousand clients do not come back at once.
fn pause(failures: u32) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(MAX_PAUSE);
    let random = RandomState::new().hash_one(failures) % 1000;
    full.mul_f64(0.5 + random as f64 / 2000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_to_its_bound() {
        assert!((FIRST_PAUSE / 2..=FIRST_PAUSE).contains(&pause(1)));
        assert!(pause(3) >= FIRST_PAUSE * 2);
        for failures in [10, 100, u32::MAX] {
            assert!((MAX_PAUSE / 2..=MAX_PAUSE).contains(&pause(failures)));
        }
    }
}
