//! `trackside reload`: makes a running pipeline take over what changed in its file, and tells what that was.
//!
//! The server reads the file that it was started with. A broken one, or one that asks for what cannot change while the
//! pipeline runs, changes nothing; why is told with file, line and column, here, in its log and in its status.

use super::place::{self, Note};
use super::terminal::{note, say, say_json};
use super::{FAILED, Failure, Json, UNAVAILABLE, USAGE, Where, client};
use clap::Args;
use serde_json::Value;
use std::time::Duration;

/// Longest wait for the answer: parts that are replaced may first finish what they are at.
const PATIENCE: Duration = Duration::from_secs(60);

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
    let (url, token) = match &arguments.url {
        Some(url) => (url.clone(), super::status::token_for(&arguments.place)?),
        None => running(&arguments.place)?,
    };
    let answer = client::ask_patiently("POST", &url, "/api/reload", token.as_deref(), PATIENCE);
    let answer = answer.map_err(|error| Failure::new(UNAVAILABLE, format!("`{url}` does not answer: {error}")))?;
    let error = || answer.body["error"].as_str().unwrap_or("no words").to_owned();
    match answer.status {
        200 if arguments.json.json => say_json(&answer.body),
        200 => tell(&answer.body),
        422 if arguments.json.json => {
            say_json(&answer.body);
            return Ok(USAGE);
        }
        422 => {
            note(error());
            return Err(Failure::new(USAGE, "nothing was reloaded; the pipeline runs on as it was"));
        }
        401 => {
            let help = "set TRACKSIDE_TOKEN, or name the data directory with --data";
            return Err(Failure::failed(format!("`{url}` asks for its token; {help}")));
        }
        _ => return Err(Failure::new(FAILED, format!("nothing was reloaded: {}", error()))),
    };
    Ok(0)
}

/// The server of the pipeline that is meant, and its token.
fn running(place: &Where) -> Result<(String, Option<String>), Failure> {
    let data = place::data(place)?;
    let found = Note::read(&data).ok_or_else(|| {
        Failure::new(UNAVAILABLE, format!("no pipeline runs on `{}`; `trackside up` starts one", data.display()))
    })?;
    Ok((found.url, place::token(&data)?))
}

fn tell(body: &Value) -> bool {
    let changes = body["text"].as_array().map(Vec::as_slice).unwrap_or_default();
    match changes {
        [] => say("nothing changed: the file says what runs"),
        changes => changes.iter().filter_map(Value::as_str).fold(true, |_, change| say(change)),
    }
}
