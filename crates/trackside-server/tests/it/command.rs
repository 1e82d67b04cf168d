//! Exit codes, what is printed, and commands beside a running pipeline.

use crate::running::{FLEET, HTTP, Running, last_line, output, trackside};
use std::net::TcpListener;
use std::process::Output;

fn folder(pipeline: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pipeline.toml"), pipeline).unwrap();
    folder
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_finite_pipeline_ends_with_its_sums() {
    let folder = folder(FLEET);
    let run = output(folder.path(), &["up", "--until-idle", "--json", "--listen", "127.0.0.1:0"]);
    let end = last_line(&run);
    assert_eq!(run.status.code(), Some(0), "{}", words(&run));
    assert_eq!((&end["taken"], &end["in_flight"], &end["balanced"]), (&5000.into(), &0.into(), &true.into()), "{end}");
    assert_eq!((&end["table_rows"], end["filtered"].as_u64() > Some(0)), (&end["clean"], true), "{end}");
    let again = output(folder.path(), &["up", "--until-idle", "--listen", "127.0.0.1:0"]);
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(
        text.contains("taken 5,000 = received") && text.contains("Every sum holds; nothing is in flight."),
        "{text}"
    );
}

#[test]
fn a_signal_drains_and_a_restart_remembers() {
    let mut running = Running::start(HTTP);
    running.post("/ingest", r#"{"device":"a","value":1}"#);
    let (code, end) = running.terminate();
    assert_eq!(
        (code, &end["received"], &end["table_rows"], &end["in_flight"]),
        (Some(0), &1.into(), &1.into(), &0.into())
    );
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let folder = folder(HTTP);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = output(folder.path(), &["up", "--json", "--listen", &address]);
    assert_eq!((run.status.code(), &last_line(&run)["code"]), (Some(3), &3.into()));
    let port = format!("port {} is in use", taken.local_addr().unwrap().port());
    assert!(words(&run).contains(&port) && words(&run).contains("--listen"), "{}", words(&run));
    assert!(!folder.path().join("data").exists(), "nothing is begun before the port is ours");
}

#[test]
fn a_second_engine_on_a_directory_is_refused() {
    let running = Running::start(HTTP);
    let run = output(running.folder.path(), &["up", "--listen", "127.0.0.1:0"]);
    assert_eq!(run.status.code(), Some(3), "{}", words(&run));
    assert!(words(&run).contains("in use"), "{}", words(&run));
}

#[test]
fn beyond_this_machine_a_token_must_be_chosen() {
    let folder = folder(HTTP);
    let run = output(folder.path(), &["up", "--listen", "0.0.0.0:0"]);
    assert_eq!(run.status.code(), Some(2));
    assert!(words(&run).contains("TRACKSIDE_TOKEN"), "{}", words(&run));
    let short =
        trackside(folder.path()).args(["up", "--listen", "0.0.0.0:0"]).env("TRACKSIDE_TOKEN", "abc").output().unwrap();
    assert!(words(&short).contains("at least 8"), "{}", words(&short));
}

#[test]
fn commands_work_beside_a_running_pipeline() {
    let running = Running::start(HTTP);
    running.post("/ingest", "{\"device\":\"a\",\"value\":1}\n{\"device\":\"b\",\"value\":2}\n{broken");
    running.wait_for("/api/status", |status| status["sums"]["clean"]["clean"] == 2);
    let folder = running.folder.path();
    let tap = output(folder, &["tap", "clean", "--limit", "1"]);
    assert_eq!((&last_line(&tap)["device"], &last_line(&tap)["_offset"]), (&"b".into(), &1.into()));
    let dead = output(folder, &["tap", "dead-letter", "--data", "data"]);
    assert_eq!(last_line(&dead)["payload"], "{broken");
    let unknown = output(folder, &["tap", "cleen"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(words(&unknown).contains("did you mean `clean`?"), "{}", words(&unknown));
    let status = last_line(&output(folder, &["status", "--json"]));
    assert_eq!(status["sums"]["ingest"]["received"], 2);
    let token = last_line(&output(folder, &["token", "--json"]));
    assert_eq!(token["token"], running.token.as_str());
    let path = token["url"].as_str().unwrap().split_once(&running.address()).unwrap().1.to_owned();
    assert_eq!(running.send("GET", &path, &[], "").status, 303);
}

#[test]
fn a_stopped_pipeline_tells_its_status_from_the_log() {
    let mut running = Running::start(HTTP);
    running.post("/ingest", r#"{"device":"a","value":1}"#);
    running.terminate();
    let status = last_line(&output(running.folder.path(), &["status", "--json"]));
    assert_eq!(status["state"], "stopped");
    let received = status["topics"].as_array().unwrap().iter().find(|topic| topic["topic"] == "received").unwrap();
    assert_eq!(received["counts"]["received"], 1);
}

#[test]
fn errors_in_a_file_name_their_place() {
    let folder = folder(&HTTP.replace("type = \"http\"", "type = \"htpp\""));
    let check = output(folder.path(), &["check"]);
    assert_eq!(check.status.code(), Some(2));
    assert!(
        words(&check).contains("pipeline.toml:9:1: unknown source `htpp`; did you mean `http`?"),
        "{}",
        words(&check)
    );
    let json = last_line(&output(folder.path(), &["check", "--json"]));
    assert_eq!((&json["ok"], &json["errors"][0]["line"]), (&false.into(), &9.into()));
    assert_eq!(output(folder.path(), &["up"]).status.code(), Some(2));
    assert_eq!(output(folder.path(), &["upp"]).status.code(), Some(2));
}

#[test]
fn init_writes_what_check_accepts_and_overwrites_only_when_told() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(output(folder.path(), &["init", "http"]).status.code(), Some(0));
    assert_eq!(output(folder.path(), &["check"]).status.code(), Some(0));
    let again = output(folder.path(), &["init", "http"]);
    assert_eq!((again.status.code(), words(&again).contains("--force")), (Some(2), true));
    assert_eq!(output(folder.path(), &["init", "model", "--force"]).status.code(), Some(0));
    assert!(folder.path().join("my_models.py").exists());
    assert!(words(&output(folder.path(), &["init", "htp"])).contains("did you mean `http`?"));
}

#[test]
fn components_and_schema_are_json() {
    let folder = tempfile::tempdir().unwrap();
    let components = last_line(&output(folder.path(), &["components", "--json"]));
    let first = components.as_array().unwrap().first().unwrap().as_object().unwrap();
    assert_eq!(first.keys().collect::<Vec<_>>(), ["kind", "name", "summary", "example", "schema"]);
    let schema = output(folder.path(), &["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert_eq!(schema["title"], "Trackside pipeline");
}
