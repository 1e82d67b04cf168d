//! What a model's worker answers: prefix, header, body. Whatever it sends, the engine gets an answer that fits the request or an
//! error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trackside_fuzz::choice;

fuzz_target!(|data: &[u8]| {
    let (number, bytes) = choice(data);
    let (rows, fields) = (usize::from(number & 0x0f), usize::from(number >> 4 & 3) + 1);
    assert!(trackside_engine::fuzzing::tail_request_survives(bytes));
    if let Some(tail) = trackside_engine::fuzzing::tail_reply(bytes, rows, fields) {
        assert!(tail.to >= 10 && tail.reply.rows <= rows && tail.reply.score.len() == tail.reply.rows * fields);
    }
    let Some(reply) = trackside_engine::fuzzing::reply(bytes, rows, fields, number >= 128) else { return };
    assert_eq!(reply.rows, rows);
    if number < 128 {
        assert_eq!(
            (reply.score.len(), reply.anomaly.len(), reply.ready.len()),
            (rows * fields, rows * fields, rows * fields)
        );
        assert!(reply.forecasts.row.iter().all(|row| (0..rows as i64).contains(row)));
        assert!(reply.reasons.iter().all(|(index, _)| *index < rows * fields));
    }
});
