//! States that are read back: the engine's snapshot file, and the state of every cleaner, of the detector and of the
//! forecaster. Bytes that are not refused must be a state with which work goes on, and which is saved and read again.
#![no_main]

use arrow::array::RecordBatch;
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};
use trackside_connectors::testing::layout;
use trackside_core::builder::EventBuilder;
use trackside_core::operator::OperatorContext;
use trackside_core::schema::Layout;
use trackside_core::series::SeriesIndex;
use trackside_core::work::{CleanLayout, Touches, Work};
use trackside_fuzz::choice;
use trackside_operators::CLEANERS;
use trackside_operators::detect::record_excess::{Config as Excess, RecordExcess, Scores};
use trackside_operators::forecast::ens4::{Config as Forecasting, Ens4, Forecasts};

/// Values that go through what was restored.
const ROWS: [f64; 6] = [1.0, -5.5, 1e300, f64::NAN, 0.0, 2.0];
const SECOND: i64 = 1_000_000_000;

fuzz_target!(|data: &[u8]| {
    let (number, bytes) = choice(data);
    match usize::from(number) % (CLEANERS.len() + 3) {
        0 => file(bytes),
        1 => detector(bytes),
        2 => forecaster(bytes),
        k => cleaner(k - 3, bytes),
    }
});

/// The file: as it is, and with a head that fits its body.
fn file(bytes: &[u8]) {
    _ = trackside_engine::fuzzing::snapshot(bytes);
    let whole = trackside_engine::fuzzing::snapshot_file(3, 70, bytes);
    assert_eq!(trackside_engine::fuzzing::snapshot(&whole).as_deref(), Some(bytes));
}

fn detector(bytes: &[u8]) {
    let mut detector = RecordExcess::new(Excess::default());
    if detector.restore(bytes).is_err() {
        return;
    }
    let again = detector.snapshot();
    RecordExcess::new(Excess::default()).restore(&again).expect("its own snapshot");
    let mut scores = Scores::default();
    for (k, value) in ROWS.iter().enumerate() {
        detector.update(&[0, 1], &[k as i64 * SECOND; 2], &[*value; 2], &mut scores);
        assert_eq!(scores.score.len(), 2);
    }
}

fn forecaster(bytes: &[u8]) {
    let mut forecaster = Ens4::new(Forecasting::default());
    if forecaster.restore(bytes).is_err() {
        return;
    }
    let again = forecaster.snapshot();
    Ens4::new(Forecasting::default()).restore(&again).expect("its own snapshot");
    let mut forecasts = Forecasts::default();
    for (k, value) in ROWS.iter().enumerate() {
        forecaster.update(&[0, 1], &[k as i64 * SECOND; 2], &[*value; 2], &mut forecasts);
    }
}

static BLOCKS: LazyLock<Vec<serde_json::Value>> = LazyLock::new(|| {
    let block = |example: &str| {
        let file: toml::Table = toml::from_str(example).expect("an example is TOML");
        let mut block = serde_json::to_value(&file["clean"][0]).expect("TOML is JSON");
        let keys = block.as_object_mut().expect("a block");
        keys.remove("type");
        keys.remove("name");
        block
    };
    CLEANERS.iter().map(|cleaner| block(cleaner.example)).collect()
});

/// Every key that the examples name.
fn plant() -> Arc<Layout> {
    layout(serde_json::json!({
        "series": ["device", "sensor"],
        "fields": {"value": "float", "seq": "integer", "unit": "string"},
    }))
}

fn rows(layout: &Arc<Layout>, number: usize, value: f64) -> RecordBatch {
    let mut out = EventBuilder::new(layout.clone());
    for sensor in ["temp", "humidity"] {
        out.time(number as i64 * SECOND);
        out.tag(0, "a");
        out.tag(1, sensor);
        out.float(0, value);
        out.integer(1, number as i64 / 2);
        out.string(2, "F");
        out.finish_row(0);
    }
    out.finish()
}

fn cleaner(number: usize, bytes: &[u8]) {
    let layout = plant();
    let context = OperatorContext { name: "fuzz", layout: &layout };
    let build = || (CLEANERS[number].build)(BLOCKS[number].clone(), &context).expect("an example is sound");
    let mut operator = build();
    if operator.restore(bytes).is_err() {
        return;
    }
    build().restore(&operator.snapshot()).expect("its own snapshot");
    let mut touches = vec![Touches::default(); layout.config.fields.len()];
    operator.touches(&mut touches);
    let mut index = SeriesIndex::new(layout.tags());
    let clean = CleanLayout::new(layout.clone(), touches);
    for (k, value) in ROWS.iter().enumerate() {
        let rows = rows(&layout, k, *value);
        let mut series = Vec::new();
        index.rows(&rows, &mut series);
        let mut work = Work::new(clean.clone(), rows, vec![2 * k as u64, 2 * k as u64 + 1], series);
        operator.process(&mut work).expect("an operator does not fail on data");
        work.finish().expect("the clean layout fits");
    }
    operator.tick(i64::MAX);
    build().restore(&operator.snapshot()).expect("its own snapshot");
}
