//! The benchmark's clean job (parse, dedupe, range, Hampel, unit) on its 100,000 lines, against the counts that every
//! implementation of it must reach. A run with other counts is not a result.

use crate::cleaners::{blocks, chain, layout};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use trackside_core::batch;
use trackside_core::builder::EventBuilder;
use trackside_core::schema::Layout;
use trackside_core::testing::{Chain, ChainOutput};

const SCHEMA: &str = r#"[schema]
time = { field = "ts", unit = "ms" }
series = ["device", "sensor"]
fields = { value = "float", unit = "string", seq = "integer" }
unknown = "ignore"
"#;

const CLEAN: &str = r#"
[[clean]]
type = "dedupe"
by = "seq"
within = 64

[[clean]]
type = "range"
field = "value"
by = "sensor"
limits = { temp = [-40, 85], humidity = [0, 100], pressure = [300, 1100], vibration = [0, 50], voltage = [0, 32] }
action = "drop"

[[clean]]
type = "hampel"
field = "value"
window = 7
by = "sensor"
floor = { temp = 0.5, humidity = 1.5, pressure = 2.5, vibration = 1.0, voltage = 0.25 }
action = "drop"

[[clean]]
type = "convert"
field = "value"
unit_field = "unit"
by = "sensor"
to = { temp = "K" }
"#;

#[derive(Deserialize)]
struct Event<'a> {
    ts: i64,
    device: &'a str,
    sensor: &'a str,
    value: f64,
    unit: &'a str,
    seq: i64,
}

/// A Python with NumPy: the repository's own environment, or the machine's.
fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let candidates = [std::env::var_os("TRACKSIDE_PYTHON").map(PathBuf::from), Some(root.join(".venv/bin/python"))];
    candidates.into_iter().flatten().chain(["python3".into()]).find(|python| {
        let mut command = Command::new(python);
        command.args(["-c", "import numpy"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

/// The workload, if its generator can run here.
fn workload(lines: u32) -> Option<String> {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/tools/gen_events.py");
    let python = python().filter(|_| tool.exists())?;
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("clean_job_{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let prefix = folder.join("events");
    let mut command = Command::new(python);
    command.arg(tool).arg(lines.to_string()).arg(&prefix).args(["--formats", "jsonl"]).stdout(Stdio::null());
    assert!(command.status().unwrap().success());
    let text = std::fs::read_to_string(prefix.with_extension("jsonl")).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    Some(text)
}

/// Batches of 8,192 rows, and how many lines are not an event.
fn decode(layout: &std::sync::Arc<Layout>, text: &str) -> (Vec<RecordBatch>, usize) {
    let (mut builder, mut batches, mut malformed) = (EventBuilder::new(layout.clone()), Vec::new(), 0);
    for line in text.lines() {
        let Ok(event) = serde_json::from_str::<Event<'_>>(line) else {
            malformed += 1;
            continue;
        };
        builder.time(event.ts * 1_000_000);
        builder.tag(0, event.device);
        builder.tag(1, event.sensor);
        builder.float(0, event.value);
        builder.string(1, event.unit);
        builder.integer(2, event.seq);
        builder.finish_row(0);
        if builder.len() == 8192 {
            batches.push(builder.finish());
        }
    }
    batches.push(builder.finish());
    (batches, malformed)
}

fn job(batches: &[RecordBatch], layout: &std::sync::Arc<Layout>, resets: &str) -> ChainOutput {
    let mut blocks = blocks(CLEAN);
    blocks[0].2["resets"] = resets.into();
    let mut chain = Chain::new(layout, chain(&blocks, layout).unwrap());
    let mut out = ChainOutput::default();
    batches.iter().for_each(|batch| chain.push(batch, &mut out));
    out
}

#[test]
fn the_benchmark_comes_to_the_published_counts() {
    let Some(text) = workload(100_000) else {
        println!("skipped: needs ../shared/tools/gen_events.py and a Python with numpy (TRACKSIDE_PYTHON)");
        return;
    };
    let layout = layout(SCHEMA);
    let (batches, malformed) = decode(&layout, &text);
    assert_eq!(malformed, 464);
    for resets in ["ignore", "notice"] {
        let out = job(&batches, &layout, resets);
        let expected = [("dedupe", 1981), ("hampel", 848), ("range", 1005)].map(|(rule, n)| (rule.to_owned(), n));
        assert_eq!(out.filtered, expected.into(), "resets = {resets}");
        assert_eq!(out.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 95_702);
        assert!(out.dead.is_empty());
        units_are_kelvin(&batches, &out);
    }
}

/// Each temperature is the received one plus 273.15, to the bit, and its unit `K`; nothing else changed.
fn units_are_kelvin(received: &[RecordBatch], out: &ChainOutput) {
    let received = arrow::compute::concat_batches(&received[0].schema(), received).unwrap();
    let values = received.column_by_name("value").unwrap().as_primitive::<Float64Type>();
    for clean in &out.batches {
        let column = |name| clean.column_by_name(name).unwrap();
        let (sensors, names) = batch::tag(clean, "sensor").unwrap();
        for row in 0..clean.num_rows() {
            let before = values.value(column("received_offset").as_primitive::<Int64Type>().value(row) as usize);
            let temp = batch::tag_value(sensors, names, row) == Some("temp");
            let expected = if temp { before + 273.15 } else { before };
            assert_eq!(column("value").as_primitive::<Float64Type>().value(row).to_bits(), expected.to_bits());
            assert_eq!(column("unit").as_string::<i32>().value(row) == "K", temp);
        }
    }
}
