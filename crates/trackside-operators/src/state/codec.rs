//! The bytes of a snapshot.
//!
//! Little-endian, no padding, floats by their bits (a NaN comes back as the same NaN): what is restored is what was saved, bit
//! for bit. A snapshot opens with a four-letter kind and a version, so that another operator's bytes, or those of a newer
//! build, are refused instead of misread. Reading never panics and never allocates more than the bytes at hand can fill:
//! every length is checked against what is left before it is believed.
//!
//! ```
//! use trackside_operators::state::codec::{Reader, StateError, Writer};
//!
//! let mut w = Writer::new(*b"DEMO", 1);
//! w.u64(7);
//! w.f64s(&[1.0, f64::NAN]);
//! let bytes = w.finish();
//!
//! let mut r = Reader::open(&bytes, *b"DEMO", 1)?;
//! assert_eq!(r.u64()?, 7);
//! assert_eq!(r.f64s()?.len(), 2);
//! r.end()?;
//! # Ok::<(), StateError>(())
//! ```

/// Why a snapshot cannot be restored. The state is left as it was; starting without the snapshot is always possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The bytes belong to another operator, or are no snapshot at all.
    #[error("snapshot is of kind `{found}`, not `{wanted}`; delete it to start anew")]
    Kind {
        /// The kind asked for.
        wanted: String,
        /// The first bytes as they are, unprintable ones replaced.
        found: String,
    },
    /// Written by a build with another layout.
    #[error(
        "snapshot has version {found}, this build reads version {wanted}; replay without it, or use the build that wrote it"
    )]
    Version {
        /// The version this build reads.
        wanted: u8,
        /// The version in the bytes.
        found: u8,
    },
    /// Cut off, or a length that cannot be.
    #[error("snapshot is cut short: {wanted} bytes wanted at byte {at} of {length}; delete it to start anew")]
    Short {
        /// Where the read began.
        at: usize,
        /// How many bytes were asked for.
        wanted: u64,
        /// How many there are in all.
        length: usize,
    },
    /// Well-formed bytes that say something impossible.
    #[error("snapshot is not usable: {0}; delete it to start anew")]
    Invalid(String),
}

