//! The HTTP source on a port of its own, spoken to in plain bytes.

use crate::sources::{build, plant, spawn};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use trackside_connectors::testing::{MemoryDoor, layout};
use trackside_core::error::Failure;
use trackside_core::schema::Layout;
use trackside_core::source::{Outcome, Refused};

struct Server {
    door: Arc<MemoryDoor>,
    address: String,
    running: Option<JoinHandle<Result<(), Failure>>>,
}

impl Server {
    fn start(more: Value, layout: &Arc<Layout>) -> Self {
        let mut block = json!({"listen": "127.0.0.1:0"});
        block.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let door = MemoryDoor::new(layout.clone());
        let running = spawn(build("http", block, layout, Path::new(".")).unwrap(), &door);
        door.wait_until("the port", |seen| !seen.states.is_empty());
        let detail = door.look(|seen| seen.states[0].1.clone().unwrap());
        Self { door, address: detail.rsplit(' ').next().unwrap().to_owned(), running: Some(running) }
    }

    fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String, Value) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut head =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        stream.write_all((head + "\r\n").as_bytes()).unwrap();
        // A server that has seen enough closes early.
        _ = stream.write_all(body);
        let mut answer = String::new();
        _ = stream.read_to_string(&mut answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head[9..12].parse().unwrap();
        (status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn ingest(&self, body: &str) -> (u16, Value) {
        let (status, _, answer) = self.post("/ingest", &[], body.as_bytes());
        (status, answer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.door.stop();
        if let Some(running) = self.running.take() {
            running.join().unwrap().unwrap();
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const GOOD: &str = r#"{"device":"a","sensor":"s","value":1}"#;

#[test]
fn objects_arrays_and_lines_are_taken_and_bad_lines_named() {
    let server = Server::start(json!({}), &plant());
    assert_eq!(server.ingest(GOOD), (200, json!({"accepted": 1, "dead": 0, "errors": []})));
    assert_eq!(server.ingest(&format!("[{GOOD},{GOOD}]")).1["accepted"], json!(2));
    assert_eq!(server.ingest("[]"), (200, json!({"accepted": 0, "dead": 0, "errors": []})));
    let (status, _, answer) = server.post(
        "/ingest",
        &[("Content-Type", "application/x-ndjson; charset=utf-8")],
        format!("{GOOD}\n\n{{\"value\":\n{GOOD}\n").as_bytes(),
    );
    let errors = json!([{"line": 3, "error": "not JSON: cut off at byte 10"}]);
    assert_eq!((status, answer), (200, json!({"accepted": 2, "dead": 1, "errors": errors})));
    let (_, _, answer) = server.post("/ingest", &[], format!("[{GOOD},{{\"value\":\"x\"}}]").as_bytes());
    assert_eq!((&answer["errors"][0]["line"], &answer["errors"][0]["element"]), (&json!(1), &json!(2)));
    let seen = server.door.take();
    assert_eq!((seen.rows.len(), seen.dead.len(), seen.refused), (6, 2, 0));
    assert_eq!(seen.dead[0].payload.as_deref(), Some(&b"{\"value\":"[..]));
}

#[test]
fn line_protocol_is_taken_in_its_precision() {
    let server = Server::start(json!({}), &plant());
    let line = b"m,device=a,sensor=s value=1 1700000000";
    assert_eq!(server.post("/api/v2/write?org=o&bucket=b&precision=s", &[], line).0, 204);
    assert_eq!(server.post("/write?db=x", &[], b"m,device=a value=2 1700000000000000000\n").0, 204);
    let (status, _, answer) = server.post("/write", &[], b"m,device=a value=3\nm,device=a value=x");
    assert_eq!((status, &answer["accepted"], &answer["errors"][0]["line"]), (200, &json!(1), &json!(2)));
    assert_eq!(server.post("/write?precision=h", &[], line).0, 400);
    let seen = server.door.take();
    assert_eq!(seen.rows[0]["time"], json!("2023-11-14T22:13:20Z"));
    assert_eq!(seen.rows[1]["time"], json!("2023-11-14T22:13:20Z"));
}

#[test]
fn packed_bodies_are_unpacked_within_bounds() {
    let server = Server::start(json!({"max_body": 2000}), &plant());
    let text = format!("{GOOD}\n").repeat(20);
    let gz = [("Content-Encoding", "gzip")];
    assert_eq!(server.post("/ingest", &gz, &gzip(text.as_bytes())).2["accepted"], json!(20));
    let zstd = zstd::encode_all(text.as_bytes(), 1).unwrap();
    assert_eq!(server.post("/ingest", &[("Content-Encoding", "zstd")], &zstd).2["accepted"], json!(20));
    let bomb = gzip(&vec![b' '; 1 << 20]);
    assert_eq!(server.post("/ingest", &gz, &bomb).0, 413);
    assert_eq!(server.post("/ingest", &gz, b"not gzip").0, 400);
    assert_eq!(server.post("/ingest", &gz, &gzip(text.as_bytes())[..20]).0, 400);
    assert_eq!(server.post("/ingest", &[("Content-Encoding", "br")], b"x").0, 415);
    assert_eq!(server.ingest(&text.repeat(5)).0, 413);
    let seen = server.door.take();
    assert_eq!((seen.rows.len(), seen.dead.len(), seen.refused), (40, 0, 5));
}

#[test]
fn what_is_turned_away_stores_nothing_and_says_what_to_do() {
    let server = Server::start(json!({"max_lines": 3}), &plant());
    for (headers, body, status, error) in [
        (&[][..], "", 400, "the body is empty"),
        (&[("Content-Type", "image/png")], GOOD, 415, "unknown content type `image/png`"),
        (&[("Idempotency-Key", "")], GOOD, 400, "bad Idempotency-Key"),
        (&[("Origin", "http://evil.example")], GOOD, 403, "requests of web pages need a token"),
        (&[], &format!("[{GOOD},{GOOD},{GOOD},{GOOD}]"), 413, "the body has more than 3 lines"),
        (&[], "\n\n\n\n\n\n", 413, "the body has more than 3 lines"),
    ] {
        let (got, _, answer) = server.post("/ingest", headers, body.as_bytes());
        assert_eq!((got, &answer["error"]), (status, &json!(error)));
        assert!(answer["hint"].is_string(), "{answer}");
    }
    let retry_after = Duration::from_millis(1200);
    server.door.refuse_next(Refused::Full { reason: "the log is at its limit".into(), retry_after });
    let (status, head, answer) = server.post("/ingest", &[], GOOD.as_bytes());
    assert_eq!((status, &answer["error"]), (503, &json!("no room: the log is at its limit")));
    assert!(head.contains("retry-after: 2\r\n"), "{head}");
    let seen = server.door.take();
    assert_eq!((seen.deliveries, seen.refused), (0, 6));
}

#[test]
fn nobody_knows_is_said_when_nobody_knows() {
    let server = Server::start(json!({}), &plant());
    server.door.set_outcome(Outcome::Unknown("the disk failed".into()));
    let (status, answer) = server.ingest(GOOD);
    assert_eq!((status, &answer["error"]), (500, &json!("unknown: the disk failed")));
    let late = Server::start(json!({"timeout": "50ms"}), &plant());
    late.door.hold_acks();
    let (status, answer) = late.ingest(GOOD);
    assert_eq!((status, &answer["error"]), (500, &json!("unknown: not durable after 50ms")));
}

/// Rooms for bodies are given as they come: or forty clients that send nothing would keep everybody out.
#[test]
fn who_announces_much_and_sends_little_holds_up_nobody() {
    let server = Server::start(json!({}), &plant());
    let dawdlers: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            stream.write_all(b"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 8388608\r\n\r\n{").unwrap();
            stream
        })
        .collect();
    let began = std::time::Instant::now();
    let (status, answer) = server.ingest(GOOD);
    assert_eq!(status, 200, "{answer}");
    assert!(began.elapsed() < Duration::from_secs(4), "it waited for those that send nothing");
    drop(dawdlers);
}

#[test]
fn an_idempotency_key_gives_each_event_the_same_id_again() {
    let layout = layout(json!({"fields": {"value": "float"}, "event_id": "id"}));
    let server = Server::start(json!({}), &layout);
    for _ in 0..2 {
        let (status, ..) =
            server.post("/ingest", &[("Idempotency-Key", "k1")], b"{\"value\":1}\n{\"value\":2,\"id\":\"own\"}");
        assert_eq!(status, 200);
    }
    let ids: Vec<Value> = server.door.take().rows.iter().map(|row| row["event_id"].clone()).collect();
    assert_eq!(ids, [json!("k1/1"), json!("own"), json!("k1/1"), json!("own")]);
}

#[test]
fn a_token_is_asked_for_where_there_is_one() {
    let server = Server::start(json!({"token": "correct horse"}), &plant());
    assert_eq!(server.ingest(GOOD).0, 401);
    assert_eq!(server.post("/ingest", &[("Authorization", "Bearer wrong horse")], GOOD.as_bytes()).0, 401);
    for scheme in ["Bearer", "Token"] {
        let given = format!("{scheme} correct horse");
        assert_eq!(server.post("/ingest", &[("Authorization", &given)], GOOD.as_bytes()).0, 200);
    }
    assert_eq!(server.door.take().refused, 2);
}

#[test]
fn what_makes_no_sense_is_said_before_the_start() {
    let error = |block: Value| build("http", block, &plant(), Path::new(".")).err().unwrap();
    assert!(error(json!({"listen": "0.0.0.0:0"})).message.contains("can be reached by others"));
    assert!(error(json!({"listen": "nowhere"})).message.contains("is no address"));
    assert!(error(json!({"token": "long enough"})).message.contains("the server's token counts"));
    assert!(error(json!({"max_body": 0})).message.contains("choose 1 to"));
    let server = Server::start(json!({}), &plant());
    let mut second = build("http", json!({"listen": server.address.clone()}), &plant(), Path::new(".")).unwrap();
    let failure = second.run(MemoryDoor::new(plant())).unwrap_err();
    assert!(failure.message.contains("choose another `listen`"), "{failure}");
}
