//! What the fuzz targets share: a schema, decoders run in two ways, and small pipelines in memory.
//!
//! A target is a file in `src/bin/`; it takes any bytes and must neither panic nor take long nor eat memory. Where the
//! product has a fast way and a general one, both run and must agree. Some targets repair checksums first, for a
//! fuzzer does not guess them.

use arrow::array::RecordBatch;
use std::collections::BTreeMap;
use std::sync::Arc;
use trackside_connectors::formats::{Decoder, Envelope, Mapping};
use trackside_connectors::testing::layout;
use trackside_core::builder::EventBuilder;
use trackside_core::dead_letter::DeadLetter;
use trackside_core::schema::Layout;

/// When everything arrives.
pub const ARRIVAL: i64 = 1_700_000_000_000_000_000;

/// Schemas by number: wide with everything kept, narrow with unknown keys refused, and one without a time.
pub fn schema(number: u8) -> Arc<Layout> {
    layout(match number % 3 {
        0 => serde_json::json!({
            "time": {"field": "ts", "unit": "ms"},
            "series": ["device", "sensor"],
            "fields": {"value": "float", "unit": "string", "seq": "integer", "ok": "boolean"},
            "unknown": "keep",
            "event_id": "id",
        }),
        1 => serde_json::json!({
            "time": {"field": "timestamp"},
            "fields": {"value": "float", "count": "integer"},
            "unknown": "reject",
        }),
        _ => serde_json::json!({"series": ["device"], "fields": {"value": "float"}, "unknown": "ignore"}),
    })
}

/// How keys go to columns, for a block of no special name.
pub fn mapping(layout: &Arc<Layout>) -> Arc<Mapping> {
    Mapping::new(layout, "fuzz", &BTreeMap::new()).expect("the schemas are sound").into()
}

/// What came of some bytes.
#[derive(Debug, PartialEq)]
pub struct Decoded {
    pub rows: RecordBatch,
    pub dead: Vec<DeadLetter>,
}

/// Decodes all bytes at once.
pub fn whole(decoder: &mut dyn Decoder, layout: &Arc<Layout>, bytes: &[u8]) -> Decoded {
    let (mut out, mut dead) = (EventBuilder::new(layout.clone()), Vec::new());
    decoder.decode(bytes, &Envelope::at(ARRIVAL), &mut out, &mut dead);
    Decoded { rows: out.finish(), dead }
}

/// Decodes record by record, each by the decoder that `next` gives for it.
pub fn one_by_one(
    cut: &dyn Decoder,
    mut next: impl FnMut() -> Box<dyn Decoder>,
    layout: &Arc<Layout>,
    mut bytes: &[u8],
) -> Decoded {
    let (mut out, mut dead) = (EventBuilder::new(layout.clone()), Vec::new());
    let mut line = 1;
    while let Some(end) = cut.record_end(bytes, true) {
        assert!(end > 0 && end <= bytes.len(), "a record of {end} bytes in {}", bytes.len());
        let envelope = Envelope { first_line: line, ..Envelope::at(ARRIVAL) };
        next().decode(&bytes[..end], &envelope, &mut out, &mut dead);
        line += bytes[..end].iter().filter(|byte| **byte == b'\n').count() as u64;
        bytes = &bytes[end..];
    }
    assert!(bytes.is_empty(), "the last bytes are a record");
    Decoded { rows: out.finish(), dead }
}

/// Says what differs, in a form that can be read.
pub fn same(a: &Decoded, b: &Decoded) {
    let text = |batch: &RecordBatch| trackside_connectors::testing::rows(batch);
    assert_eq!(text(&a.rows), text(&b.rows), "rows");
    assert_eq!(a.dead, b.dead, "dead letters");
    assert_eq!(a.rows, b.rows, "columns");
}

/// Splits the first byte off; 0 when there is none.
pub fn choice(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}
