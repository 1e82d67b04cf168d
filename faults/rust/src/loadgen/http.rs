//! An HTTP/1.1 client that knows three fates of a body: acknowledged, refused, unknown; and a fourth, never sent.
//!
//! It is written by hand so that the line between "never sent" and "unknown" is drawn here and not in a library: once
//! a byte of a body may have left, only an answer tells.

use super::notes::Answer;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Longest wait for an answer; the source's own is 30 s.
const ANSWER_PATIENCE: Duration = Duration::from_secs(45);
/// Longest wait for a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// Longest answer that is read.
const MAX_ANSWER: u64 = 1 << 20;

/// One connection, kept open, opened again when it broke.
#[derive(Debug)]
pub(crate) struct Client {
    address: String,
    token: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(crate) fn new(address: String, token: String) -> Self {
        Self { address, token, stream: None }
    }

    /// Posts a body of lines and waits for what became of it.
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> Answer {
        let Some(mut stream) = self.stream.take().or_else(|| self.connect()) else { return Answer::Unsent };
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/x-ndjson\r\n\
             Content-Length: {}\r\n\r\n",
            self.address,
            self.token,
            body.len()
        );
        let whole = [head.as_bytes(), body].concat();
        if stream.get_mut().write_all(&whole).is_err() {
            // A server that refuses early answers before it has read all; its answer counts.
            return read(&mut stream).map_or(Answer::Unknown, |(status, _)| fate(status));
        }
        match read(&mut stream) {
            Some((status, kept)) => {
                self.stream = kept.then_some(stream);
                fate(status)
            }
            None => Answer::Unknown,
        }
    }

    fn connect(&self) -> Option<BufReader<TcpStream>> {
        let address = self.address.to_socket_addrs().ok()?.next()?;
        let stream = TcpStream::connect_timeout(&address, CONNECT_PATIENCE).ok()?;
        stream.set_read_timeout(Some(ANSWER_PATIENCE)).ok()?;
        stream.set_write_timeout(Some(ANSWER_PATIENCE)).ok()?;
        stream.set_nodelay(true).ok()?;
        Some(BufReader::new(stream))
    }
}

fn fate(status: u16) -> Answer {
    match status {
        200..=299 => Answer::Acked,
        400..=499 | 503 => Answer::Refused(status),
        _ => Answer::Unknown,
    }
}

/// Status, and whether the connection stays open. None: no whole answer came.
fn read(stream: &mut BufReader<TcpStream>) -> Option<(u16, bool)> {
    let mut limited = stream.take(MAX_ANSWER);
    let mut line = String::new();
    limited.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let (mut length, mut kept) = (0, true);
    loop {
        line.clear();
        limited.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "connection" => kept = !value.trim().eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let mut body = vec![0; usize::try_from(length.min(MAX_ANSWER)).ok()?];
    limited.read_exact(&mut body).ok()?;
    Some((status, kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// What the client makes of a server that says this and hangs up.
    fn told(answer: &'static str) -> (Answer, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            reader.read_exact(&mut [0; 4]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let mut client = Client::new(address, "t".into());
        let answer = client.post("/ingest", b"body");
        server.join().unwrap();
        (answer, client.stream.is_some())
    }

    #[test]
    fn an_answer_tells_the_fate() {
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(told(ok), (Answer::Acked, true));
        assert_eq!(told("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"), (Answer::Acked, false));
        assert_eq!(told("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), (Answer::Refused(503), true));
        assert_eq!(told("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"), (Answer::Unknown, true));
    }

    #[test]
    fn half_an_answer_tells_nothing() {
        assert_eq!(told(""), (Answer::Unknown, false));
        assert_eq!(told("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}"), (Answer::Unknown, false));
    }

    #[test]
    fn where_nobody_listens_nothing_was_sent() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(Client::new(free.to_string(), String::new()).post("/ingest", b"x"), Answer::Unsent);
    }
}
