//! Memory that starts on a 64-byte boundary, so that Arrow buffers can point into a frame without a copy.

use std::ops::Deref;

/// The alignment of every section, in the file and in memory.
pub const ALIGN: usize = 64;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Block([u8; ALIGN]);

/// A fixed number of bytes that start on a 64-byte boundary. Shared by `Arc` with whoever points into them.
pub struct AlignedBytes {
    blocks: Vec<Block>,
    length: usize,
}

#[allow(unsafe_code)]
impl AlignedBytes {
    /// So many zero bytes.
    pub fn zeroed(length: usize) -> Self {
        Self { blocks: vec![Block([0; ALIGN]); length.div_ceil(ALIGN)], length }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the blocks are one allocation of at least `length` initialised bytes without padding in between.
        unsafe { std::slice::from_raw_parts(self.blocks.as_ptr().cast(), self.length) }
    }

    /// The bytes, to be filled.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes the access the only one.
        unsafe { std::slice::from_raw_parts_mut(self.blocks.as_mut_ptr().cast(), self.length) }
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl std::fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBytes({})", self.length)
    }
}

/// The next multiple of [`ALIGN`].
pub(crate) fn padded(length: usize) -> usize {
    length.next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_length_is_aligned_zero_and_writable() {
        for length in [0, 1, 63, 64, 65, 1000] {
            let mut bytes = AlignedBytes::zeroed(length);
            assert_eq!(bytes.as_ptr() as usize % ALIGN, 0);
            assert!(bytes.len() == length && bytes.iter().all(|b| *b == 0));
            bytes.as_mut_slice().fill(7);
            assert_eq!(bytes.iter().map(|b| usize::from(*b)).sum::<usize>(), 7 * length);
        }
    }
}
