//! What the API tells of a running pipeline.

use crate::running::{HTTP, Running};
use serde_json::json;
use std::io::{BufRead, BufReader};

fn event(second: u32, device: &str, value: f64) -> String {
    json!({"ts": format!("2026-03-02T08:00:{second:02}Z"), "device": device, "value": value, "note": "n"}).to_string()
}

#[test]
fn events_become_series_with_history() {
    let running = Running::start(HTTP);
    let body = [event(2, "b", 7.0), event(1, "a", 1.0), event(3, "a", 300.0), "{broken".into()].join("\n");
    let answer = running.post("/ingest", &body);
    assert_eq!(
        (answer.status, &answer.json()["accepted"], &answer.json()["dead"]),
        (200, &3.into(), &1.into()),
        "{answer:?}"
    );
    // A series shows when it is received; its rows and last values come with the clean topic.
    let rows = |list: &serde_json::Value, label: &str| {
        list["series"].as_array()?.iter().find(|one| one["label"] == label)?["rows"].as_u64()
    };
    let series = running.wait_for("/api/series", |list| rows(list, "a") == Some(2) && rows(list, "b") == Some(1));
    assert_eq!(series["total"], 2);
    assert_eq!((&series["tags"], &series["fields"]), (&json!(["device"]), &json!(["value", "note"])));
    let a = series["series"].as_array().unwrap().iter().find(|one| one["label"] == "a").unwrap();
    assert_eq!((&a["rows"], &a["last"]), (&2.into(), &json!({"value": 300.0, "note": "n"})));
    let path = format!("/api/history?series={}&field=value", a["id"]);
    let history = running.wait_for(&path, |history| history["clean"]["t"].as_array().is_some_and(|t| t.len() == 2));
    assert_eq!(history["received"], json!({"t": [1_772_438_401_000.0, 1_772_438_403_000.0], "v": [1.0, 300.0]}));
    assert_eq!(history["clean"]["q"], json!([0, 1]));
    assert_eq!((&history["forecast"], history["cursor"].is_string()), (&json!(null), true));
    let dead = running.wait_for("/api/dead", |dead| dead["total"] == 1);
    assert_eq!((&dead["dead"][0]["stage"], &dead["dead"][0]["payload"]), (&"ingest".into(), &"{broken".into()));
    let status = running.wait_for("/api/status", |status| status["sums"]["clean"]["in_flight"] == 0);
    assert_eq!((&status["sums"]["ingest"]["taken"], &status["sums"]["clean"]["balanced"]), (&4.into(), &true.into()));
    assert_eq!((&status["url"], &status["pipeline"]), (&running.ready["url"], &"it".into()));
}

#[test]
fn what_cannot_be_answered_says_why_as_json() {
    let running = Running::start(HTTP);
    for (path, status) in [
        ("/api/nothing", 404),
        ("/nothing.js", 404),
        ("/api/history?series=0", 404),
        ("/api/history?series=x", 400),
        ("/api/history?series=0&field=nothing", 404),
        ("/api/series?limit=-1", 400),
        ("/api/live?series=a", 400),
    ] {
        let answer = running.get(path);
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.json()["error"].is_string() && answer.json()["hint"].is_string(), "{path}");
    }
    assert_eq!(running.post("/api/status", "").status, 405);
    assert_eq!(running.send("DELETE", "/", &[], "").status, 405);
}

#[test]
fn the_stream_tells_status_points_and_dead_letters() {
    let running = Running::start(HTTP);
    running.post("/ingest", &event(1, "a", 1.0));
    // The stream begins where the history ends; the series is listed as soon as one of the topics has been seen.
    running.wait_for("/api/history?series=0", |points| points["received"]["v"] == json!([1.0]));
    let bearer = format!("Bearer {}", running.token);
    let stream = running.open("GET", "/api/live?series=0&field=value", &[("Authorization", &bearer)], "");
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let mut next = |wanted: &str| {
        lines.find(|line| line == &format!("event: {wanted}")).unwrap();
        let data = lines.next().unwrap();
        serde_json::from_str::<serde_json::Value>(data.strip_prefix("data: ").unwrap()).unwrap()
    };
    assert_eq!(next("status")["pipeline"], "it");
    running.post("/ingest", &event(2, "a", 2.0));
    let mut received = Vec::new();
    while received.is_empty() {
        received = next("points")["received"]["v"].as_array().unwrap().clone();
    }
    assert_eq!(received, [json!(2.0)]);
    running.post("/ingest", "{broken");
    assert_eq!(next("dead")["stage"], "ingest");
}

#[test]
fn metrics_are_openmetrics() {
    let running = Running::start(HTTP);
    running.post("/ingest", &[event(1, "a", 1.0), event(2, "a", 2.0)].join("\n"));
    running.wait_for("/api/status", |status| status["sums"]["clean"]["clean"] == 2);
    let answer = running.get("/metrics");
    assert!(answer.head.contains("application/openmetrics-text"), "{}", answer.head);
    assert!(answer.body.ends_with("# EOF\n"));
    for line in answer.body.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("trackside_") && value.parse::<f64>().is_ok(), "{line}");
    }
    for line in [
        "trackside_received_total 2",
        "trackside_clean_total 2",
        "trackside_balanced 1.0",
        "trackside_rows_total{stage=\"ingest\",name=\"http\"} 2",
    ] {
        assert!(answer.body.lines().any(|one| one == line), "{line} is not in\n{}", answer.body);
    }
}
