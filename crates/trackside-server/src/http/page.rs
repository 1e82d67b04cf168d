//! The live page: files that were built into this program, and the headers that keep a browser to them.
//!
//! The files tell nothing about anybody's data, so they need no token; without one the page itself says how to get it.

use super::answer::{not_found, problem};
use super::{App, auth::Auth};
use axum::extract::{Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::collections::HashMap;
use std::sync::Arc;

// `FILES: &[(path, bytes)]`, written by build.rs from web/dist.
include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// Only our own files, no frames, no forms to elsewhere.
const POLICY: &str = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// On every answer.
const HEADERS: [(&str, &str); 5] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// `GET /`: the page, or with `?token=…` the cookie and the way back without it.
pub(super) async fn index(
    State(app): State<Arc<App>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let signed_in = app.auth.knows(&headers);
    if let Some(given) = query.get("token") {
        if app.auth.open(given) {
            return (StatusCode::SEE_OTHER, [(LOCATION, "/".to_owned()), (SET_COOKIE, app.auth.set_cookie())])
                .into_response();
        }
        if signed_in {
            return (StatusCode::SEE_OTHER, [(LOCATION, "/")]).into_response();
        }
    }
    // The page draws its own "a token is needed"; the status is for programs.
    let status = if signed_in { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
    match file("index.html") {
        Some(page) => (status, page).into_response(),
        None if signed_in => placeholder(),
        None => Auth::locked(&headers),
    }
}

/// Everything that is no route: a file of the page, or nothing.
pub(super) async fn other(method: Method, uri: Uri) -> Response {
    match file(uri.path().trim_start_matches('/')) {
        Some(file) if matches!(method, Method::GET | Method::HEAD) => file.into_response(),
        Some(_) => wrong_method(method, uri).await,
        None => not_found(uri.path()),
    }
}

/// A route that does not know the method.
pub(super) async fn wrong_method(method: Method, uri: Uri) -> Response {
    let error = format!("`{}` does not take {method}", uri.path());
    problem(StatusCode::METHOD_NOT_ALLOWED, error, "the API is read with GET; events are sent with POST")
}

/// A file with its headers.
type File = ([(HeaderName, &'static str); 2], &'static [u8]);

fn file(path: &str) -> Option<File> {
    let (_, bytes) = FILES.iter().find(|(name, _)| *name == path)?;
    // Names below assets/ hold a hash of the content.
    let cache = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    Some(([(CONTENT_TYPE, media_type(path)), (CACHE_CONTROL, cache)], bytes))
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        Some("woff2") => "font/woff2",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    }
}

fn placeholder() -> Response {
    let text = "<!doctype html><html lang=\"en\"><title>Trackside</title><h1>Trackside is running</h1>\
                <p>This build carries no page: run <code>make page</code> and build it again. \
                <a href=\"/api/status\">/api/status</a> tells how the pipeline does.</p></html>";
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
}

/// Puts the headers on every answer; what a handler has set stays.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names_alone() {
        assert!(file("../Cargo.toml").is_none() && file("").is_none());
        assert_eq!(media_type("assets/index-1a.js"), "text/javascript; charset=utf-8");
        for (name, bytes) in FILES {
            assert!(!bytes.is_empty() && media_type(name) != "application/octet-stream", "{name}");
        }
    }
}
