//! Exams that every component of a kind must pass, and the small batches that tests are made of.
//!
//! An exam takes what a registry holds and asserts; a component that is added to its list sits it without being
//! asked.

use crate::builder::EventBuilder;
use crate::operator::Operator;
use crate::schema::Layout;
use crate::series::SeriesIndex;
use crate::work::{CleanLayout, Touches, Work};
use arrow::array::RecordBatch;
use std::collections::BTreeMap;
use std::sync::Arc;

/// `device` names the series, `value` is a float.
pub fn layout() -> Arc<Layout> {
    let config = serde_json::json!({"series": ["device"], "fields": {"value": "float"}});
    Layout::new(serde_json::from_value(config).expect("a schema")).expect("a layout")
}

/// Events of [`layout`]: (time in ns, device, value).
pub fn events(rows: &[(i64, &str, f64)]) -> RecordBatch {
    let mut builder = EventBuilder::new(layout());
    for (time, device, value) in rows {
        builder.time(*time);
        builder.tag(0, device);
        builder.float(0, *value);
        builder.finish_row(0);
    }
    builder.finish()
}

/// A chain of one or more operators with its index, as the engine runs it.
pub struct Chain {
    layout: Arc<CleanLayout>,
    index: SeriesIndex,
    operators: Vec<Box<dyn Operator>>,
    offset: u64,
}

/// All that came out of a chain.
#[derive(Debug, Default)]
pub struct ChainOutput {
    /// Clean batches, in order.
    pub batches: Vec<RecordBatch>,
    /// Rows dropped, by rule.
    pub filtered: BTreeMap<String, u64>,
    /// Reasons of the rejected rows.
    pub dead: Vec<String>,
}

impl Chain {
    /// A new chain.
    pub fn new(layout: &Arc<Layout>, operators: Vec<Box<dyn Operator>>) -> Self {
        let mut touches = vec![Touches::default(); layout.config.fields.len()];
        operators.iter().for_each(|operator| operator.touches(&mut touches));
        let index = SeriesIndex::new(layout.tags());
        Self { layout: CleanLayout::new(layout.clone(), touches), index, operators, offset: 0 }
    }

    /// Sends a batch through.
    pub fn push(&mut self, rows: &RecordBatch, out: &mut ChainOutput) {
        let mut series = Vec::new();
        self.index.rows(rows, &mut series);
        let offsets = (self.offset..).take(rows.num_rows()).collect();
        self.offset += rows.num_rows() as u64;
        let mut work = Work::new(self.layout.clone(), rows.clone(), offsets, series);
        for operator in &mut self.operators {
            operator.process(&mut work).expect("an operator does not fail on data");
        }
        for (rule, count) in std::mem::take(&mut work.filtered) {
            *out.filtered.entry(rule).or_default() += count;
        }
        out.dead.extend(work.dead.drain(..).map(|letter| letter.reason));
        out.batches.push(work.finish().expect("the clean layout fits"));
    }

    /// The whole chain's state.
    pub fn snapshot(&self) -> (Vec<Vec<u8>>, Vec<Vec<u8>>, u64) {
        let keys = self.index.encoded().iter().map(|key| key.to_vec()).collect();
        (keys, self.operators.iter().map(|operator| operator.snapshot()).collect(), self.offset)
    }

    /// Goes on from a state.
    pub fn restore(&mut self, state: (Vec<Vec<u8>>, Vec<Vec<u8>>, u64)) {
        self.index = SeriesIndex::restore(&self.layout.layout.config.series.clone(), state.0);
        for (operator, state) in self.operators.iter_mut().zip(&state.1) {
            operator.restore(state).expect("its own snapshot");
        }
        self.offset = state.2;
    }
}

/// The exam of operators: however the rows are cut, and wherever the chain is restarted from a snapshot, the same rows
/// come out bit for bit; an empty batch changes nothing; a broken snapshot is an error and not a panic.
pub fn operator_exam(layout: &Arc<Layout>, build: &dyn Fn() -> Vec<Box<dyn Operator>>, rows: &RecordBatch) {
    let straight = run(layout, build, rows, &[], None);
    let n = rows.num_rows();
    for step in [1, 2, 3, 7, 64] {
        let cuts: Vec<usize> = (step..n).step_by(step).collect();
        assert_same(&straight, &run(layout, build, rows, &cuts, None), &format!("cut every {step} rows"));
    }
    for at in (0..=n).step_by((n / 40).max(1)) {
        assert_same(&straight, &run(layout, build, rows, &[at], Some(at)), &format!("restarted at row {at}"));
    }
    assert_same(&straight, &run(layout, build, rows, &[0, 0, n / 2, n / 2], None), "with empty batches");
    for operator in &mut build() {
        let state = operator.snapshot();
        for broken in [&state[..state.len() / 2], b"", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
            if broken != state.as_slice() {
                _ = operator.restore(broken);
            }
        }
    }
}

fn run(
    layout: &Arc<Layout>,
    build: &dyn Fn() -> Vec<Box<dyn Operator>>,
    rows: &RecordBatch,
    cuts: &[usize],
    restart: Option<usize>,
) -> ChainOutput {
    let mut out = ChainOutput::default();
    let mut chain = Chain::new(layout, build());
    let mut from = 0;
    for to in cuts.iter().copied().chain([rows.num_rows()]) {
        chain.push(&rows.slice(from, to - from), &mut out);
        if restart == Some(to) {
            let state = chain.snapshot();
            chain = Chain::new(layout, build());
            chain.restore(state);
        }
        from = to;
    }
    out
}

fn assert_same(left: &ChainOutput, right: &ChainOutput, case: &str) {
    assert_eq!(left.filtered, right.filtered, "{case}");
    assert_eq!(left.dead, right.dead, "{case}");
    assert_eq!(json_rows(&left.batches), json_rows(&right.batches), "{case}");
}

fn json_rows(batches: &[RecordBatch]) -> Vec<String> {
    batches
        .iter()
        .flat_map(|batch| {
            (0..batch.num_rows()).map(|row| serde_json::Value::Object(crate::batch::row_json(batch, row)).to_string())
        })
        .collect()
}
