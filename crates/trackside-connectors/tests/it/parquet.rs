//! Tables survive a stop at any operation: every row once, in order.

use crate::support::{batch, context, rows};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use trackside_connectors::sinks::files::Files;
use trackside_connectors::sinks::parquet::{Config, Parquet};
use trackside_core::dead_letter::{self, DeadLetter};
use trackside_core::error::Failure;
use trackside_core::position::Position;
use trackside_core::sink::{Sink, SinkRows};
use trackside_log::{Fault, FaultyVfs, Random, RealVfs, SimulatedVfs, Vfs};

const DAY: i64 = 86_400;

fn config(value: Value) -> Config {
    serde_json::from_value(value).unwrap()
}

fn sink(data: &Path, options: Value) -> Parquet {
    Parquet::new(config(options), &context(data, "clean", "clean"), Files::default())
}

/// What a plain glob sees, files in order of their names.
fn glob(table: &Path) -> Vec<PathBuf> {
    let entries = |dir: &Path| -> Vec<PathBuf> {
        let mut paths: Vec<_> =
            std::fs::read_dir(dir).map_or(Vec::new(), |dir| dir.map(|e| e.unwrap().path()).collect());
        paths.sort();
        paths
    };
    let days = entries(table).into_iter().filter(|path| path.is_dir());
    days.flat_map(|day| entries(&day)).filter(|path| path.extension().is_some_and(|e| e == "parquet")).collect()
}

fn read(table: &Path) -> Vec<RecordBatch> {
    let open = |path| ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap();
    glob(table).into_iter().flat_map(|path| open(path).build().unwrap().map(Result::unwrap)).collect()
}

/// (offset, value) of all rows, as a glob finds them.
fn table(data: &Path) -> Vec<(i64, f64)> {
    let pairs = |batch: RecordBatch| -> Vec<(i64, f64)> {
        let offsets = batch.column_by_name("_offset").unwrap().as_primitive::<Int64Type>().clone();
        let values = batch.column_by_name("value").unwrap().as_primitive::<Float64Type>().clone();
        offsets.values().iter().copied().zip(values.values().iter().copied()).collect()
    };
    read(&data.join("tables/clean")).into_iter().flat_map(pairs).collect()
}

#[test]
fn rows_lie_in_the_day_of_their_event_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = sink(dir.path(), json!({}));
    sink.resume().unwrap();
    sink.write(&rows(1, 10, batch(&[DAY - 1, DAY, 1, DAY + 1]))).unwrap();
    assert!(glob(&dir.path().join("tables/clean")).is_empty());
    sink.flush(0).unwrap();
    let table_dir = dir.path().join("tables/clean");
    let names: Vec<_> = glob(&table_dir).iter().map(|path| path.strip_prefix(&table_dir).unwrap().to_owned()).collect();
    let name = "p0000-00000000000000000010-00000000000000000014-e000001.parquet";
    assert_eq!(names, [PathBuf::from("day=1970-01-01").join(name), PathBuf::from("day=1970-01-02").join(name)]);
    assert_eq!(table(dir.path()), [(10, 86_399.0), (12, 1.0), (11, 86_400.0), (13, 86_401.0)]);
    let batch = read(&table_dir).remove(0);
    let columns: Vec<_> = batch.schema_ref().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(columns, ["time", "device", "value", "extra", "_partition", "_offset"]);
    assert_eq!(batch.column(1).data_type(), &DataType::Utf8, "every reader sees tags as text");
    assert_eq!(batch.schema_ref().field(0).data_type(), &trackside_core::schema::time_type());
    assert_eq!((sink.totals().rows, sink.totals().files), (4, 2));
}

