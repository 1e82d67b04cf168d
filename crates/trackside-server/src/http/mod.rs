//! The HTTP server: page, API, event stream, metrics, and the routes of the sources that share its port.
//!
//! `GET /healthz` is open, and so are the page's own files; all else needs the token ([`auth`]). It asks the engine and
//! the views, and neither ever waits for it.

mod answer;
mod api;
mod auth;
mod dead;
mod live;
mod metrics;
mod page;
mod serve;
pub mod token;

pub use auth::Auth;
pub(crate) use serve::resolve;
pub use serve::{Listener, Server};

use crate::views::Views;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use trackside_engine::{Change, Engine, MOUNTED, NotReloaded};

/// A status is gathered at most this often, however many ask.
const STATUS_AGE: Duration = Duration::from_millis(200);
/// Longest time that a request may take, sending its body included: sources set shorter ones for what they wait for.
/// Past it the answer is 500 = unknown.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);

/// What the handlers share.
pub struct App {
    pub(crate) engine: Arc<Engine>,
    pub(crate) views: Views,
    pub(crate) auth: Auth,
    url: String,
    status: Mutex<Option<(Instant, Arc<Value>)>>,
    /// Routes of the sources that share the port, as of the last reload.
    sources: RwLock<Router>,
    /// Told when the server ends, so that event streams do.
    closing: watch::Receiver<bool>,
}

impl App {
    /// For an engine whose server listens at `address`.
    pub fn new(
        engine: Arc<Engine>,
        views: Views,
        auth: Auth,
        address: SocketAddr,
        closing: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let sources = RwLock::new(sources(&engine));
        Arc::new(Self { engine, views, auth, url: url(address), status: Mutex::default(), sources, closing })
    }

    /// Takes over what changed in the pipeline file: the engine first, then what is served of it.
    pub fn reload(&self) -> Result<Vec<Change>, NotReloaded> {
        let changes = self.engine.reload()?;
        *self.sources.write().unwrap_or_else(PoisonError::into_inner) = sources(&self.engine);
        let models: Vec<String> = self.engine.pipeline().models.iter().map(|model| model.name.clone()).collect();
        if let Err(error) = self.views.follow(&models) {
            tracing::warn!(%error, "the page cannot follow a new model; its scores are in the log and the tables");
        }
        Ok(changes)
    }

    /// The address of the page.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// An address that opens the page once.
    pub fn one_time_url(&self) -> std::io::Result<String> {
        Ok(format!("{}/?token={}", self.url, self.auth.mint()?))
    }

    /// How everything is doing, at most [`STATUS_AGE`] old.
    fn status(&self) -> Arc<Value> {
        let mut held = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, status)) = &*held
            && at.elapsed() < STATUS_AGE
        {
            return status.clone();
        }
        // A status is numbers and texts; it always has a form in JSON.
        let mut status = serde_json::to_value(self.engine.status()).unwrap_or_default();
        status["url"] = Value::from(self.url.as_str());
        let status = Arc::new(status);
        *held = Some((Instant::now(), status.clone()));
        status
    }

    /// All routes.
    pub fn router(self: &Arc<Self>) -> Router {
        let api = Router::new()
            .route("/api/status", get(api::status))
            .route("/api/series", get(api::series))
            .route("/api/history", get(api::history))
            .route("/api/dead", get(api::dead))
            .route("/api/dead/retry", post(dead::retry))
            .route("/api/dead/drop", post(dead::drop))
            .route("/api/anomalies", get(api::anomalies))
            .route("/api/code", post(api::code))
            .route("/api/reload", post(api::reload))
            .route("/metrics", get(metrics::metrics))
            .with_state(self.clone());
        let sources = MOUNTED
            .iter()
            .fold(Router::new(), |routes, path| routes.route(path, any(to_source)))
            .with_state(self.clone());
        let live = Router::new().route("/api/live", get(live::live)).with_state(self.clone());
        let sources = sources.layer(from_fn(bounded)).layer(from_fn_with_state(self.clone(), with_token));
        let sources = sources.layer(from_fn_with_state(self.clone(), counted));
        api.layer(from_fn(bounded))
            .merge(live)
            .layer(from_fn_with_state(self.clone(), with_token))
            .merge(sources)
            .route("/healthz", get(healthz))
            .route("/", get(page::index).with_state(self.clone()))
            .fallback(page::other)
            .method_not_allowed_fallback(page::wrong_method)
            .layer(from_fn_with_state(self.clone(), from_ours))
            .layer(from_fn(page::headers))
    }
}

/// The address that a browser can open: a bind to all addresses is reached over the loopback.
fn url(address: SocketAddr) -> String {
    match (address.ip().is_unspecified(), address.is_ipv6()) {
        (true, false) => format!("http://127.0.0.1:{}", address.port()),
        (true, true) => format!("http://[::1]:{}", address.port()),
        (false, _) => format!("http://{address}"),
    }
}

async fn healthz() -> Response {
    Json(json!({ "ok": true })).into_response()
}

fn sources(engine: &Engine) -> Router {
    engine.mounts().into_iter().fold(Router::new(), Router::merge).method_not_allowed_fallback(page::wrong_method)
}

/// Hands a request to the source that shares the port, whichever it is now: connections outlive a reload.
async fn to_source(State(app): State<Arc<App>>, request: Request) -> Response {
    let routes = app.sources.read().unwrap_or_else(PoisonError::into_inner).clone();
    if !routes.has_routes() {
        return answer::not_found(request.uri().path());
    }
    match TowerToHyperService::new(routes).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Counts what is turned away for want of a token: it was brought, and nothing of it is stored.
async fn counted(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if response.status() == StatusCode::UNAUTHORIZED {
        app.engine.refuse_mounted(1);
    }
    response
}

async fn with_token(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.auth.knows(request.headers()) { next.run(request).await } else { Auth::locked(request.headers()) }
}

async fn from_ours(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    // A probe asks by whatever address it likes, and learns nothing.
    if request.uri().path() == "/healthz" {
        return next.run(request).await;
    }
    match app.auth.check_browser(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => *refusal,
    }
}

async fn bounded(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let error = format!(
                "no answer within {} s; whether events of this request were stored is unknown",
                REQUEST_TIMEOUT.as_secs()
            );
            answer::problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                error,
                "send them again, with an event id so that they are stored once",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_bind_is_opened_over_the_loopback() {
        assert_eq!(url("0.0.0.0:80".parse().unwrap()), "http://127.0.0.1:80");
        assert_eq!(url("[::]:80".parse().unwrap()), "http://[::1]:80");
        assert_eq!(url("[::1]:7".parse().unwrap()), "http://[::1]:7");
    }
}
