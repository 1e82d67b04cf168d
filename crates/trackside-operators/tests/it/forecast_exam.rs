//! What every forecaster must stand: any cut into batches, a restart at any row, other series in between, bad input.

use crate::messy::{Random, messy};
use trackside_operators::forecast::ens4::{Config, DayRows, Ens4, Forecasts, Stretch};

/// A short season, so that all experts take part.
fn config() -> Config {
    Config { season: DayRows::Rows(24), every: Stretch::Rows(10), horizon: Stretch::Rows(12), ..Config::default() }
}

/// All bits of the answers: one line a row of the batch, and one a step forecast.
fn lines(out: &Forecasts, from: usize) -> Vec<String> {
    let bits = |columns: [&Vec<f64>; 3], i: usize| columns.map(|c| c[i].to_bits());
    let mut lines = Vec::new();
    for i in 0..out.ready.len() {
        let expected = bits([&out.expected, &out.expected_lower, &out.expected_upper], i);
        lines.push(format!("row {} {expected:?} {}", from + i, out.ready[i]));
        for k in (0..out.row.len()).filter(|k| out.row[*k] == i as i64) {
            let forecast = bits([&out.mean, &out.lower, &out.upper], k);
            lines.push(format!("row {} {} {} {forecast:?}", from + i, out.made_at[k], out.for_time[k]));
        }
    }
    lines
}

fn straight(ids: &[u32], times: &[i64], values: &[f64]) -> Vec<String> {
    let mut out = Forecasts::default();
    Ens4::new(config()).update(ids, times, values, &mut out);
    lines(&out, 0)
}

#[test]
fn cuts_and_restarts_change_no_bit() {
    let (ids, times, values) = messy(21, 8_000, 3);
    let wanted = straight(&ids, &times, &values);
    assert!(wanted.len() > 2 * ids.len(), "forecasts are made: {}", wanted.len());
    for seed in 0..5 {
        let mut random = Random(seed);
        let (mut forecaster, mut out, mut got) = (Ens4::new(config()), Forecasts::default(), Vec::new());
        let mut at = 0;
        while at < ids.len() {
            let end = (at + random.below(300) as usize).min(ids.len());
            forecaster.update(&ids[at..end], &times[at..end], &values[at..end], &mut out);
            got.extend(lines(&out, at));
            if random.below(3) == 0 {
                let bytes = forecaster.snapshot();
                forecaster = Ens4::new(config());
                forecaster.restore(&bytes).unwrap();
                assert_eq!(forecaster.snapshot(), bytes);
            }
            at = end;
        }
        assert!(got == wanted, "seed {seed}: {:?}", got.iter().zip(&wanted).find(|(a, b)| a != b));
    }
}

#[test]
fn a_restart_at_each_row_changes_no_bit() {
    let (ids, times, values) = messy(4, 250, 1);
    let wanted = straight(&ids, &times, &values);
    for cut in 0..ids.len() {
        let (mut first, mut second) = (Ens4::new(config()), Ens4::new(config()));
        let mut out = Forecasts::default();
        first.update(&ids[..cut], &times[..cut], &values[..cut], &mut out);
        let mut got = lines(&out, 0);
        second.restore(&first.snapshot()).unwrap();
        second.update(&ids[cut..], &times[cut..], &values[cut..], &mut out);
        got.extend(lines(&out, cut));
        assert!(got == wanted, "cut at {cut}");
    }
}

#[test]
fn series_do_not_see_each_other_and_nulls_are_missing_rows() {
    let (ids, times, values) = messy(9, 6_000, 4);
    let rows: Vec<usize> = (0..ids.len()).filter(|i| ids[*i] == 1 && values[*i].abs() < 1e150).collect();
    let (mut mixed, mut alone) = (Forecasts::default(), Forecasts::default());
    Ens4::new(config()).update(&ids, &times, &values, &mut mixed);
    let (own_times, own_values): (Vec<i64>, Vec<f64>) = rows.iter().map(|i| (times[*i], values[*i])).unzip();
    Ens4::new(config()).update(&vec![0; rows.len()], &own_times, &own_values, &mut alone);
    for (k, i) in rows.iter().enumerate() {
        assert_eq!(mixed.expected[*i].to_bits(), alone.expected[k].to_bits());
    }
    let own = |out: &Forecasts, id: u32, ids: &[u32]| -> Vec<u64> {
        (0..out.row.len()).filter(|k| ids[out.row[*k] as usize] == id).map(|k| out.mean[k].to_bits()).collect()
    };
    assert_eq!(own(&mixed, 1, &ids), own(&alone, 0, &vec![0; rows.len()]));
}

#[test]
fn absurd_times_and_values_never_panic_and_bands_are_in_order() {
    let mut random = Random(1);
    let odd = [0.0, -0.0, 1e149, -1e149, 5e-324, f64::MAX, f64::NAN, f64::NEG_INFINITY, 1.0];
    let values: Vec<f64> = (0..6_000).map(|_| odd[random.below(9) as usize]).collect();
    for wild in [1, 40, 4000] {
        let mut now = 0i64;
        let times: Vec<i64> = (0..values.len())
            .map(|_| {
                now = now.wrapping_add(1_000_000_000);
                if random.below(wild) == 0 {
                    [i64::MIN, i64::MAX, 0, now + (1 << 61)][random.below(4) as usize]
                } else {
                    now
                }
            })
            .collect();
        let (mut forecaster, mut out) = (Ens4::new(config()), Forecasts::default());
        forecaster.update(&vec![2; values.len()], &times, &values, &mut out);
        assert!((0..out.row.len()).all(|k| out.lower[k] <= out.mean[k] && out.mean[k] <= out.upper[k]));
        let bytes = forecaster.snapshot();
        for cut in (0..bytes.len()).step_by(31) {
            assert!(Ens4::new(config()).restore(&bytes[..cut]).is_err());
        }
    }
}

#[test]
fn damaged_snapshots_never_panic() {
    let (ids, times, values) = messy(2, 1_000, 2);
    let (mut forecaster, mut out) = (Ens4::new(config()), Forecasts::default());
    forecaster.update(&ids, &times, &values, &mut out);
    let whole = forecaster.snapshot();
    let mut random = Random(5);
    for _ in 0..300 {
        let mut bytes = whole.clone();
        let at = random.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << random.below(8);
        let mut other = Ens4::new(config());
        if other.restore(&bytes).is_ok() {
            other.update(&ids[..100], &times[900..], &values[..100], &mut out);
        }
    }
}
