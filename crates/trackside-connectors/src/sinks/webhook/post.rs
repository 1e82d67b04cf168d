//! One HTTP POST, and what its answer means.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use trackside_core::error::{ConfigError, Failure};
use ureq::http::{HeaderName, HeaderValue, Response, StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// So much of an answer is read: enough for the connection to be used again and for a message.
const MAX_ANSWER: u64 = 16 << 10;
/// So much of an answer is quoted.
const MAX_QUOTE: usize = 200;

/// Sends to one address.
pub struct Post {
    agent: Agent,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Post {
    /// Checks address and headers. No secret in them is ever repeated in a message.
    pub fn new(url: &str, headers: &BTreeMap<String, String>, timeout: Duration) -> Result<Self, ConfigError> {
        let wrong = |what: &str| {
            ConfigError::new("url", what).with_help("write the whole address, such as `https://example.com/alerts`")
        };
        let uri: Uri = url.parse().map_err(|_| wrong("`url` is not an address"))?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("`url` begins with neither `https://` nor `http://`")),
        };
        let headers = headers.iter().map(|(name, value)| header(name, value)).collect::<Result<_, _>>()?;
        let config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("trackside/", env!("CARGO_PKG_VERSION")));
        let config = if https { config.tls_config(tls()?) } else { config };
        Ok(Self { agent: config.build().new_agent(), uri, headers })
    }

    /// Where it sends, without path and query, which may hold a secret.
    pub fn host(&self) -> &str {
        self.uri.authority().map_or("?", |authority| authority.as_str().rsplit('@').next().unwrap_or("?"))
    }

    /// Sends JSON; the error says what to do with the rows.
    pub fn send(&self, key: &str, body: &[u8]) -> Result<(), Failure> {
        let request =
            self.agent.post(&self.uri).header("Content-Type", "application/json").header("Idempotency-Key", key);
        let request = self.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        match request.send(body) {
            Ok(response) => self.verdict(response),
            Err(error) => Err(Failure::retry(format!("cannot post to `{}`: {error}", self.host()))),
        }
    }

    fn verdict(&self, mut response: Response<Body>) -> Result<(), Failure> {
        let status = response.status();
        let answer = response.body_mut().with_config().limit(MAX_ANSWER).lossy_utf8(true).read_to_string();
        if status.is_success() {
            return Ok(());
        }
        let answer: String = answer.unwrap_or_default().chars().take(MAX_QUOTE).collect();
        let what = format!("`{}` answered {status}: {}", self.host(), answer.escape_debug());
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                Failure::retry(format!("{what}; check `headers`: the rows wait"))
            }
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                Failure::retry(format!("{what}; check `url`: the rows wait"))
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => Failure::retry(what),
            StatusCode::PAYLOAD_TOO_LARGE => Failure::reject(format!("{what}; make `batch` smaller")),
            status if status.is_client_error() => Failure::reject(what),
            status if status.is_redirection() => {
                Failure::retry(format!("{what}; write the address that it redirects to as `url`: the rows wait"))
            }
            _ => Failure::retry(what),
        })
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), ConfigError> {
    let path = format!("headers.{name}");
    let wrong = |what: &str| ConfigError::new(path.clone(), format!("{what} of the header `{name}` cannot be sent"));
    let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("the name"))?;
    let value = HeaderValue::from_str(value).map_err(|_| wrong("the value"))?;
    Ok((key, value))
}

/// The machine's own certificates, so that a company's own authority is known.
fn tls() -> Result<TlsConfig, ConfigError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err(ConfigError::new("url", "this machine has no certificates to check an `https://` address against")
            .with_help("install the package `ca-certificates`, or name a file by the variable SSL_CERT_FILE"));
    }
    let roots = found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(url: &str, headers: &[(&str, &str)]) -> Result<Post, ConfigError> {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Post::new(url, &headers, Duration::from_secs(1))
    }

    #[test]
    fn what_cannot_be_sent_is_refused_without_repeating_secrets() {
        for url in ["", "example.com/x", "ftp://example.com", "http://a b"] {
            let error = post(url, &[]).map(drop).unwrap_err();
            assert_eq!((error.path.as_str(), error.help.is_empty()), ("url", false), "{url}");
        }
        let error = post("http://x/", &[("Authorization", "Bearer s3cret\n")]).map(drop).unwrap_err();
        assert_eq!(error.path, "headers.Authorization");
        assert!(!error.message.contains("s3cret"));
        assert_eq!(post("http://user:s3cret@host:81/path?token=x", &[]).unwrap().host(), "host:81");
    }

    #[test]
    fn nobody_there_is_worth_another_try() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = post(&format!("http://{free}/secret"), &[]).unwrap().send("k", b"{}").unwrap_err();
        assert_eq!(error.action, trackside_core::error::Action::Retry);
        assert!(error.message.contains(&free.to_string()) && !error.message.contains("secret"), "{error}");
    }
}
