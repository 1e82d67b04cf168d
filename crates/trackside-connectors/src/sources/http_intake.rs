//! One request's way through the `http` source: read, unpack, decode, hand over, wait for the disk, answer.
//!
//! What is turned away before the door is counted as refused and stored nothing; each answer says what to do next.

use super::again;
use super::http::Config;
use crate::formats::body::{BodyError, Encoding, unpack};
use crate::formats::{Decoder, Envelope, Mapping, Precision, json::Json, line_protocol::LineProtocol, place_of};
use axum::Json as Answer;
use axum::body::HttpBody;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use trackside_core::builder::EventBuilder;
use trackside_core::dead_letter::DeadLetter;
use trackside_core::source::{Delivery, Door, Outcome, Refused};

/// Bad lines that an answer names.
const MAX_ERRORS: usize = 100;
/// Longest `Idempotency-Key`.
const MAX_KEY: usize = 256;
/// How long a request waits for that memory.
const HELD_PATIENCE: Duration = Duration::from_secs(5);
/// How long a body may take to arrive: so long, and a second more for each [`BODY_PACE`] bytes that came.
const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes a second that even a poor line manages.
const BODY_PACE: usize = 16 << 10;
/// Memory that is reserved for a body before its first byte came; more follows as it grows.
const FIRST_HELD: usize = 64 << 10;
/// Decoders kept for the next request.
const MAX_IDLE_DECODERS: usize = 16;
/// A delivery is one frame in `received`, and cleaning may double it: this stays well below the log's frame limit.
const MAX_COLUMNS: usize = 12 << 20;
/// Memory for bodies on their way, in KiB: requests beyond it wait, and are then refused.
pub(super) const MAX_HELD_KIB: u32 = 256 * 1024;

/// What all requests share.
pub(super) struct Intake {
    door: Arc<dyn Door>,
    mapping: Arc<Mapping>,
    config: Config,
    held: Arc<Semaphore>,
    decoders: Mutex<Vec<Decoders>>,
}

struct Decoders {
    json: Json,
    lines: LineProtocol,
    out: EventBuilder,
}

/// How a body is to be read.
#[derive(Clone, Copy)]
enum Kind {
    /// A line each.
    Lines,
    /// An object, an array or a line each: look.
    Message,
    /// Line protocol.
    LineProtocol(Precision),
}

/// Why a request is turned away; nothing of it was stored.
struct Turned {
    status: StatusCode,
    error: String,
    hint: &'static str,
    retry_after: Option<Duration>,
}

impl Turned {
    fn new(status: StatusCode, error: impl Into<String>, hint: &'static str) -> Self {
        Self { status, error: error.into(), hint, retry_after: None }
    }

    fn busy(error: String, retry_after: Duration) -> Self {
        let hint = "nothing was stored; send it again after Retry-After seconds";
        Self { status: StatusCode::SERVICE_UNAVAILABLE, error, hint, retry_after: Some(retry_after) }
    }
}

impl IntoResponse for Turned {
    fn into_response(self) -> Response {
        let body = Answer(json!({"error": self.error, "hint": self.hint}));
        match self.retry_after {
            Some(after) => {
                let seconds = after.as_secs_f64().ceil().max(1.0);
                (self.status, [(header::RETRY_AFTER, seconds.to_string())], body).into_response()
            }
            None => (self.status, body).into_response(),
        }
    }
}

pub(super) async fn ingest(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    let kind = json_kind(request.headers());
    intake.answer(kind, request).await
}

pub(super) async fn write(
    State(intake): State<Arc<Intake>>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    let kind = precision(query.get("precision").map_or("ns", String::as_str)).map(Kind::LineProtocol);
    intake.answer(kind, request).await
}

/// How JSON is written, by its content type. `curl -d` names a form, which nobody means.
fn json_kind(headers: &HeaderMap) -> Result<Kind, Turned> {
    let name = headers.get(header::CONTENT_TYPE).map_or(Ok(""), |name| name.to_str()).unwrap_or("?");
    match name.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/json-lines"
        | "application/x-jsonlines"
        | "application/jsonlines" => Ok(Kind::Lines),
        ""
        | "application/json"
        | "text/json"
        | "text/plain"
        | "application/octet-stream"
        | "application/x-www-form-urlencoded" => Ok(Kind::Message),
        other => Err(Turned::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("unknown content type `{}`", other.chars().take(80).collect::<String>()),
            "send `application/json` or `application/x-ndjson`; line protocol goes to /api/v2/write",
        )),
    }
}