#[test]
fn a_commit_is_due_by_rows_bytes_or_age() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = sink(dir.path(), json!({"rows": 100, "age": "60s"}));
    sink.resume().unwrap();
    let second = 1_000_000_000;
    sink.write(&rows(1, 0, batch(&[1]))).unwrap();
    assert_eq!(sink.poll(1000 * second).unwrap(), None);
    assert_eq!(sink.poll(1059 * second).unwrap(), None);
    assert_eq!(sink.poll(1060 * second).unwrap(), Some(Position { epoch: 1, offset: 1 }));
    assert_eq!(sink.poll(9999 * second).unwrap(), None);
    sink.write(&rows(1, 1, batch(&(0..100).collect::<Vec<_>>()))).unwrap();
    assert_eq!(sink.poll(0).unwrap(), Some(Position { epoch: 1, offset: 101 }));
    // A position without rows is committed as well, and writes no file.
    sink.write(&SinkRows { epoch: 1, first: 101, end: 102, ingest_time: 0, rows: None }).unwrap();
    assert_eq!(sink.flush(0).unwrap(), Some(Position { epoch: 1, offset: 102 }));
    assert_eq!(sink.totals().files, 2);
}

#[test]
fn open_days_are_bounded_and_a_batch_over_many_days_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = sink(dir.path(), json!({"max_open_days": 3}));
    sink.resume().unwrap();
    let times: Vec<i64> = (0..20).map(|k| k / 2 * DAY).collect();
    sink.write(&rows(1, 0, batch(&times))).unwrap();
    assert_eq!(sink.poll(0).unwrap(), Some(Position { epoch: 1, offset: 18 }));
    assert_eq!(sink.flush(0).unwrap(), Some(Position { epoch: 1, offset: 20 }));
    assert_eq!(table(dir.path()).iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
}

#[test]
fn another_schema_or_epoch_begins_another_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = sink(dir.path(), json!({}));
    sink.resume().unwrap();
    sink.write(&rows(1, 0, batch(&[1]))).unwrap();
    sink.write(&rows(2, 1, batch(&[2]))).unwrap();
    sink.write(&rows(2, 2, batch(&[3]).project(&[0, 2]).unwrap())).unwrap();
    sink.flush(0).unwrap();
    assert_eq!(table(dir.path()), [(0, 1.0), (1, 2.0), (2, 3.0)]);
    assert_eq!(glob(&dir.path().join("tables/clean")).len(), 3);
}

#[test]
fn dead_letters_of_all_origins_share_a_table() {
    let dir = tempfile::tempdir().unwrap();
    for origin in ["received", "clean"] {
        let context = context(dir.path(), "dead-letter", origin);
        let mut sink = Parquet::new(config(json!({})), &context, Files::default());
        sink.resume().unwrap();
        let letters = vec![DeadLetter::payload("http", "not JSON", b"{"); 2];
        sink.write(&rows(1, 7, dead_letter::batch(&letters, DAY * 1_000_000_000))).unwrap();
        sink.flush(0).unwrap();
    }
    let batches = read(&dir.path().join("tables/dead-letter"));
    let origins: Vec<_> =
        batches.iter().map(|batch| batch.column_by_name("_origin").unwrap().as_string::<i32>().value(0)).collect();
    assert_eq!(origins, ["clean", "received"]);
    assert!(batches.iter().all(|batch| {
        batch.num_rows() == 2
            && batch.column_by_name("_offset").unwrap().as_primitive::<Int64Type>().values().iter().all(|o| *o == 7)
    }));
    assert!(
        glob(&dir.path().join("tables/dead-letter")).iter().all(|path| path.to_string_lossy().contains("1970-01-02"))
    );
}

/// Delivers rows 0..12 in frames of two over three days, flushing after every second frame, from where the sink had
/// come. Rows that were taken and failed are sent again up to `tries` times, as the engine does.
fn deliver(sink: &mut Parquet, tries: usize) -> Result<(), Failure> {
    let again = |step: &mut dyn FnMut() -> Result<(), Failure>| {
        let mut left = tries;
        loop {
            match step() {
                Err(_) if left > 0 => left -= 1,
                done => return done,
            }
        }
    };
    let mut from = 0;
    again(&mut || sink.resume().map(|position| from = position.map_or(0, |position| position.offset)))?;
    for first in (0..12).step_by(2).filter(|first| *first >= from as i64) {
        let frame = rows(1, first as u64, batch(&[first * DAY / 4, (first + 1) * DAY / 4]));
        again(&mut || sink.write(&frame))?;
        if first % 4 == 2 {
            again(&mut || sink.flush(0).map(drop))?;
        }
    }
    Ok(())
}

