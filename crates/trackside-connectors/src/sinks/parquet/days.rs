//! Rows of a commit under way, sorted into days and encoded as they come.
//!
//! Guarantee: within a day the order of the log is kept. Memory holds the encoded bytes and at most [`GATHER`] rows of
//! each open day, so a table that rolls once a minute costs what its files will weigh, not what its rows do.

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampNanosecondType, UInt16Type};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::collections::BTreeMap;
use std::sync::Arc;
use trackside_core::quality::CLOCK_SUSPECT;

/// Rows of a day that are gathered before they are encoded: small frames would cost more in calls than in work.
pub const GATHER: usize = 8192;
/// Rows of a row group: DuckDB reads row groups in parallel and likes about so many.
const ROW_GROUP: usize = 128 * 1024;
const DAY: i64 = 86_400_000_000_000;

/// Name of the column that tells a row's partition.
pub const PARTITION: &str = "_partition";
/// Name of the column that tells a row's offset in its topic; with the partition it joins clean rows and scores.
pub const OFFSET: &str = "_offset";
/// Name of the column that tells the topic in the log, for tables that are read over several.
pub const ORIGIN: &str = "_origin";

/// How the rows of a table become files.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Column that decides the day.
    pub time: &'static str,
    /// Partition of the rows.
    pub partition: u32,
    /// Topic in the log, where it is not the table's own; offsets are then the frames'.
    pub origin: Option<String>,
    /// How the bytes are compressed.
    pub compression: Compression,
}

/// A file, encoded.
#[derive(Debug)]
pub struct File {
    /// Its day, `YYYY-MM-DD`.
    pub day: String,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Shape {
    /// The day of each row, in days since 1970: its event time's, or the frame's where the time is missing or suspect.
    pub fn days(&self, batch: &RecordBatch, ingest_time: i64) -> Vec<i64> {
        let (rows, ingest) = (batch.num_rows(), ingest_time.div_euclid(DAY));
        let Some(times) = batch.column_by_name(self.time).and_then(|c| c.as_primitive_opt::<TimestampNanosecondType>())
        else {
            return vec![ingest; rows];
        };
        let mut days: Vec<i64> = times.values().iter().map(|time| time.div_euclid(DAY)).collect();
        let mut suspect = |row: usize| days[row] = ingest;
        (0..rows).filter(|row| times.is_null(*row)).for_each(&mut suspect);
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let quality = column.as_primitive_opt::<UInt16Type>().filter(|_| field.name().ends_with("_quality"));
            let Some(quality) = quality else { continue };
            (0..rows).filter(|row| quality.value(*row) & CLOCK_SUSPECT != 0).for_each(&mut suspect);
        }
        days
    }

    /// The batch with the columns that tell where its rows come from.
    fn with_place(&self, batch: &RecordBatch, first: u64) -> Result<RecordBatch, ArrowError> {
        let rows = batch.num_rows();
        let mut fields: Vec<Arc<Field>> = batch.schema_ref().fields().iter().cloned().collect();
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        let mut add = |name: &str, kind: DataType, column: ArrayRef| {
            fields.push(Arc::new(Field::new(name, kind, false)));
            columns.push(column);
        };
        let step = u64::from(self.origin.is_none());
        if let Some(origin) = &self.origin {
            add(ORIGIN, DataType::Utf8, Arc::new(StringArray::from_iter_values(std::iter::repeat_n(origin, rows))));
        }
        add(PARTITION, DataType::Int32, Arc::new(Int32Array::from_value(self.partition as i32, rows)));
        let offsets = (0..rows as u64).map(|row| (first + row * step) as i64);
        add(OFFSET, DataType::Int64, Arc::new(Int64Array::from_iter_values(offsets)));
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
    }

    fn properties(&self, schema: &Schema) -> WriterProperties {
        let mut properties = WriterProperties::builder()
            .set_compression(self.compression)
            .set_max_row_group_row_count(Some(ROW_GROUP))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_created_by(concat!("trackside ", env!("CARGO_PKG_VERSION")).to_owned());
        for field in schema.fields() {
            let column = ColumnPath::from(field.name().as_str());
            // Times, offsets and counters rise in small steps and codes are mostly 0: their differences take a few bits,
            // and no dictionary is searched for each value. Floats keep theirs: sensors round, so values come again.
            if field.data_type().is_integer() || field.data_type().is_temporal() {
                properties = properties
                    .set_column_dictionary_enabled(column.clone(), false)
                    .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
            }
        }
        properties.build()
    }

    fn writer(&self, schema: SchemaRef) -> Result<ArrowWriter<Vec<u8>>, ParquetError> {
        // Without Arrow's own schema beside Parquet's, every reader sees tags as plain strings, in every file alike.
        let options =
            ArrowWriterOptions::new().with_properties(self.properties(&schema)).with_skip_arrow_metadata(true);
        ArrowWriter::try_new_with_options(Vec::new(), schema, options)
    }
}

/// The open days.
#[derive(Default)]
pub struct Days {
    days: BTreeMap<i64, Day>,
}

#[derive(Default)]
struct Day {
    gathered: Vec<RecordBatch>,
    waiting: usize,
    rows: u64,
    writer: Option<ArrowWriter<Vec<u8>>>,
}

impl Days {
    /// How many days are open.
    pub fn len(&self) -> usize {
        self.days.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.days.is_empty()
    }

    /// Whether this day is open.
    pub fn contains(&self, day: i64) -> bool {
        self.days.contains_key(&day)
    }

    /// Sorts rows into their days; `first` is the offset of the first.
    pub fn push(&mut self, shape: &Shape, batch: &RecordBatch, first: u64, days: &[i64]) -> Result<(), ParquetError> {
        let batch = shape.with_place(batch, first)?;
        if days.iter().all(|day| *day == days[0]) {
            return days.first().map_or(Ok(()), |day| self.days.entry(*day).or_default().push(shape, batch));
        }
        let mut rows: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, day) in days.iter().enumerate() {
            rows.entry(*day).or_default().push(row as u32);
        }
        for (day, rows) in rows {
            let part = take_record_batch(&batch, &UInt32Array::from(rows))?;
            self.days.entry(day).or_default().push(shape, part)?;
        }
        Ok(())
    }

    /// About how many bytes the files would have now.
    pub fn bytes(&self) -> usize {
        self.days.values().map(|day| day.writer.as_ref().map_or(0, |w| w.bytes_written() + w.in_progress_size())).sum()
    }

    /// Ends all days: their files, in order.
    pub fn finish(&mut self, shape: &Shape) -> Result<Vec<File>, ParquetError> {
        let mut files = Vec::with_capacity(self.days.len());
        for (number, mut day) in std::mem::take(&mut self.days) {
            day.encode(shape)?;
            if let Some(writer) = day.writer {
                let bytes = writer.into_inner()?;
                files.push(File { day: trackside_core::time::day(number * DAY), rows: day.rows, bytes });
            }
        }
        Ok(files)
    }
}

impl Day {
    fn push(&mut self, shape: &Shape, batch: RecordBatch) -> Result<(), ParquetError> {
        self.waiting += batch.num_rows();
        self.rows += batch.num_rows() as u64;
        self.gathered.push(batch);
        if self.waiting >= GATHER { self.encode(shape) } else { Ok(()) }
    }

    fn encode(&mut self, shape: &Shape) -> Result<(), ParquetError> {
        let gathered = std::mem::take(&mut self.gathered);
        self.waiting = 0;
        let Some(first) = gathered.first() else { return Ok(()) };
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(shape.writer(first.schema())?),
        };
        writer.write(&concat_batches(first.schema_ref(), &gathered)?)
    }
}
