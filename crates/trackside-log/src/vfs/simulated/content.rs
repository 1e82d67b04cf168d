//! What a file holds: in the page cache, on the disk, and which sectors differ.

use std::ops::Range;

use super::Random;

/// What a disk writes at once, mostly.
const SECTOR: usize = 512;
/// Of the sectors that were under way when the power went, one in so many is torn.
const TORN: u64 = 64;

/// A file's bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// As processes see them.
    now: Vec<u8>,
    /// As the disk has them.
    disk: Vec<u8>,
    /// Sectors that the next fsync writes.
    dirty: Vec<bool>,
    /// The length is not on the disk yet.
    grown: bool,
}

impl Content {
    pub(super) fn len(&self) -> usize {
        self.now.len()
    }

    /// The bytes of a range, as far as the file goes.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        let end = range.end.min(self.now.len());
        self.now.get(range.start..end).unwrap_or_default()
    }

    pub(super) fn allocate(&mut self, length: usize) {
        if length > self.now.len() {
            self.now.resize(length, 0);
            self.dirty.resize(length.div_ceil(SECTOR), false);
            self.grown = true;
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8], at: usize) {
        let end = at + bytes.len();
        self.allocate(end);
        self.now[at..end].copy_from_slice(bytes);
        self.dirty[at / SECTOR..end.div_ceil(SECTOR)].fill(true);
    }

    /// The kernel writes back some sectors of its own accord.
    pub(super) fn write_back(&mut self, mut some: impl FnMut() -> bool) {
        self.lengthen();
        for sector in 0..self.dirty.len() {
            if self.dirty[sector] && some() {
                self.write_sector(sector);
            }
        }
    }

    /// A successful fsync.
    pub(super) fn sync(&mut self) {
        self.write_back(|| true);
    }

    /// A failed fsync: some of it is written, and the rest is forgotten though processes still see it.
    pub(super) fn fail_sync(&mut self, some: impl FnMut() -> bool) {
        self.write_back(some);
        self.dirty.fill(false);
    }

    /// Flips a bit in both copies.
    pub(super) fn rot(&mut self, bit: u64) {
        let at = (bit / 8) as usize;
        for bytes in [&mut self.now, &mut self.disk] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// What is found after a power loss.
    pub(super) fn survive(&self, random: &mut Random) -> Self {
        let mut after = self.clone();
        if after.grown && random.once_in(2) {
            after.lengthen();
        }
        let (all, none) = (random.once_in(4), random.once_in(4));
        for sector in 0..after.dirty.len() {
            if !after.dirty[sector] || none {
                continue;
            }
            if !none && random.once_in(TORN) {
                after.tear_sector(sector, random);
            } else if all || random.once_in(2) {
                after.write_sector(sector);
            }
        }
        after.now = after.disk.clone();
        after.dirty = vec![false; after.now.len().div_ceil(SECTOR)];
        after.grown = false;
        after
    }

    fn lengthen(&mut self) {
        self.disk.resize(self.now.len(), 0);
        self.grown = false;
    }

    fn write_sector(&mut self, sector: usize) {
        let range = sector * SECTOR..((sector + 1) * SECTOR).min(self.now.len()).min(self.disk.len());
        if !range.is_empty() {
            self.disk[range.clone()].copy_from_slice(&self.now[range]);
        }
        self.dirty[sector] = false;
    }

    /// The first bytes are new, the others old.
    fn tear_sector(&mut self, sector: usize, random: &mut Random) {
        let start = sector * SECTOR;
        let end = (start + random.below(SECTOR as u64) as usize).min(self.disk.len());
        if start < end {
            self.disk[start..end].copy_from_slice(&self.now[start..end]);
        }
    }
}