fn precision(name: &str) -> Result<Precision, Turned> {
    match name {
        "ns" | "n" => Ok(Precision::Ns),
        "us" | "u" | "µ" => Ok(Precision::Us),
        "ms" => Ok(Precision::Ms),
        "s" => Ok(Precision::S),
        _ => Err(Turned::new(
            StatusCode::BAD_REQUEST,
            format!("unknown precision `{}`", name.chars().take(20).collect::<String>()),
            "choose from ns, us, ms, s",
        )),
    }
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Turned> {
    let name = headers.get(header::CONTENT_ENCODING).map_or(Ok(""), |name| name.to_str()).unwrap_or("?");
    Encoding::parse(name).map_err(turned_body)
}

fn turned_body(error: BodyError) -> Turned {
    let (status, hint) = match error {
        BodyError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "split the body; nothing was stored"),
        BodyError::Unknown(_) => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "leave Content-Encoding out, or pack with gzip or zstd")
        }
        BodyError::Broken { .. } => (StatusCode::BAD_REQUEST, "send the body whole, packed as Content-Encoding says"),
    };
    Turned::new(status, error.to_string(), hint)
}

fn event_id(headers: &HeaderMap) -> Result<Option<String>, Turned> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| (1..=MAX_KEY).contains(&key.len()));
    key.map(|key| Some(key.to_owned())).ok_or_else(|| {
        Turned::new(StatusCode::BAD_REQUEST, "bad Idempotency-Key", "send 1 to 256 printable ASCII characters")
    })
}

impl Intake {
    pub(super) fn new(door: Arc<dyn Door>, mapping: Arc<Mapping>, config: Config) -> Self {
        Self {
            door,
            mapping,
            config,
            held: Arc::new(Semaphore::new(MAX_HELD_KIB as usize)),
            decoders: Mutex::default(),
        }
    }

    async fn answer(self: Arc<Self>, kind: Result<Kind, Turned>, request: Request) -> Response {
        let door = self.door.clone();
        match self.take(kind, request).await {
            Ok(response) => response,
            Err(turned) => {
                door.refuse(1);
                turned.into_response()
            }
        }
    }

    /// Reads, decodes, delivers and waits. An error is what was turned away before the door.
    async fn take(self: Arc<Self>, kind: Result<Kind, Turned>, request: Request) -> Result<Response, Turned> {
        let (kind, encoding) = (kind?, encoding(request.headers())?);
        let id = event_id(request.headers())?;
        let (body, mut held) = self.read(request).await?;
        if encoding != Encoding::Identity {
            held.merge(self.hold(self.config.max_body).await?);
        }
        let this = self.clone();
        let lines = matches!(kind, Kind::LineProtocol(_));
        // Decoding keeps the core busy and the door may wait for room, so both leave the runtime's own threads.
        // The permit goes with the work: a client that hangs up does not make room for the next one.
        let work = tokio::task::spawn_blocking(move || {
            let _held = held;
            let body = unpack(encoding, &body, self.config.max_body).map_err(turned_body)?;
            let (delivery, taken) = self.decode(kind, &body, id.as_deref())?;
            Ok::<_, Turned>((self.deliver(delivery), taken))
        });
        let timeout = this.config.timeout.0;
        let Ok(done) = work.await else { return Ok(unknown("the request could not be finished")) };
        match done? {
            (Ok(None), taken) => Ok(taken.into_response(lines)),
            (Ok(Some(acknowledged)), taken) => match tokio::time::timeout(timeout, acknowledged).await {
                Ok(Ok(Outcome::Durable)) => Ok(taken.into_response(lines)),
                Ok(Ok(Outcome::Unknown(why))) => Ok(unknown(&why)),
                Ok(Err(_)) => Ok(unknown("the pipeline ended")),
                Err(_) => Ok(unknown(&format!("not durable after {timeout:?}"))),
            },
            // The door has counted these itself.
            (Err(Refused::Full { reason, retry_after }), _) => {
                Ok(Turned::busy(format!("no room: {reason}"), retry_after).into_response())
            }
            (Err(Refused::Stopping), _) => {
                Ok(Turned::busy("the pipeline is stopping".into(), Duration::from_secs(5)).into_response())
            }
        }
    }