/// Builds a snapshot; cannot fail.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Starts a snapshot of this kind and layout version.
    pub fn new(kind: [u8; 4], version: u8) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&kind);
        bytes.push(version);
        Self { bytes }
    }

    /// One byte.
    pub fn u8(&mut self, x: u8) {
        self.bytes.push(x);
    }

    /// A flag, as 0 or 1.
    pub fn bool(&mut self, x: bool) {
        self.u8(u8::from(x));
    }

    /// Four bytes.
    pub fn u32(&mut self, x: u32) {
        self.bytes.extend_from_slice(&x.to_le_bytes());
    }

    /// Eight bytes.
    pub fn u64(&mut self, x: u64) {
        self.bytes.extend_from_slice(&x.to_le_bytes());
    }

    /// Eight bytes, signed.
    pub fn i64(&mut self, x: i64) {
        self.bytes.extend_from_slice(&x.to_le_bytes());
    }

    /// The bits of a float.
    pub fn f64(&mut self, x: f64) {
        self.u64(x.to_bits());
    }

    /// A present or absent float: a flag, then the float when present.
    pub fn maybe_f64(&mut self, x: Option<f64>) {
        self.bool(x.is_some());
        if let Some(x) = x {
            self.f64(x);
        }
    }

    /// A length (u64) and the bytes.
    pub fn bytes(&mut self, x: &[u8]) {
        self.u64(x.len() as u64);
        self.bytes.extend_from_slice(x);
    }

    /// A length and the UTF-8 bytes.
    pub fn str(&mut self, x: &str) {
        self.bytes(x.as_bytes());
    }

    /// A length and the floats.
    pub fn f64s(&mut self, x: &[f64]) {
        self.u64(x.len() as u64);
        x.iter().for_each(|x| self.f64(*x));
    }

    /// A length and the integers.
    pub fn i64s(&mut self, x: &[i64]) {
        self.u64(x.len() as u64);
        x.iter().for_each(|x| self.i64(*x));
    }

    /// A length and the integers.
    pub fn u32s(&mut self, x: &[u32]) {
        self.u64(x.len() as u64);
        x.iter().for_each(|x| self.u32(*x));
    }

    /// The floats without a length: for arrays whose size the code knows.
    pub fn array<const N: usize>(&mut self, x: &[f64; N]) {
        x.iter().for_each(|x| self.f64(*x));
    }

    /// The finished snapshot.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads a snapshot back, in the order it was written.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Opens a snapshot, checking its kind and version.
    pub fn open(bytes: &'a [u8], kind: [u8; 4], version: u8) -> Result<Self, StateError> {
        let mut reader = Self { bytes, at: 0 };
        let found = reader.take(4)?;
        if found != kind {
            let text = |x: &[u8]| String::from_utf8_lossy(x).escape_debug().to_string();
            return Err(StateError::Kind { wanted: text(&kind), found: text(found) });
        }
        match reader.u8()? {
            found if found == version => Ok(reader),
            found => Err(StateError::Version { wanted: version, found }),
        }
    }

    /// How many bytes are left to read.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// All must have been read: left-over bytes mean that writer and reader disagree.
    pub fn end(&self) -> Result<(), StateError> {
        match self.left() {
            0 => Ok(()),
            n => Err(StateError::Invalid(format!("{n} bytes left over"))),
        }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], StateError> {
        let short = StateError::Short { at: self.at, wanted: n as u64, length: self.bytes.len() };
        let end = self.at.checked_add(n).ok_or(short.clone())?;
        let slice = self.bytes.get(self.at..end).ok_or(short)?;
        self.at = end;
        Ok(slice)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// A length of items of `width` bytes, refused when they cannot all be there.
    pub fn length(&mut self, width: usize) -> Result<usize, StateError> {
        let at = self.at;
        let n = self.u64()?;
        match n.checked_mul(width.max(1) as u64) {
            Some(wanted) if wanted <= self.left() as u64 => Ok(n as usize),
            wanted => Err(StateError::Short { at, wanted: wanted.unwrap_or(u64::MAX), length: self.bytes.len() }),
        }
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, StateError> {
        Ok(self.fixed::<1>()?[0])
    }

    /// A flag; anything but 0 and 1 is refused.
    pub fn bool(&mut self) -> Result<bool, StateError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            x => Err(StateError::Invalid(format!("{x} is not a flag"))),
        }
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, StateError> {
        Ok(u32::from_le_bytes(self.fixed()?))
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, StateError> {
        Ok(u64::from_le_bytes(self.fixed()?))
    }

    /// A number of rows, small enough that counting goes on: no state of ours has come to 2^53.
    pub fn count(&mut self) -> Result<u64, StateError> {
        match self.u64()? {
            count if count < 1 << 53 => Ok(count),
            count => Err(StateError::Invalid(format!("a count of {count} rows"))),
        }
    }

    /// Eight bytes, signed.
    pub fn i64(&mut self) -> Result<i64, StateError> {
        Ok(i64::from_le_bytes(self.fixed()?))
    }

    /// A float by its bits.
    pub fn f64(&mut self) -> Result<f64, StateError> {
        Ok(f64::from_bits(self.u64()?))
    }

    /// A present or absent float.
    pub fn maybe_f64(&mut self) -> Result<Option<f64>, StateError> {
        if self.bool()? { Ok(Some(self.f64()?)) } else { Ok(None) }
    }

    /// Bytes with their length in front, still in place.
    pub fn bytes(&mut self) -> Result<&'a [u8], StateError> {
        let n = self.length(1)?;
        self.take(n)
    }

    /// Text with its length in front.
    pub fn str(&mut self) -> Result<&'a str, StateError> {
        std::str::from_utf8(self.bytes()?).map_err(|e| StateError::Invalid(format!("text is not UTF-8: {e}")))
    }

    /// Floats with their length in front.
    pub fn f64s(&mut self) -> Result<Vec<f64>, StateError> {
        (0..self.length(8)?).map(|_| self.f64()).collect()
    }

    /// Integers with their length in front.
    pub fn i64s(&mut self) -> Result<Vec<i64>, StateError> {
        (0..self.length(8)?).map(|_| self.i64()).collect()
    }

    /// Integers with their length in front.
    pub fn u32s(&mut self) -> Result<Vec<u32>, StateError> {
        (0..self.length(4)?).map(|_| self.u32()).collect()
    }

    /// Floats whose number the code knows.
    pub fn array<const N: usize>(&mut self) -> Result<[f64; N], StateError> {
        let mut out = [0.0; N];
        for x in &mut out {
            *x = self.f64()?;
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut w = Writer::new(*b"TEST", 3);
        w.u8(9);
        w.bool(true);
        w.u32(u32::MAX);
        w.u64(1);
        w.i64(-5);
        w.maybe_f64(None);
        w.maybe_f64(Some(-0.0));
        w.bytes(b"raw");
        w.str("grün");
        w.f64s(&[f64::INFINITY]);
        w.i64s(&[i64::MIN, 2]);
        w.u32s(&[]);
        w.array(&[1.5, 2.5]);
        w.finish()
    }

    fn read(bytes: &[u8]) -> Result<(), StateError> {
        let mut r = Reader::open(bytes, *b"TEST", 3)?;
        assert_eq!((r.u8()?, r.bool()?, r.u32()?, r.u64()?, r.i64()?), (9, true, u32::MAX, 1, -5));
        assert_eq!(r.maybe_f64()?, None);
        assert!(r.maybe_f64()?.is_some_and(|x| x == 0.0 && x.is_sign_negative()));
        assert_eq!((r.bytes()?, r.str()?), (&b"raw"[..], "grün"));
        assert_eq!((r.f64s()?, r.i64s()?, r.u32s()?), (vec![f64::INFINITY], vec![i64::MIN, 2], vec![]));
        assert_eq!(r.array::<2>()?, [1.5, 2.5]);
        r.end()
    }

    #[test]
    fn what_was_written_comes_back() {
        assert_eq!(read(&sample()), Ok(()));
    }

    #[test]
    fn every_cut_is_an_error_and_no_panic() {
        let bytes = sample();
        for n in 0..bytes.len() {
            assert!(read(&bytes[..n]).is_err(), "cut at {n}");
        }
    }

    #[test]
    fn other_kinds_versions_lengths_and_tails_are_refused() {
        assert!(matches!(Reader::open(&sample(), *b"ELSE", 3), Err(StateError::Kind { .. })));
        assert_eq!(Reader::open(&sample(), *b"TEST", 4).map(|_| ()), Err(StateError::Version { wanted: 4, found: 3 }));
        let mut long = sample();
        long.push(0);
        assert!(matches!(read(&long), Err(StateError::Invalid(_))));
        let mut w = Writer::new(*b"TEST", 3);
        w.u64(u64::MAX);
        assert!(matches!(
            Reader::open(&w.finish(), *b"TEST", 3).and_then(|mut r| r.f64s()),
            Err(StateError::Short { .. })
        ));
    }
}
