//! `trackside status`: what the running server says, or, when none runs, what the log says.

use super::place::{self, Note};
use super::terminal::{count, say, say_json};
use super::{Failure, Json, UNAVAILABLE, Where, client};
use clap::Args;
use serde_json::{Value, json};
use std::path::Path;
use trackside_core::log::LogError;
use trackside_engine::open_log;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Where,
    /// Address of a running server; its token comes from TRACKSIDE_TOKEN or the data directory
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    pub(super) json: Json,
}

pub(crate) fn run(arguments: &Arguments) -> Result<i32, Failure> {
    let status = match &arguments.url {
        Some(url) => from_url(url, &arguments.place)?,
        None => {
            let data = place::data(&arguments.place)?;
            match Note::read(&data).and_then(|note| running(&note.url, place::token(&data).ok()?.as_deref())) {
                Some(status) => status,
                None => from_log(&data).map_err(|error| Failure::failed(format!("the log cannot be read: {error}")))?,
            }
        }
    };
    if arguments.json.json {
        say_json(&status);
    } else {
        words(&status).iter().for_each(|line| _ = say(line));
    }
    Ok(0)
}

/// The token for an address that was given.
pub(super) fn token_for(given: &Where) -> Result<Option<String>, Failure> {
    match std::env::var(crate::http::token::VARIABLE) {
        Ok(token) => Ok(Some(token)),
        Err(_) => Ok(place::data(given).ok().map(|data| place::token(&data)).transpose()?.flatten()),
    }
}

fn from_url(url: &str, given: &Where) -> Result<Value, Failure> {
    let token = token_for(given)?;
    let answer = client::ask("GET", url, "/api/status", token.as_deref());
    let answer = answer.map_err(|error| Failure::new(UNAVAILABLE, format!("`{url}` does not answer: {error}")))?;
    match answer.status {
        200 => Ok(answer.body),
        401 => Err(Failure::failed(format!(
            "`{url}` asks for its token; set TRACKSIDE_TOKEN, or name the data directory with --data"
        ))),
        other => Err(Failure::failed(format!(
            "`{url}` answered {other}: {}",
            answer.body["error"].as_str().unwrap_or("no words")
        ))),
    }
}

/// The status of a server that still answers and takes our token.
fn running(url: &str, token: Option<&str>) -> Option<Value> {
    let answer = client::ask("GET", url, "/api/status", token).ok()?;
    (answer.status == 200).then_some(answer.body)
}

/// What the newest frame of each partition says: sums are kept in the frames themselves.
fn from_log(data: &Path) -> Result<Value, LogError> {
    let log = open_log(data)?;
    let mut topics = Vec::new();
    for (topic, partitions) in log.topics()? {
        let (mut counts, mut bounds) = (serde_json::Map::new(), (0, 0));
        for partition in &partitions {
            let mut reader = log.reader(&topic, *partition)?;
            bounds = (bounds.0 + reader.oldest()?, bounds.1 + reader.published());
            let newest = reader.newest()?.map(|head| head.meta.counts).unwrap_or_default();
            for (name, n) in newest {
                let sum = counts.get(&name).and_then(Value::as_u64).unwrap_or(0) + n;
                counts.insert(name, sum.into());
            }
        }
        topics.push(json!({ "topic": topic, "partitions": partitions.len(), "held_from": bounds.0, "end": bounds.1, "counts": counts }));
    }
    Ok(json!({ "state": "stopped", "data": data, "topics": topics }))
}

fn words(status: &Value) -> Vec<String> {
    match status["topics"].as_array() {
        Some(topics) => stopped(status, topics),
        None => alive(status),
    }
}

fn stopped(status: &Value, topics: &[Value]) -> Vec<String> {
    let mut lines = vec![format!("not running; `{}` holds", text(&status["data"]))];
    for topic in topics {
        let counts = topic["counts"].as_object().into_iter().flatten();
        let counts: Vec<String> =
            counts.map(|(name, n)| format!("{name} {}", count(n.as_u64().unwrap_or(0)))).collect();
        lines.push(format!("  {:20} {}", text(&topic["topic"]), counts.join(", ")));
    }
    lines
}

fn alive(status: &Value) -> Vec<String> {
    let mut lines =
        vec![format!("{} is {} at {}", text(&status["pipeline"]), text(&status["state"]), text(&status["url"]))];
    lines.extend(status["weakness"].as_str().map(|weakness| format!("  weak: {weakness}")));
    for notice in status["notices"].as_array().into_iter().flatten() {
        lines.push(format!("  {}: {}", text(&notice["level"]), text(&notice["text"])));
        lines.push(format!("    {}", text(&notice["help"])));
    }
    for stage in status["stages"].as_array().into_iter().flatten() {
        let mut line = format!(
            "  {:7} {:16} {:12} {:>9.1}/s  lag {}",
            text(&stage["stage"]),
            text(&stage["name"]),
            text(&stage["state"]),
            stage["rate"].as_f64().unwrap_or(0.0),
            count(stage["lag"].as_u64().unwrap_or(0))
        );
        if let Some(detail) = stage["detail"].as_str() {
            line.push_str(&format!("  {detail}"));
        }
        lines.push(line);
    }
    if let Ok(sums) = serde_json::from_value::<Plain>(status["sums"].clone()) {
        lines.extend(sums.lines());
    }
    lines
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The sums of another process: names and numbers, whichever they are.
#[derive(serde::Deserialize)]
struct Plain(std::collections::BTreeMap<String, Value>);

impl Plain {
    fn lines(&self) -> Vec<String> {
        let line = |(name, sum): (&str, &Value)| {
            let numbers = sum
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(word, n)| Some(format!("{word} {}", count(n.as_u64()?))));
            let balanced = if sum["balanced"] == true { "holds" } else { "does not hold" };
            format!("  {name:10} {balanced}: {}", numbers.collect::<Vec<_>>().join(", "))
        };
        let stages = ["ingest", "clean"].into_iter().filter_map(|name| Some((name, self.0.get(name)?)));
        let models = self
            .0
            .get("models")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, sum)| (name.as_str(), sum));
        stages.chain(models).map(line).collect()
    }
}
