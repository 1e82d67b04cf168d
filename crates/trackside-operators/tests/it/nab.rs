//! The detector on the Numenta Anomaly Benchmark, scored by the published definition (Lavin & Ahmad 2015).

use crate::data::{self, Series};
use trackside_operators::detect::record_excess::{Config, RecordExcess, Scores};

/// Weight of a false alarm and of a missed window, standard profile; a hit weighs 1.
const FALSE_ALARM: f64 = 0.11;

fn sigmoid(y: f64) -> f64 {
    if y > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * y).exp()) - 1.0 }
}

/// One row that counts: its score, its window in the whole collection, what an alarm there is worth.
struct Row {
    score: f64,
    window: Option<usize>,
    worth: f64,
}

fn rows(series: &Series, scores: &[f64], first_window: usize) -> Vec<Row> {
    let n = scores.len();
    let mut windows = series.windows.clone();
    windows.sort_unstable();
    let probation = (n * 15 / 100).min(750);
    let row = |i: usize| {
        let inside = windows.iter().position(|(l, r)| (*l..=*r).contains(&i));
        let before = windows.iter().rfind(|(_, r)| *r < i);
        let worth = match (inside, before) {
            (Some(k), _) => {
                let (l, r) = windows[k];
                sigmoid(-((r - i + 1) as f64) / (r - l + 1) as f64) / sigmoid(-1.0)
            }
            (None, Some((l, r))) => FALSE_ALARM * sigmoid((i - r) as f64 / (r - l) as f64),
            (None, None) => -FALSE_ALARM,
        };
        Row { score: scores[i], window: inside.map(|k| k + first_window), worth }
    };
    (probation..n).map(row).collect()
}

/// (score at this threshold, best score of any threshold, the threshold that gives it)
fn nab_score(mut rows: Vec<Row>, windows: usize, threshold: f64) -> (f64, f64, f64) {
    rows.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut best_of = vec![-1.0; windows];
    let mut scorable = vec![false; windows];
    rows.iter().filter_map(|row| row.window).for_each(|k| scorable[k] = true);
    let missed_all = -(scorable.iter().filter(|s| **s).count() as f64);
    let (mut raw, mut best, mut at, mut given) = (missed_all, missed_all, f64::INFINITY, missed_all);
    for (i, row) in rows.iter().enumerate() {
        raw += match row.window {
            None => row.worth,
            Some(k) => {
                let gain = (row.worth - best_of[k]).max(0.0);
                best_of[k] += gain;
                gain
            }
        };
        if rows.get(i + 1).is_some_and(|next| next.score == row.score) {
            continue;
        }
        if row.score >= threshold {
            given = raw;
        }
        if raw > best {
            (best, at) = (raw, row.score);
        }
    }
    let normal = |raw: f64| 100.0 * (raw - missed_all) / (windows as f64 - missed_all);
    (normal(given), normal(best), at)
}

#[test]
fn nab_standard_score() {
    let Some(root) = data::nab() else { return };
    let (mut all, mut windows) = (Vec::new(), 0);
    for name in data::names(&root) {
        let series = data::load(&root, &name);
        let mut scores = Scores::default();
        let ids = vec![0; series.value.len()];
        RecordExcess::new(Config::default()).update(&ids, &series.time_ns, &series.value, &mut scores);
        if let Some(folder) = std::env::var_os("NAB_RESULTS") {
            write_results(&std::path::Path::new(&folder).join(&name), &scores.score);
        }
        all.extend(rows(&series, &scores.score, windows));
        windows += series.windows.len();
    }
    let threshold = Config::default().threshold;
    let (given, best, at) = nab_score(all, windows, threshold);
    println!("NAB standard: {given:.2} at the default threshold {threshold}, best {best:.2} at {at:.4}");
    assert!(best >= 65.5, "{best}");
    assert!(given >= 65.0, "{given}");
}

/// For other scorers: `NAB_RESULTS=folder` writes one csv a file there, with the column `anomaly_score`.
fn write_results(path: &std::path::Path, scores: &[f64]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let lines: Vec<String> = scores.iter().map(|s| format!("{s}\n")).collect();
    std::fs::write(path, format!("anomaly_score\n{}", lines.concat())).unwrap();
}
