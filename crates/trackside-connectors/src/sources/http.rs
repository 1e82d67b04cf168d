//! HTTP: `POST /ingest` takes JSON, `POST /api/v2/write` and `POST /write` take InfluxDB line protocol.
//!
//! Guarantee: at least once. 2xx is said only after the events are durable; 4xx and 503 stored nothing; after a 500
//! (or no answer) nobody knows, and the client should send the same body again. With an `Idempotency-Key` and an
//! `event_id` in `[schema]` each event then has the same id as before, so that `dedupe` by it makes it exactly once.
//!
//! Bodies may be packed (`Content-Encoding: gzip` or `zstd`). JSON is an object, an array of objects or a line each
//! (NDJSON), by `Content-Type` or by looking. Bad lines become dead letters and are named in the answer; the others
//! are stored:
//!
//! ```text
//! $ curl localhost:7878/ingest -H "Authorization: Bearer $TOKEN" -d '{"device":"pump-1","value":21.5}'
//! {"accepted":1,"dead":0,"errors":[]}
//! ```
//!
//! Without `listen` it shares the server's port, and the server's token guards it. With `listen` it has a port of its
//! own; then a `token` is needed for anything but loopback.

use super::again;
use super::http_intake::{Intake, MAX_HELD_KIB, ingest, write};
use super::http_listen;
use crate::formats::Mapping;
use crate::formats::line_protocol::LineProtocol;
use arrow::array::RecordBatch;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use trackside_core::component::{Component, config, schema_of};
use trackside_core::dead_letter::DeadLetter;
use trackside_core::error::{ConfigError, Failure};
use trackside_core::source::{BuildSource, Door, Guarantee, Source, SourceContext, SourceState};
use trackside_core::time::Span;

/// Its line in the list.
pub(super) const COMPONENT: Component<BuildSource> = Component {
    name: "http",
    summary: "Takes JSON and line protocol by POST and answers once the events are durable.",
    example: r#"[[source]]
type = "http"
listen = "127.0.0.1:0"
"#,
    schema: schema_of::<Config>,
    build: |block, context| Ok(Box::new(HttpSource::from_block(block, context)?)),
};
/// Routes that the server merges into its own, behind its token.
pub type Mount = axum::Router;
/// Where they are.
pub const PATHS: [&str; 3] = ["/ingest", "/api/v2/write", "/write"];

/// The keys of an `http` block.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address of a port of its own, such as `127.0.0.1:8086`; port 0 picks a free one. Default: the server's port.
    pub listen: Option<String>,
    /// For `listen`: what clients must send as `Authorization: Bearer …` or `Token …`.
    pub token: Option<String>,
    /// Largest body in bytes, packed and unpacked.
    pub max_body: usize,
    /// Most lines of a body.
    pub max_lines: usize,
    /// How long a client waits for its events to be durable before it is told that nobody knows.
    pub timeout: Span,
    /// Tags of all events; the payload's own win.
    pub tags: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: None,
            token: None,
            max_body: 8 << 20,
            max_lines: 100_000,
            timeout: Span(Duration::from_secs(30)),
            tags: BTreeMap::new(),
        }
    }
}

/// The source. Without `listen` the engine asks it for a [`HttpSource::router`] and serves that.
#[derive(Debug)]
pub struct HttpSource {
    config: Config,
    address: Option<SocketAddr>,
    mapping: Arc<Mapping>,
}

impl HttpSource {
    /// Builds it from its block, without `type` and `name`.
    pub fn from_block(block: serde_json::Value, context: &SourceContext<'_>) -> Result<Self, ConfigError> {
        let config: Config = config(block)?;
        if config.max_body == 0 || config.max_body > (MAX_HELD_KIB as usize) << 9 {
            let most = (MAX_HELD_KIB as usize) << 9;
            return Err(ConfigError::new("max_body", format!("{} bytes; choose 1 to {most}", config.max_body)));
        }
        let address = config.listen.as_deref().map(|listen| http_listen::address(listen, &config.token)).transpose()?;
        if config.token.is_some() && address.is_none() {
            return Err(ConfigError::new("token", "without `listen` the server's token counts")
                .with_help("leave `token` out, or give a `listen` address"));
        }
        let mapping = Arc::new(Mapping::new(context.layout, context.name, &config.tags)?);
        Ok(Self { config, address, mapping })
    }

    /// Whether it opens a port of its own.
    pub fn listens(&self) -> bool {
        self.address.is_some()
    }

    /// The routes, which hand events through this door. Needs a tokio runtime; who serves it checks credentials.
    pub fn router(&self, door: Arc<dyn Door>) -> Mount {
        let intake = Arc::new(Intake::new(door, self.mapping.clone(), self.config.clone()));
        axum::Router::new()
            .route("/ingest", post(ingest))
            .route("/api/v2/write", post(write))
            .route("/write", post(write))
            .layer(DefaultBodyLimit::max(self.config.max_body))
            .with_state(intake)
    }
}

impl Source for HttpSource {
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    /// Serves its own port; without one, only waits for the stop.
    fn run(&mut self, door: Arc<dyn Door>) -> Result<(), Failure> {
        match self.address {
            Some(address) => http_listen::serve(address, self.config.token.clone(), self.router(door.clone()), &door),
            None => {
                door.state(SourceState::Running, None);
                while !door.wait_stop(Duration::from_secs(3600)) {}
                Ok(())
            }
        }
    }

    fn decode_again(&mut self, letter: &DeadLetter, event: bool, arrival: i64) -> Result<RecordBatch, String> {
        let precision = again::precision(letter).filter(|_| !event);
        let looks_like_json = matches!(again::bytes(letter).trim_ascii_start().first(), Some(b'{' | b'['));
        if event || (precision.is_none() && looks_like_json) {
            return again::json(&self.mapping, letter, arrival);
        }
        let mut lines = LineProtocol::new(self.mapping.clone());
        lines.precision = precision.unwrap_or(lines.precision);
        again::with(&mut lines, &self.mapping, letter, arrival)
    }
}
