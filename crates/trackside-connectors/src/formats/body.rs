//! Bodies: gzip and zstd undone, within bounds.
//!
//! A few kilobytes can unpack to gigabytes, so both the size and the ratio are limited, and memory for zstd's window
//! with them. What was unpacked before a limit was hit is thrown away.

use std::borrow::Cow;
use std::io::Read;

/// Highest ratio of unpacked to packed bytes; sensor text reaches about 50.
pub const MAX_RATIO: usize = 1000;
/// Below this the ratio does not matter: small bodies of zeros are harmless.
const RATIO_FREE: usize = 64 * 1024;
/// Largest zstd window, as a power of two (8 MiB): what a decoder must hold in memory.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Why a body could not be unpacked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Past the size or the ratio.
    #[error("the unpacked body is larger than {limit} bytes")]
    TooLarge {
        /// The limit that was hit.
        limit: usize,
    },
    /// Not a known encoding.
    #[error("unknown content encoding `{0}`; choose from `gzip`, `zstd`, `identity`")]
    Unknown(String),
    /// Not what the encoding says.
    #[error("the body is not {encoding}: {what}")]
    Broken {
        /// The encoding that it should have.
        encoding: &'static str,
        /// The decoder's words.
        what: String,
    },
}

/// A `Content-Encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// As it is.
    #[default]
    Identity,
    /// gzip, also several members one after another.
    Gzip,
    /// zstd, also several frames.
    Zstd,
}

impl Encoding {
    /// By its name in HTTP.
    pub fn parse(name: &str) -> Result<Self, BodyError> {
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(BodyError::Unknown(name.trim().chars().take(40).collect())),
        }
    }

    /// A reader that unpacks as it goes.
    pub fn reader<'a>(self, packed: impl Read + Send + 'a) -> std::io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Self::Identity => Box::new(packed),
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(packed)),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(packed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }
}

/// The unpacked body, at most `max` bytes of it.
pub fn unpack(encoding: Encoding, body: &[u8], max: usize) -> Result<Cow<'_, [u8]>, BodyError> {
    if encoding == Encoding::Identity {
        return if body.len() > max { Err(BodyError::TooLarge { limit: max }) } else { Ok(Cow::Borrowed(body)) };
    }
    let limit = max.min(body.len().saturating_mul(MAX_RATIO).max(RATIO_FREE));
    let name = if encoding == Encoding::Gzip { "gzip" } else { "zstd" };
    let broken = |error: std::io::Error| BodyError::Broken { encoding: name, what: error.to_string() };
    let mut out = Vec::with_capacity((body.len() * 4).min(limit));
    let reader = encoding.reader(body).map_err(broken)?;
    reader.take(limit as u64 + 1).read_to_end(&mut out).map_err(broken)?;
    if out.len() > limit { Err(BodyError::TooLarge { limit }) } else { Ok(Cow::Owned(out)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn both_encodings_come_back_and_bombs_do_not() {
        let text = b"{\"value\":1}\n".repeat(1000);
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        assert_eq!(unpack(Encoding::Gzip, &gzip(&text), 1 << 20).unwrap(), text);
        assert_eq!(unpack(Encoding::Zstd, &zstd, 1 << 20).unwrap(), text);
        assert_eq!(unpack(Encoding::Gzip, &gzip(&text), 100), Err(BodyError::TooLarge { limit: 100 }));
        let bomb = zstd::encode_all(&vec![0u8; 64 << 20][..], 1).unwrap();
        assert!(matches!(unpack(Encoding::Zstd, &bomb, usize::MAX), Err(BodyError::TooLarge { .. })));
    }

    #[test]
    fn garbage_and_cut_bodies_are_errors() {
        let packed = gzip(b"hello hello hello");
        for body in [&packed[..packed.len() - 6], b"nonsense", b""] {
            assert!(matches!(unpack(Encoding::Gzip, body, 100), Err(BodyError::Broken { .. })), "{body:?}");
        }
        assert!(matches!(unpack(Encoding::Zstd, b"nonsense", 100), Err(BodyError::Broken { .. })));
        assert!(Encoding::parse("br").unwrap_err().to_string().contains("`br`"));
    }
}
