//! The exam of sinks: every entry of the list sits it.

use crate::support::{batch, context, rows};
use serde_json::{Value, json};
use trackside_connectors::sinks::SINKS;
use trackside_core::position::Position;

/// The block of an example without the keys that the engine takes out.
fn block(example: &str) -> Value {
    let file: Value = toml::from_str(example).unwrap();
    let mut block = file["sink"][0].clone();
    for key in ["type", "name", "topic"] {
        block.as_object_mut().unwrap().remove(key);
    }
    block
}

#[test]
fn each_is_listed_once_and_described() {
    for (k, sink) in SINKS.iter().enumerate() {
        assert!(SINKS[..k].iter().all(|other| other.name < sink.name), "{} is not in order", sink.name);
        assert!(sink.summary.ends_with('.'), "{}", sink.name);
        let schema = serde_json::to_value((sink.schema)()).unwrap();
        assert_eq!(schema["additionalProperties"], json!(false), "{}: unknown keys are not refused", sink.name);
        let example: Value = toml::from_str(sink.example).unwrap();
        let block = &example["sink"][0];
        assert_eq!((block["type"].as_str(), block["topic"].is_string()), (Some(sink.name), true));
        for (key, property) in schema["properties"].as_object().unwrap() {
            assert!(property["description"].is_string(), "{}: `{key}` is not described", sink.name);
        }
    }
}

#[test]
fn each_builds_from_its_example_and_refuses_unknown_keys() {
    for sink in SINKS {
        let dir = tempfile::tempdir().unwrap();
        (sink.build)(block(sink.example), &context(dir.path(), "clean", "clean")).map(drop).unwrap();
        let mut block = block(sink.example);
        block["colour"] = json!("red");
        let error = (sink.build)(block, &context(dir.path(), "clean", "clean")).map(drop).unwrap_err();
        assert!(error.message.starts_with("unknown key `colour`"), "{}: {error}", sink.name);
        assert_eq!(error.path, "colour");
    }
}

#[test]
fn each_goes_on_where_it_had_committed() {
    for sink in SINKS.iter().filter(|sink| sink.name != "webhook") {
        let dir = tempfile::tempdir().unwrap();
        let build = || (sink.build)(block(sink.example), &context(dir.path(), "clean", "clean")).unwrap();
        let mut first = build();
        assert_eq!(first.resume().unwrap(), None, "{}", sink.name);
        assert_eq!(first.flush(0).unwrap(), None, "{}: nothing to commit", sink.name);
        first.write(&rows(1, 5, batch(&[0, 1, 2]))).unwrap();
        let end = Position { epoch: 1, offset: 8 };
        assert_eq!(first.flush(0).unwrap(), Some(end), "{}", sink.name);
        assert_eq!(first.flush(0).unwrap(), None, "{}: a position is told once", sink.name);
        assert_eq!(first.totals().rows, 3, "{}", sink.name);
        drop(first);
        let mut second = build();
        let resumed = second.resume().unwrap();
        assert_eq!(resumed, (!second.only_new()).then_some(end), "{}", sink.name);
    }
}
