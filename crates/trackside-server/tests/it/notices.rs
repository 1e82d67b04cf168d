//! What needs a human is told wherever one may look: status, command, metrics.

use crate::running::{HTTP, Running, output};

const EVENT: &str = "{\"device\":\"a\",\"value\":1}";

#[test]
fn a_full_disk_is_told_refuses_at_once_and_heals_by_itself() {
    // A reserve that no disk has is a disk that is full.
    let full = format!("{HTTP}[retention]\nreserve_mib = 1000000000\n");
    let running = Running::start(&full);
    let answer = running.post("/ingest", EVENT);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.head.contains("retry-after: 1") && answer.body.contains("the disk is full"), "{answer:?}");
    let status = running.get("/api/status").json();
    assert_eq!((&status["notices"][0]["key"], &status["notices"][0]["level"]), (&"disk".into(), &"error".into()));
    assert!(status["notices"][0]["since_ms"].as_i64().unwrap() > 1_600_000_000_000, "{status}");
    assert!(running.get("/metrics").body.contains("trackside_notice{key=\"disk\",level=\"error\"} 1"));
    let words = output(running.folder.path(), &["status"]).stdout;
    assert!(String::from_utf8_lossy(&words).contains("error: the disk is full"));
    std::fs::write(running.folder.path().join("pipeline.toml"), full.replace("1000000000", "0")).unwrap();
    assert_eq!(running.post("/api/reload", "").status, 200);
    assert_eq!(running.post("/ingest", EVENT).status, 200);
    running.wait_for("/api/status", |status| status["notices"].as_array().unwrap().is_empty());
    std::fs::write(running.folder.path().join("pipeline.toml"), "nonsense").unwrap();
    assert_eq!(running.post("/api/reload", "").status, 422);
    let status = running.wait_for("/api/status", |status| status["notices"][0]["key"] == "reload");
    assert!(status["notices"][0]["help"].as_str().unwrap().contains("trackside reload"));
}
