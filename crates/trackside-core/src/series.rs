//! Which series a row belongs to, as a dense number that is stable for as long as the index lives.
//!
//! Operators and models keep their state in arrays by that number. A text is looked up once a batch, and from then on its
//! number stands for it. A row then costs one look into a grid with a side for each tag; where that would be too large for
//! the series that there are (many texts in several tags) one into a hash map for each tag.

use crate::batch;
use arrow::array::{Array, DictionaryArray, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use hashbrown::HashMap;

/// Most cells of the grid, 16 MiB; fewer while there are few series.
const GRID: usize = 1 << 22;
const CELLS_MIN: usize = 1 << 16;
const CELLS_A_SERIES: usize = 16;

/// A cell whose series was not asked for yet.
const UNKNOWN: u32 = u32::MAX;

/// Numbers series by their tags, in the order of their first appearance.
#[derive(Debug, Default, Clone)]
pub struct SeriesIndex {
    tags: Vec<String>,
    by_key: HashMap<Box<[u8]>, u32>,
    keys: Vec<Box<[u8]>>,
    /// By tag, the number of each text that was met; 0 is null. All that follows is a cache: not in `encoded`.
    texts: Vec<HashMap<Box<str>, u32>>,
    grid: Grid,
    /// Where the grid is too large: by tag the number of each pair of a number so far and a text's, and by the last of them
    /// the series.
    pairs: Vec<HashMap<u64, u32>>,
    by_pair: Vec<u32>,
}

/// A tag's column: which text each row has, and the texts.
type Tag<'a> = (&'a DictionaryArray<Int32Type>, &'a StringArray);

/// A row's text in the batch: 0 is null, k + 1 the k-th text.
#[inline]
fn digit((column, _): &Tag<'_>, row: usize) -> usize {
    let keys = column.keys();
    if keys.is_null(row) { 0 } else { keys.value(row) as usize + 1 }
}

/// Series by the numbers of their texts, as a table with a side for each tag.
#[derive(Debug, Default, Clone)]
struct Grid {
    sides: Vec<usize>,
    series: Vec<u32>,
}

impl Grid {
    /// Makes room for all texts; false if that takes too many cells. What has grown is filled again as rows come.
    fn fit(&mut self, texts: &[HashMap<Box<str>, u32>], series: usize) -> bool {
        if self.sides.len() == texts.len() && self.sides.iter().zip(texts).all(|(side, texts)| texts.len() < *side) {
            return true;
        }
        self.sides = texts.iter().map(|texts| (texts.len() + 1).next_power_of_two()).collect();
        let cells = self.sides.iter().try_fold(1usize, |cells, side| cells.checked_mul(*side));
        let most = (series * CELLS_A_SERIES).clamp(CELLS_MIN, GRID);
        let cells = cells.filter(|cells| *cells <= most);
        if cells.is_none() {
            self.sides.clear();
        }
        self.series = vec![UNKNOWN; cells.unwrap_or(0)];
        cells.is_some()
    }

    /// The cell of each row.
    fn cells_of(&self, columns: &[Tag<'_>], numbers: &[Vec<u32>], rows: usize) -> Vec<u32> {
        let mut cells = vec![0; rows];
        for ((column, numbers), side) in columns.iter().zip(numbers).zip(&self.sides) {
            let side = *side as u32;
            let keys = column.0.keys();
            if keys.null_count() == 0 {
                for (cell, key) in cells.iter_mut().zip(keys.values()) {
                    *cell = *cell * side + numbers[*key as usize + 1];
                }
            } else {
                for (row, cell) in cells.iter_mut().enumerate() {
                    *cell = *cell * side + numbers[digit(column, row)];
                }
            }
        }
        cells
    }
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
        let columns: Vec<Tag<'_>> = self.tags.iter().filter_map(|tag| batch::tag(batch, tag)).collect();
        if columns.is_empty() {
            let none = self.number(&vec![None; self.tags.len()]);
            out.extend(std::iter::repeat_n(none, rows));
            return;
        }
        let encoded = |row: usize| {
            encode(columns.iter().map(|(column, values)| batch::tag_value(column, values, row))).into_boxed_slice()
        };
        if columns.len() != self.tags.len() {
            out.extend((0..rows).map(|row| self.intern(encoded(row))));
            return;
        }
        let numbers = self.number_texts(&columns);
        if self.grid.fit(&self.texts, self.keys.len()) {
            let cells = self.grid.cells_of(&columns, &numbers, rows);
            out.extend(cells.into_iter().enumerate().map(|(row, cell)| {
                let known = self.grid.series[cell as usize];
                if known != UNKNOWN {
                    return known;
                }
                let series = self.intern(encoded(row));
                self.grid.series[cell as usize] = series;
                series
            }));
            return;
        }
        self.pairs.resize_with(columns.len(), HashMap::new);
        for row in 0..rows {
            let mut number = 0;
            for ((column, numbers), pairs) in columns.iter().zip(&numbers).zip(&mut self.pairs) {
                let next = pairs.len() as u32;
                let pair = u64::from(number) << 32 | u64::from(numbers[digit(column, row)]);
                number = *pairs.entry(pair).or_insert(next);
            }
            if self.by_pair.len() <= number as usize {
                self.by_pair.resize(number as usize + 1, UNKNOWN);
            }
            let known = self.by_pair[number as usize];
            let series = if known == UNKNOWN { self.intern(encoded(row)) } else { known };
            self.by_pair[number as usize] = series;
            out.push(series);
        }
    }

    /// By tag and digit, the text's number.
    fn number_texts(&mut self, columns: &[Tag<'_>]) -> Vec<Vec<u32>> {
        self.texts.resize_with(columns.len(), HashMap::new);
        let number = |((_, values), texts): (&Tag<'_>, &mut HashMap<Box<str>, u32>)| {
            let number = |text: Option<&str>| {
                let Some(text) = text else { return 0 };
                let next = texts.len() as u32 + 1;
                *texts.entry_ref(text).or_insert(next)
            };
            std::iter::once(0).chain(values.iter().map(number)).collect()
        };
        columns.iter().zip(&mut self.texts).map(number).collect()
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
    fn grid_map_and_texts_number_alike_while_the_tags_grow() {
        // Texts of each tag, by round: within the grid, grown, and too large for it; then too many tags for the map.
        for rounds in [vec![vec![3, 2], vec![40, 3], vec![3000, 3000], vec![2, 2]], vec![vec![3; 5], vec![30; 5]]] {
            let tags: Vec<String> = (0..rounds[0].len()).map(|tag| format!("t{tag}")).collect();
            let config = serde_json::json!({"series": tags, "fields": {"value": "float"}});
            let layout = crate::schema::Layout::new(serde_json::from_value(config).unwrap()).unwrap();
            let (mut index, mut plain, mut dice) = (SeriesIndex::new(&tags), HashMap::new(), 1u64);
            for texts in rounds {
                let mut builder = crate::builder::EventBuilder::new(layout.clone());
                let mut expected = Vec::new();
                for _ in 0..5000 {
                    let row: Vec<u64> = texts
                        .iter()
                        .map(|texts| {
                            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                            (dice >> 33) % texts
                        })
                        .collect();
                    // 0 is null.
                    let named = row.iter().enumerate().filter(|(_, text)| **text > 0);
                    named.for_each(|(tag, text)| builder.tag(tag, &format!("text {text}")));
                    builder.finish_row(0);
                    let next = plain.len() as u32;
                    expected.push(*plain.entry(row).or_insert(next));
                }
                let mut out = Vec::new();
                index.rows(&builder.finish(), &mut out);
                assert_eq!(out, expected, "{texts:?}");
            }
            assert_eq!(index.len(), plain.len());
        }
    }

    #[test]
    fn rows_without_tags_are_one_series() {
        let mut index = SeriesIndex::new(&[]);
        let mut out = Vec::new();
        index.rows(&events(&[(0, "b", 1.0), (1, "a", 2.0)]), &mut out);
        assert_eq!(out, [0, 0]);
    }
}
