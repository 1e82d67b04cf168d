//! The JSON decoder against serde_json: it accepts and rejects the same texts and reads the same values.

use serde_json::{Value, json};
use std::collections::HashMap;
use trackside_connectors::formats::{Decoder, Envelope, json::Json};
use trackside_connectors::testing::{mapping, rows};
use trackside_core::builder::EventBuilder;
use trackside_core::dead_letter::DeadLetter;

fn schema() -> Value {
    json!({
        "time": {"field": "ts", "unit": "ms"},
        "series": ["device"],
        "fields": {"value": "float", "unit": "string", "seq": "integer", "ok": "boolean"},
    })
}

fn decode(schema: Value, bytes: &[u8]) -> (Vec<Value>, Vec<DeadLetter>) {
    let mapping = mapping(schema);
    let (mut out, mut dead) = (EventBuilder::new(mapping.layout().clone()), Vec::new());
    Json::new(mapping).decode(bytes, &Envelope::at(5_000_000), &mut out, &mut dead);
    (rows(&out.finish()), dead)
}

fn message(bytes: &[u8]) -> (Vec<Value>, Vec<(String, String)>) {
    let mapping = mapping(json!({"fields": {"value": "float"}, "unknown": "ignore"}));
    let (mut out, mut dead) = (EventBuilder::new(mapping.layout().clone()), Vec::new());
    Json::new(mapping).decode_message(bytes, &Envelope::at(0), &mut out, &mut dead);
    let values = rows(&out.finish()).into_iter().map(|row| row["value"].clone()).collect();
    (values, dead.into_iter().map(|letter| (letter.detail.unwrap(), letter.reason)).collect())
}

