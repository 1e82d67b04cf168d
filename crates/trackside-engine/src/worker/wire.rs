//! The worker protocol: a prefix of 16 bytes, a header, a body of raw columns. One request, one reply.
//!
//! A header is JSON, but for those of the two questions on every row's way ([`super::update`], [`super::tail`]).
//!
//! The same headers serve the in-process runtime, which only leaves out the socket. Numbers are little-endian.

use serde::Deserialize;
use serde_json::Value;
use std::io::{self, Write};
use trackside_core::model::{ForecastRows, ModelFault, ModelReply, ModelRequest, TailReply, TailRequest};

/// Bytes before the header: its length, its kind, the body's length.
pub(crate) const PREFIX: usize = 16;
/// Longest header of a reply; reasons and tracebacks stay far below.
pub(crate) const MAX_HEADER: u32 = 16 << 20;
/// Longest body of a reply.
pub(crate) const MAX_BODY: u64 = 1 << 30;

/// What a header is written in. Replies are always JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum HeaderKind {
    Json = 0,
    Update = 1,
    Tail = 2,
}

/// Writes one message.
pub(crate) fn send(out: &mut impl Write, kind: HeaderKind, header: &[u8], body: &[u8]) -> io::Result<()> {
    let mut message = Vec::with_capacity(PREFIX + header.len());
    message.extend_from_slice(&(header.len() as u32).to_le_bytes());
    message.extend_from_slice(&(kind as u32).to_le_bytes());
    message.extend_from_slice(&(body.len() as u64).to_le_bytes());
    message.extend_from_slice(header);
    out.write_all(&message)?;
    out.write_all(body)
}

/// The lengths in a reply's prefix, if they are believable.
pub(crate) fn lengths(prefix: &[u8; PREFIX]) -> Option<(usize, usize)> {
    let (header, rest) = prefix.split_first_chunk::<4>()?;
    let (zero, body) = rest.split_first_chunk::<4>()?;
    let (header, body) = (u32::from_le_bytes(*header), u64::from_le_bytes(body.try_into().ok()?));
    (*zero == [0; 4] && header <= MAX_HEADER && body <= MAX_BODY).then_some((header as usize, body as usize))
}

#[derive(Deserialize)]
struct ReplyHeader {
    ok: bool,
    #[serde(default)]
    error: String,
    #[serde(default)]
    traceback: String,
    #[serde(default)]
    rows: usize,
    #[serde(default)]
    to: Option<u64>,
    #[serde(default)]
    columns: Vec<(String, String, usize)>,
    #[serde(default)]
    reasons: Vec<(usize, String)>,
    #[serde(default)]
    learning: Option<(u64, u64)>,
    #[serde(default)]
    rss: Option<u64>,
}

/// The fault that a refused request describes; none when all is well.
pub fn fault(header: &Value) -> Option<ModelFault> {
    if header.get("ok").and_then(Value::as_bool) == Some(true) {
        return None;
    }
    let text = |key: &str| header.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(ModelFault::Raised { error: text("error"), traceback: text("traceback") })
}

/// Checks an answer to an update: nothing in it is trusted. `fields` is how many the model scores.
pub fn reply(header: Value, body: &[u8], request: &ModelRequest, fields: usize) -> Result<ModelReply, ModelFault> {
    let header = parse(header)?;
    let (rows, asked) = (header.rows, request.rows());
    if rows != asked {
        return Err(unusable(format!("{rows} rows for {asked}")));
    }
    columns(header, body, (!request.replay).then_some(fields))
}

/// Why a worker cannot wait at the end of the log by itself, if its answer says so: nothing is wrong with the model.
pub(crate) fn unable(header: &Value) -> Option<String> {
    let unable = header.get("unable").and_then(Value::as_bool) == Some(true);
    unable.then(|| header.get("error").and_then(Value::as_str).unwrap_or_default().to_owned())
}

