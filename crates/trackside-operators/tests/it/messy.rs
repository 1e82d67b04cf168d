//! Series as bad as life: what the exams of this crate are sat on.

/// A small generator, so that the series are the same on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    pub(crate) fn unit(&mut self) -> f64 {
        self.below(1 << 30) as f64 / f64::from(1 << 30)
    }
}

/// Rows of `n_series` series, mixed, with nulls, absurd numbers, flat stretches, jumps and times that go back.
pub(crate) fn messy(seed: u64, rows: usize, n_series: u64) -> (Vec<u32>, Vec<i64>, Vec<f64>) {
    let mut random = Random(seed);
    let (mut ids, mut times, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut now = 1_700_000_000_000_000_000i64;
    for i in 0..rows {
        let id = random.below(n_series) as u32;
        now += match random.below(400) {
            0 => -5_000_000_000,
            1 => 3_600_000_000_000,
            2 => 0,
            _ => 20_000_000_000 + random.below(1_000_000) as i64,
        };
        let usual = 20.0 * f64::from(id) + (i as f64 / 500.0).sin() * 10.0 + random.unit();
        let value = match random.below(300) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => 1e200,
            3 => -1e149,
            4 => 1e-310,
            5..=9 => usual + 30.0,
            _ if (i / 700) % 5 == 3 => 7.0,
            _ => usual,
        };
        ids.push(id);
        times.push(now);
        values.push(value);
    }
    (ids, times, values)
}
