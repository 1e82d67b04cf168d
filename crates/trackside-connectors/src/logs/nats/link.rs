//! The connection: a runtime of its own below a synchronous door, and JetStream's requests in JSON.
//!
//! Guarantee: every call ends, at the latest after its timeout, and its error tells three cases apart: the server said
//! no, it could not be asked, or it was asked and did not answer. Only the last one leaves open whether something
//! happened.

use super::config::Config;
use async_nats::connection::State;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, HeaderMap, Message, RequestErrorKind};
use bytes::Bytes;
use futures_core::Stream;
use serde_json::{Value, json};
use std::pin::Pin;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use trackside_core::log::LogError;

/// Longest that the server may take for one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How often the server is asked whether it is there; two unanswered questions end the connection.
const PING: Duration = Duration::from_secs(5);
/// A first question without an answer is asked again after so long, and then after twice as long each time.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Longest pause between two attempts to connect.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The oldest server whose batched direct reads this log relies on.
const OLDEST: (u32, u32) = (2, 12);

/// Codes of JetStream's errors.
pub(super) mod code {
    pub(crate) const STREAM_NOT_FOUND: u64 = 10059;
    pub(crate) const NO_MESSAGE: u64 = 10037;
    pub(crate) const WRONG_LAST_SEQUENCE: u64 = 10071;
    pub(crate) const WRONG_LAST_SEQUENCE_CONSTANT: u64 = 10164;
}

/// Why a call came to nothing.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// The server said no: nothing happened.
    Refused { code: u64, words: String },
    /// It could not be asked: nothing happened.
    Away(String),
    /// It was asked and did not answer: it may have happened.
    Unknown(String),
}

impl Trouble {
    pub(super) fn is(&self, wanted: u64) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted)
    }

    pub(super) fn is_wrong_sequence(&self) -> bool {
        self.is(code::WRONG_LAST_SEQUENCE) || self.is(code::WRONG_LAST_SEQUENCE_CONSTANT)
    }

    pub(super) fn words(&self) -> &str {
        match self {
            Self::Refused { words, .. } | Self::Away(words) | Self::Unknown(words) => words,
        }
    }
}

impl From<Trouble> for LogError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            // A cluster elects a leader: it passes.
            Trouble::Refused { code: 503, words } => Self::Full(format!("NATS is not ready: {words}")),
            Trouble::Refused { words, .. } => Self::Other(format!("NATS refused: {words}")),
            Trouble::Away(words) | Trouble::Unknown(words) => Self::Full(words),
        }
    }
}

/// How long whoever opens a partition waits for a leader: an election takes a second or two, more on a busy machine.
const ELECTION: Duration = Duration::from_secs(30);
/// How often it asks.
const ELECTION_STEP: Duration = Duration::from_millis(100);

/// Asks again for as long as the answer is that it passes.
pub(super) fn patiently<T>(mut ask: impl FnMut() -> Result<T, LogError>) -> Result<T, LogError> {
    let until = Instant::now() + ELECTION;
    loop {
        match ask() {
            Err(LogError::Full(why)) if Instant::now() < until => {
                tracing::debug!(why, "NATS is asked again");
                std::thread::sleep(ELECTION_STEP);
            }
            answer => return answer,
        }
    }
}

/// A message as JetStream keeps it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) sequence: u64,
    pub(super) subject: String,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
}

/// A connection to a server or a cluster.
pub(super) struct Link {
    runtime: Option<tokio::runtime::Runtime>,
    client: Client,
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background(); // this may be the thread of another runtime, which must not block
        }
    }
}

