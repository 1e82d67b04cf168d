//! Who gets in, and who does not.

use crate::running::{HTTP, Running};

#[test]
fn the_token_opens_in_every_form_and_nothing_else_does() {
    let running = Running::start(HTTP);
    let (bearer, token) = (format!("Bearer {}", running.token), format!("Token {}", running.token));
    let cookie = format!("trackside-{}={}", running.ready["port"], running.token);
    let status = |headers: &[(&str, &str)]| running.send("GET", "/api/status", headers, "").status;
    assert_eq!(status(&[]), 401);
    assert_eq!(status(&[("Authorization", "Bearer wrong")]), 401);
    assert_eq!(status(&[("Authorization", &bearer)]), 200);
    assert_eq!(status(&[("Authorization", &token)]), 200);
    assert_eq!(status(&[("Cookie", &cookie)]), 200);
    assert_eq!(status(&[("Authorization", &bearer), ("Host", "evil.example")]), 421);
    for path in ["/api/series", "/api/history?series=0", "/api/live", "/api/dead", "/api/anomalies", "/metrics"] {
        assert_eq!(running.send("GET", path, &[], "").status, 401, "{path}");
    }
    for path in ["/ingest", "/api/v2/write", "/write"] {
        assert_eq!(running.send("POST", path, &[], "{}").status, 401, "{path}");
    }
    let event = r#"{"device":"a","value":1}"#;
    let post = |origin: &str| running.send("POST", "/ingest", &[("Cookie", &cookie), ("Origin", origin)], event).status;
    assert_eq!(post("http://evil.example"), 403);
    assert_eq!(post(&format!("http://{}", running.address())), 200);
    assert_eq!(running.send("GET", "/healthz", &[("Host", "probe")], "").body, r#"{"ok":true}"#);
}

#[test]
fn a_one_time_address_signs_a_browser_in_once() {
    let running = Running::start(HTTP);
    let url = running.post("/api/code", "").json()["url"].as_str().unwrap().to_owned();
    let path = url.split_once(&running.address()).unwrap().1.to_owned();
    let first = running.send("GET", &path, &[], "");
    assert_eq!(first.status, 303);
    assert!(
        first.head.contains("httponly; samesite=strict") && first.head.contains("location: /\r\n"),
        "{}",
        first.head
    );
    let cookie = format!("trackside-{}={}", running.ready["port"], running.token);
    assert_eq!(running.send("GET", "/", &[("Cookie", &cookie)], "").status, 200);
    assert_eq!(running.send("GET", &path, &[], "").status, 401);
    let token_url = running.ready["token_url"].as_str().unwrap();
    let path = token_url.split_once(&running.address()).unwrap().1.to_owned();
    assert_eq!([running.send("GET", &path, &[], "").status, running.send("GET", &path, &[], "").status], [303, 303]);
}

#[test]
fn every_answer_keeps_the_browser_in() {
    let running = Running::start(HTTP);
    for answer in
        [running.get("/"), running.get("/api/status"), running.get("/nothing"), running.send("GET", "/", &[], "")]
    {
        for header in ["content-security-policy: default-src 'self'", "x-content-type-options: nosniff"] {
            assert!(answer.head.contains(header), "{}", answer.head);
        }
    }
}
