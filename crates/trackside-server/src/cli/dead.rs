//! `trackside dead list | show | retry | drop`: what was rejected, and what becomes of it.
//!
//! `list` and `show` read the log, beside a running pipeline or without one. `retry` and `drop` are said to the running
//! pipeline over HTTP, for it alone writes its log; where none runs they say how to start it.

use super::place::{self, Note};
use super::terminal::{note, say, say_json};
use super::{FAILED, Failure, Json, UNAVAILABLE, USAGE, Where, client};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::time::Duration;
use trackside_core::dead_letter::{LetterAction, LetterId, Stage};
use trackside_core::log::LogError;
use trackside_core::time::{TimeConfig, TimeReader, duration, rfc3339};
use trackside_engine::{Filter, Letter, Letters};

/// Letters in one request.
const AT_ONCE: usize = 500;
/// Longest wait for the answer to one request.
const PATIENCE: Duration = Duration::from_secs(60);
/// Characters of a reason in a list.
const SHOWN_REASON: usize = 100;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The open letters, oldest first
    List(List),
    /// One letter in full: row or bytes, reason, traceback
    Show(Show),
    /// Send letters back to the stage that rejected them, and close them
    Retry(Retry),
    /// Close letters; what they hold stays in the log and in the table
    Drop(Chosen),
}

#[derive(Debug, Args)]
struct Place {
    /// Data directory, or the pipeline file that names it; `pipeline.toml` when it is not given
    #[arg(long, value_name = "DIR|FILE")]
    data: Option<PathBuf>,
    #[command(flatten)]
    json: Json,
}

