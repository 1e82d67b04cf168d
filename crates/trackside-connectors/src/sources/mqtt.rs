//! Subscribes to an MQTT broker, version 3.1.1 or 5.
//!
//! Guarantee: at least once with QoS 1 and 2: the broker gets its acknowledgement after the events are fsynced, and keeps
//! in our session what comes while we are away. A message that comes twice (a crash between fsync and acknowledgement) is
//! stored twice; give events an id (`[schema] event_id`, filled from the payload or from the user property `event-id` of
//! version 5) and `dedupe` by it. QoS 0 promises nothing.
//!
//! ```toml
//! [[source]]
//! type = "mqtt"
//! broker = "mqtt://localhost:1883"       # or mqtts://
//! topics = ["plant/+/+"]
//! pattern = "plant/{device}/{sensor}"    # levels become tags
//! format = "value"                       # the payload is a number; or "json"
//! ```
//!
//! A broker that allows few messages under way (Mosquitto: 20, `max_inflight_messages`) waits for our disk after each
//! handful; allow it 1000 where messages come by the thousand.
//!
//! The protocol is spoken here and not by a library, because a subscriber needs nine small packets and full say over
//! one: the acknowledgement, across reconnects and restarts, while the socket rests and pings go on.

mod batch;
mod broker;
mod connection;
mod packet;
mod payload;
mod session;
mod topic;

use self::broker::Address;
use self::connection::{Client, Settings};
use self::packet::Version as Wire;
use self::payload::Payload;
use self::topic::{Pattern, check_filters};
use crate::formats::{MAX_RECORD, Mapping};
use arrow::array::RecordBatch;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use trackside_core::component::{Component, config, schema_of};
use trackside_core::dead_letter::DeadLetter;
use trackside_core::error::{ConfigError, Failure};
use trackside_core::schema::Layout;
use trackside_core::source::{BuildSource, Door, Guarantee, Source, SourceContext};
use trackside_core::time::Span;
use xxhash_rust::xxh3::xxh3_64;

/// Client ids up to this length must be accepted by every broker of 3.1.1.
const MAX_CLIENT_ID: usize = 23;

pub(super) const COMPONENT: Component<BuildSource> = Component {
    name: "mqtt",
    summary: "Subscribes to an MQTT broker, 3.1.1 or 5, and acknowledges to it what is on disk.",
    example: r#"[[source]]
type = "mqtt"
broker = "mqtt://localhost:1883"
topics = ["plant/+/+"]
pattern = "plant/{device}/{sensor}"
"#,
    schema: schema_of::<Config>,
    build,
};

/// The keys of an `mqtt` block.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address of the broker: `mqtt://host:1883`, or `mqtts://host:8883` for TLS.
    pub broker: String,
    /// Topic filters to subscribe to; `+` stands for one level, `#` for all at the end.
    pub topics: Vec<String>,
    /// How the levels of a topic become tags, such as `plant/{device}/{sensor}`. What does not fit is a dead letter.
    #[serde(default)]
    pub pattern: Option<String>,
    /// What a payload is.
    #[serde(default)]
    pub format: Format,
    /// For `format = "value"`: the field that it fills. Default: the schema's only field, or `value`.
    #[serde(default)]
    pub field: Option<String>,
    /// Version of the protocol.
    #[serde(default)]
    pub version: Version,
    /// Quality of service asked for: 0, 1 or 2.
    #[serde(default = "one")]
    #[schemars(range(max = 2))]
    pub qos: u8,
    /// Name of the session at the broker; one client at a time may use it. Default: made of the block's name, the
    /// pipeline's folder and the machine.
    #[serde(default)]
    pub client_id: Option<String>,
    /// User name.
    #[serde(default)]
    pub username: Option<String>,
    /// Password. Better: `password_env`.
    #[serde(default)]
    pub password: Option<String>,
    /// Environment variable that holds the password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// For `mqtts`: PEM file of the certificates to trust, instead of the machine's; relative to the pipeline file.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Longest silence before the connection counts as lost.
    #[serde(default = "keep_alive")]
    pub keep_alive: Span,
    /// Version 5: how long the broker keeps the session, and what comes for it, while we are away.
    #[serde(default = "session_expiry")]
    pub session_expiry: Span,
    /// Most messages under way to the disk. Beyond it the broker waits.
    #[serde(default = "max_inflight")]
    #[schemars(range(min = 1))]
    pub max_inflight: u16,
    /// Tags of all events.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// What a payload is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A JSON object, an array of them, or one a line.
    #[default]
    Json,
    /// A bare value.
    Value,
}