/// The same for the answer of a worker that chose its rows by itself; that they are the right ones is for whoever knows
/// the log to check.
pub fn tail_reply(header: Value, body: &[u8], request: &TailRequest, fields: usize) -> Result<TailReply, ModelFault> {
    let header = parse(header)?;
    let (rows, to) = (header.rows, header.to.unwrap_or_default());
    if header.to.is_none() || rows > request.max_rows || to < request.offset || (rows > 0 && to == request.offset) {
        return Err(unusable(format!(
            "{rows} rows up to offset {to}, for at most {} from {} on",
            request.max_rows, request.offset
        )));
    }
    Ok(TailReply { to, reply: columns(header, body, (rows > 0).then_some(fields))? })
}

fn unusable(what: String) -> ModelFault {
    ModelFault::Raised { error: format!("the model's answer cannot be used: {what}"), traceback: String::new() }
}

fn parse(header: Value) -> Result<ReplyHeader, ModelFault> {
    let header: ReplyHeader = serde_json::from_value(header).map_err(|error| unusable(error.to_string()))?;
    if !header.ok {
        return Err(ModelFault::Raised { error: header.error, traceback: header.traceback });
    }
    Ok(header)
}

/// The answer's columns, with so many answers a row; with none, nobody reads them.
fn columns(header: ReplyHeader, body: &[u8], fields: Option<usize>) -> Result<ModelReply, ModelFault> {
    let mut reply = ModelReply {
        rows: header.rows,
        reasons: header.reasons,
        learning: header.learning,
        rss: header.rss,
        ..ModelReply::default()
    };
    let Some(fields) = fields else { return Ok(reply) };
    let mut rest = body;
    for (name, kind, length) in &header.columns {
        let width = match kind.as_str() {
            "f8" | "i8" => 8,
            "i4" => 4,
            "u1" => 1,
            other => return Err(unusable(format!("column `{name}` has the unknown type `{other}`"))),
        };
        let bytes = length.checked_mul(width).and_then(|size| rest.split_at_checked(size));
        let (bytes, after) = bytes.ok_or_else(|| unusable(format!("column `{name}` is cut short")))?;
        rest = after;
        let known = set(&mut reply, name, kind, bytes);
        if !known {
            return Err(unusable(format!("unknown column `{name}` of type `{kind}`")));
        }
    }
    check(&reply, reply.rows * fields).map_err(unusable)?;
    Ok(reply)
}

fn set(reply: &mut ModelReply, name: &str, kind: &str, bytes: &[u8]) -> bool {
    let forecasts = &mut reply.forecasts;
    match (name, kind) {
        ("score", "f8") => reply.score = f64s(bytes),
        ("expected", "f8") => reply.expected = f64s(bytes),
        ("lower", "f8") => reply.lower = f64s(bytes),
        ("upper", "f8") => reply.upper = f64s(bytes),
        ("anomaly", "u1") => reply.anomaly = bytes.iter().map(|b| *b != 0).collect(),
        ("ready", "u1") => reply.ready = bytes.iter().map(|b| *b != 0).collect(),
        ("forecast_row", "i8") => forecasts.row = i64s(bytes),
        ("forecast_field", "i4") => {
            forecasts.field = bytes.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)).collect()
        }
        ("made_at", "i8") => forecasts.made_at = i64s(bytes),
        ("for_time", "i8") => forecasts.for_time = i64s(bytes),
        ("mean", "f8") => forecasts.mean = f64s(bytes),
        ("forecast_lower", "f8") => forecasts.lower = f64s(bytes),
        ("forecast_upper", "f8") => forecasts.upper = f64s(bytes),
        _ => return false,
    }
    true
}

fn f64s(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
}

fn i64s(bytes: &[u8]) -> Vec<i64> {
    bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
}