impl Link {
    /// Connects; an unreachable server is waited for, `patience` at most.
    pub(super) fn connect(config: &Config, patience: Duration) -> Result<Self, LogError> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).thread_name("nats").enable_all().build();
        let runtime =
            runtime.map_err(|error| LogError::Other(format!("no thread for the connection to NATS: {error}")))?;
        let until = Instant::now().checked_add(patience);
        let mut pause = Duration::from_millis(100);
        loop {
            let attempt = wait_for(runtime.handle(), connect(config.clone()));
            match attempt.unwrap_or_else(|| Err(LogError::Other("the runtime of NATS ended".into()))) {
                Ok(client) => return Ok(Self { runtime: Some(runtime), client }),
                Err(LogError::Full(why)) if until.is_none_or(|until| Instant::now() < until) => {
                    tracing::warn!(why, wait_ms = pause.as_millis(), "NATS is waited for");
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(MAX_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The largest payload that the server takes.
    pub(super) fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Whether a request would be sent at once.
    pub(super) fn reachable(&self) -> Result<(), Trouble> {
        reachable(&self.client)
    }

    /// Runs a call to its end; the calling thread waits, whatever runtime it belongs to.
    pub(super) fn run<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, Trouble>> + Send + 'static,
    ) -> Result<T, Trouble> {
        self.runtime
            .as_ref()
            .and_then(|runtime| wait_for(runtime.handle(), call))
            .unwrap_or_else(|| Err(Trouble::Unknown("the connection to NATS was closed".into())))
    }

    /// Sets something going that nobody waits for.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(task);
        }
    }

    /// A request to JetStream.
    pub(super) fn ask(&self, call: &str, body: &Value) -> Result<Value, Trouble> {
        self.run(ask(self.client(), call.to_owned(), body.clone()))
    }

    /// Appends a message to a stream; returns its sequence.
    pub(super) fn publish(&self, subject: &str, headers: HeaderMap, payload: Bytes) -> Result<u64, Trouble> {
        self.run(publish(self.client(), subject.to_owned(), headers, payload))
    }

    /// One message as the stream's leader has it. `which` is `{"seq": 5}`, `{"seq": 5, "next_by_subj": "…"}` or
    /// `{"last_by_subj": "…"}`.
    pub(super) fn stored(&self, stream: &str, which: &Value) -> Result<Option<Stored>, Trouble> {
        self.run(stored(self.client(), stream.to_owned(), which.clone()))
    }

    /// Messages of one subject from `sequence` on, as any server of the stream has them: the oldest first, without a
    /// gap that the stream has not. One that lags behind has fewer of them.
    pub(super) fn batch(
        &self,
        stream: &str,
        subject: &str,
        sequence: u64,
        messages: usize,
        bytes: u64,
    ) -> Result<Vec<Stored>, Trouble> {
        let body = json!({"seq": sequence, "next_by_subj": subject, "batch": messages, "max_bytes": bytes.max(1)});
        self.run(batch(self.client(), format!("$JS.API.DIRECT.GET.{stream}"), body))
    }
}

fn wait_for<T: Send + 'static>(
    runtime: &tokio::runtime::Handle,
    call: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        _ = sender.send(call.await);
    });
    receiver.recv().ok()
}

async fn connect(config: Config) -> Result<Client, LogError> {
    let servers = config.servers.join(", ");
    let mut options = ConnectOptions::new()
        .name("trackside")
        .ping_interval(PING)
        .connection_timeout(ANSWER)
        .request_timeout(Some(ANSWER))
        .reconnect_delay_callback(|attempts| Duration::from_millis(100 << attempts.min(5)).min(MAX_PAUSE));
    if let Some(token) = &config.token {
        options = options.token(token.clone());
    }
    if let (Some(user), Some(password)) = (&config.user, &config.password) {
        options = options.user_and_password(user.clone(), password.clone());
    }
    if let Some(path) = &config.credentials {
        options = options.credentials_file(path).await.map_err(|error| {
            LogError::Other(format!("the credentials `{}` cannot be read: {error}", path.display()))
        })?;
    }
    if let Some(path) = &config.ca {
        options = options.add_root_certificates(path.clone()).require_tls(true);
    }
    let client = options.connect(config.servers.clone()).await.map_err(|error| match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => LogError::Other(format!(
            "NATS at {servers} does not let us in ({error}); check `token`, `user` and `password`, or `credentials` under [log]"
        )),
        ConnectErrorKind::ServerParse => {
            LogError::Other(format!("{servers} is no address of NATS ({error}); write `nats://host:4222`"))
        }
        _ => LogError::Full(format!("NATS at {servers} cannot be reached: {error}")),
    })?;
    let version = client.server_info().version;
    let mut numbers = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < OLDEST {
        return Err(LogError::Other(format!(
            "nats-server {version} at {servers} is too old; the log needs {}.{} or later",
            OLDEST.0, OLDEST.1
        )));
    }
    match first_answer(&client).await {
        Ok(_) => Ok(client),
        Err(Trouble::Refused { code: 503, .. }) if client.server_info().jetstream => {
            Err(LogError::Full(format!("JetStream at {servers} is not ready yet")))
        }
        Err(Trouble::Refused { code: 503, .. }) => Err(LogError::Other(format!(
            "NATS at {servers} runs without JetStream; start it with `-js` or a `jetstream` section"
        ))),
        Err(trouble) => Err(LogError::Full(format!("JetStream at {servers} does not answer: {}", trouble.words()))),
    }
}

/// A cluster that has just come drops what it is asked before it has a leader, so it is asked again and again.
async fn first_answer(client: &Client) -> Result<Value, Trouble> {
    let ask_again = async {
        let mut patience = ASK_AGAIN;
        loop {
            let asked = ask(client.clone(), "INFO".into(), Value::Null);
            if let Ok(answer) = tokio::time::timeout(patience, asked).await {
                return answer;
            }
            patience *= 2;
        }
    };
    let answer = tokio::time::timeout(ANSWER, ask_again).await;
    answer.unwrap_or_else(|_| Err(Trouble::Unknown(format!("no answer within {} s", ANSWER.as_secs()))))
}