fn expected() -> Vec<(i64, f64)> {
    (0..12).map(|k| (k, (k * DAY / 4) as f64)).collect()
}

#[test]
fn a_stop_at_any_operation_leaves_every_row_once() {
    let changes = {
        let (dir, count) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(0)));
        let seen = count.clone();
        let vfs = FaultyVfs::new(Arc::new(RealVfs), move |op| {
            seen.fetch_max(op.nth_change, Ordering::Relaxed);
            None
        });
        let files = Files::new(Arc::new(vfs));
        deliver(&mut Parquet::new(config(json!({})), &context(dir.path(), "clean", "clean"), files), 0).unwrap();
        assert_eq!(table(dir.path()), expected());
        count.load(Ordering::Relaxed)
    };
    assert!(changes > 40, "{changes} operations only");
    for stop in 1..=changes {
        for torn in [0, 10] {
            let dir = tempfile::tempdir().unwrap();
            let vfs = FaultyVfs::new(Arc::new(RealVfs), move |op| (op.nth_change == stop).then_some(Fault::Stop(torn)));
            let files = Files::new(Arc::new(vfs));
            let mut killed = Parquet::new(config(json!({})), &context(dir.path(), "clean", "clean"), files);
            assert!(deliver(&mut killed, 0).is_err());
            deliver(&mut sink(dir.path(), json!({})), 0).unwrap();
            assert_eq!(table(dir.path()), expected(), "stopped at operation {stop}");
        }
    }
}

#[test]
fn an_error_at_any_operation_is_made_good_by_trying_again() {
    for fault in 1..60 {
        let dir = tempfile::tempdir().unwrap();
        let vfs = FaultyVfs::new(Arc::new(RealVfs), move |op| (op.nth_change == fault).then_some(Fault::Short(5, 5)));
        let mut faulty =
            Parquet::new(config(json!({})), &context(dir.path(), "clean", "clean"), Files::new(Arc::new(vfs)));
        deliver(&mut faulty, 1).unwrap();
        assert_eq!(table(dir.path()), expected(), "error at operation {fault}");
        deliver(&mut sink(dir.path(), json!({})), 0).unwrap();
        assert_eq!(table(dir.path()), expected(), "error at operation {fault}, read again");
    }
}

#[test]
fn a_days_folder_that_an_earlier_life_made_survives_a_power_loss() {
    for seed in 0..32 {
        let disk = SimulatedVfs::new(seed);
        let (data, files) = (Path::new("/data"), Files::new(Arc::new(disk.clone())));
        files.create_dir(Path::new("/"), data).unwrap();
        let sink = || Parquet::new(config(json!({})), &context(data, "clean", "clean"), files.clone());
        sink().resume().unwrap();
        disk.create_dir_all(&data.join("tables/clean/day=1970-01-01")).unwrap(); // killed before it was made durable
        let mut sink = sink();
        sink.resume().unwrap();
        sink.write(&rows(1, 10, batch(&[1, 2]))).unwrap();
        sink.flush(0).unwrap();
        let found = disk.lose_power(&mut Random(seed));
        assert_eq!(found.list(&data.join("tables/clean/day=1970-01-01")).unwrap().len(), 1, "seed {seed}");
    }
}

#[test]
fn settings_that_can_never_write_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let build = trackside_connectors::sinks::parquet::build;
    let error = build(json!({"rows": 0}), &context(dir.path(), "clean", "clean")).map(drop).unwrap_err();
    assert_eq!((error.path.as_str(), error.help.is_empty()), ("rows", false));
}