fn check(reply: &ModelReply, answers: usize) -> Result<(), String> {
    let needed = [("score", reply.score.len()), ("anomaly", reply.anomaly.len()), ("ready", reply.ready.len())];
    let optional = [("expected", reply.expected.len()), ("lower", reply.lower.len()), ("upper", reply.upper.len())];
    for (name, length) in needed.into_iter().chain(optional.into_iter().filter(|(_, length)| *length > 0)) {
        if length != answers {
            return Err(format!("`{name}` has {length} values for {answers} answers"));
        }
    }
    let ForecastRows { row, field, made_at, for_time, mean, lower, upper } = &reply.forecasts;
    let lengths = [field.len(), made_at.len(), for_time.len(), mean.len(), lower.len(), upper.len()];
    if lengths.iter().any(|length| *length != row.len()) {
        return Err("the forecast columns differ in length".into());
    }
    if row.iter().any(|row| usize::try_from(*row).map_or(true, |row| row >= reply.rows)) {
        return Err("a forecast names a row that was not asked about".into());
    }
    if let Some((index, _)) = reply.reasons.iter().find(|(index, _)| *index >= answers) {
        return Err(format!("a reason is given for answer {index} of {answers}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::PathBuf;
    use std::sync::Arc;
    use trackside_core::log::FileLocation;
    use trackside_core::model::FrameSlice;

    fn request(rows: usize) -> ModelRequest {
        let location =
            FileLocation { path: Arc::new(PathBuf::from("s")), at: 0, length: 0, rows_at: 0, rows_length: 0 };
        ModelRequest { frames: vec![FrameSlice { location, base: 10, from: 0, to: rows }], skip: vec![], replay: false }
    }

    #[test]
    fn an_answer_is_read_and_a_wrong_one_is_named() {
        let columns = json!([["score", "f8", 2], ["anomaly", "u1", 2], ["ready", "u1", 2]]);
        let body = [1.5f64.to_le_bytes().as_slice(), &f64::NAN.to_le_bytes(), &[1, 0, 1, 0]].concat();
        let header = json!({"ok": true, "rows": 2, "columns": columns, "reasons": [[0, "jump"]]});
        let good = reply(header.clone(), &body, &request(2), 1).unwrap();
        assert_eq!((good.score[0], good.anomaly.clone(), good.reasons.len()), (1.5, vec![true, false], 1));
        let message = |result: Result<ModelReply, ModelFault>| result.unwrap_err().to_string();
        assert!(message(reply(header.clone(), &body, &request(3), 1)).contains("2 rows for 3"));
        assert!(message(reply(header.clone(), &body[..10], &request(2), 1)).contains("cut short"));
        assert!(message(reply(header, &body, &request(2), 2)).contains("2 values for 4 answers"));
        assert!(
            message(reply(json!({"ok": false, "error": "ValueError: x"}), b"", &request(2), 1)).contains("ValueError")
        );
        assert!(message(reply(json!("garbage"), b"", &request(2), 1)).contains("cannot be used"));
    }

    #[test]
    fn a_worker_that_chose_its_rows_is_held_to_what_it_was_asked() {
        let request = TailRequest {
            place: PathBuf::new(),
            model: String::new(),
            offset: 10,
            max_rows: 2,
            max_frames: 1,
            wait: std::time::Duration::ZERO,
        };
        let answer = |rows: usize, to: u64| {
            let columns: Vec<_> = ["score", "anomaly", "ready"]
                .iter()
                .zip(["f8", "u1", "u1"])
                .map(|(n, k)| json!([n, k, rows]))
                .collect();
            let header = json!({"ok": true, "rows": rows, "to": to, "columns": columns});
            tail_reply(header, &vec![0; rows * 10], &request, 1)
        };
        assert_eq!(answer(2, 13).unwrap().reply.score, [0.0, 0.0]);
        assert_eq!(answer(0, 10).unwrap(), TailReply { to: 10, reply: ModelReply::default() });
        for wrong in [answer(3, 13), answer(2, 9), answer(2, 10), tail_reply(json!({"ok": true}), b"", &request, 1)] {
            assert!(wrong.unwrap_err().to_string().contains("at most 2 from 10 on"));
        }
    }
}