#[test]
fn keys_in_any_order_fill_their_columns() {
    let (rows, dead) = decode(
        schema(),
        concat!(
            r#"{"ts":1700000000000,"device":"pump-1","value":12.308,"unit":"mm/s","seq":3,"ok":true}"#,
            "\r\n\n",
            r#"{ "seq" : 3.0 , "extra":{"a":[1,"é"]}, "device":7.50, "value":-1e2, "unit":"\u00b0C \ud83d\ude00", "b":null}"#,
            "\n",
            r#"[{"device":"a","value":1},{"device":"b","value":2}]"#,
        )
        .as_bytes(),
    );
    assert_eq!(dead, []);
    assert_eq!(
        rows[..2],
        [
            json!({"time":"2023-11-14T22:13:20Z","device":"pump-1","value":12.308,"unit":"mm/s","seq":3,"ok":true,"extra":null}),
            json!({"time":"1970-01-01T00:00:00.005Z","device":"7.50","value":-100.0,"unit":"°C 😀","seq":3,"ok":null,"extra":r#"{"extra":{"a":[1,"é"]},"b":null}"#}),
        ]
    );
    assert_eq!(rows.len(), 4);
}

#[test]
fn of_a_key_given_twice_the_last_counts() {
    let (rows, dead) = decode(schema(), br#"{"device":"a","value":"x","seq":1,"value":2,"seq":null,"b":1,"b":2}"#);
    assert_eq!(dead, []);
    assert_eq!((&rows[0]["value"], &rows[0]["seq"]), (&json!(2.0), &Value::Null));
}

#[test]
fn every_bad_line_says_why_and_the_good_ones_stay() {
    let deep = format!(r#"{{"device":"a","value":1,"x":{}1{}}}"#, "[".repeat(64), "]".repeat(64));
    let bad: &[(&[u8], &str)] = &[
        (br#"{"device":"a","value":1"#, "not JSON: cut off at byte 24"),
        (br#"{"device":"a","value":"1"}"#, "`value` is text, expected a number"),
        (br#"{"device":"a","value":true}"#, "`value` is true or false, expected a number"),
        (br#"{"device":"a","value":{"v":1}}"#, "`value` is an object, expected a number"),
        (br#"{"device":"a","value":NaN}"#, "not JSON: expected a value at byte 23"),
        (br#"{"device":"a","value":1e999}"#, "not JSON: number too large at byte 23"),
        (br#"{"device":"a","value":01}"#, "not JSON: leading zero at byte 24"),
        (br#"{"device":"a","seq":3.5}"#, "`seq` is `3.5`, expected a whole number"),
        (
            br#"{"device":"a","seq":9223372036854775808}"#,
            "`seq` is `9223372036854775808`, more than 64 bits hold exactly",
        ),
        (br#"{"device":"a","ok":1}"#, "`ok` is a number, expected true or false"),
        (br#"{"device":"a"}"#, "no field of the schema; expected at least one of `value`, `unit`, `seq`, `ok`"),
        (br#"{"value":1}"#, "no tag of the series; expected `device`"),
        (br#"{"device":["a"],"value":1}"#, "`device` is an array, expected text"),
        (br#"{"device":"a","value":1,"ts":"soon"}"#, "`ts` is `soon`: not a time in the expected format"),
        (
            br#"{"device":"a","value":1,"ts":99999999999999999}"#,
            "`ts` is `99999999999999999`: time is outside of 1677..2262",
        ),
        (br#"{"device":"a","value":1} x"#, "not JSON: something behind the object at byte 26"),
        (br#""text""#, "the event is a text, expected an object"),
        (b"hello", "not JSON: expected a value at byte 1"),
        (b"{\"device\":\"\xff\",\"value\":1}", "not UTF-8 at byte 12"),
        (b"{\"device\":\"a\tb\",\"value\":1}", "not JSON: control character in a text at byte 13"),
        (deep.as_bytes(), "not JSON: nested deeper than 64 at byte 92"),
    ];
    let good = br#"{"device":"good","value":1}"#;
    let mut text = Vec::new();
    for (line, _) in bad {
        text.extend_from_slice(line);
        text.push(b'\n');
        text.extend_from_slice(good);
        text.push(b'\n');
    }
    let (rows, dead) = decode(schema(), &text);
    assert_eq!(rows.len(), bad.len());
    assert_eq!(dead.len(), bad.len());
    for (at, (letter, (line, reason))) in dead.iter().zip(bad).enumerate() {
        assert_eq!((letter.reason.as_str(), letter.payload.as_deref()), (*reason, Some(*line)));
        assert_eq!(letter.detail, Some(format!("line {}", 2 * at + 1)));
        assert_eq!(letter.component, "test");
    }
}

#[test]
fn unknown_keys_are_kept_ignored_or_rejected() {
    let line = br#"{"value":1,"vlaue":2}"#;
    let with = |unknown: &str| decode(json!({"fields": {"value": "float"}, "unknown": unknown}), line);
    assert_eq!(with("keep").0[0]["extra"], json!(r#"{"vlaue":2}"#));
    assert_eq!(with("ignore").0[0].get("extra"), None);
    assert_eq!(with("reject").1[0].reason, "unknown key `vlaue`; did you mean `value`?");
}

#[test]
fn protocol_ids_and_tags_fill_what_the_payload_lacks() {
    let mapping = mapping(json!({"series": ["site", "device"], "fields": {"value": "float"}, "event_id": "id"}));
    let (mut out, mut dead) = (EventBuilder::new(mapping.layout().clone()), Vec::new());
    let tags = [(0, "north"), (1, "topic")];
    let envelope = Envelope { event_id: Some("key"), tags: &tags, ..Envelope::at(0) };
    let text = b"{\"value\":1}\n[{\"value\":2,\"device\":\"own\"},{\"value\":3,\"id\":\"mine\"}]";
    Json::new(mapping).decode(text, &envelope, &mut out, &mut dead);
    let ids: Vec<_> = rows(&out.finish())
        .into_iter()
        .map(|row| [&row["site"], &row["device"], &row["event_id"]].map(|v| v.as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(ids, [["north", "topic", "key/1"], ["north", "own", "key/2.1"], ["north", "topic", "mine"]]);
}

#[test]
fn messages_may_span_lines_and_broken_arrays_keep_their_good_elements() {
    assert_eq!(message(b" {\n \"value\": 1\n}\n").0, [json!(1.0)]);
    assert_eq!(message(b"[\n{\"value\": 1},\n{\"value\": 2}\n]").0, [json!(1.0), json!(2.0)]);
    assert_eq!(message(b"{\"value\":1}\n{\"value\":2}\n").0, [json!(1.0), json!(2.0)]);
    assert_eq!(message(b"[]"), (vec![], vec![]));
    let (values, dead) = message(b"[{\"value\":1},\n{\"value\":\"x\"},3,{\"value\":2},{\"val");
    assert_eq!(values, [json!(1.0), json!(2.0)]);
    let dead: Vec<_> = dead.iter().map(|(detail, reason)| (detail.as_str(), reason.as_str())).collect();
    assert_eq!(
        dead,
        [
            ("line 1, element 2", "`value` is text, expected a number"),
            ("line 1, element 3", "the event is a number, expected an object"),
            ("line 1, element 5", "not JSON: cut off at byte 6"),
        ]
    );
    assert_eq!(message(b"[{\"value\":1}").1[0].0, "line 1, element 2");
}

/// Small and repeatable: the seed is the test's name in numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.roll(from.len())]
    }

    fn value(&mut self, depth: usize) -> String {
        const NUMBERS: [&str; 20] = [
            "0",
            "-0",
            "1",
            "-1.5",
            "12.308",
            "1e5",
            "1E-3",
            "123456789012345678",
            "9007199254740993",
            "0.1",
            "1e308",
            "1e309",
            "-1e400",
            "00",
            "1.",
            ".5",
            "+1",
            "1e",
            "2.2250738585072014e-308",
            "123456789.123456789012345678901",
        ];
        const TEXTS: [&str; 12] = [
            "\"\"",
            "\"a\"",
            "\"\\n\\u00e9\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "\"\\x\"",
            "\"é\"",
            "\"a b c d e f g h\"",
            "\"12\"",
            "\"\\\"\"",
            "\"\u{1}\"",
            "\"\\u12\"",
        ];
        match self.roll(if depth > 3 { 6 } else { 9 }) {
            0..=2 => self.pick(&NUMBERS).to_string(),
            3 | 4 => self.pick(&TEXTS).to_string(),
            5 => self.pick(&["true", "false", "null", "nul", "True", ""]).to_string(),
            6 | 7 => format!("{{\"k\":{}, \"l\" :{}}}", self.value(depth + 1), self.value(depth + 1)),
            _ => format!("[{} , {}]", self.value(depth + 1), self.value(depth + 1)),
        }
    }

    fn line(&mut self) -> Vec<u8> {
        const KEYS: [&str; 9] = ["ts", "device", "value", "unit", "seq", "ok", "other", "é", "va\\u006cue"];
        let mut pairs = Vec::new();
        for _ in 0..self.roll(7) {
            let (key, space) = (self.pick(&KEYS), self.pick(&["", " ", "\t"]));
            // Mostly what fits, so that enough lines get through.
            let value = match (key, self.roll(12)) {
                (_, 11) | ("other" | "é", _) => self.value(0),
                ("value" | "va\\u006cue", 0..=5) => format!("{}.{}", self.roll(10_000), self.roll(1_000_000)),
                ("seq" | "value" | "ts", _) => self.roll(100_000).to_string(),
                ("ok", _) => "true".into(),
                (_, 0..=5) => "\"pump-1\"".into(),
                _ => self.pick(&["\"\\u00e9\"", "\"é\"", "12.50", "null"]).to_string(),
            };
            pairs.push(format!("{space}\"{key}\"{space}:{space}{value}{space}"));
        }
        if self.roll(4) > 0 {
            pairs.insert(self.roll(pairs.len() + 1), "\"device\":\"a\",\"seq\":1".into());
        }
        let mut line = format!("{{{}}}", pairs.join(",")).into_bytes();
        for _ in 0..self.roll(3).saturating_sub(1) {
            let at = self.roll(line.len());
            match self.roll(4) {
                0 => line.truncate(at),
                1 => line[at] = b"\"\\{}[],:0e.-\x00\xff "[self.roll(15)],
                2 => line.insert(at, b"\"\\{}[],:0e.-\x01 x"[self.roll(15)]),
                _ => _ = line.remove(at),
            }
            if line.is_empty() {
                line.push(b'{');
            }
        }
        line.retain(|byte| *byte != b'\n');
        line
    }
}

#[test]
fn random_and_mutated_lines_fare_as_in_serde_json() {
    let mut dice = Dice(0x1503);
    let mapping = mapping(schema());
    let (mut out, mut dead) = (EventBuilder::new(mapping.layout().clone()), Vec::new());
    let mut json = Json::new(mapping);
    let (mut accepted, mut rejected) = (0, 0);
    for _ in 0..40_000 {
        let line = dice.line();
        json.decode(&line, &Envelope::at(0), &mut out, &mut dead);
        let shown = String::from_utf8_lossy(&line).into_owned();
        let theirs = serde_json::from_slice::<Value>(&line);
        let blank = line.iter().all(|byte| b" \t\r".contains(byte));
        let array = line.trim_ascii().starts_with(b"[");
        if array {
            // An array's elements stand for themselves; serde_json takes all or nothing.
            (out.finish(), dead.clear()).1
        } else if let Some(letter) = dead.pop() {
            rejected += 1;
            assert_eq!(out.finish().num_rows(), 0, "{shown}");
            assert_eq!(letter.payload.as_deref(), Some(line.trim_ascii()), "{shown}");
            // What does not fit is said first; garbage behind the value does not matter any more.
            if theirs.as_ref().is_err_and(|error| error.to_string().starts_with("trailing characters")) {
                continue;
            }
            let syntax = letter.reason.starts_with("not JSON") || letter.reason.starts_with("not UTF-8");
            assert_eq!(syntax, theirs.is_err(), "{shown}: {} / {theirs:?}", letter.reason);
        } else if !blank {
            accepted += 1;
            let ours = rows(&out.finish());
            let theirs = theirs.unwrap_or_else(|error| panic!("{shown}: {error}"));
            same(&ours[0], &theirs, &line, &shown);
        }
    }
    println!("{accepted} accepted, {rejected} rejected");
    assert!(accepted > 5_000 && rejected > 5_000, "{accepted} {rejected}");
}

fn same(ours: &Value, theirs: &Value, line: &[u8], shown: &str) {
    let raw: HashMap<String, Box<serde_json::value::RawValue>> = serde_json::from_slice(line).unwrap();
    let number = raw.get("value").and_then(|raw| raw.get().parse::<f64>().ok());
    assert_eq!(ours["value"].as_f64().map(f64::to_bits), number.map(f64::to_bits), "{shown}");
    let text = |key: &str| match theirs.get(key) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => Some(raw[key].get().to_owned()),
    };
    for key in ["device", "unit"] {
        assert_eq!(ours[key].as_str().map(str::to_owned), text(key), "{key} of {shown}");
    }
    assert_eq!(ours["ok"].as_bool(), theirs.get("ok").and_then(Value::as_bool), "{shown}");
    let whole = theirs.get("seq").and_then(|seq| seq.as_i64().or_else(|| seq.as_f64().map(|seq| seq as i64)));
    assert_eq!(ours["seq"].as_i64(), whole, "{shown}");
    if let Some(extra) = ours["extra"].as_str() {
        let extra: Value = serde_json::from_str(extra).unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert_eq!(extra.get("other"), theirs.get("other"), "{shown}");
    }
}

/// A line of the learnt shape is read as the general parser reads it, and so is each cut and each change of a byte.
#[test]
fn a_learnt_shape_changes_no_answer() {
    let schema = || json!({"time": {"field": "ts", "unit": "ms"}, "series": ["device"], "fields": {"value": "float", "unit": "string", "seq": "integer"}});
    for line in [
        r#"{"ts":1700000000000,"device":"pump-1","value":-12.308,"unit":"mm/s","seq":30}"#,
        r#"{ "device": "a name of more than sixteen", "seq": 7, "value": 0.5, "unit": "", "ts": 1 }"#,
        r#"{"a-key-of-more-than-sixteen-bytes":1,"device":"d","value":1,"unit":"x","seq":0}"#,
    ] {
        let mut others: Vec<Vec<u8>> = (0..line.len()).map(|cut| line.as_bytes()[..cut].to_vec()).collect();
        for at in 0..line.len() {
            for byte in *b"\"\\0157-.,:e{}[ xn\t\x01\x80" {
                let mut other = line.as_bytes().to_vec();
                other[at] = byte;
                others.push(other);
            }
        }
        let known = [line.as_bytes(), b"\n"].concat().repeat(2);
        for other in others {
            let (alone, dead_alone) = decode(schema(), &other);
            let (after, dead_after) = decode(schema(), &[&known[..], &other].concat());
            let text = String::from_utf8_lossy(&other);
            assert_eq!(after[2..], alone, "{text}");
            let reasons = |dead: Vec<DeadLetter>| dead.into_iter().map(|letter| letter.reason).collect::<Vec<_>>();
            assert_eq!(reasons(dead_after), reasons(dead_alone), "{text}");
        }
    }
}
