//! Which partition a row goes to: a series always goes to the same one.

use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use trackside_core::batch;

/// Rows by the hash of their series; rows without a series go to partition 0. The hash must never change: it is part
/// of the data directory (a series' rows stay in its partition).
pub(super) fn by_partition(rows: &RecordBatch, tags: &[String], count: usize) -> Vec<Option<RecordBatch>> {
    let columns: Vec<_> = tags.iter().filter_map(|tag| batch::tag(rows, tag)).collect();
    // One hash a text, not one a row.
    let hashes: Vec<Vec<u64>> = columns
        .iter()
        .map(|(_, values)| {
            values.iter().map(|text| xxhash_rust::xxh3::xxh3_64(text.unwrap_or_default().as_bytes())).collect()
        })
        .collect();
    let mut rows_of: Vec<Vec<u32>> = vec![Vec::new(); count];
    for row in 0..rows.num_rows() {
        let mut hash = 0u64;
        for ((column, _), hashes) in columns.iter().zip(&hashes) {
            let text = if column.is_valid(row) { hashes[column.keys().value(row) as usize] } else { 0 };
            hash = hash.rotate_left(17).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ text;
        }
        rows_of[(hash % count as u64) as usize].push(row as u32);
    }
    let take = |picked: Vec<u32>| {
        // Indices come from this very batch, so they are in range.
        (!picked.is_empty()).then(|| take_record_batch(rows, &UInt32Array::from(picked)).expect("rows of this batch"))
    };
    rows_of.into_iter().map(take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackside_core::testing::{events, layout};

    #[test]
    fn a_series_stays_in_its_partition_and_no_row_is_lost() {
        let devices: Vec<String> = (0..40).map(|number| format!("pump-{number}")).collect();
        let rows: Vec<_> = devices.iter().map(|device| (1, device.as_str(), 0.5)).collect();
        let split = |rows: &[(i64, &str, f64)]| by_partition(&events(rows), layout().tags(), 3);
        let all: Vec<usize> = split(&rows).iter().map(|part| part.as_ref().map_or(0, RecordBatch::num_rows)).collect();
        assert!(all.iter().sum::<usize>() == 40 && all.iter().all(|count| *count > 5), "{all:?}");
        for (part, together) in all.iter().enumerate() {
            let alone = rows.iter().filter(|row| split(&[**row])[part].is_some()).count();
            assert_eq!(alone, *together);
        }
    }
}
