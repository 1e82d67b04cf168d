//! Public series, read where they lie beside the repository; tests that want them say so and pass where they are not.

use std::path::{Path, PathBuf};

/// One file of the Numenta Anomaly Benchmark.
pub(crate) struct Series {
    pub(crate) time_ns: Vec<i64>,
    pub(crate) value: Vec<f64>,
    /// First and last row of each labelled window.
    pub(crate) windows: Vec<(usize, usize)>,
}

/// `<repository>/../shared/data/nab`, when it is there.
pub(crate) fn nab() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/nab");
    if !root.join("labels/combined_windows.json").exists() {
        println!("skipped: no NAB data at {}", root.display());
        return None;
    }
    Some(root)
}

/// Names of the labelled files, in order.
pub(crate) fn names(root: &Path) -> Vec<String> {
    labels(root).keys().cloned().collect()
}

fn labels(root: &Path) -> serde_json::Map<String, serde_json::Value> {
    let text = std::fs::read_to_string(root.join("labels/combined_windows.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

pub(crate) fn load(root: &Path, name: &str) -> Series {
    let text = std::fs::read_to_string(root.join(name)).unwrap();
    let (mut time_ns, mut value) = (Vec::new(), Vec::new());
    for line in text.lines().skip(1).filter(|line| !line.is_empty()) {
        let (time, x) = line.split_once(',').unwrap();
        time_ns.push(time_of(time));
        value.push(x.parse().unwrap());
    }
    let row = |edge: &serde_json::Value| {
        let time = time_of(edge.as_str().unwrap());
        time_ns.iter().position(|t| *t == time).unwrap()
    };
    let windows = labels(root)[name].as_array().unwrap().iter().map(|w| (row(&w[0]), row(&w[1]))).collect();
    Series { windows, value, time_ns }
}

/// `YYYY-MM-DD HH:MM:SS[.ffffff]` in UTC, whole seconds.
fn time_of(text: &str) -> i64 {
    let part = |from: usize, to: usize| text[from..to].parse::<i64>().unwrap();
    let (year, month, day) = (part(0, 4), part(5, 7), part(8, 10));
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468;
    ((days * 24 + part(11, 13)) * 3600 + part(14, 16) * 60 + part(17, 19)) * 1_000_000_000
}
