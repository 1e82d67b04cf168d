//! `trackside token`: the token, and an address that opens the page once.

use super::place::{self, Note};
use super::terminal::{note, say, say_json};
use super::{Failure, Json, Where, client};
use crate::http::token;
use clap::Args;
use serde_json::json;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    pub(super) json: Json,
}

pub(crate) fn run(arguments: &Arguments) -> Result<i32, Failure> {
    let data = place::data(&arguments.place)?;
    let token = token::load(&data).map_err(Failure::failed)?;
    let url = Note::read(&data).and_then(|note| one_time_url(&note.url, &token));
    if arguments.json.json {
        say_json(&json!({ "token": token, "url": url }));
        return Ok(0);
    }
    // The answer is the token alone, for `$(trackside token)`; what people want beside it is a remark.
    say(token);
    note(url.unwrap_or_else(|| {
        "no server answers for this data directory; `trackside up` starts one and prints the address of its page".into()
    }));
    Ok(0)
}

fn one_time_url(url: &str, token: &str) -> Option<String> {
    let answer = client::ask("POST", url, "/api/code", Some(token)).ok()?;
    answer.body["url"].as_str().map(str::to_owned)
}
