//! The fleet: the same seed gives the same events, wherever it goes on.

use crate::sources::{build, plant, resume_exam, run, spawn};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;
use trackside_connectors::testing::{MemoryDoor, layout};
use trackside_core::position::Resume;
use trackside_core::source::{Door, Refused};

const START: &str = "2025-01-01T00:00:00Z";

fn fleet(more: Value) -> Value {
    let mut block = json!({"seed": 3, "devices": 4, "sensors": 3, "rate": 0, "count": 20_000, "start": START});
    block.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    block
}

fn dirty() -> Value {
    fleet(
        json!({"duplicates": 0.02, "disorder": 0.02, "malformed": 0.02, "out_of_range": 0.01, "spikes": 0.01, "anomalies": 0.01}),
    )
}

#[test]
fn the_same_seed_gives_the_same_events_and_goes_on_anywhere() {
    let once = run("generate", dirty(), &plant(), Path::new("."), Resume::default()).take();
    let twice = run("generate", dirty(), &plant(), Path::new("."), Resume::default()).take();
    assert_eq!((&once.rows, &once.dead), (&twice.rows, &twice.dead));
    assert_eq!(once.rows.len() + once.dead.len(), 20_000);
    assert!((200..600).contains(&once.dead.len()), "{}", once.dead.len());
    let reasons: HashSet<&str> =
        once.dead.iter().map(|letter| letter.reason.split([':', ',']).next().unwrap()).collect();
    assert_eq!(reasons, HashSet::from(["not JSON", "`value` is text"]));
    resume_exam("generate", &dirty(), &plant(), Path::new("."));
}

#[test]
fn rows_hold_what_the_schema_asks_for() {
    let seen = run("generate", fleet(json!({"count": 24})), &plant(), Path::new("."), Resume::default()).take();
    let first = &seen.rows[0];
    assert_eq!((&first["time"], &first["device"], &first["sensor"]), (&json!(START), &json!("pump-1"), &json!("temp")));
    assert_eq!((&first["unit"], &first["seq"], &seen.rows[12]["seq"]), (&json!("C"), &json!(0), &json!(1)));
    assert_eq!(
        seen.rows.iter().map(|row| format!("{}{}", row["device"], row["sensor"])).collect::<HashSet<_>>().len(),
        12
    );
    let wide = layout(
        json!({"series": ["machine", "simulated"], "fields": {"pressure": "float", "other": "float", "note": "string"}}),
    );
    let block = fleet(json!({"count": 4, "tags": {"simulated": "true"}}));
    let row = run("generate", block, &wide, Path::new("."), Resume::default()).take().rows.remove(3);
    assert_eq!((&row["machine"], &row["simulated"], &row["note"]), (&json!("pump-4"), &json!("true"), &Value::Null));
    assert!((900.0..1100.0).contains(&row["pressure"].as_f64().unwrap()), "{row}");
    assert!((30.0..70.0).contains(&row["other"].as_f64().unwrap()), "{row}");
}

#[test]
fn a_backfill_comes_at_once_and_ends_now() {
    let door = MemoryDoor::new(plant());
    let block = json!({"rate": 100, "backfill": "1m", "first_anomaly_after": "1s"});
    let running = spawn(build("generate", block, &plant(), Path::new(".")).unwrap(), &door);
    door.wait_until("the backfill and some live events", |seen| seen.rows.len() > 6_010);
    door.stop();
    running.join().unwrap().unwrap();
    let newest = door.look(|seen| seen.rows.last().unwrap()["time"].as_str().unwrap().to_owned());
    let now = trackside_core::time::rfc3339(door.now());
    assert!(newest <= now, "{newest} {now}");
}

#[test]
fn an_endless_fleet_leaves_out_the_time_it_was_away() {
    let hour = 3_600_000_000_000i64;
    let origin = 1_700_000_000_000_000_000i64;
    let stream = format!("seed-1@{origin}");
    let resume = Resume { stands: [(stream, vec![500, 600])].into(), ..Resume::default() };
    let door = MemoryDoor::resuming(plant(), resume);
    door.set_now(origin + hour);
    door.stop_after(101);
    build("generate", json!({"rate": 10}), &plant(), Path::new(".")).unwrap().run(door.clone()).unwrap();
    let seen = door.take();
    assert_eq!((seen.spans[0].from, seen.spans[0].to), (500, 600));
    assert_eq!((seen.spans[1].from, seen.spans[1].to), (36_000, 36_001));
}

#[test]
fn a_full_door_is_tried_again() {
    let door = MemoryDoor::new(plant());
    door.refuse_next(Refused::Full { reason: "the log".into(), retry_after: std::time::Duration::from_millis(1) });
    build("generate", fleet(json!({"count": 10})), &plant(), Path::new(".")).unwrap().run(door.clone()).unwrap();
    assert_eq!(door.look(|seen| seen.rows.len()), 10);
    assert!(door.look(|seen| seen.states.iter().any(|(_, detail)| detail.as_deref() == Some("no room: the log"))));
}

#[test]
fn what_makes_no_sense_is_said() {
    for (more, message) in [
        (json!({"devices": 0}), "0 devices; choose 1 to 1000000"),
        (json!({"malformed": 1.5}), "1.5 is no share"),
        (json!({"start": "soon"}), "`soon` is no time"),
        (json!({"rate": -1}), "a rate of -1 events a second"),
        (json!({"backfill": "1h"}), "`backfill` needs a `rate`"),
    ] {
        let error = build("generate", fleet(more), &plant(), Path::new(".")).err().unwrap();
        assert_eq!(error.message, message);
    }
    let texts = layout(json!({"fields": {"note": "string"}}));
    let error = build("generate", fleet(json!({})), &texts, Path::new(".")).err().unwrap();
    assert!(error.message.contains("needs a float field"));
}
