//! Ourselves on the job, in memory: JSON bytes, decoded in the pieces that the file source reads, through the chain that
//! the engine runs, to Arrow batches. The ceiling runs along, alternating, on the same bytes in the same process.

use crate::ceiling;
use crate::job::{Counts, PIPELINE};
use crate::measure::timed;
use anyhow::{Context, Result, anyhow};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use trackside_connectors::formats::json::Json;
use trackside_connectors::formats::{Decoder, Envelope, Mapping};
use trackside_core::builder::EventBuilder;
use trackside_core::operator::{Operator, OperatorContext};
use trackside_core::schema::Layout;
use trackside_core::testing::{Chain, ChainOutput};

/// Lines of a batch: what the file source delivers in one go.
const LINES: usize = 8192;

/// The schema and the chain of the job's pipeline file.
struct Setup {
    layout: Arc<Layout>,
    blocks: Vec<(String, Value)>,
}

impl Setup {
    fn new() -> Result<Self> {
        let file: toml::Table = PIPELINE.parse().context("the job's blocks")?;
        let mut file: Map<String, Value> = serde_json::from_value(serde_json::to_value(file)?)?;
        let schema = serde_json::from_value(file.remove("schema").unwrap_or_default())?;
        let layout = Layout::new(schema).map_err(|error| anyhow!("{error}"))?;
        let blocks = file.remove("clean").and_then(|blocks| blocks.as_array().cloned()).unwrap_or_default();
        let block = |mut block: Value| {
            let kind = block.as_object_mut().and_then(|block| block.remove("type"));
            (kind.and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default(), block)
        };
        Ok(Self { layout, blocks: blocks.into_iter().map(block).collect() })
    }

    fn operators(&self) -> Result<Vec<Box<dyn Operator>>> {
        let build = |(kind, block): &(String, Value)| {
            let context = OperatorContext { name: kind, layout: &self.layout };
            trackside_operators::clean::build(kind, block.clone(), &context).map_err(|error| anyhow!("{error}"))
        };
        self.blocks.iter().map(build).collect()
    }

    fn run(&self, pieces: &[&[u8]]) -> Result<Counts> {
        let mapping = Mapping::new(&self.layout, "bench", &BTreeMap::new()).map_err(|error| anyhow!("{error}"))?;
        let mut decoder = Json::new(mapping.with_time_required());
        let (mut builder, mut chain) =
            (EventBuilder::new(self.layout.clone()), Chain::new(&self.layout, self.operators()?));
        let (mut counts, mut out, mut dead) = (Counts::default(), ChainOutput::default(), Vec::new());
        for piece in pieces {
            decoder.decode(piece, &Envelope::at(0), &mut builder, &mut dead);
            counts.malformed += dead.len() as u64;
            counts.lines += (builder.len() + dead.len()) as u64;
            dead.clear();
            chain.push(&builder.finish(), &mut out);
            let rows: usize = out.batches.drain(..).map(|batch| std::hint::black_box(batch).num_rows()).sum();
            counts.survivors += rows as u64;
        }
        let filtered = |rule: &str| out.filtered.get(rule).copied().unwrap_or(0);
        (counts.duplicates, counts.out_of_range, counts.spikes) =
            (filtered("dedupe"), filtered("range"), filtered("hampel"));
        Ok(counts)
    }
}

/// Whole lines, so many at a time.
struct Pieces<'a>(&'a [u8]);

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(LINES - 1);
        let (piece, rest) = self.0.split_at(end.map_or(self.0.len(), |(at, _)| at + 1));
        self.0 = rest;
        (!piece.is_empty()).then_some(piece)
    }
}

/// Pairs of runs, ours and the ceiling's, after a warm-up of both.
pub(crate) fn against_ceiling(bytes: &[u8], rounds: usize) -> Result<Value> {
    let (setup, padded) = (Setup::new()?, ceiling::pad(bytes));
    let pieces: Vec<&[u8]> = Pieces(bytes).collect();
    let (mut ours, mut ceilings) = (Vec::new(), Vec::new());
    let (mut counts, mut ceiling_counts) = (setup.run(&pieces)?, ceiling::run(&padded));
    for _ in 0..rounds {
        let (seconds, found) = timed(|| setup.run(&pieces));
        counts = found?;
        ours.push(seconds);
        let (seconds, found) = timed(|| ceiling::run(&padded));
        ceiling_counts = found;
        ceilings.push(seconds);
    }
    Ok(json!({"ours": ours, "ceiling": ceilings, "counts": counts, "ceiling_counts": ceiling_counts}))
}

/// Ours alone, so many times; for a profiler.
pub(crate) fn alone(bytes: &[u8], rounds: usize) -> Result<Value> {
    let setup = Setup::new()?;
    let pieces: Vec<&[u8]> = Pieces(bytes).collect();
    let runs: Vec<(f64, Result<Counts>)> = (0..rounds).map(|_| timed(|| setup.run(&pieces))).collect();
    let seconds: Vec<f64> = runs.iter().map(|run| run.0).collect();
    let counts = runs.into_iter().last().map(|run| run.1).transpose()?;
    Ok(json!({"seconds": seconds, "counts": counts}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_count_what_the_definition_counts() {
        let path = std::env::temp_dir().join(format!("trackside-clean-{}.jsonl", std::process::id()));
        crate::workload::generate(60_000, &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            Setup::new().unwrap().run(&Pieces(&bytes).collect::<Vec<_>>()).unwrap(),
            crate::count::count(&bytes)
        );
    }
}
