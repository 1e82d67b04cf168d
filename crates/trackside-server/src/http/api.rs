//! The JSON API: `/api/status`, `/api/series`, `/api/history`, `/api/dead`, `/api/anomalies`, `/api/reload`.

use super::App;
use super::answer::problem;
use crate::views::{MAX_NOTES, MAX_POINTS_A_LINE};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;
use trackside_engine::NotReloaded;

/// Series in a list, when the query does not say.
const SERIES: usize = 1000;
/// Series in a list at most.
const MAX_SERIES: usize = 10_000;
/// Points of a line, when the query does not say.
const POINTS: usize = 2000;
/// Anomalies and dead letters in a list, when the query does not say.
const NOTES: usize = 50;

type Params = Query<HashMap<String, String>>;

pub(super) async fn status(State(app): State<Arc<App>>) -> Response {
    Json(&*app.status()).into_response()
}

pub(super) async fn series(State(app): State<Arc<App>>, Query(query): Params) -> Response {
    let limit = match number(&query, "limit", SERIES) {
        Ok(limit) => limit.min(MAX_SERIES),
        Err(refusal) => return *refusal,
    };
    let status = app.status();
    let store = app.views.read();
    let needed = needed(&status, store.models());
    let (tags, fields) = store.names();
    let fields: Vec<&str> = fields.collect();
    let (series, total) = store.list(limit, &needed);
    Json(json!({ "tags": tags, "fields": fields, "series": series, "total": total, "sampled": store.sampled }))
        .into_response()
}

/// By model, the rows that a series needs before its scores are ready, while the model says so.
fn needed(status: &Value, models: &[String]) -> Vec<Option<u64>> {
    let running = status["models"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |name: &String| running.iter().find(|model| model["name"] == name.as_str());
    models.iter().map(|name| of(name)?["learning"]["needed"].as_u64()).collect()
}

pub(super) async fn history(State(app): State<Arc<App>>, Query(query): Params) -> Response {
    let parsed = number(&query, "series", u32::MAX).and_then(|id| Ok((id, number(&query, "points", POINTS)?)));
    let (id, points) = match parsed {
        Ok((id, points)) => (id, points.clamp(2, 3 * MAX_POINTS_A_LINE)),
        Err(refusal) => return *refusal,
    };
    let store = app.views.read();
    let field = query.get("field").map_or_else(|| store.names().1.next().unwrap_or_default(), String::as_str);
    if !store.has_field(field) {
        let fields: Vec<&str> = store.names().1.collect();
        let hint = format!("choose from `{}`", fields.join("`, `"));
        return problem(StatusCode::NOT_FOUND, format!("unknown field `{field}`"), &hint);
    }
    let Some((points, cursor)) = store.history(id, field, points) else {
        return problem(StatusCode::NOT_FOUND, format!("unknown series {id}"), "/api/series lists what there is");
    };
    drop(store);
    let mut answer = serde_json::to_value(points).unwrap_or_default();
    answer["cursor"] = Value::from(cursor.to_string());
    Json(answer).into_response()
}

pub(super) async fn dead(State(app): State<Arc<App>>, Query(query): Params) -> Response {
    let limit = match number(&query, "limit", NOTES) {
        Ok(limit) => limit.min(MAX_NOTES),
        Err(refusal) => return *refusal,
    };
    let total = dead_total(&app.status());
    let store = app.views.read();
    let letters: Vec<_> = store.letters.since(0).rev().filter(|letter| !store.is_closed(&letter.id)).collect();
    let letters: Vec<_> = letters.into_iter().take(limit).cloned().collect();
    std::mem::drop(store);
    Json(json!({ "dead": letters, "total": total })).into_response()
}

fn dead_total(status: &Value) -> u64 {
    let sums = &status["sums"];
    let models = sums["models"].as_object().into_iter().flat_map(|models| models.values());
    [&sums["ingest"], &sums["clean"]].into_iter().chain(models).filter_map(|sum| sum["dead"].as_u64()).sum()
}

pub(super) async fn anomalies(State(app): State<Arc<App>>, Query(query): Params) -> Response {
    let limit = match number(&query, "limit", NOTES) {
        Ok(limit) => limit.min(MAX_NOTES),
        Err(refusal) => return *refusal,
    };
    let anomalies: Vec<_> = app.views.read().anomalies.since(0).rev().take(limit).cloned().collect();
    Json(json!({ "anomalies": anomalies })).into_response()
}

/// `POST /api/code`: an address that opens the page once, for `trackside token`.
pub(super) async fn code(State(app): State<Arc<App>>) -> Response {
    match app.one_time_url() {
        Ok(url) => Json(json!({ "url": url })).into_response(),
        Err(error) => {
            problem(StatusCode::INTERNAL_SERVER_ERROR, error.to_string(), "open the page with the token itself")
        }
    }
}

/// `POST /api/reload`: takes over what changed in the pipeline file, and tells it.
pub(super) async fn reload(State(app): State<Arc<App>>) -> Response {
    const HINT: &str = "nothing was changed, all runs on as it was";
    let done = tokio::task::spawn_blocking(move || app.reload()).await;
    match done {
        Ok(Ok(changes)) => {
            let text: Vec<String> = changes.iter().map(ToString::to_string).collect();
            Json(json!({ "changes": changes, "text": text })).into_response()
        }
        Ok(Err(NotReloaded::File(errors))) => {
            let body = json!({ "error": errors.to_string(), "hint": HINT, "errors": errors.0 });
            (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
        }
        Ok(Err(NotReloaded::Failed(error))) => problem(StatusCode::CONFLICT, error, HINT),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, error.to_string(), "please report this"),
    }
}

/// A number of the query, or the answer that names it.
pub(super) fn number<T: FromStr>(query: &HashMap<String, String>, name: &str, default: T) -> Result<T, Box<Response>> {
    let Some(text) = query.get(name) else { return Ok(default) };
    text.parse().map_err(|_| {
        let error = format!("`{name}={text}` is not a whole number");
        Box::new(problem(StatusCode::BAD_REQUEST, error, "give a number, for example `series=0`"))
    })
}
