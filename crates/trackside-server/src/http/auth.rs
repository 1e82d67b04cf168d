//! Who may look and write: the token, and that a browser does not speak for somebody else.
//!
//! The token comes as `Authorization: Bearer …` or `Token …` (as InfluxDB's clients send it), or as the cookie that the
//! one-time address sets. A page from elsewhere gets nowhere: its Origin is not ours, and a name that was rebound to
//! this machine is no name of ours. Comparing takes the same time however much of a guess is right.

use super::answer::problem;
use super::token;
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

/// One-time codes that may wait to be used.
const MAX_CODES: usize = 32;

/// Guards one server.
#[derive(Debug)]
pub struct Auth {
    token: String,
    codes: Mutex<Vec<String>>,
    cookie: String,
    address: SocketAddr,
}

impl Auth {
    /// For a server at this address. Browsers share cookies between ports, so the cookie's name holds the port.
    pub fn new(token: String, address: SocketAddr) -> Self {
        let cookie = format!("trackside-{}", address.port());
        Self { token, codes: Mutex::default(), cookie, address }
    }

    /// A code that opens the page once.
    pub fn mint(&self) -> io::Result<String> {
        let code = token::code()?;
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        if codes.len() == MAX_CODES {
            codes.remove(0);
        }
        codes.push(code.clone());
        Ok(code)
    }

    /// Whether `?token=` of the one-time address opens the page: the token itself, or a code, which is used up.
    pub(crate) fn open(&self, given: &str) -> bool {
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = codes.iter().position(|code| same(code, given));
        known.map(|index| codes.remove(index)).is_some() || same(&self.token, given)
    }

    /// The `Set-Cookie` that signs a browser in.
    pub(crate) fn set_cookie(&self) -> String {
        format!("{}={}; HttpOnly; SameSite=Strict; Path=/; Max-Age=31536000", self.cookie, self.token)
    }

    /// Whether the request brings the token.
    pub(crate) fn knows(&self, headers: &HeaderMap) -> bool {
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        if let Some((scheme, given)) = header.and_then(|header| header.split_once(' ')) {
            let ours = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token");
            return ours && same(&self.token, given.trim());
        }
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|cookie| cookie.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.any(|(name, value)| name == self.cookie && same(&self.token, value))
    }

    /// The answer to who has no token, or not this one.
    pub(crate) fn locked(headers: &HeaderMap) -> Response {
        let (what, hint) = match headers.contains_key(AUTHORIZATION) {
            true => (
                "that is not the token of this pipeline",
                "`trackside token` tells it; each data directory has its own, and TRACKSIDE_TOKEN takes its place",
            ),
            false => (
                "a token is needed",
                "send it as `Authorization: Bearer …`; `trackside token` tells it, and an address that opens the page",
            ),
        };
        let mut response = problem(StatusCode::UNAUTHORIZED, what, hint);
        let challenge = axum::http::HeaderValue::from_static("Bearer realm=\"trackside\"");
        response.headers_mut().insert(axum::http::header::WWW_AUTHENTICATE, challenge);
        response
    }

    /// Refuses requests that a page from elsewhere may have made a browser send.
    pub(crate) fn check_browser(&self, method: &Method, headers: &HeaderMap) -> Result<(), Box<Response>> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if !self.is_ours(host) {
            let hint = "open it by the address that was printed at the start";
            return Err(Box::new(problem(
                StatusCode::MISDIRECTED_REQUEST,
                format!("`{host}` is not a name of this server"),
                hint,
            )));
        }
        let Some(origin) = headers.get(ORIGIN).filter(|_| *method != Method::GET && *method != Method::HEAD) else {
            return Ok(());
        };
        let origin = origin.to_str().unwrap_or_default();
        let from = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if from.is_some_and(|from| from.eq_ignore_ascii_case(host)) {
            return Ok(());
        }
        let hint = "only its own page may write through a browser; programs send no Origin";
        Err(Box::new(problem(StatusCode::FORBIDDEN, format!("a page from `{origin}` may not do this"), hint)))
    }

    /// Names of this machine's loopback, and the address itself. A wider bind is for names that only the network knows;
    /// there the token, which was chosen on purpose, and the cookie, which belongs to a name, are the guard.
    fn is_ours(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, _)) => name,
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        let ip = name.parse::<IpAddr>().ok();
        let loopback = ip.is_some_and(|ip| ip.is_loopback()) || name.eq_ignore_ascii_case("localhost");
        loopback || ip == Some(self.address.ip()) || (!name.is_empty() && !self.address.ip().is_loopback())
    }
}

/// Compares without telling by its time where the first difference is.
fn same(ours: &str, given: &str) -> bool {
    let (ours, given) = (ours.as_bytes(), given.as_bytes());
    let differing = ours.iter().zip(given).fold(0u8, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    differing == 0 && ours.len() == given.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn auth(address: &str) -> Auth {
        Auth::new("0123456789abcdef".into(), address.parse().unwrap())
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_token_comes_in_three_ways() {
        let auth = auth("127.0.0.1:7878");
        for (name, value) in [
            ("authorization", "Bearer 0123456789abcdef"),
            ("authorization", "Token 0123456789abcdef"),
            ("cookie", "a=b; trackside-7878=0123456789abcdef"),
        ] {
            assert!(auth.knows(&headers(&[(name, value)])), "{value}");
        }
        for (name, value) in [
            ("authorization", "Bearer 0123456789abcdeF"),
            ("authorization", "Bearer 0123456789abcde"),
            ("authorization", "Basic 0123456789abcdef"),
            ("cookie", "trackside-1=0123456789abcdef"),
        ] {
            assert!(!auth.knows(&headers(&[(name, value)])), "{value}");
        }
        assert!(!auth.knows(&HeaderMap::new()));
    }

    #[test]
    fn a_code_opens_once_and_the_token_always() {
        let auth = auth("127.0.0.1:7878");
        let code = auth.mint().unwrap();
        assert_eq!([auth.open(&code), auth.open(&code), auth.open("")], [true, false, false]);
        assert!(auth.open("0123456789abcdef") && auth.open("0123456789abcdef"));
        let codes: Vec<_> = (0..MAX_CODES + 1).map(|_| auth.mint().unwrap()).collect();
        assert!(!auth.open(&codes[0]) && auth.open(&codes[1]));
    }

    #[test]
    fn names_and_origins_from_elsewhere_are_refused() {
        let auth = auth("127.0.0.1:7878");
        let check = |method: Method, pairs: &[(&'static str, &'static str)]| {
            auth.check_browser(&method, &headers(pairs)).map_err(|response| response.status().as_u16())
        };
        for host in ["127.0.0.1:7878", "localhost:9", "[::1]:7878", "localhost"] {
            assert_eq!(check(Method::GET, &[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(check(Method::GET, &[("host", "evil.example:7878")]), Err(421));
        assert_eq!(check(Method::GET, &[]), Err(421));
        let host = ("host", "127.0.0.1:7878");
        assert_eq!(check(Method::POST, &[host, ("origin", "http://127.0.0.1:7878")]), Ok(()));
        assert_eq!(check(Method::POST, &[host, ("origin", "http://127.0.0.1:9999")]), Err(403));
        assert_eq!(check(Method::POST, &[host, ("origin", "null")]), Err(403));
        assert_eq!(check(Method::GET, &[host, ("origin", "http://evil.example")]), Ok(()));
    }

    #[test]
    fn a_wide_bind_answers_to_names_of_the_network() {
        let auth = auth("0.0.0.0:80");
        assert!(auth.is_ours("plant.example:80") && auth.is_ours("10.0.0.7") && !auth.is_ours(""));
    }
}
