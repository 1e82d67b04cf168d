//! Asks a running server: one request over plain HTTP, answered in JSON. For `status` and `token`, which mostly ask
//! this very machine.

use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Longest wait for a connection, and for each part of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of an answer.
const MAX_ANSWER: u64 = 16 << 20;

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// Sends a request without a body to `url` (`http://host:port`) and `path`.
pub(crate) fn ask(method: &str, url: &str, path: &str, token: Option<&str>) -> io::Result<Answer> {
    ask_patiently(method, url, path, token, TIMEOUT)
}

/// The same, with a longer wait for the answer.
pub(crate) fn ask_patiently(
    method: &str,
    url: &str,
    path: &str,
    token: Option<&str>,
    patience: Duration,
) -> io::Result<Answer> {
    send(method, url, path, token, "", patience)
}

/// Sends a request with a body of JSON.
pub(crate) fn send(
    method: &str,
    url: &str,
    path: &str,
    token: Option<&str>,
    body: &str,
    patience: Duration,
) -> io::Result<Answer> {
    let host = url.strip_prefix("http://").map(|rest| rest.split('/').next().unwrap_or_default());
    let invalid = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{url}` is no address of a server; write it as http://127.0.0.1:7878"),
        )
    };
    let host = host.filter(|host| !host.is_empty()).ok_or_else(invalid)?;
    let authority = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let address = authority.to_socket_addrs()?.next().ok_or_else(invalid)?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(patience))?;
    let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    // An answer to HTTP/1.0 comes in one piece and ends with the connection.
    let length = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    stream.write_all(format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\n{bearer}{length}\r\n{body}").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    parse(&answer)
}

fn parse(answer: &[u8]) -> io::Result<Answer> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "that was no answer of a Trackside server");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(broken)?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| broken())?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    let body = serde_json::from_slice(&answer[end + 4..]).map_err(|_| broken())?;
    Ok(Answer { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_others_refused() {
        let answer = parse(b"HTTP/1.0 401 Unauthorized\r\ncontent-length: 9\r\n\r\n{\"a\": 1}\n").unwrap();
        assert_eq!((answer.status, &answer.body["a"]), (401, &1.into()));
        assert!(parse(b"SSH-2.0-x\r\n").is_err());
        assert!(ask("GET", "ftp://x", "/", None).is_err());
    }
}
