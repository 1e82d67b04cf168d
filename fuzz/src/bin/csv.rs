//! The CSV decoder: header rows, quotes, delimiters. A file decoded at once is the file decoded record by record.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trackside_connectors::formats::Decoder;
use trackside_connectors::formats::csv::Csv;
use trackside_fuzz::{choice, mapping, one_by_one, same, schema, whole};

fuzz_target!(|data: &[u8]| {
    let (number, bytes) = choice(data);
    let layout = schema(number);
    let delimiter = [None, Some(b','), Some(b';'), Some(b'\t')][usize::from(number / 3 % 4)];
    let columns: &[&str] = if number >= 128 { &["ts", "device", "value", "note"] } else { &[] };
    let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
    let Ok(mut csv) = Csv::new(mapping(&layout), delimiter, &columns) else { return };
    let mut rest = bytes;
    if csv.wants_header() {
        let Some(end) = csv.record_end(bytes, true) else { return };
        if csv.header(&bytes[..end]).is_err() {
            return;
        }
        rest = &bytes[end..];
    }
    let header = &bytes[..bytes.len() - rest.len()];
    let another = || -> Box<dyn Decoder> {
        let mut csv = Csv::new(mapping(&layout), delimiter, &columns).expect("it was built before");
        if !header.is_empty() {
            csv.header(header).expect("the same header");
        }
        Box::new(csv)
    };
    let at_once = whole(&mut csv, &layout, rest);
    same(&at_once, &one_by_one(&csv, another, &layout, rest));
});
