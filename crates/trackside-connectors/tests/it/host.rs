//! This machine measures itself.

use crate::sources::{build, plant, spawn};
use serde_json::json;
use std::collections::HashSet;
use std::path::Path;
use trackside_connectors::testing::{MemoryDoor, layout};

#[test]
fn rounds_hold_cores_memory_and_load_with_units() {
    let plant = layout(json!({
        "series": ["hostname", "device", "sensor"],
        "fields": {"value": "float", "unit": "string", "seq": "integer"},
    }));
    let door = MemoryDoor::new(plant.clone());
    let running = spawn(build("host", json!({"every": "100ms"}), &plant, Path::new(".")).unwrap(), &door);
    door.wait_until("three rounds", |seen| seen.deliveries >= 3);
    door.stop();
    running.join().unwrap().unwrap();
    let seen = door.take();
    let series: HashSet<String> = seen
        .rows
        .iter()
        .map(|row| format!("{}/{}", row["device"].as_str().unwrap(), row["sensor"].as_str().unwrap()))
        .collect();
    for wanted in ["cpu/usage", "cpu-0/usage", "memory/used", "memory/available"] {
        assert!(series.contains(wanted), "{wanted} in {series:?}");
    }
    assert!(
        seen.rows.iter().all(|row| row["value"].is_f64() && row["unit"].is_string() && row["hostname"].is_string())
    );
    let used = seen.rows.iter().find(|row| row["device"] == "memory" && row["sensor"] == "used").unwrap();
    assert!((0.0..=100.0).contains(&used["value"].as_f64().unwrap()), "{used}");
    let rounds: HashSet<i64> = seen.rows.iter().map(|row| row["seq"].as_i64().unwrap()).collect();
    assert!(rounds.len() >= 3, "seq rises with every round");
}

#[test]
fn what_makes_no_sense_is_said() {
    let error = |block, layout| build("host", block, &layout, Path::new(".")).err().unwrap();
    let texts = layout(json!({"series": ["device"], "fields": {"value": "float"}}));
    assert!(error(json!({}), texts).message.contains("needs the tags `device` and `sensor`"));
    assert!(error(json!({"every": "1ms"}), plant()).message.contains("too often"));
    assert_eq!(error(json!({"parts": ["gpu"]}), plant()).message, "unknown value `gpu`; did you mean `cpu`?");
}
