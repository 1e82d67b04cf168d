//! Words on dead letters: `POST /api/dead/retry` and `POST /api/dead/drop`.
//!
//! `{"ids": ["clean/0/1234/0", …]}`, and for a single retry `"row": {…}` that takes the row's place. Each letter is answered
//! for itself; what is said to be done is durable.

use super::App;
use super::answer::problem;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use trackside_core::dead_letter::LetterId;
use trackside_engine::{Answered, Engine, Refusal, Retry};

/// Letters in one request at most.
pub(crate) const MAX_IDS: usize = 1000;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    ids: Vec<LetterId>,
    #[serde(default)]
    row: Option<Map<String, Value>>,
}

pub(super) async fn retry(State(app): State<Arc<App>>, body: Bytes) -> Response {
    answer(app, &body, |engine, asked| {
        let row = asked.row;
        let letters: Vec<Retry> = asked.ids.into_iter().map(|id| Retry { id, row: row.clone() }).collect();
        engine.retry_letters(&letters)
    })
    .await
}

pub(super) async fn drop(State(app): State<Arc<App>>, body: Bytes) -> Response {
    answer(app, &body, |engine, asked| engine.drop_letters(&asked.ids)).await
}

async fn answer(
    app: Arc<App>,
    body: &[u8],
    say: impl FnOnce(&Engine, Asked) -> Result<Vec<Answered>, Refusal> + Send + 'static,
) -> Response {
    let asked = match serde_json::from_slice::<Asked>(body) {
        Ok(asked) => asked,
        Err(error) => {
            return refused(StatusCode::BAD_REQUEST, error, "send {\"ids\": [\"clean/0/1234/0\"]}, as JSON");
        }
    };
    if asked.ids.len() > MAX_IDS || (asked.row.is_some() && asked.ids.len() != 1) {
        let error = format!("{} ids; at most {MAX_IDS}, and one with a `row`", asked.ids.len());
        return refused(StatusCode::BAD_REQUEST, error, "send several requests");
    }
    // It reads the log and waits for the disk.
    let engine = app.engine.clone();
    match tokio::task::spawn_blocking(move || say(&engine, asked)).await {
        Ok(Ok(answers)) => Json(json!({ "answers": answers })).into_response(),
        Ok(Err(refusal)) => {
            let status = match refusal {
                Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
                Refusal::Unknown(_) | Refusal::Log(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            refused(status, refusal, "`trackside dead list` tells which are open")
        }
        Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, error, "please report this"),
    }
}

fn refused(status: StatusCode, error: impl std::fmt::Display, hint: &str) -> Response {
    problem(status, error.to_string(), hint)
}