/// Version of the protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Version {
    /// MQTT 3.1.1, which every broker speaks.
    #[default]
    #[serde(rename = "3.1.1")]
    V3,
    /// MQTT 5.
    #[serde(rename = "5")]
    V5,
}

fn one() -> u8 {
    1
}

fn keep_alive() -> Span {
    Span(Duration::from_secs(30))
}

fn session_expiry() -> Span {
    Span(Duration::from_secs(7 * 86_400))
}

fn max_inflight() -> u16 {
    1000
}

/// Builds the source.
pub fn build(block: Value, context: &SourceContext<'_>) -> Result<Box<dyn Source>, ConfigError> {
    let config: Config = config(block)?;
    let payload = payload(&config, context)?;
    let settings = settings(config, context)?;
    Ok(Box::new(Mqtt { settings, payload }))
}

/// A subscription.
struct Mqtt {
    settings: Settings,
    payload: Payload,
}

impl Source for Mqtt {
    fn guarantee(&self) -> Guarantee {
        if self.settings.qos == 0 { Guarantee::AtMostOnce } else { Guarantee::AtLeastOnce }
    }

    fn run(&mut self, door: Arc<dyn Door>) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::retry(format!("cannot start a runtime for MQTT: {error}")))?;
        runtime.block_on(Client::new(&self.settings, &mut self.payload, door).run());
        Ok(())
    }

    fn decode_again(&mut self, letter: &DeadLetter, event: bool, arrival: i64) -> Result<RecordBatch, String> {
        self.payload.decode_again(letter, event, arrival)
    }
}

fn payload(config: &Config, context: &SourceContext<'_>) -> Result<Payload, ConfigError> {
    let mapping = Arc::new(Mapping::new(context.layout, context.name, &config.tags)?);
    let pattern = config.pattern.as_deref().map(|text| Pattern::parse(text, context.layout)).transpose()?;
    match config.format {
        Format::Json if config.field.is_some() => Err(ConfigError::new("field", "`field` is for `format = \"value\"`")
            .with_help("JSON names its fields itself; leave `field` out")),
        Format::Json => Ok(Payload::json(mapping, pattern)),
        Format::Value => {
            let name = value_field(config, context.layout)?;
            let key =
                mapping.find(&name).ok_or_else(|| ConfigError::new("field", format!("unknown field `{name}`")))?;
            Ok(Payload::value(mapping, pattern, key))
        }
    }
}

fn value_field(config: &Config, layout: &Layout) -> Result<String, ConfigError> {
    let only = layout.config.fields.keys().next().filter(|_| layout.config.fields.len() == 1);
    let name = config.field.as_ref().or(only).map_or("value", String::as_str);
    layout.field("field", name).map(|_| name.to_owned())
}

fn settings(config: Config, context: &SourceContext<'_>) -> Result<Settings, ConfigError> {
    check_filters(&config.topics)?;
    let ca = config.ca.as_ref().map(|path| context.base.join(path));
    let address = Address::parse(&config.broker, ca.as_deref())?;
    let (name, password) = address.login.clone().unwrap_or_default();
    let username = config.username.clone().or((!name.is_empty()).then_some(name));
    let password = secret(&config)?.or(password);
    if password.is_some() && username.is_none() {
        return Err(ConfigError::new("username", "a password without `username`").with_help("add `username = …`"));
    }
    for (key, text) in [("username", &username), ("password", &password), ("client_id", &config.client_id)] {
        if text.as_ref().is_some_and(|text| text.is_empty() || text.len() > usize::from(u16::MAX)) {
            return Err(ConfigError::new(key, format!("`{key}` is empty or too long")));
        }
    }
    if config.qos > 2 {
        return Err(ConfigError::new("qos", format!("`qos` is {}", config.qos)).with_help("choose 0, 1 or 2"));
    }
    if config.max_inflight == 0 {
        return Err(ConfigError::new("max_inflight", "`max_inflight` is 0: nothing could ever come")
            .with_help("leave it out for the default"));
    }
    let seconds = |span: Span| span.0.as_secs() + u64::from(span.0.subsec_nanos() > 0);
    let keep_alive = u16::try_from(seconds(config.keep_alive)).map_err(|_| {
        ConfigError::new("keep_alive", "`keep_alive` is longer than MQTT can say").with_help("at most `18h`")
    })?;
    Ok(Settings {
        address,
        version: if config.version == Version::V5 { Wire::V5 } else { Wire::V3 },
        client_id: config.client_id.unwrap_or_else(|| client_id(context.name, context.base)),
        username,
        password,
        keep_alive,
        session_expiry: u32::try_from(seconds(config.session_expiry)).unwrap_or(u32::MAX),
        max_inflight: config.max_inflight,
        max_message: MAX_RECORD,
        topics: config.topics,
        qos: config.qos,
    })
}

