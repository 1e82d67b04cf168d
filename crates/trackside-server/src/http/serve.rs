//! Sockets: the listener, its bounds, and an end that lets answers finish.
//!
//! At most [`MAX_CONNECTIONS`] are served at once, more wait to be accepted. Who does not send a request's head within
//! [`HEAD_TIMEOUT`] is cut off; that is why this is hyper's own builder and not axum's.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

/// Connections served at once.
const MAX_CONNECTIONS: usize = 1024;
/// Longest time to send a request's head; also how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a request's head.
const MAX_HEAD: usize = 64 << 10;
/// How long answers under way may take when the server ends.
const GRACE: Duration = Duration::from_secs(2);
/// Pause after a connection could not be accepted (no file descriptors left, say).
const AFTER_ERROR: Duration = Duration::from_millis(100);
/// Ports after the wanted one that are tried by who takes any.
const NEXT_PORTS: u16 = 20;

/// A bound address, not served yet.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    /// Where it listens; the port is the real one also when 0 was asked for.
    pub address: SocketAddr,
}

impl Listener {
    /// Binds; an error names the address and what to do.
    pub fn bind(listen: &str) -> io::Result<Self> {
        let addresses = resolve(listen)?;
        let listener = TcpListener::bind(&addresses[..]).map_err(|error| {
            let message = match error.kind() {
                io::ErrorKind::AddrInUse => format!(
                    "port {} is in use on {}; end the program that has it, or choose another with `--listen` or `listen = \"127.0.0.1:0\"` under [server] (0 picks a free port)",
                    addresses[0].port(),
                    addresses[0].ip()
                ),
                _ => format!("cannot listen on `{listen}`: {error}; choose another address with `--listen` or `listen = …` under [server]"),
            };
            io::Error::new(error.kind(), message)
        })?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Binds to the port or, where it is taken, one of the next, or any.
    pub fn bind_near(listen: &str) -> io::Result<Self> {
        let first = Self::bind(listen);
        let Err(error) = &first else { return first };
        if error.kind() != io::ErrorKind::AddrInUse {
            return first;
        }
        let wanted = resolve(listen)?[0];
        let next = (1..=NEXT_PORTS).filter_map(|step| wanted.port().checked_add(step)).chain([0]);
        next.map(|port| Self::bind(&SocketAddr::new(wanted.ip(), port).to_string()))
            .find(Result::is_ok)
            .unwrap_or(first)
    }
}

/// The addresses behind `host:port`; at least one.
pub(crate) fn resolve(listen: &str) -> io::Result<Vec<SocketAddr>> {
    let help = "write host and port, as in `127.0.0.1:7878`";
    let invalid = |why: String| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("`{listen}` is no address to listen on{why}; {help}"))
    };
    let addresses: Vec<_> = listen.to_socket_addrs().map_err(|error| invalid(format!(": {error}")))?.collect();
    if addresses.is_empty() { Err(invalid(String::new())) } else { Ok(addresses) }
}

/// A server at work.
#[derive(Debug)]
pub struct Server {
    task: tokio::task::JoinHandle<()>,
    closing: watch::Sender<bool>,
}

impl Server {
    /// Serves until [`Server::close`]. `closing` is what the router's event streams listen to.
    pub fn start(listener: Listener, router: Router, closing: watch::Sender<bool>) -> io::Result<Self> {
        listener.listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener.listener)?;
        let task = tokio::spawn(accept(listener, router, closing.subscribe()));
        Ok(Self { task, closing })
    }

    /// Takes no more requests, ends event streams and lets answers finish.
    pub async fn close(self) {
        self.closing.send_replace(true);
        // The task ends by itself; it has nothing to say if it panicked.
        _ = self.task.await;
    }
}

async fn accept(listener: tokio::net::TcpListener, router: Router, mut closing: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            // The semaphore is never closed.
            let permit = room.clone().acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(AFTER_ERROR).await;
                continue;
            }
        };
        let connection = graceful.watch(connection(stream, router.clone()));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(GRACE) => {}
    }
}

fn connection(stream: TcpStream, router: Router) -> http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>> {
    // Without it small answers may wait for the client's delayed acknowledgement; it changes nothing else.
    _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
    builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}
