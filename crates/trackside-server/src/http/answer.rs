//! Answers that are not data: an error in words with what to do about it, always as JSON.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// `{"error": …, "hint": …}` with a status.
pub(crate) fn problem(status: StatusCode, error: impl Into<String>, hint: &str) -> Response {
    (status, Json(json!({ "error": error.into(), "hint": hint }))).into_response()
}

/// Nothing lives at that path.
pub(crate) fn not_found(path: &str) -> Response {
    let hint = "the page is at /, the API below /api, events go to /ingest or /api/v2/write";
    problem(StatusCode::NOT_FOUND, format!("nothing is at `{path}`"), hint)
}
