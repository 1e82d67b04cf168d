//! A port of its own for the `http` source: the accept loop, its limits and its token.

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use trackside_core::error::{ConfigError, Failure};
use trackside_core::source::{Door, SourceState};

/// Most connections at once; further ones wait in the system's queue.
const MAX_CONNECTIONS: usize = 1024;
/// How long a client may take to send a request's head, and how long an idle connection is kept.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// How long requests may take to end after a stop.
const STOP_PATIENCE: Duration = Duration::from_secs(4);
/// Pause after a failed accept (out of file descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Reads an address; one that others can reach needs a token.
pub(super) fn address(listen: &str, token: &Option<String>) -> Result<SocketAddr, ConfigError> {
    let bad = |what: String| {
        ConfigError::new("listen", what).with_help("write an address and a port, such as `127.0.0.1:8086`")
    };
    let address = listen
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| bad(format!("`{listen}` is no address to listen on")))?;
    if token.as_ref().is_some_and(|token| token.len() < 8) {
        return Err(ConfigError::new("token", "the token is shorter than 8 characters").with_help("take a random one"));
    }
    if !address.ip().is_loopback() && token.is_none() {
        return Err(ConfigError::new("listen", format!("`{listen}` can be reached by others, and there is no token"))
            .with_help("add `token = \"…\"`, or listen on `127.0.0.1`"));
    }
    Ok(address)
}

/// Serves the routes until the door says stop.
pub(super) fn serve(
    address: SocketAddr,
    token: Option<String>,
    router: Router,
    door: &Arc<dyn Door>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().thread_name("http").build();
    let runtime = runtime.map_err(|error| Failure::retry(format!("cannot start: {error}")))?;
    let guard = Arc::new(Guard { token, door: door.clone() });
    let router = router.layer(from_fn(move |request, next| check(guard.clone(), request, next)));
    let done = runtime.block_on(listen(address, router, door));
    // A thread that waits for the stop may be left, if listening failed: it must not hold this one up.
    runtime.shutdown_background();
    done
}

async fn listen(address: SocketAddr, router: Router, door: &Arc<dyn Door>) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::stop(format!(
            "cannot listen on {address}: {error}; end what uses the port, or choose another `listen`"
        ))
    })?;
    let bound = listener.local_addr().unwrap_or(address);
    door.state(SourceState::Running, Some(format!("listening on {bound}")));
    let (stop, stopped) = watch::channel(false);
    let waiting = door.clone();
    tokio::task::spawn_blocking(move || {
        while !waiting.wait_stop(Duration::from_secs(60)) {}
        _ = stop.send(true);
    });
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut asked = stopped.clone();
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = asked.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, router.clone(), stopped.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    // Requests that are under way may end; who is still there after that is cut off.
    _ = tokio::time::timeout(STOP_PATIENCE, room.acquire_many(all)).await;
    Ok(())
}

async fn connection(stream: TcpStream, router: Router, mut stopped: watch::Receiver<bool>) {
    _ = stream.set_nodelay(true);
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = pin!(served);
    tokio::select! {
        _ = served.as_mut() => return,
        _ = stopped.wait_for(|stop| *stop) => {}
    }
    served.as_mut().graceful_shutdown();
    _ = served.await;
}

struct Guard {
    token: Option<String>,
    door: Arc<dyn Door>,
}

/// Lets through who has the token; where there is none, anyone but pages of other sites in a local browser.
async fn check(guard: Arc<Guard>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let (status, error, hint) = match &guard.token {
        Some(token) => {
            let given = headers.get(header::AUTHORIZATION).and_then(|given| given.to_str().ok()).unwrap_or_default();
            let given = given
                .split_once(' ')
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token"));
            if given.is_some_and(|(_, given)| same(given.trim().as_bytes(), token.as_bytes())) {
                return next.run(request).await;
            }
            (StatusCode::UNAUTHORIZED, "not authorised", "send `Authorization: Bearer <token>` or `Token <token>`")
        }
        None if headers.contains_key(header::ORIGIN) => {
            (StatusCode::FORBIDDEN, "requests of web pages need a token", "set `token` for this source and send it")
        }
        None => return next.run(request).await,
    };
    guard.door.refuse(1);
    (status, Json(json!({"error": error, "hint": hint}))).into_response()
}

/// Compares in a time that does not tell where they differ.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}