#[derive(Debug, Args)]
struct Which {
    /// Of this stage: ingest, clean or model
    #[arg(long)]
    stage: Option<Stage>,
    /// Of the source, cleaner or model with this name
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
    /// Rejected since: a time (2026-03-02T08:00:00Z) or so long ago (2h, 3d)
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    which: Which,
    /// Those that were retried or dropped
    #[arg(long)]
    closed: bool,
    /// Newest letters that are printed
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Debug, Args)]
struct Show {
    id: LetterId,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Chosen {
    /// As `dead list` prints them
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with_all = ["all", "stage", "component", "since"])]
    ids: Vec<LetterId>,
    /// All open ones that the filters take
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Retry {
    #[command(flatten)]
    chosen: Chosen,
    /// What takes the row's place, as JSON; for a letter of a source, an event as it would bring it
    #[arg(long, value_name = "JSON", conflicts_with_all = ["all", "edit"])]
    row: Option<String>,
    /// A file with that JSON
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    edit: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn json(&self) -> bool {
        match &self.what {
            What::List(list) => list.place.json.json,
            What::Show(show) => show.place.json.json,
            What::Retry(retry) => retry.chosen.place.json.json,
            What::Drop(chosen) => chosen.place.json.json,
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<i32, Failure> {
    match &arguments.what {
        What::List(list) => self::list(list),
        What::Show(show) => self::show(show),
        What::Retry(retry) => act("retry", &retry.chosen, row(retry)?),
        What::Drop(chosen) => act("drop", chosen, None),
    }
}

fn list(list: &List) -> Result<i32, Failure> {
    let filter = Filter { closed: list.closed, ..filter(&list.which)? };
    let letters = open(&list.place)?.1.list(&filter).map_err(unreadable)?;
    let skip = letters.len().saturating_sub(list.limit.unwrap_or(usize::MAX));
    for letter in &letters[skip..] {
        let read = if list.place.json.json { say_json(&value(letter)) } else { say(line(letter)) };
        if !read {
            return Ok(0);
        }
    }
    if letters.is_empty() && !list.place.json.json {
        say(if list.closed { "no letter is closed" } else { "no letter is open" });
    }
    Ok(0)
}

fn show(show: &Show) -> Result<i32, Failure> {
    let found = open(&show.place)?.1.get(&show.id).map_err(unreadable)?;
    let letter = found.ok_or_else(|| Failure::failed(format!("the log holds no letter `{}`", show.id)))?;
    if show.place.json.json {
        say_json(&value(&letter));
    } else {
        full(&letter).iter().all(say);
    }
    Ok(0)
}

/// Says it to the running pipeline.
fn act(action: &str, chosen: &Chosen, row: Option<Map<String, Value>>) -> Result<i32, Failure> {
    let (data, letters) = open(&chosen.place)?;
    if row.is_some() && chosen.ids.len() != 1 {
        return Err(Failure::new(USAGE, format!("{} ids; one row takes the place of one letter's", chosen.ids.len())));
    }
    let nobody = || {
        let message = format!(
            "no pipeline runs on `{}`, and it alone writes its log; start it with `trackside up`, then say it again",
            data.display()
        );
        Failure::new(UNAVAILABLE, message)
    };
    let server = Note::read(&data).ok_or_else(nobody)?;
    let token = place::token(&data)?;
    let ids = match chosen.all {
        false => chosen.ids.clone(),
        true => {
            letters.list(&filter(&chosen.which)?).map_err(unreadable)?.into_iter().map(|letter| letter.id).collect()
        }
    };
    let mut failed = 0;
    for some in ids.chunks(AT_ONCE) {
        let mut body = json!({ "ids": some });
        if let Some(row) = &row {
            body["row"] = Value::Object(row.clone());
        }
        let path = format!("/api/dead/{action}");
        let answer = client::send("POST", &server.url, &path, token.as_deref(), &body.to_string(), PATIENCE);
        let answer = answer.map_err(|_| nobody())?;
        if answer.status != 200 {
            let error = answer.body["error"].as_str().unwrap_or("no words");
            return Err(Failure::new(FAILED, format!("the pipeline answered {}: {error}", answer.status)));
        }
        failed += tell(&answer.body, chosen.place.json.json);
    }
    if ids.is_empty() {
        note("no open letter is meant");
    }
    Ok(if failed == 0 { 0 } else { FAILED })
}

/// Prints what became of each letter; how many stayed open.
fn tell(body: &Value, json: bool) -> usize {
    let answers = body["answers"].as_array().map(Vec::as_slice).unwrap_or_default();
    for answer in answers {
        let (id, error) = (answer["id"].as_str().unwrap_or_default(), answer["error"].as_str());
        match (json, error) {
            (true, _) => say_json(answer),
            (false, Some(error)) => say(format!("{id}  nothing was done: {error}")),
            (false, None) if answer["done"] == "drop" => say(format!("{id}  dropped")),
            (false, None) => say(format!("{id}  sent back")),
        };
    }
    answers.iter().filter(|answer| !answer["error"].is_null()).count()
}

fn open(place: &Place) -> Result<(PathBuf, Letters), Failure> {
    let data = place::data(&Where { file: None, data: place.data.clone() })?;
    let letters = Letters::open(&data).map_err(unreadable)?;
    Ok((data, letters))
}

fn unreadable(error: LogError) -> Failure {
    Failure::failed(format!("the log cannot be read: {error}"))
}

fn filter(which: &Which) -> Result<Filter, Failure> {
    let since = which.since.as_deref().map(since).transpose()?;
    Ok(Filter { stage: which.stage, component: which.component.clone(), since, closed: false })
}

fn since(text: &str) -> Result<i64, Failure> {
    if let Ok(ago) = duration(text) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        return Ok(i64::try_from(now.as_nanos()).unwrap_or(i64::MAX).saturating_sub(ago));
    }
    let config = TimeConfig { field: String::new(), unit: None, format: None, zone: "UTC".into() };
    let reader = TimeReader::new(&config).map_err(|error| Failure::new(USAGE, error.message))?;
    let wrong =
        |_| Failure::new(USAGE, format!("`{text}` is no time; write 2026-03-02T08:00:00Z, or 2h for two hours ago"));
    reader.text(text).map_err(wrong)
}

/// The corrected row.
fn row(retry: &Retry) -> Result<Option<Map<String, Value>>, Failure> {
    let text = match (&retry.row, &retry.edit) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => std::fs::read_to_string(file)
            .map_err(|error| Failure::new(USAGE, format!("`{}` cannot be read: {error}", file.display())))?,
        (None, None) => return Ok(None),
    };
    let row = serde_json::from_str(&text);
    row.map(Some).map_err(|error| Failure::new(USAGE, format!("the row is no JSON object: {error}")))
}

fn state(letter: &Letter) -> &'static str {
    match (letter.closed, letter.expired) {
        (Some(LetterAction::Drop), _) => "dropped",
        (Some(_), _) => "retried",
        (None, true) => "expired",
        (None, false) => "open",
    }
}