fn secret(config: &Config) -> Result<Option<String>, ConfigError> {
    match (&config.password, &config.password_env) {
        (Some(_), Some(_)) => Err(ConfigError::new("password_env", "`password` and `password_env` are both given")
            .with_help("keep `password_env`")),
        (password, None) => Ok(password.clone()),
        (None, Some(name)) => match std::env::var(name) {
            Ok(password) => Ok(Some(password)),
            Err(_) => Err(ConfigError::new("password_env", format!("the environment has no variable `{name}`"))
                .with_help(format!("start with `{name}=… trackside up …`"))),
        },
    }
}

/// The same after a restart, another one for each block, folder and machine: two clients of one name would throw each
/// other out.
fn client_id(name: &str, base: &Path) -> String {
    let folder = base.canonicalize().unwrap_or_else(|_| base.to_path_buf());
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let whole = format!("{name}\0{}\0{}", folder.display(), machine.trim());
    let hash = format!("{:08x}", xxh3_64(whole.as_bytes()) as u32);
    let plain = name.chars().filter(char::is_ascii_alphanumeric).take(MAX_CLIENT_ID - 2 - hash.len());
    format!("ts{}{hash}", plain.collect::<String>())
}

/// For the fuzzer: packets out of bytes that come in pieces of this size, in words, and how it ended.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::packet::{Reader, Version};
    use bytes::BytesMut;

    /// Reads all packets.
    pub fn packets(bytes: &[u8], v5: bool, max: usize, piece: usize) -> Vec<String> {
        let mut reader = Reader::new(if v5 { Version::V5 } else { Version::V3 }, max);
        let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            buffer.extend_from_slice(piece);
            loop {
                match reader.next(&mut buffer) {
                    Ok(Some(packet)) => seen.push(format!("{packet:?}")),
                    Ok(None) => break,
                    Err(error) => {
                        seen.push(error.to_string());
                        return seen;
                    }
                }
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::layout;
    use serde_json::json;

    fn error(block: Value) -> ConfigError {
        let layout = layout(json!({"series": ["device"], "fields": {"temp": "float", "rpm": "float"}}));
        let context = SourceContext { name: "mqtt", layout: &layout, base: Path::new(".") };
        let mut whole = json!({"broker": "mqtt://localhost", "topics": ["a/#"]});
        whole.as_object_mut().unwrap().extend(block.as_object().unwrap().clone());
        build(whole, &context).map(drop).unwrap_err()
    }

    #[test]
    fn what_cannot_work_is_told_before_a_broker_is_asked() {
        for (block, path) in [
            (json!({"topics": []}), "topics"),
            (json!({"qos": 3}), "qos"),
            (json!({"format": "value"}), "field"),
            (json!({"field": "temp"}), "field"),
            (json!({"password": "x"}), "username"),
            (json!({"username": "u", "password": "x", "password_env": "X"}), "password_env"),
            (json!({"username": "u", "password_env": "NO_SUCH_VARIABLE"}), "password_env"),
            (json!({"max_inflight": 0}), "max_inflight"),
            (json!({"keep_alive": "2d"}), "keep_alive"),
            (json!({"version": "4"}), "version"),
            (json!({"broker": "localhost"}), "broker"),
        ] {
            assert_eq!(error(block.clone()).path, path, "{block}");
        }
        assert!(error(json!({"format": "value", "field": "tmep"})).message.contains("did you mean `temp`?"));
    }

    #[test]
    fn a_client_id_is_stable_short_and_its_own() {
        let (a, b) = (client_id("mqtt", Path::new(".")), client_id("mqtt", Path::new("..")));
        assert_eq!(a, client_id("mqtt", Path::new(".")));
        assert_ne!(a, b);
        assert!(client_id("a block with a very long name", Path::new(".")).len() <= MAX_CLIENT_ID);
        assert!(a.chars().all(|c| c.is_ascii_alphanumeric()));
    }
}