    /// Reserves memory, in whole KiB.
    async fn hold(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Turned> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(MAX_HELD_KIB).clamp(1, MAX_HELD_KIB);
        match tokio::time::timeout(HELD_PATIENCE, self.held.clone().acquire_many_owned(kib)).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Turned::busy(
                format!("{} MiB of bodies are on their way", MAX_HELD_KIB / 1024),
                Duration::from_secs(1),
            )),
        }
    }

    /// Reads the body. Memory is reserved as it grows: who announces a large body and then sends it drop by drop holds
    /// little of it, and not for long.
    async fn read(&self, request: Request) -> Result<(Vec<u8>, OwnedSemaphorePermit), Turned> {
        let (began, max) = (tokio::time::Instant::now(), self.config.max_body);
        let length = request.headers().get(header::CONTENT_LENGTH);
        if length.and_then(|length| length.to_str().ok()?.parse().ok()).is_some_and(|length: usize| length > max) {
            return Err(turned_body(BodyError::TooLarge { limit: max }));
        }
        let mut held = self.hold(FIRST_HELD).await?;
        let (mut body, mut parts) = (Vec::new(), request.into_body());
        loop {
            let patience = BODY_PATIENCE + Duration::from_secs((body.len() / BODY_PACE) as u64);
            let next = poll_fn(|context| Pin::new(&mut parts).poll_frame(context));
            let part = match tokio::time::timeout_at(began + patience, next).await {
                Ok(None) => return Ok((body, held)),
                // A frame that is no data holds trailers, which nobody asked for.
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Ok(Some(Err(_))) => {
                    return Err(Turned::new(StatusCode::BAD_REQUEST, "the body was cut off", "send it again"));
                }
                Err(_) => {
                    let error = "the body took too long";
                    return Err(Turned::new(StatusCode::REQUEST_TIMEOUT, error, "send smaller bodies"));
                }
            };
            let (wanted, reserved) = (body.len() + part.len(), held.num_permits() * 1024);
            if wanted > max {
                return Err(turned_body(BodyError::TooLarge { limit: max }));
            }
            if wanted > reserved {
                held.merge(self.hold(wanted.max(2 * reserved) - reserved).await?);
            }
            body.extend_from_slice(&part);
        }
    }

    fn decode(&self, kind: Kind, body: &[u8], id: Option<&str>) -> Result<(Delivery, Taken), Turned> {
        let max = self.config.max_lines;
        let too_many = || {
            let error = format!("the body has more than {max} lines");
            Turned::new(StatusCode::PAYLOAD_TOO_LARGE, error, "split the body; nothing was stored")
        };
        if body.len() > max && memchr::memchr_iter(b'\n', body).count() > max {
            return Err(too_many());
        }
        if !matches!(kind, Kind::LineProtocol(_)) && body.trim_ascii().is_empty() {
            return Err(Turned::new(
                StatusCode::BAD_REQUEST,
                "the body is empty",
                "send a JSON object, an array or NDJSON",
            ));
        }
        let mut decoders = self.decoders();
        let Decoders { json, lines, out } = &mut decoders;
        let mut dead = Vec::new();
        let envelope = Envelope { event_id: id, ..Envelope::at(self.door.now()) };
        match kind {
            Kind::Lines => json.decode(body, &envelope, out, &mut dead),
            Kind::Message => json.decode_message(body, &envelope, out, &mut dead),
            Kind::LineProtocol(precision) => {
                lines.precision = precision;
                lines.decode(body, &envelope, out, &mut dead);
                again::note_precision(&mut dead, precision);
            }
        }
        let rows = (!out.is_empty()).then(|| out.finish());
        self.keep(decoders);
        if rows.as_ref().is_some_and(|rows| rows.get_array_memory_size() > MAX_COLUMNS) {
            let error = format!("the body's events take more than {} MiB as columns", MAX_COLUMNS >> 20);
            return Err(Turned::new(StatusCode::PAYLOAD_TOO_LARGE, error, "split the body; nothing was stored"));
        }
        let taken = Taken::new(rows.as_ref().map_or(0, |rows| rows.num_rows()), &dead);
        if taken.accepted + taken.dead > max {
            return Err(too_many());
        }
        Ok((Delivery { rows, dead, span: None, ack: None }, taken))
    }

    /// Hands over; what comes back tells the outcome. None: there was nothing to hand over.
    fn deliver(&self, mut delivery: Delivery) -> Result<Option<oneshot::Receiver<Outcome>>, Refused> {
        if delivery.rows.is_none() && delivery.dead.is_empty() {
            return Ok(None);
        }
        let (tell, told) = oneshot::channel();
        // A client that has gone need not be told.
        delivery.ack = Some(Box::new(move |outcome| _ = tell.send(outcome)));
        self.door.deliver(delivery).map(|()| Some(told))
    }

    fn decoders(&self) -> Decoders {
        let idle = self.decoders.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| Decoders {
            json: Json::new(self.mapping.clone()),
            lines: LineProtocol::new(self.mapping.clone()),
            out: EventBuilder::new(self.mapping.layout().clone()),
        })
    }

    fn keep(&self, decoders: Decoders) {
        let mut idle = self.decoders.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE_DECODERS {
            idle.push(decoders);
        }
    }
}

/// What the client is told once its events are durable.
struct Taken {
    accepted: usize,
    dead: usize,
    errors: Vec<serde_json::Value>,
}

impl Taken {
    fn new(accepted: usize, dead: &[DeadLetter]) -> Self {
        let error = |letter: &DeadLetter| match place_of(letter) {
            (line, Some(element)) => json!({"line": line, "element": element, "error": letter.reason}),
            (line, None) => json!({"line": line, "error": letter.reason}),
        };
        Self { accepted, dead: dead.len(), errors: dead.iter().take(MAX_ERRORS).map(error).collect() }
    }

    fn into_response(self, line_protocol: bool) -> Response {
        if line_protocol && self.dead == 0 {
            return StatusCode::NO_CONTENT.into_response();
        }
        Answer(json!({"accepted": self.accepted, "dead": self.dead, "errors": self.errors})).into_response()
    }
}

fn unknown(why: &str) -> Response {
    let hint = "perhaps stored, perhaps not: send the same body again, with the same Idempotency-Key";
    (StatusCode::INTERNAL_SERVER_ERROR, Answer(json!({"error": format!("unknown: {why}"), "hint": hint})))
        .into_response()
}
