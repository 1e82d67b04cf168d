//! The forecaster on public series: its error beside seasonal naive and last value, and what its bands hold.

use crate::data;
use std::collections::HashMap;
use trackside_operators::forecast::ens4::{Config, Ens4, Forecasts};

const STEPS: usize = 24;

/// Means over all forecasts made after the first fortnight's worth of rows.
struct Told {
    error: f64,
    seasonal_naive: f64,
    last_value: f64,
    coverage: f64,
}

fn told(name: &str, root: &std::path::Path) -> Told {
    let series = data::load(root, name);
    let mut out = Forecasts::default();
    Ens4::new(Config::default()).update(&vec![0; series.value.len()], &series.time_ns, &series.value, &mut out);
    let mut at: HashMap<i64, f64> = HashMap::new();
    for (time, y) in series.time_ns.iter().zip(&series.value) {
        at.entry(*time).or_insert(*y);
    }
    let (mut sums, mut n) = ([0.0; 4], 0.0);
    for k in 0..out.row.len() {
        let a_day = 86_400_000_000_000;
        let row = out.row[k] as usize;
        let (Some(y), Some(day_ago)) = (at.get(&out.for_time[k]), at.get(&(out.for_time[k] - a_day))) else { continue };
        if out.made_at[k] - series.time_ns[0] < 3 * a_day {
            continue;
        }
        let inside = (out.lower[k]..=out.upper[k]).contains(y);
        let errors =
            [(y - out.mean[k]).abs(), (y - day_ago).abs(), (y - series.value[row]).abs(), f64::from(u8::from(inside))];
        sums.iter_mut().zip(errors).for_each(|(sum, e)| *sum += e);
        n += 1.0;
    }
    let [error, seasonal_naive, last_value, coverage] = sums.map(|sum| sum / n);
    Told { error, seasonal_naive, last_value, coverage }
}

#[test]
fn nab_forecasts_beat_seasonal_naive_and_bands_hold_their_share() {
    let Some(root) = data::nab() else { return };
    let files = [
        "realKnownCause/machine_temperature_system_failure.csv",
        "realKnownCause/ambient_temperature_system_failure.csv",
        "realAWSCloudwatch/elb_request_count_8c0756.csv",
        "realAWSCloudwatch/rds_cpu_utilization_cc0c53.csv",
        "realTraffic/occupancy_6005.csv",
        "realAWSCloudwatch/ec2_network_in_257a54.csv",
    ];
    let (mut product, mut cover) = (1.0, 0.0);
    for name in files {
        let told = told(name, &root);
        let (relative, to_last) = (told.error / told.seasonal_naive, told.error / told.last_value);
        println!(
            "{name}: {relative:.3} of seasonal naive, {to_last:.3} of last value, {STEPS} steps, band holds {:.3}",
            told.coverage
        );
        assert!(relative < 0.92, "{name}: {relative}");
        assert!((0.80..0.98).contains(&told.coverage), "{name}: {}", told.coverage);
        product *= relative;
        cover += told.coverage;
    }
    let (mean, cover) = (f64::powf(product, 1.0 / files.len() as f64), cover / files.len() as f64);
    println!("geometric mean {mean:.3}, bands hold {cover:.3}");
    assert!(mean < 0.60, "{mean}");
    assert!((0.86..0.94).contains(&cover), "{cover}");
}
