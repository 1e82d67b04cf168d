//! What every detector must stand: any cut into batches, a restart at any row, other series in between, bad input.

use crate::messy::{Random, messy};
use trackside_operators::detect::record_excess::{Config, RecordExcess, Scores};

/// All bits of the answers, one line a row.
fn lines(scores: &Scores, from: usize) -> Vec<String> {
    let bits = |x: &[f64], i: usize| x[i].to_bits();
    (0..scores.score.len())
        .map(|i| {
            let numbers = [&scores.score, &scores.expected, &scores.lower, &scores.upper].map(|column| bits(column, i));
            let reason = scores.reason.iter().find(|(row, _)| *row == i).map_or("", |(_, text)| text);
            format!("{} {numbers:?} {} {} {reason}", from + i, scores.anomaly[i], scores.ready[i])
        })
        .collect()
}

fn straight(ids: &[u32], times: &[i64], values: &[f64]) -> Vec<String> {
    let mut scores = Scores::default();
    RecordExcess::new(Config::default()).update(ids, times, values, &mut scores);
    lines(&scores, 0)
}

#[test]
fn cuts_and_restarts_change_no_bit() {
    let (ids, times, values) = messy(7, 12_000, 4);
    let wanted = straight(&ids, &times, &values);
    for seed in 0..6 {
        let mut random = Random(seed);
        let (mut detector, mut scores, mut got) = (RecordExcess::new(Config::default()), Scores::default(), Vec::new());
        let mut at = 0;
        while at < ids.len() {
            let end = (at + random.below(400) as usize).min(ids.len());
            detector.update(&ids[at..end], &times[at..end], &values[at..end], &mut scores);
            got.extend(lines(&scores, at));
            if random.below(3) == 0 {
                let bytes = detector.snapshot();
                detector = RecordExcess::new(Config::default());
                detector.restore(&bytes).unwrap();
                assert_eq!(detector.snapshot(), bytes);
            }
            at = end;
        }
        assert!(got == wanted, "seed {seed}: {:?}", got.iter().zip(&wanted).find(|(a, b)| a != b));
    }
}

#[test]
fn a_restart_at_each_early_row_changes_no_bit() {
    let (ids, times, values) = messy(3, 260, 1);
    let wanted = straight(&ids, &times, &values);
    for cut in 0..ids.len() {
        let (mut first, mut second) = (RecordExcess::new(Config::default()), RecordExcess::new(Config::default()));
        let mut scores = Scores::default();
        first.update(&ids[..cut], &times[..cut], &values[..cut], &mut scores);
        second.restore(&first.snapshot()).unwrap();
        second.update(&ids[cut..], &times[cut..], &values[cut..], &mut scores);
        assert!(lines(&scores, cut) == wanted[cut..], "cut at {cut}");
    }
}

#[test]
fn series_do_not_see_each_other() {
    let (ids, times, values) = messy(11, 8_000, 5);
    let mut scores = Scores::default();
    RecordExcess::new(Config::default()).update(&ids, &times, &values, &mut scores);
    let rows: Vec<usize> = (0..ids.len()).filter(|i| ids[*i] == 2).collect();
    let (mut alone, mut own) = (RecordExcess::new(Config::default()), Scores::default());
    let pick = |i: &usize| (times[*i], values[*i]);
    let (own_times, own_values): (Vec<i64>, Vec<f64>) = rows.iter().map(pick).unzip();
    alone.update(&vec![0; rows.len()], &own_times, &own_values, &mut own);
    for (k, i) in rows.iter().enumerate() {
        assert_eq!(scores.score[*i].to_bits(), own.score[k].to_bits());
    }
}

#[test]
fn nulls_teach_nothing() {
    let (_, times, values) = messy(5, 2_000, 1);
    let known: Vec<usize> = (0..values.len()).filter(|i| values[*i].abs() < 1e150).collect();
    let (known_times, known_values): (Vec<i64>, Vec<f64>) = known.iter().map(|i| (times[*i], values[*i])).unzip();
    let (mut with, mut without) = (Scores::default(), Scores::default());
    RecordExcess::new(Config::default()).update(&vec![0; values.len()], &times, &values, &mut with);
    RecordExcess::new(Config::default()).update(&vec![0; known.len()], &known_times, &known_values, &mut without);
    for (k, i) in known.iter().enumerate() {
        assert_eq!(with.score[*i].to_bits(), without.score[k].to_bits());
    }
    assert!((0..values.len()).filter(|i| !known.contains(i)).all(|i| with.score[i].is_nan() && !with.ready[i]));
}

#[test]
fn absurd_times_and_values_never_panic_and_scores_stay_scores() {
    let mut random = Random(1);
    let odd = [0.0, -0.0, 1e149, -1e149, 5e-324, f64::MAX, f64::NAN, f64::NEG_INFINITY, 1.0];
    let n = 5_000;
    let values: Vec<f64> = (0..n).map(|_| odd[random.below(9) as usize]).collect();
    let times: Vec<i64> = (0..n).map(|_| [i64::MIN, i64::MAX, 0, -1][random.below(4) as usize]).collect();
    let mut scores = Scores::default();
    let mut detector = RecordExcess::new(Config::default());
    detector.update(&vec![3; n], &times, &values, &mut scores);
    assert!(scores.score.iter().all(|s| s.is_nan() || (0.0..=3.0).contains(s)));
    let bytes = detector.snapshot();
    for cut in 0..bytes.len() {
        assert!(RecordExcess::new(Config::default()).restore(&bytes[..cut]).is_err());
    }
}
