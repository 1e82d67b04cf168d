//! The forecasts that need no learning, and are hard to beat: the last value again, the last day again, the last week again.

use super::history::History;

/// The last value, for ever.
pub(crate) fn last_value(history: &History, out: &mut [f64]) {
    out.fill(history.last());
}

/// The last season, again and again; a hole in it is filled from the season before, else with the last value.
pub(crate) fn seasonal(history: &History, period: usize, out: &mut [f64]) {
    let (now, period) = (history.now(), period as i64);
    for (k, out) in out.iter_mut().enumerate() {
        let ahead = k as i64 + 1;
        let cell = now + ahead - period * ((ahead + period - 1) / period);
        let found = [cell, cell - period].into_iter().map(|cell| history.get(cell)).find(|y| !y.is_nan());
        *out = found.unwrap_or_else(|| history.last());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_season_repeats_and_holes_are_filled() {
        let mut history = History::new(16);
        for (cell, y) in [(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0), (5, 6.0)] {
            history.push(cell, y);
        }
        let mut out = [0.0; 4];
        seasonal(&history, 3, &mut out);
        assert_eq!(out, [4.0, 2.0, 6.0, 4.0]);
        last_value(&history, &mut out);
        assert_eq!(out, [6.0; 4]);
    }
}
