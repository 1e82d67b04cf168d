//! A frame on its own: the same bytes as in a segment, sent as a message to a broker or laid into another file.
//!
//! Guarantee: what [`open`] gives out is what [`seal`] made; a bit that changed on the way is an error.
//!
//! ```
//! use trackside_log::{Draft, message};
//!
//! let draft = Draft { rows: 2, meta: b"{}", sections: &[(1, b"rows")], ..Draft::default() };
//! let mut bytes = Vec::new();
//! message::seal(&draft, message::Seal { epoch: 3, first: 40, tag: 7, limit: 1 << 20 }, &mut bytes)?;
//! let frame = message::open(&bytes, "the message")?;
//! assert_eq!((frame.info.first, frame.info.end, frame.section(1)), (40, 42, Some(&b"rows"[..])));
//! # Ok::<(), trackside_log::Error>(())
//! ```

use std::path::Path;

use crate::bytes::AlignedBytes;
use crate::error::{Error, Result};
use crate::frame::{Draft, Frame, Location, Stamp};

/// What the sender adds to a draft.
#[derive(Clone, Copy, Debug)]
pub struct Seal {
    /// The sender's reign.
    pub epoch: u32,
    /// The first offset.
    pub first: u64,
    /// The reign's random mark.
    pub tag: u64,
    /// A larger frame is refused.
    pub limit: u64,
}

/// Writes the frame into `out`, whose old content goes.
pub fn seal(draft: &Draft<'_>, seal: Seal, out: &mut Vec<u8>) -> Result<()> {
    let Seal { epoch, first, tag, limit } = seal;
    // Who sends waits for the answer before the next one: all that lies before was durable.
    draft.encode(Stamp { epoch, first, durable: first, tag }, limit, out).map(drop)
}

/// Reads a frame; `place` says in errors where the bytes came from.
pub fn open(bytes: &[u8], place: &str) -> Result<Frame> {
    let mut own = AlignedBytes::zeroed(bytes.len());
    own.as_mut_slice().copy_from_slice(bytes);
    let path = Path::new(place);
    let location = Location { path: path.into(), at: 0, length: bytes.len() as u64 };
    Frame::new(own, location).map_err(|what| Error::Damaged { path: path.into(), at: 0, what: what.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let draft = Draft { rows: 1, meta: b"{\"kind\":\"rows\"}", sections: &[(1, &[9; 70])], ..Draft::default() };
        let mut bytes = Vec::new();
        seal(&draft, Seal { epoch: 1, first: 0, tag: 1, limit: 1 << 20 }, &mut bytes).unwrap();
        assert_eq!(open(&bytes, "it").unwrap().bytes(), bytes);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(open(&bytes, "it"), Err(Error::Damaged { .. })), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(open(&bytes[..bytes.len() - 1], "it").is_err() && open(b"", "it").is_err());
    }
}
