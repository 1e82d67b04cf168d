//! MQTT packets as a broker may send them, in pieces of any size: cut differently they are the same packets.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trackside_connectors::sources::mqtt::fuzzing::packets;
use trackside_fuzz::choice;

fuzz_target!(|data: &[u8]| {
    let (number, bytes) = choice(data);
    let (v5, max) = (number & 1 == 1, if number & 2 == 2 { 64 } else { 1 << 20 });
    let at_once = packets(bytes, v5, max, bytes.len().max(1));
    let in_pieces = packets(bytes, v5, max, usize::from(number >> 2) + 1);
    assert_eq!(at_once, in_pieces);
});
