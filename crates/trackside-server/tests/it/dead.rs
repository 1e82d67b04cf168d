//! `trackside dead` beside a running pipeline, and the routes that it uses.

use crate::running::{HTTP, Running, last_line, output};
use serde_json::{Value, json};

fn lines(running: &Running, arguments: &[&str]) -> Vec<Value> {
    let out = output(running.folder.path(), arguments);
    String::from_utf8_lossy(&out.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn list(running: &Running, more: &[&str]) -> Vec<Value> {
    lines(running, &[&["dead", "list", "--json"], more].concat())
}

/// Two letters of the door and one of cleaning.
fn start() -> Running {
    let running = Running::start(&HTTP.replace("max = 100", "max = 100\naction = \"reject\""));
    running.post(
        "/ingest",
        "{\"device\":\"a\",\"value\":1}\n{\"device\":\"b\",\"value\":900}\n{broken\n{\"value\":\"warm\"}",
    );
    running.wait_for("/api/status", |status| status["sums"]["clean"]["dead"] == 1);
    running.wait_for("/api/dead", |dead| dead["dead"].as_array().unwrap().len() == 3);
    running
}

/// Says it until what was rejected a moment ago is durable.
fn patiently(running: &Running, arguments: &[&str]) -> std::process::Output {
    loop {
        let out = output(running.folder.path(), arguments);
        if !String::from_utf8_lossy(&out.stdout).contains("not durable yet") {
            return out;
        }
    }
}

#[test]
fn letters_are_listed_shown_sent_back_and_dropped() {
    let mut running = start();
    let all = list(&running, &[]);
    assert_eq!(all.len(), 3);
    assert_eq!((list(&running, &["--stage", "clean"]).len(), list(&running, &["--since", "1h"]).len()), (1, 3));
    assert_eq!(list(&running, &["--component", "http", "--limit", "1"]).len(), 1);
    let id = |letter: &Value| letter["id"].as_str().unwrap().to_owned();
    let of = |payload: &str| id(all.iter().find(|letter| letter["payload"] == payload).unwrap());
    let (broken, warm) = (of("{broken"), of("{\"value\":\"warm\"}"));
    let high = id(&list(&running, &["--stage", "clean"])[0]);
    let shown = String::from_utf8_lossy(&output(running.folder.path(), &["dead", "show", &high]).stdout).into_owned();
    assert!(shown.contains("rejected by  clean `range`") && shown.contains("\"value\":900.0"), "{shown}");

    let again = patiently(&running, &["dead", "retry", &broken, "--json"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(last_line(&again)["error"].as_str().unwrap().contains("rejected again"));
    let row = "{\"device\":\"c\",\"value\":2}";
    assert_eq!(patiently(&running, &["dead", "retry", &broken, "--row", row]).status.code(), Some(0));
    let file = running.folder.path().join("row.json");
    std::fs::write(&file, "{\"time\":\"2026-03-02T08:00:00Z\",\"device\":\"b\",\"value\":9.0}").unwrap();
    let edited = patiently(&running, &["dead", "retry", &high, "--edit", "row.json"]);
    assert_eq!(String::from_utf8_lossy(&edited.stdout), format!("{high}  sent back\n"));
    assert_eq!(patiently(&running, &["dead", "drop", "--all", "--stage", "ingest"]).status.code(), Some(0));
    let status = running.wait_for("/api/status", |status| status["sums"]["clean"]["clean"] == 3);
    let sums = &status["sums"];
    assert_eq!((&sums["ingest"]["retried"], &sums["clean"]["retried"]), (&json!(1), &json!(1)));
    assert_eq!((&sums["ingest"]["balanced"], &sums["clean"]["balanced"]), (&json!(true), &json!(true)));
    assert!(list(&running, &[]).is_empty());
    let closed = list(&running, &["--closed"]);
    let state = |of: &str| closed.iter().find(|letter| letter["id"] == of).unwrap()["state"].as_str().unwrap();
    assert_eq!([state(&broken), state(&high), state(&warm)], ["retried", "retried", "dropped"]);
    running.wait_for("/api/dead", |dead| dead["dead"] == json!([]));

    running.terminate();
    let stopped = output(running.folder.path(), &["dead", "retry", &high]);
    let words = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert!(stopped.status.code() == Some(3) && words.contains("start it with `trackside up`"), "{words}");
    assert_eq!(list(&running, &["--closed"]).len(), 3);
}

#[test]
fn the_routes_ask_for_the_token_and_for_our_own_page() {
    let running = start();
    let id = &list(&running, &["--stage", "clean"])[0]["id"];
    let body = json!({ "ids": [id] }).to_string();
    for path in ["/api/dead/retry", "/api/dead/drop"] {
        assert_eq!(running.send("POST", path, &[], &body).status, 401);
        let cookie = format!("trackside-{}={}", running.ready["port"], running.token);
        let evil = [("Cookie", cookie.as_str()), ("Origin", "http://evil.example")];
        assert_eq!(running.send("POST", path, &evil, &body).status, 403);
        assert_eq!(running.get(path).status, 405);
        assert_eq!(running.post(path, "{\"ids\": [\"clean/0\"]}").status, 400);
        assert_eq!(running.post(path, "{\"ids\": [], \"row\": {}}").status, 400);
    }
    let unknown = running.post("/api/dead/drop", "{\"ids\": [\"clean/0/99/0\"]}").json();
    assert!(unknown["answers"][0]["error"].as_str().unwrap().contains("no such letter"));
}
