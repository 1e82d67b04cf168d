//! Which series a row belongs to, as a dense number that is stable for as long as the index lives.
//!
//! Operators and models keep their state in arrays by that number. A row costs one table look-up: texts are compared
//! once a batch and distinct combination of tags, not once a row.

use crate::batch;
use arrow::array::{Array, RecordBatch};
use hashbrown::HashMap;

/// Combinations of tag numbers up to this many (or 4 × the rows) are looked up in a table, more in a hash map.
const TABLE: usize = 1 << 16;

/// Numbers series by their tags, in the order of their first appearance.
#[derive(Debug, Default, Clone)]
pub struct SeriesIndex {
    tags: Vec<String>,
    by_key: HashMap<Box<[u8]>, u32>,
    keys: Vec<Box<[u8]>>,
}

impl SeriesIndex {
    /// An empty index over these tag columns.
    pub fn new(tags: &[String]) -> Self {
        Self { tags: tags.to_vec(), ..Self::default() }
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no row was seen yet.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The tags of a series, in the order of the schema.
    pub fn key(&self, series: u32) -> Vec<Option<String>> {
        decode(&self.keys[series as usize])
    }

    /// The encoded keys in order of their numbers, for a snapshot.
    pub fn encoded(&self) -> &[Box<[u8]>] {
        &self.keys
    }

    /// The index that a snapshot's keys describe.
    pub fn restore(tags: &[String], keys: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut index = Self::new(tags);
        for key in keys {
            index.intern(key.into_boxed_slice());
        }
        index
    }

    /// The number of the series with these tags, a new one if it was never seen.
    pub fn number(&mut self, tags: &[Option<&str>]) -> u32 {
        self.intern(encode(tags.iter().copied()).into_boxed_slice())
    }

    /// The number of each row's series, appended to `out`.
    pub fn rows(&mut self, batch: &RecordBatch, out: &mut Vec<u32>) {
        let rows = batch.num_rows();
        let columns: Vec<_> = self.tags.iter().filter_map(|tag| batch::tag(batch, tag)).collect();
        if columns.is_empty() {
            let none = self.number(&vec![None; self.tags.len()]);
            out.extend(std::iter::repeat_n(none, rows));
            return;
        }
        // A row's code in mixed radix: 0 is null, k + 1 is the k-th text.
        let radix: Vec<usize> = columns.iter().map(|(_, values)| values.len() + 1).collect();
        let combinations = radix.iter().try_fold(1usize, |product, r| product.checked_mul(*r));
        let digit = |column: usize, row: usize| -> usize {
            let keys = columns[column].0.keys();
            if keys.is_null(row) { 0 } else { keys.value(row) as usize + 1 }
        };
        let intern = |row: usize| {
            encode(columns.iter().map(|(column, values)| batch::tag_value(column, values, row))).into_boxed_slice()
        };
        match combinations {
            Some(size) if size <= TABLE.max(rows * 4) => {
                let mut table = vec![u32::MAX; size];
                for row in 0..rows {
                    let code = (0..columns.len()).fold(0, |code, column| code * radix[column] + digit(column, row));
                    if table[code] == u32::MAX {
                        table[code] = self.intern(intern(row));
                    }
                    out.push(table[code]);
                }
            }
            Some(_) => {
                let mut seen: HashMap<usize, u32> = HashMap::new();
                for row in 0..rows {
                    let code = (0..columns.len()).fold(0, |code, column| code * radix[column] + digit(column, row));
                    out.push(*seen.entry(code).or_insert_with(|| self.intern(intern(row))));
                }
            }
            None => (0..rows).for_each(|row| out.push(self.intern(intern(row)))),
        }
    }

    fn intern(&mut self, key: Box<[u8]>) -> u32 {
        if let Some(number) = self.by_key.get(&key) {
            return *number;
        }
        let number = self.keys.len() as u32;
        self.keys.push(key.clone());
        self.by_key.insert(key, number);
        number
    }
}

/// A key: for each tag its length + 1 (0 = null) as u32 little-endian, then its bytes.
fn encode<'a>(tags: impl Iterator<Item = Option<&'a str>>) -> Vec<u8> {
    let mut key = Vec::with_capacity(32);
    for tag in tags {
        key.extend_from_slice(&tag.map_or(0, |t| t.len() as u32 + 1).to_le_bytes());
        key.extend_from_slice(tag.unwrap_or_default().as_bytes());
    }
    key
}

fn decode(mut key: &[u8]) -> Vec<Option<String>> {
    let mut tags = Vec::new();
    while let Some((length, rest)) = key.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let (text, rest) = rest.split_at(length.saturating_sub(1).min(rest.len()));
        tags.push((length > 0).then(|| String::from_utf8_lossy(text).into_owned()));
        key = rest;
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::events;

    #[test]
    fn numbers_are_dense_stable_and_follow_first_appearance() {
        let batch = events(&[(0, "b", 1.0), (1, "a", 2.0), (2, "b", 3.0)]);
        let mut index = SeriesIndex::new(&["device".to_string()]);
        let mut out = Vec::new();
        index.rows(&batch, &mut out);
        index.rows(&batch.slice(1, 1), &mut out);
        assert_eq!(out, [0, 1, 0, 1]);
        assert_eq!(index.key(1), [Some("a".to_string())]);
        let again = SeriesIndex::restore(&["device".to_string()], index.encoded().iter().map(|k| k.to_vec()));
        assert_eq!(again.len(), 2);
        assert_eq!(again.key(0), [Some("b".to_string())]);
    }

    #[test]
    fn rows_without_tags_are_one_series() {
        let mut index = SeriesIndex::new(&[]);
        let mut out = Vec::new();
        index.rows(&events(&[(0, "b", 1.0), (1, "a", 2.0)]), &mut out);
        assert_eq!(out, [0, 0]);
    }
}
