//! InfluxDB line protocol: `measurement,tag=a field=1.5,other=2i 1700000000000000000`.
//!
//! Tags and fields are looked up by name in the schema; the measurement fills a tag or field named `measurement`, else
//! it is kept with the unknown keys. Timestamps count in the decoder's `precision`; a line without one gets the time of
//! its arrival. Lines that begin with `#` and empty lines count nothing. Strings may hold line breaks; a quote that is
//! never closed costs its own line only.

use super::csv::write_pair;
use super::mapping::{Mapping, Row, Value};
use super::{Decoder, Envelope, MAX_RECORD, Place, Precision, reject};
use std::sync::Arc;
use trackside_core::builder::EventBuilder;
use trackside_core::dead_letter::DeadLetter;

/// The key that a line's first word fills.
const MEASUREMENT: &str = "measurement";

/// The decoder.
#[derive(Debug)]
pub struct LineProtocol {
    mapping: Arc<Mapping>,
    /// Unit of the timestamps.
    pub precision: Precision,
    name: String,
    value: String,
    extra: String,
}

impl LineProtocol {
    /// A decoder for timestamps in ns, the protocol's default.
    pub fn new(mapping: impl Into<Arc<Mapping>>) -> Self {
        let (name, value, extra) = Default::default();
        Self { mapping: mapping.into(), precision: Precision::Ns, name, value, extra }
    }

    fn event(
        &mut self,
        line: &str,
        envelope: &Envelope<'_>,
        number: u64,
        out: &mut EventBuilder,
    ) -> Result<(), String> {
        let Self { mapping, name, value, extra, precision } = self;
        let mut row = Row::begin(mapping, envelope, out, extra);
        let mut rest = line;
        let measurement = word(&mut rest, b", ", name);
        if measurement.is_empty() {
            return Err("no measurement".into());
        }
        match mapping.find(MEASUREMENT) {
            Some(key) => row.set(key, Value::Text(measurement))?,
            // Not a key of the event, so that `unknown = "reject"` lets it pass.
            None if mapping.layout().extra_column().is_some() => {
                row.unknown(MEASUREMENT, |extra| write_pair(extra, MEASUREMENT, measurement))?;
            }
            None => {}
        }
        while let Some(after) = rest.strip_prefix(',') {
            rest = after;
            let key = word(&mut rest, b"=, ", name);
            rest = rest.strip_prefix('=').ok_or_else(|| format!("expected `=` behind the tag `{key}`"))?;
            let text = word(&mut rest, b", ", value);
            if key.is_empty() || text.is_empty() {
                return Err(format!("the tag `{key}` has no {}", if key.is_empty() { "name" } else { "value" }));
            }
            set(&mut row, mapping, key, Value::Text(text), text)?;
        }
        rest = rest.trim_start_matches(' ');
        loop {
            let key = word(&mut rest, b"=, ", name);
            rest = rest.strip_prefix('=').filter(|_| !key.is_empty()).ok_or("expected `field=value`")?;
            let found = field(&mut rest, value).map_err(|what| format!("`{key}` {what}"))?;
            let shown = match found {
                Value::Text(text) | Value::Integer(_, text) | Value::Float(_, text) => text,
                Value::Boolean(true) => "true",
                _ => "false",
            };
            set(&mut row, mapping, key, found, shown)?;
            match rest.strip_prefix(',') {
                Some(after) => rest = after,
                None => break,
            }
        }
        if let Some(time) = timestamp(rest, *precision)? {
            row.time(time);
        }
        row.finish(envelope, number, 0)
    }
}

fn set(row: &mut Row<'_>, mapping: &Mapping, key: &str, value: Value<'_>, shown: &str) -> Result<(), String> {
    match mapping.find(key) {
        Some(key) => row.set(key, value),
        None => row.unknown(key, |extra| match value {
            Value::Text(text) => {
                let (key, text) = (serde_json::Value::from(key), serde_json::Value::from(text));
                extra.push_str(&format!("{key}:{text}"));
            }
            Value::Boolean(_) => extra.push_str(&format!("{}:{shown}", serde_json::Value::from(key))),
            _ => write_pair(extra, key, shown),
        }),
    }
}

