//! Reaching the broker: its address, TLS, and what its refusals mean.

use super::packet::Version;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use trackside_core::error::ConfigError;

/// A connection, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Where the broker is.
pub(super) struct Address {
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    /// Name and password, where the address has them.
    pub(super) login: Option<(String, Option<String>)>,
}

impl Address {
    /// Reads `mqtt://host:1883` or `mqtts://host:8883`; `ca` is a file of certificates to trust instead of the machine's.
    pub(super) fn parse(text: &str, ca: Option<&Path>) -> Result<Self, ConfigError> {
        let wrong = |what: &str| {
            ConfigError::new("broker", what).with_help("write `mqtt://host:1883`, or `mqtts://host:8883` for TLS")
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("`broker` has no scheme"))?;
        let secure = match scheme {
            "mqtt" | "tcp" => false,
            "mqtts" | "ssl" | "tls" => true,
            _ => return Err(ConfigError::unknown("broker", "scheme", scheme, ["mqtt", "mqtts"])),
        };
        let (login, place) = match rest.trim_end_matches('/').rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest.trim_end_matches('/')),
        };
        let login = login.map(|login| match login.split_once(':') {
            Some((name, password)) => (name.to_owned(), Some(password.to_owned())),
            None => (login.to_owned(), None),
        });
        let default = if secure { 8883 } else { 1883 };
        let (host, port) = match place.rsplit_once(':') {
            // A colon inside brackets belongs to an IPv6 address.
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().map_err(|_| wrong("the port of `broker` is not a number up to 65535"))?)
            }
            _ => (place, default),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(['/', ' ']) {
            return Err(wrong("`broker` names no host"));
        }
        if ca.is_some() && !secure {
            return Err(ConfigError::new("ca", "`ca` is for `mqtts://`, and `broker` is not encrypted")
                .with_help("write `mqtts://` or leave `ca` out"));
        }
        let tls = if secure { Some(tls(ca)?) } else { None };
        Ok(Self { host: host.to_owned(), port, tls, login })
    }

    /// Connects.
    pub(super) async fn open(&self) -> std::io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(self.host.clone()).map_err(std::io::Error::other)?;
        Ok(Box::new(tls.connect(name, stream).await?))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

fn tls(ca: Option<&Path>) -> Result<TlsConnector, ConfigError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let wrong = |error: &dyn std::fmt::Display| {
                ConfigError::new("ca", format!("`{}` cannot be used: {error}", path.display()))
                    .with_help("name a PEM file with the certificates of your authority")
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
                roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
            }
        }
        None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    }
    if roots.is_empty() {
        return Err(ConfigError::new("broker", "there are no certificates to check the broker's against")
            .with_help("install the package `ca-certificates`, or name a PEM file by `ca`"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::new("broker", format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Why a broker said no, or goodbye, with what to do.
pub(super) fn refusal(version: Version, code: u8, reason: Option<&str>) -> String {
    let words = match (version, code) {
        (Version::V3, 1) | (_, 0x84) => "it does not speak this version; set `version`",
        (Version::V3, 2) | (_, 0x85) => "it does not accept the `client_id`",
        (Version::V3, 3) | (_, 0x88) => "it is not available",
        (Version::V3, 4) | (_, 0x86) => "wrong `username` or password",
        (Version::V3, 5) | (_, 0x87) => "not authorised; check `username`, its password and its rights",
        (_, 0x89) => "it is busy",
        (_, 0x8a) => "this client is banned",
        (_, 0x8b) => "it is shutting down",
        (_, 0x8e) => "another client took the session over; give each pipeline a `client_id` of its own",
        (_, 0x97) => "its quota is exceeded",
        (_, 0x9c | 0x9d) => "it asks to use another server; change `broker`",
        _ => "",
    };
    let mut text = if words.is_empty() { format!("code {code:#04x}") } else { words.to_owned() };
    if let Some(reason) = reason {
        text.push_str(&format!(" ({})", reason.escape_debug()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_never_shown_with_a_password() {
        for (text, shown) in [
            ("mqtt://plant", "plant:1883"),
            ("tcp://10.0.0.1:1884/", "10.0.0.1:1884"),
            ("mqtt://me:s3cret@[::1]:9", "::1:9"),
            ("mqtt://[::1]", "::1:1883"),
        ] {
            assert_eq!(Address::parse(text, None).map(|address| address.to_string()).unwrap(), shown);
        }
        let login = Address::parse("mqtt://me:s3cret@host", None).unwrap().login;
        assert_eq!(login, Some(("me".into(), Some("s3cret".into()))));
    }

    #[test]
    fn wrong_addresses_are_told_how_to_write_it() {
        for text in ["plant:1883", "mqtt://", "mqtt://host:port", "mqtt://a b"] {
            let error = Address::parse(text, None).map(drop).unwrap_err();
            assert_eq!((error.path.as_str(), error.help.is_empty()), ("broker", false), "{text}");
        }
        let error = Address::parse("mqqt://host", None).map(drop).unwrap_err();
        assert_eq!(error.message, "unknown scheme `mqqt`; did you mean `mqtt`?");
        assert_eq!(Address::parse("mqtt://host", Some(Path::new("x"))).map(drop).unwrap_err().path, "ca");
        assert_eq!(Address::parse("mqtts://host", Some(Path::new("/nowhere"))).map(drop).unwrap_err().path, "ca");
    }
}