fn value(letter: &Letter) -> Value {
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    let hex = |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let row: Option<Value> = letter.row.as_deref().and_then(|row| serde_json::from_str(row).ok());
    json!({
        "id": letter.id,
        "state": state(letter),
        "stage": letter.stage,
        "component": letter.component,
        "reason": letter.reason,
        "time": letter.time.map(rfc3339),
        "received_at": rfc3339(letter.received_at),
        "offset": letter.offset,
        "row": row,
        "payload": letter.payload.as_ref().map(text),
        "payload_hex": letter.payload.as_ref().map(hex),
        "detail": letter.detail,
    })
}

fn line(letter: &Letter) -> String {
    let first = letter.reason.lines().next().unwrap_or_default();
    let reason: String = first.chars().take(SHOWN_REASON).collect();
    let mark = match state(letter) {
        "open" => String::new(),
        state => format!("{state}  "),
    };
    format!(
        "{}  {}  {} `{}`  {mark}{reason}",
        letter.id,
        rfc3339(letter.received_at),
        letter.stage.name(),
        letter.component
    )
}

fn full(letter: &Letter) -> Vec<String> {
    let mut lines = vec![
        format!("{}  {}", letter.id, state(letter)),
        format!("rejected by  {} `{}` at {}", letter.stage.name(), letter.component, rfc3339(letter.received_at)),
        format!("reason       {}", letter.reason),
    ];
    lines.extend(letter.time.map(|time| format!("event time   {}", rfc3339(time))));
    lines.extend(letter.row.as_ref().map(|row| format!("row          {row}")));
    let payload = letter.payload.as_ref().map(|bytes| String::from_utf8_lossy(bytes).escape_debug().to_string());
    lines.extend(payload.map(|text| format!("payload      {text}")));
    lines.extend(letter.detail.as_ref().map(|detail| format!("detail       {detail}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_so_long_ago() {
        assert_eq!(since("1970-01-01T00:00:01Z").unwrap(), 1_000_000_000);
        assert!(since("2h").unwrap() < since("1h").unwrap());
        assert!(since("yesterday").unwrap_err().message.contains("2h for two hours ago"));
    }

    #[test]
    fn a_letter_is_a_line_and_a_page() {
        let letter = Letter {
            id: "received/0/7/1".parse().unwrap(),
            stage: Stage::Ingest,
            component: "http".into(),
            reason: "not JSON\nmore".into(),
            time: None,
            received_at: 0,
            offset: None,
            row: None,
            payload: Some(b"{\"a\xff".to_vec()),
            detail: Some("line 3".into()),
            closed: None,
            expired: false,
        };
        assert_eq!(line(&letter), "received/0/7/1  1970-01-01T00:00:00Z  ingest `http`  not JSON");
        assert!(full(&letter).iter().any(|line| line.starts_with("payload ")));
        assert_eq!(
            (value(&letter)["payload_hex"].as_str(), value(&letter)["state"].as_str()),
            (Some("7b2261ff"), Some("open"))
        );
    }
}
