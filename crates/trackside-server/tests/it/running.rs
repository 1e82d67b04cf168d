//! A pipeline that runs in a process of its own, and a small HTTP client to ask it.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Events that clients post; no models, so that no Python is needed.
pub(crate) const HTTP: &str = r#"
[pipeline]
name = "it"
[schema]
time = { field = "ts" }
series = ["device"]
fields = { value = "float", note = "string" }
[[source]]
type = "http"
[[clean]]
type = "range"
field = "value"
max = 100
[[sink]]
type = "parquet"
topic = "clean"
"#;

/// A fleet that ends.
pub(crate) const FLEET: &str = r#"
[pipeline]
name = "fleet"
[schema]
series = ["device", "sensor"]
fields = { value = "float", seq = "integer" }
[[source]]
type = "generate"
rate = 0
count = 5000
duplicates = 0.02
malformed = 0.01
start = "2026-03-02T08:00:00Z"
[[clean]]
type = "dedupe"
by = "seq"
[[sink]]
type = "parquet"
topic = "clean"
"#;

/// The command, ready to get arguments. Nothing of the surrounding environment chooses a token.
pub(crate) fn trackside(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trackside"));
    command.current_dir(folder).env_remove("TRACKSIDE_TOKEN").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Runs the command to its end.
pub(crate) fn output(folder: &Path, arguments: &[&str]) -> Output {
    trackside(folder).args(arguments).output().unwrap()
}

/// The last line that was printed, as JSON.
pub(crate) fn last_line(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line)
        .unwrap_or_else(|_| panic!("no JSON: {text}\n{}", String::from_utf8_lossy(&output.stderr)))
}

/// A pipeline at work; it is killed when dropped.
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) ready: Value,
    pub(crate) token: String,
    pub(crate) folder: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

impl Running {
    pub(crate) fn start(pipeline: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pipeline.toml"), pipeline).unwrap();
        let mut command = trackside(folder.path());
        command.args(["up", "--json", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let token = std::fs::read_to_string(folder.path().join("data/token")).unwrap().trim().to_owned();
        Self { child, stdout, ready, token, folder }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ready["port"])
    }

    /// A request with the token.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[("Authorization", &format!("Bearer {}", self.token))], "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, &[("Authorization", &format!("Bearer {}", self.token))], body)
    }

    /// A request with these headers; Host is the server's address unless it is among them.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = self.open(method, path, headers, body);
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    /// Sends a request and leaves the connection open.
    pub(crate) fn open(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = format!("{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head.push_str(&format!("Host: {}\r\n", self.address()));
        }
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
        stream
    }

    /// Asks until the answer is as wished.
    pub(crate) fn wait_for(&self, path: &str, wished: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let answer = self.get(path);
            if answer.status == 200 && wished(&answer.json()) {
                return answer.json();
            }
            assert!(began.elapsed() < PATIENCE, "{path} did not become as wished: {answer:?}");
            std::thread::yield_now();
        }
    }

    /// Sends it a signal, by the name that `kill` knows.
    pub(crate) fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }

    /// Asks it to end; the exit code and the last line.
    pub(crate) fn terminate(&mut self) -> (Option<i32>, Value) {
        self.signal("-TERM");
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let code = self.child.wait().unwrap().code();
        (code, serde_json::from_str(rest.lines().last().unwrap_or_default()).unwrap_or_default())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