/// Takes a name or tag value up to an unescaped stop byte; a copy is made only where there are escapes.
fn word<'s, 'a: 's>(rest: &mut &'a str, stops: &[u8], scratch: &'s mut String) -> &'s str {
    let (text, bytes) = (*rest, rest.as_bytes());
    let (mut at, mut escaped) = (0, false);
    while at < bytes.len() && !stops.contains(&bytes[at]) {
        if bytes[at] == b'\\' && matches!(bytes.get(at + 1), Some(b',' | b'=' | b' ')) {
            escaped = true;
            at += 1;
        }
        at += 1;
    }
    *rest = &text[at..];
    if !escaped {
        return &text[..at];
    }
    unescape(&text[..at], scratch, |c| matches!(c, ',' | '=' | ' '))
}

/// Leaves out the backslashes before characters that need one.
fn unescape<'a>(text: &str, scratch: &'a mut String, needs: fn(char) -> bool) -> &'a str {
    scratch.clear();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letters.next_if(|next| letter == '\\' && needs(*next)) {
            Some(next) => scratch.push(next),
            None => scratch.push(letter),
        }
    }
    scratch
}

/// Takes a field's value.
fn field<'s, 'a: 's>(rest: &mut &'a str, scratch: &'s mut String) -> Result<Value<'s>, String> {
    let text = *rest;
    if let Some(inner) = text.strip_prefix('"') {
        let end = string_end(inner.as_bytes()).ok_or("has a quote that is not closed")?;
        *rest = &inner[end + 1..];
        let inner = &inner[..end];
        let plain = !inner.contains('\\');
        return Ok(Value::Text(if plain { inner } else { unescape(inner, scratch, |c| matches!(c, '"' | '\\')) }));
    }
    let end = text.bytes().position(|byte| matches!(byte, b',' | b' ')).unwrap_or(text.len());
    let word = &text[..end];
    *rest = &text[end..];
    match word {
        "t" | "T" | "true" | "True" | "TRUE" => return Ok(Value::Boolean(true)),
        "f" | "F" | "false" | "False" | "FALSE" => return Ok(Value::Boolean(false)),
        "" => return Err("has no value".into()),
        _ => {}
    }
    let digits = &word[..word.len() - usize::from(word.ends_with(['i', 'u']))];
    let bad =
        || format!("is `{}`, no number, text in quotes, true or false", word.chars().take(40).collect::<String>());
    if digits.len() < word.len() {
        let number = if word.ends_with('u') {
            digits.parse::<u64>().ok().map(i64::try_from)
        } else {
            digits.parse().ok().map(Ok)
        };
        return match number.ok_or_else(bad)? {
            Ok(number) => Ok(Value::Integer(number, digits)),
            Err(_) => Ok(Value::Float(digits.parse().map_err(|_| bad())?, digits)),
        };
    }
    // `inf` and `NaN` are numbers to the standard library but not to the protocol.
    let number = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    match digits.parse::<f64>() {
        Ok(value) if number && value.is_finite() => Ok(Value::Float(value, digits)),
        _ => Err(bad()),
    }
}

/// The closing quote of a string.
fn string_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

fn timestamp(rest: &str, precision: Precision) -> Result<Option<i64>, String> {
    let text = rest.trim_matches(' ');
    if text.is_empty() {
        return if rest.is_empty() || rest.starts_with(' ') { Ok(None) } else { Err("expected a timestamp".into()) };
    }
    let number: i64 = text
        .parse()
        .ok()
        .filter(|_| rest.starts_with(' '))
        .ok_or_else(|| format!("`{}` is no timestamp", text.chars().take(40).collect::<String>()))?;
    let nanos = number.checked_mul(precision.nanos());
    nanos.map(Some).ok_or_else(|| format!("the timestamp {number} is outside of 1677..2262; check `precision`"))
}