fn reachable(client: &Client) -> Result<(), Trouble> {
    match client.connection_state() {
        State::Connected => Ok(()),
        _ => Err(Trouble::Away("NATS cannot be reached at the moment; it is tried again and again".into())),
    }
}

async fn request(
    client: &Client,
    subject: String,
    headers: Option<HeaderMap>,
    payload: Bytes,
) -> Result<Message, Trouble> {
    reachable(client)?;
    let request = async_nats::Request { headers, payload: Some(payload), ..async_nats::Request::new() };
    client.send_request(subject, request).await.map_err(|error| match error.kind() {
        RequestErrorKind::NoResponders => {
            Trouble::Refused { code: 503, words: "nobody serves this: the stream has no leader at the moment".into() }
        }
        RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
            Trouble::Refused { code: 400, words: error.to_string() }
        }
        _ => Trouble::Unknown(format!("NATS did not answer in time: {error}")),
    })
}

fn answer(message: &Message) -> Result<Value, Trouble> {
    let value: Value = serde_json::from_slice(&message.payload)
        .map_err(|error| Trouble::Unknown(format!("NATS gave an answer that is no JSON: {error}")))?;
    match value.get("error") {
        None => Ok(value),
        Some(error) => Err(Trouble::Refused {
            code: error["err_code"].as_u64().or(error["code"].as_u64()).unwrap_or(0),
            words: error["description"].as_str().unwrap_or("without a reason").to_owned(),
        }),
    }
}

/// A request to JetStream, for tasks of the connection's own runtime.
pub(super) async fn ask(client: Client, call: String, body: Value) -> Result<Value, Trouble> {
    let payload = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    answer(&request(&client, format!("$JS.API.{call}"), None, payload).await?)
}

/// The same for tasks of the connection's own runtime.
pub(super) async fn publish(
    client: Client,
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
) -> Result<u64, Trouble> {
    let stored = answer(&request(&client, subject, Some(headers), payload).await?)?;
    stored["seq"].as_u64().ok_or_else(|| Trouble::Unknown(format!("NATS acknowledged without a sequence: {stored}")))
}

async fn stored(client: Client, stream: String, which: Value) -> Result<Option<Stored>, Trouble> {
    let found = match ask(client, format!("STREAM.MSG.GET.{stream}"), which).await {
        Ok(found) => found,
        Err(trouble) if trouble.is(code::NO_MESSAGE) => return Ok(None),
        Err(trouble) => return Err(trouble),
    };
    let bytes = |key: &str| {
        use base64::Engine as _;
        let text = found["message"][key].as_str().unwrap_or_default();
        base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default()
    };
    Ok(Some(Stored {
        sequence: found["message"]["seq"].as_u64().unwrap_or(0),
        subject: found["message"]["subject"].as_str().unwrap_or_default().to_owned(),
        headers: parse_headers(&bytes("hdrs")),
        payload: bytes("data").into(),
    }))
}

/// Headers as they stand in a stored message: `NATS/1.0`, then one `Name: value` a line.
fn parse_headers(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in String::from_utf8_lossy(bytes).lines().skip(1) {
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.trim(), value.trim());
        }
    }
    headers
}

async fn batch(client: Client, subject: String, body: Value) -> Result<Vec<Stored>, Trouble> {
    reachable(&client)?;
    let inbox = client.new_inbox();
    let failed = |error: &dyn std::fmt::Display| Trouble::Unknown(format!("NATS could not be read: {error}"));
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
    client.publish_with_reply(subject, inbox, body.to_string().into()).await.map_err(|error| failed(&error))?;
    let mut found = Vec::new();
    loop {
        let next = std::future::poll_fn(|context| Pin::new(&mut answers).poll_next(context));
        let next = tokio::time::timeout(ANSWER, next).await;
        let message = next.ok().flatten().ok_or_else(|| Trouble::Unknown("NATS stopped in the middle".into()))?;
        match message.status.map(|status| status.as_u16()) {
            // The end of the batch; nothing (more) there.
            Some(204 | 404) => return Ok(found),
            Some(503) => {
                return Err(Trouble::Away("no server of the stream answers at the moment".into()));
            }
            Some(status) => {
                let words = message.description.unwrap_or_default();
                return Err(Trouble::Refused { code: status.into(), words });
            }
            None => {
                let headers = message.headers.unwrap_or_default();
                let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned()).unwrap_or_default();
                let (sequence, subject) = (text("Nats-Sequence").parse().unwrap_or(0), text("Nats-Subject"));
                found.push(Stored { sequence, subject, headers, payload: message.payload });
            }
        }
    }
}
