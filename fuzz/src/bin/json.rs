//! The JSON decoder. Its templates (shapes learnt from the lines before) must give what the general parser gives, which
//! a decoder that never saw a line is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trackside_connectors::formats::json::Json;
use trackside_fuzz::{choice, mapping, one_by_one, same, schema, whole};

fuzz_target!(|data: &[u8]| {
    let (number, bytes) = choice(data);
    let layout = schema(number);
    let mapping = mapping(&layout);
    let mut learning = Json::new(mapping.clone());
    let learnt = whole(&mut learning, &layout, bytes);
    let general = one_by_one(&learning, || Box::new(Json::new(mapping.clone())), &layout, bytes);
    same(&learnt, &general);
    // What was learnt from these very lines changes nothing either.
    same(&learnt, &whole(&mut learning, &layout, bytes));
});