/// What is known of strings without an end: whoever is inside of a string at a newline before `until` comes to `until`
/// without an end of the record, and is inside of a string there or not. Without that, each line of a body of such
/// strings would be read to the body's end.
#[derive(Default)]
struct Reach {
    until: usize,
    inside: bool,
}

/// End of the first record: the newline that is not inside of a field's string.
fn record_end(bytes: &[u8], last: bool, reach: &mut Reach) -> Option<usize> {
    let line = memchr::memchr(b'\n', bytes).map(|at| at + 1);
    let first = &bytes[..line.unwrap_or(bytes.len())];
    let to_end = (last && !bytes.is_empty()).then_some(bytes.len());
    if memchr::memchr(b'"', first).is_none() || first.starts_with(b"#") {
        return line.or(to_end);
    }
    let window = &bytes[..bytes.len().min(MAX_RECORD)];
    match unquoted_newline(window, fields_start(first), reach) {
        Ok(newline) => Some(newline + 1),
        Err(inside) => {
            *reach = Reach { until: window.len(), inside };
            // Never closed: the line stands alone.
            line.filter(|_| last || bytes.len() >= MAX_RECORD).or(to_end)
        }
    }
}

/// The first newline outside of strings; else whether the window ends inside of one.
fn unquoted_newline(window: &[u8], mut at: usize, reach: &Reach) -> Result<usize, bool> {
    let mut inside = false;
    loop {
        if !inside {
            let found = memchr::memchr2(b'"', b'\n', &window[at..]).ok_or(false)?;
            at += found + 1;
            if window[at - 1] == b'\n' {
                return Ok(at - 1);
            }
        }
        let known = window.get(at..reach.until.min(window.len())).and_then(|rest| memchr::memchr(b'\n', rest));
        let newline = known.map_or(window.len(), |found| at + found);
        match string_end(&window[at..newline]) {
            Some(quote) => (at, inside) = (at + quote + 1, false),
            None if known.is_some() => (at, inside) = (reach.until.min(window.len()), reach.inside),
            None => return Err(true),
        }
    }
}

/// Where the tags end and quotes begin to mean something: the first space without a backslash.
fn fields_start(line: &[u8]) -> usize {
    let mut from = 0;
    while let Some(space) = memchr::memchr(b' ', &line[from..]).map(|at| from + at) {
        if space == 0 || line[space - 1] != b'\\' {
            return space;
        }
        from = space + 1;
    }
    line.strip_suffix(b"\n").unwrap_or(line).len()
}

