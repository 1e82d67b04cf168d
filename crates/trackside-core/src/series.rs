//! Which series a row belongs to, as a dense number that is stable for as long as the index lives.
//!
//! Operators and models keep their state in arrays by that number. A row costs one table look-up: a text is looked up
//! once a batch, and from then on its number stands for it. Tags beyond [`NUMBERED`] are compared as texts.

use crate::batch;
use arrow::array::{Array, DictionaryArray, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use hashbrown::HashMap;

/// Combinations of tag numbers up to this many (or 4 × the rows) are looked up in a table, more in a hash map.
const TABLE: usize = 1 << 16;

/// So many tags have their texts numbered: the numbers together fill one word.
const NUMBERED: usize = 4;

/// Numbers series by their tags, in the order of their first appearance.
#[derive(Debug, Default, Clone)]
pub struct SeriesIndex {
    tags: Vec<String>,
    by_key: HashMap<Box<[u8]>, u32>,
    keys: Vec<Box<[u8]>>,
    /// By tag, the number of each text that was met; 0 is null. With `by_texts` a cache: not in `encoded`.
    texts: Vec<HashMap<Box<str>, u32>>,
    /// Series by the numbers of their texts, 32 bits each.
    by_texts: HashMap<u128, u32>,
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
        let numbers = self.number_texts(&columns);
        let encoded = |row: usize| {
            encode(columns.iter().map(|(column, values)| batch::tag_value(column, values, row))).into_boxed_slice()
        };
        let find = |index: &mut Self, row: usize| {
            let Some(numbers) = &numbers else { return index.intern(encoded(row)) };
            let texts =
                (0..columns.len()).fold(0, |all, column| all << 32 | u128::from(numbers[column][digit(column, row)]));
            if let Some(series) = index.by_texts.get(&texts) {
                return *series;
            }
            let series = index.intern(encoded(row));
            index.by_texts.insert(texts, series);
            series
        };
        match combinations {
            Some(size) if size <= TABLE.max(rows * 4) => {
                let mut table = vec![u32::MAX; size];
                for row in 0..rows {
                    let code = (0..columns.len()).fold(0, |code, column| code * radix[column] + digit(column, row));
                    if table[code] == u32::MAX {
                        table[code] = find(self, row);
                    }
                    out.push(table[code]);
                }
            }
            Some(_) => {
                let mut seen: HashMap<usize, u32> = HashMap::new();
                for row in 0..rows {
                    let code = (0..columns.len()).fold(0, |code, column| code * radix[column] + digit(column, row));
                    out.push(*seen.entry(code).or_insert_with(|| find(self, row)));
                }
            }
            None => (0..rows).for_each(|row| out.push(find(self, row))),
        }
    }

    /// By tag and digit (0 is null, k + 1 the k-th text of the batch), the text's number; none for too many tags.
    fn number_texts(&mut self, columns: &[(&DictionaryArray<Int32Type>, &StringArray)]) -> Option<Vec<Vec<u32>>> {
        if columns.len() != self.tags.len() || columns.len() > NUMBERED {
            return None;
        }
        self.texts.resize_with(columns.len(), HashMap::new);
        let number = |((_, values), texts): (&(_, &StringArray), &mut HashMap<Box<str>, u32>)| {
            let number = |text: Option<&str>| {
                let Some(text) = text else { return 0 };
                let next = texts.len() as u32 + 1;
                *texts.entry_ref(text).or_insert(next)
            };
            std::iter::once(0).chain(values.iter().map(number)).collect()
        };
        Some(columns.iter().zip(&mut self.texts).map(number).collect())
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
    fn a_text_of_two_tags_a_null_and_a_restored_index_keep_their_numbers() {
        let config = serde_json::json!({"series": ["a", "b"], "fields": {"value": "float"}});
        let layout = crate::schema::Layout::new(serde_json::from_value(config).unwrap()).unwrap();
        let batch = |rows: &[[Option<&str>; 2]]| {
            let mut builder = crate::builder::EventBuilder::new(layout.clone());
            for row in rows {
                row.iter().enumerate().for_each(|(tag, text)| _ = text.map(|text| builder.tag(tag, text)));
                builder.finish_row(0);
            }
            builder.finish()
        };
        let mut index = SeriesIndex::new(layout.tags());
        let mut out = Vec::new();
        index.rows(
            &batch(&[[Some("x"), Some("y")], [Some("y"), Some("x")], [None, Some("x")], [Some("x"), None]]),
            &mut out,
        );
        index.rows(&batch(&[[Some("x"), None], [None, Some("x")], [None, None], [Some("x"), Some("y")]]), &mut out);
        assert_eq!(out, [0, 1, 2, 3, 3, 2, 4, 0]);
        let mut again = SeriesIndex::restore(layout.tags(), index.encoded().iter().map(|key| key.to_vec()));
        out.clear();
        again.rows(&batch(&[[None, Some("x")], [Some("new"), Some("y")], [Some("y"), Some("x")]]), &mut out);
        assert_eq!(out, [2, 5, 1]);
    }

    #[test]
    fn rows_without_tags_are_one_series() {
        let mut index = SeriesIndex::new(&[]);
        let mut out = Vec::new();
        index.rows(&events(&[(0, "b", 1.0), (1, "a", 2.0)]), &mut out);
        assert_eq!(out, [0, 0]);
    }
}
