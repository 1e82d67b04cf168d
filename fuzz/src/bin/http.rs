//! Requests to the server's routes, those of the http source among them: a method and a path, headers, an empty line, a
//! body. Any of them gets an answer with a status below 500, but for 503 (no room), and no dead letter is larger than
//! what was sent.
//!
//! ```text
//! POST /ingest
//! content-type: application/x-ndjson
//!
//! {"device":"a","value":1}
//! ```
#![no_main]

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tower::ServiceExt;
use trackside_engine::{Engine, Options, Pipeline};
use trackside_server::http::{App, Auth};
use trackside_server::views::Views;

const TOKEN: &str = "fuzz-token-0123456789";
const PIPELINE: &str = r#"
[pipeline]
name = "fuzz"
data = "data"
partitions = 1

[retention]
max_mib = 64

[schema]
series = ["device"]
fields = { value = "float", note = "string" }

[[source]]
type = "http"
max_body = 65536

[[clean]]
type = "range"
field = "value"
min = 0
max = 100
"#;
/// Longest answer that is read.
const ANSWER: usize = 8 << 20;
/// An answer takes no longer.
const PATIENCE: Duration = Duration::from_secs(5);

struct Served {
    runtime: Runtime,
    router: Router,
    _closing: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let pipeline = Pipeline::parse(&folder.path().join("pipeline.toml"), PIPELINE);
    let pipeline = pipeline.unwrap_or_else(|errors| panic!("{errors}"));
    let engine = Engine::start(pipeline, Options::default()).expect("it starts");
    let layout = engine.pipeline().layout.clone();
    let views = Views::start(engine.log(), &layout, 1, &[]).expect("views");
    let address = "127.0.0.1:7878".parse().expect("an address");
    let (closing, closed) = watch::channel(false);
    let app = App::new(engine, views, Auth::new(TOKEN.into(), address), address, closed);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let (runtime, router) = (runtime.expect("a runtime"), app.router());
    Served { runtime, router, _closing: closing, _folder: folder }
});

fuzz_target!(|data: &[u8]| {
    let Some(request) = request(data) else { return };
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let served = &*SERVED;
    served.runtime.block_on(async {
        let answer = tokio::time::timeout(PATIENCE, served.router.clone().oneshot(request)).await;
        let Ok(answer) = answer.expect("an answer in time");
        let status = answer.status();
        let fine = status.as_u16() < 500 || status == StatusCode::SERVICE_UNAVAILABLE;
        assert!(fine, "{method} {uri}: {status}");
        if uri.path() != "/api/live" {
            to_bytes(answer.into_body(), ANSWER).await.expect("a whole answer");
        }
    });
});

/// The request that the bytes are; none where they are not one that a server's parser lets through.
fn request(data: &[u8]) -> Option<Request<Body>> {
    let (head, body) = match data.windows(2).position(|two| two == b"\n\n") {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (data, &[][..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let space = first.iter().position(|byte| *byte == b' ')?;
    let (method, path) = (Method::from_bytes(&first[..space]).ok()?, Uri::try_from(&first[space + 1..]).ok()?);
    let mut request = Request::new(Body::from(body.to_vec()));
    (*request.method_mut(), *request.uri_mut()) = (method, path);
    let headers = request.headers_mut();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        headers.append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    // Without these every request would be turned away at the door.
    headers.entry(header::HOST).or_insert(HeaderValue::from_static("127.0.0.1:7878"));
    headers
        .entry(header::AUTHORIZATION)
        .or_insert(HeaderValue::from_static(concat!("Bearer ", "fuzz-token-0123456789")));
    Some(request)
}
