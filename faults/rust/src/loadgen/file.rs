//! Writes events to a file that grows, for the `file` source to follow, in pieces that cut lines anywhere.
//!
//! A line is acknowledged once its last byte was written: the file is the sender here, and it is never killed.

use super::event::Maker;
use super::notes::Answer;
use super::{Load, Pace};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Number of the lane whose ids it takes, far from those of connections.
const LANE: u32 = 999;
/// Devices of the file, far from those of connections.
const DEVICES: std::ops::Range<u32> = 10_000..10_010;

pub(super) fn write(load: &Load, path: &Path) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let mut maker = Maker::new(load.options.seed, LANE, &load.options.fleet, DEVICES.collect());
    let mut pace = Pace::new(load.options.rate / load.options.batch as f64);
    while !load.stopped() {
        pace.wait();
        let count = load.take(load.options.batch as u64);
        if count == 0 {
            break;
        }
        let events: Vec<_> = (0..count).map(|_| maker.next(load.mix())).collect();
        load.notes.intend(&events)?;
        let lines: Vec<u8> = events.iter().flat_map(|event| event.line.iter().copied()).collect();
        let cut = maker.draw() % lines.len();
        file.write_all(&lines[..cut])?;
        std::thread::sleep(Duration::from_millis((maker.draw() % 3) as u64));
        file.write_all(&lines[cut..])?;
        load.notes.answer(&events, Answer::Acked, Duration::ZERO)?;
    }
    Ok(())
}
