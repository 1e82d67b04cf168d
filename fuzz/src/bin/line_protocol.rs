//! The decoder of InfluxDB line protocol. A body decoded at once is the body decoded line by line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trackside_connectors::formats::line_protocol::LineProtocol;
use trackside_core::time::Unit;
use trackside_fuzz::{choice, mapping, one_by_one, same, schema, whole};

fuzz_target!(|data: &[u8]| {
    let (number, bytes) = choice(data);
    let layout = schema(number);
    let decoder = || {
        let mut lines = LineProtocol::new(mapping(&layout));
        lines.precision = [Unit::Ns, Unit::Us, Unit::Ms, Unit::S][usize::from(number / 3 % 4)];
        lines
    };
    let at_once = whole(&mut decoder(), &layout, bytes);
    same(&at_once, &one_by_one(&decoder(), || Box::new(decoder()), &layout, bytes));
});
