//! A pipeline file is changed and taken over: connections stay, events are each stored once, mistakes change nothing.

use crate::running::{HTTP, Running, last_line, output};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A connection that is kept: one request after the other, each answered before the next.
struct Kept {
    stream: BufReader<TcpStream>,
    head: String,
}

impl Kept {
    fn new(running: &Running) -> Self {
        let address = running.address();
        let stream = BufReader::new(TcpStream::connect(&address).unwrap());
        let head = format!("POST /ingest HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n", running.token);
        Self { stream, head }
    }

    fn post(&mut self, body: &str) -> u16 {
        let request = format!("{}Content-Length: {}\r\n\r\n{body}", self.head, body.len());
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).unwrap() > 0, "the connection was closed");
            match line.trim_end().split_once(' ') {
                Some(("HTTP/1.1", rest)) => status = rest.split(' ').next().unwrap().parse().unwrap(),
                Some(("content-length:", rest)) => length = rest.parse().unwrap(),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        status
    }
}

fn write(running: &Running, pipeline: &str) {
    std::fs::write(running.folder.path().join("pipeline.toml"), pipeline).unwrap();
}

fn reload(running: &Running) -> (Option<i32>, String) {
    let run = output(running.folder.path(), &["reload"]);
    (run.status.code(), format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr)))
}

#[test]
fn connections_and_events_outlive_reloads() {
    let mut running = Running::start(HTTP);
    let more = format!("{HTTP}[[clean]]\nname = \"low\"\ntype = \"range\"\nfield = \"value\"\nmin = -5\n");
    let (done, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let connection = || {
            let mut kept = Kept::new(&running);
            while !done.load(Ordering::Relaxed) {
                assert_eq!(kept.post("{\"device\":\"a\",\"value\":1}"), 200);
                sent.fetch_add(1, Ordering::Relaxed);
            }
        };
        (0..4).for_each(|_| _ = scope.spawn(connection));
        for turn in 0..6 {
            let before = sent.load(Ordering::Relaxed);
            write(&running, if turn % 2 == 0 { &more } else { HTTP });
            let (code, told) = reload(&running);
            let expected = if turn % 2 == 0 { "clean low: added" } else { "clean low: removed" };
            assert!(code == Some(0) && told.contains(expected), "{told}");
            running.wait_for("/api/status", |_| sent.load(Ordering::Relaxed) > before);
        }
        done.store(true, Ordering::Relaxed);
    });
    let (code, end) = running.terminate();
    let sent = sent.load(Ordering::Relaxed);
    assert_eq!((code, &end["received"], &end["table_rows"]), (Some(0), &sent.into(), &sent.into()));
}

#[test]
fn a_hangup_reloads_and_routes_come_and_go() {
    let running = Running::start(HTTP);
    let mut kept = Kept::new(&running);
    assert_eq!(kept.post("{\"device\":\"a\",\"value\":1}"), 200);
    write(&running, &HTTP.replace("[[source]]\ntype = \"http\"\n", ""));
    running.signal("-HUP");
    running.wait_for("/api/status", |status| {
        status["reload"]["text"][0] == "source http: removed; what it brought is kept"
    });
    assert_eq!(kept.post("{\"device\":\"a\",\"value\":1}"), 404);
    write(&running, HTTP);
    assert_eq!(running.post("/api/reload", "").status, 200);
    assert_eq!(kept.post("{\"device\":\"a\",\"value\":1}"), 200);
    running.wait_for("/api/status", |status| status["sums"]["clean"]["clean"] == 2);
}

#[test]
fn mistakes_change_nothing_and_are_told_everywhere() {
    let running = Running::start(HTTP);
    write(&running, &HTTP.replace("max = 100", "maxx = 100"));
    let (code, told) = reload(&running);
    assert!(code == Some(2) && told.contains("pipeline.toml:13:1: unknown key `maxx`"), "{told}");
    assert!(told.contains("runs on as it was"), "{told}");
    let status = running.get("/api/status").json();
    assert!(!status["reload"]["ok"].as_bool().unwrap(), "{status}");
    assert!(status["reload"]["text"][0].as_str().unwrap().contains("`maxx`"));
    write(&running, &HTTP.replace("name = \"it\"", "name = \"other\""));
    let answer = running.post("/api/reload", "");
    assert_eq!((answer.status, &answer.json()["errors"][0]["line"]), (422, &3.into()), "{answer:?}");
    // Who has no token, or speaks for a page from elsewhere, cannot even ask.
    assert_eq!(running.send("POST", "/api/reload", &[], "").status, 401);
    let bearer = format!("Bearer {}", running.token);
    let foreign = [("Authorization", bearer.as_str()), ("Origin", "http://elsewhere.example")];
    assert_eq!(running.send("POST", "/api/reload", &foreign, "").status, 403);
    assert_eq!(running.post("/ingest", "{\"device\":\"a\",\"value\":1}").status, 200);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pipeline.toml"), HTTP).unwrap();
    let nobody = output(folder.path(), &["reload", "--json"]);
    assert_eq!((nobody.status.code(), &last_line(&nobody)["code"]), (Some(3), &3.into()));
}

#[test]
fn what_the_server_turns_away_counts_as_refused() {
    let running = Running::start(HTTP);
    assert_eq!(running.send("POST", "/ingest", &[], "{\"device\":\"a\",\"value\":1}").status, 401);
    assert_eq!(running.get("/api/status").json()["refused"], 1);
    let two = HTTP.replace("[[clean]]", "[[source]]\ntype = \"http\"\nname = \"second\"\n[[clean]]");
    write(&running, &two);
    let check = output(running.folder.path(), &["check"]);
    let words = String::from_utf8_lossy(&check.stderr);
    assert!(check.status.code() == Some(2) && words.contains("pipeline.toml:11:1: two http sources share"), "{words}");
}
