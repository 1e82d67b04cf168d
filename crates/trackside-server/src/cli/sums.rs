//! The sums of law 3, written as sums: what came in on the left, where it went on the right.

use super::terminal::count;
use std::path::Path;
use trackside_engine::{Status, Summary, Sums};

/// One line a stage, and one that says whether all hold.
pub(crate) fn lines(sums: &Sums) -> Vec<String> {
    let width = sums.models.keys().map(String::len).max().unwrap_or(0).max("ingest".len());
    let line = |name: &str, balanced: bool, left: String, right: Vec<(&str, u64)>| {
        let right: Vec<String> = right.into_iter().map(|(word, n)| format!("{word} {}", count(n))).collect();
        let sign = if balanced { "=" } else { "≠" };
        format!("  {name:width$}  {left} {sign} {}", right.join(" + "))
    };
    let left = |word: &str, n: u64, retried: u64| match retried {
        0 => format!("{word} {}", count(n)),
        retried => format!("{word} {} + retried {}", count(n), count(retried)),
    };
    let (ingest, clean) = (&sums.ingest, &sums.clean);
    let taken = left("taken", ingest.taken, ingest.retried);
    let mut lines =
        vec![line("ingest", ingest.balanced, taken, vec![("received", ingest.received), ("dead", ingest.dead)])];
    let mut right = vec![("clean", clean.clean), ("dead", clean.dead), ("filtered", clean.filtered)];
    right.extend((clean.lost > 0).then_some(("lost to damage", clean.lost)));
    right.extend((clean.in_flight > 0).then_some(("in flight", clean.in_flight)));
    let mut text = line("clean", clean.balanced, left("received", clean.received, clean.retried), right);
    let rules: Vec<String> = clean.filtered_by.iter().map(|(rule, n)| format!("{rule} {}", count(*n))).collect();
    if !rules.is_empty() {
        text.push_str(&format!("  ({})", rules.join(", ")));
    }
    lines.push(text);
    for (name, sum) in &sums.models {
        let mut right = vec![("scored", sum.scored), ("dead", sum.dead), ("skipped", sum.skipped)];
        right.extend((sum.lost > 0).then_some(("lost to damage", sum.lost)));
        right.extend((sum.in_flight > 0).then_some(("in flight", sum.in_flight)));
        lines.push(line(name, sum.balanced, left("clean", sum.clean, sum.retried), right));
    }
    lines
}

/// The end of a run.
pub(crate) fn end(summary: &Summary, data: &Path) -> Vec<String> {
    let mut lines = lines(&summary.sums);
    lines.push(format!(
        "  {} clean rows in tables, {} anomalies, {} forecast rows, {} refused",
        count(summary.table_rows),
        count(summary.anomalies),
        count(summary.forecasts),
        count(summary.refused)
    ));
    lines.push(match (summary.balanced, summary.in_flight) {
        (true, 0) => "  Every sum holds; nothing is in flight.".into(),
        (true, n) => format!(
            "  Every sum holds; {} rows are in flight: they are in the log, and the next start goes on with them.",
            count(n)
        ),
        (false, _) => "  A sum does not hold: please report this, with the figures above.".into(),
    });
    lines.push(format!("  data  {}", data.display()));
    lines
}

/// How a run does, in one short line.
pub(crate) fn progress(status: &Status) -> String {
    let sums = &status.sums;
    let dead = sums.ingest.dead + sums.clean.dead + sums.models.values().map(|model| model.dead).sum::<u64>();
    let rate: f64 = status.stages.iter().filter(|stage| stage.stage == "ingest").map(|stage| stage.rate).sum();
    let in_flight = sums.in_flight();
    format!(
        "{} received  {} clean  {} dead  {} in flight  {} anomalies  {rate:.0}/s",
        count(sums.ingest.received),
        count(sums.clean.clean),
        count(dead),
        count(in_flight),
        count(status.anomalies),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackside_engine::{CleanSum, IngestSum, ModelSum};

    #[test]
    fn a_sum_reads_as_one() {
        let sums = Sums {
            ingest: IngestSum { taken: 1200, received: 1190, dead: 10, retried: 0, balanced: true },
            clean: CleanSum {
                received: 1190,
                clean: 1100,
                filtered: 90,
                filtered_by: [("dedupe".to_string(), 90)].into(),
                balanced: true,
                ..CleanSum::default()
            },
            models: [(
                "anomaly".to_string(),
                ModelSum { clean: 1100, scored: 1000, in_flight: 99, balanced: false, ..ModelSum::default() },
            )]
            .into(),
        };
        assert_eq!(
            lines(&sums),
            [
                "  ingest   taken 1,200 = received 1,190 + dead 10",
                "  clean    received 1,190 = clean 1,100 + dead 0 + filtered 90  (dedupe 90)",
                "  anomaly  clean 1,100 ≠ scored 1,000 + dead 0 + skipped 0 + in flight 99",
            ]
        );
    }
}