impl Decoder for LineProtocol {
    fn decode(&mut self, bytes: &[u8], envelope: &Envelope<'_>, out: &mut EventBuilder, dead: &mut Vec<DeadLetter>) {
        let (mut start, mut number) = (0, envelope.first_line);
        let mut reach = Reach::default();
        while let Some(end) = record_end(&bytes[start..], true, &mut reach) {
            reach.until = reach.until.saturating_sub(end);
            let record = bytes[start..start + end].trim_ascii();
            if !record.is_empty() && record[0] != b'#' {
                let done = std::str::from_utf8(record)
                    .map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to() + 1))
                    .and_then(|line| self.event(line, envelope, number, out));
                if let Err(reason) = done {
                    out.rollback();
                    let place = (envelope.first_line > 0).then_some(Place { line: number, element: 0 });
                    dead.push(reject(self.mapping.component(), reason, record, place));
                }
            }
            number += memchr::memchr_iter(b'\n', &bytes[start..start + end]).count() as u64;
            start += end;
        }
    }

    fn record_end(&self, bytes: &[u8], last: bool) -> Option<usize> {
        record_end(bytes, last, &mut Reach::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{mapping, rows};
    use serde_json::json;

    fn decode(text: &str) -> (Vec<serde_json::Value>, Vec<(String, String)>) {
        let schema = json!({"series": ["measurement", "host"], "fields": {"a": "float", "n": "integer", "s": "string", "ok": "boolean"}});
        let mut lines = LineProtocol::new(mapping(schema));
        lines.precision = Precision::S;
        let (mut out, mut dead) = (EventBuilder::new(lines.mapping.layout().clone()), Vec::new());
        lines.decode(text.as_bytes(), &Envelope::at(7_000_000_000), &mut out, &mut dead);
        (rows(&out.finish()), dead.into_iter().map(|l| (l.detail.unwrap(), l.reason)).collect())
    }

    #[test]
    fn types_escapes_and_timestamps() {
        let (rows, dead) = decode(concat!(
            "# a remark\n\ncpu,host=a\\ b a=1.5,n=2i,s=\"x, \\\"y\\\"\nz\",ok=t 5\r\n",
            "c\\,pu,host=a,rack=5\" n=3,a=1e3,load=2i\n",
        ));
        assert_eq!(dead, []);
        assert_eq!(
            rows,
            [
                json!({"time":"1970-01-01T00:00:05Z","measurement":"cpu","host":"a b","a":1.5,"n":2,"s":"x, \"y\"\nz","ok":true,"extra":null}),
                json!({"time":"1970-01-01T00:00:07Z","measurement":"c,pu","host":"a","a":1000.0,"n":3,"s":null,"ok":null,"extra":"{\"rack\":\"5\\\"\",\"load\":2}"}),
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_said_and_costs_one_line() {
        let bad = [
            ("cpu", "expected `field=value`"),
            (",host=a a=1", "no measurement"),
            ("cpu,host a=1", "expected `=` behind the tag `host`"),
            ("cpu,host= a=1", "the tag `host` has no value"),
            ("cpu a=", "`a` has no value"),
            ("cpu a=nan", "`a` is `nan`, no number, text in quotes, true or false"),
            ("cpu a=\"open", "`a` has a quote that is not closed"),
            ("cpu a=\"x\"", "`a` is text, expected a number"),
            ("cpu n=1.5", "`n` is `1.5`, expected a whole number"),
            ("cpu a=1 x", "`x` is no timestamp"),
            (
                "cpu a=1 99999999999999999",
                "the timestamp 99999999999999999 is outside of 1677..2262; check `precision`",
            ),
            ("cpu b=1", "no field of the schema; expected at least one of `a`, `n`, `s`, `ok`"),
        ];
        let text: String = bad.iter().map(|(line, _)| format!("{line}\n")).collect::<String>() + "cpu a=1 5";
        let (rows, dead) = decode(&text);
        let expected: Vec<_> =
            bad.iter().enumerate().map(|(at, (_, why))| (format!("line {}", at + 1), why.to_string())).collect();
        assert_eq!(dead, expected);
        assert_eq!(rows.len(), 1);
    }

    #[test]
    fn strings_without_an_end_cost_a_line_each_and_no_time() {
        let begun = std::time::Instant::now();
        for line in ["x \\\"\n", "x a=\"\",b=\"\n", "x \"\n"] {
            let count = (256 << 10) / line.len();
            let text = line.repeat(count) + "m value=1 1\n";
            let mut decoder = LineProtocol::new(mapping(json!({"fields": {"value": "float"}})));
            let (mut out, mut dead) = (EventBuilder::new(decoder.mapping.layout().clone()), Vec::new());
            decoder.decode(text.as_bytes(), &Envelope::at(7), &mut out, &mut dead);
            assert!(dead.len() >= count / 2, "{line}: {} letters", dead.len());
        }
        // Read to its end for each line, this takes a minute.
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }

    #[test]
    fn a_line_without_a_space_leaves_the_next_one_alone() {
        let (rows, dead) = decode("bad\"line\ncpu a=1 1\n\"\ncpu a=2 2\n");
        assert_eq!((rows.len(), dead.len()), (2, 2), "{dead:?}");
    }
}
