//! The log against torn tails and flipped bits, at every place: rows 5 and 6 of the fault table.
//!
//! Row 5 cuts a log at every byte of its last 64 KiB and fills what follows with nothing, zeros, ones or the bytes of an
//! older life; an owner must find exactly the whole frames before the cut. Row 6 flips every bit of a 16 KiB segment and
//! random bits of a log of 64 MiB: every flip must be noticed, cost the one frame that it hit, and leave a copy behind.

use anyhow::{Result, anyhow, bail};
use serde_json::json;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use trackside_log::{Draft, Frame, Mode, Options, Random, SEGMENT_HEADER_BYTES, SimulatedVfs, Store, Vfs};

/// How much of a log's end is cut.
const TAIL: usize = 64 << 10;
/// A recovery may take so long.
const RECOVERY: Duration = Duration::from_millis(50);
/// Of the flips of row 6, one in so many is also shown to an owner.
const OWNER_EVERY: u64 = 61;
/// The large log of row 6, and the flips that each of its rounds makes at once.
const LARGE: u64 = 64 << 20;
const FLIPS: usize = 200;
/// Seeds of the log that is damaged, and of the one whose bytes lay there before.
const OURS: u64 = 1;
const OLDER: u64 = 2;
/// Findings are told up to this many; all are counted.
const MAX_TOLD: usize = 5;

/// `sweep`.
#[derive(Debug, clap::Args)]
pub(crate) struct SweepOptions {
    /// Row of the fault table: 5 torn tails, 6 flipped bits
    #[arg(long)]
    row: u32,
    /// All four fillings (row 5), a million random flips (row 6)
    #[arg(long)]
    release: bool,
    /// For what is random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Plant this bug: the sweep must find it
    #[arg(long)]
    bug: Option<String>,
    /// Only JSON
    #[arg(long)]
    json: bool,
}

/// What a sweep found.
#[derive(Default)]
struct Found {
    tried: u64,
    lost: u64,
    corrupt: u64,
    slowest: Duration,
    why: Vec<String>,
}

impl Found {
    fn tell(&mut self, why: String) {
        if self.why.len() < MAX_TOLD {
            self.why.push(why);
        }
    }

    fn lost(&mut self, why: String) {
        self.lost += 1;
        self.tell(format!("lost: {why}"));
    }

    fn corrupt(&mut self, why: String) {
        self.corrupt += 1;
        self.tell(format!("corrupt: {why}"));
    }
}

/// Runs a sweep; whether all is well.
pub(crate) fn run(options: SweepOptions) -> Result<bool> {
    crate::bugs::plant(options.bug.as_deref())?;
    let started = Instant::now();
    let mut found = Found::default();
    match options.row {
        5 => torn_tails(&mut found, if options.release { &FILLS } else { &FILLS[3..] })?,
        6 => {
            every_bit(&mut found)?;
            random_bits(&mut found, options.seed, if options.release { 5_000 } else { 5 })?;
        }
        other => bail!("row {other} is no sweep; choose from 5, 6"),
    }
    let slow = options.row == 5 && found.slowest > RECOVERY;
    let bars: Vec<String> = slow.then(|| format!("a recovery took {:?}", found.slowest)).into_iter().collect();
    let seconds = (started.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    if !options.json {
        found.why.iter().for_each(|why| println!("{why}"));
    }
    let well = found.lost + found.corrupt == 0 && bars.is_empty();
    let again = format!("cargo run --profile wheel -p trackside-faults -- sweep --row {}", options.row);
    let mut answer = json!({
        "row": options.row, "events": found.tried, "lost": found.lost, "duplicated": 0, "phantom": 0,
        "corrupt": found.corrupt, "seconds": seconds, "slowest_ms": found.slowest.as_secs_f64() * 1e3, "bars": bars,
        "repro": (!well).then_some(again),
    });
    if let (Some(bug), Some(object)) = (&options.bug, answer.as_object_mut()) {
        object.insert("bug".into(), json!(bug));
        object.insert("caught".into(), json!(!well));
    }
    println!("{answer}");
    Ok(well != options.bug.is_some())
}

fn options(segment: u64) -> Options {
    Options {
        segment_bytes: segment,
        first_segment_bytes: segment,
        max_frame_bytes: 1 << 20,
        max_undurable_bytes: 1 << 20,
    }
}

fn root() -> PathBuf {
    PathBuf::from("/sim/log")
}

/// A disk with the partition's directory. Its seed also draws the tags of reigns, which no two logs share.
fn disk(seed: u64) -> Result<SimulatedVfs> {
    let disk = SimulatedVfs::new(seed);
    disk.create_dir_all(&root().join("received/0"))?;
    Ok(disk)
}

/// A section whose every byte follows from the frame's offset and the log's salt; of a length of its own.
fn body(first: u64, salt: u8, longest: u64) -> Vec<u8> {
    let mut random = Random(first ^ (u64::from(salt) << 32));
    let length = longest / 4 + random.below(longest - longest / 4);
    (0..length).map(|k| (first as u8).wrapping_mul(31).wrapping_add(salt).wrapping_add(k as u8) | 1).collect()
}

/// Fills a log with durable frames of one row up to so many bytes; gives them as a reader does.
fn filled(disk: &SimulatedVfs, options: Options, bytes: u64, salt: u8, longest: u64) -> Result<Vec<Frame>> {
    let store = Store::open(Arc::new(disk.clone()), &root(), options)?;
    let mut writer = store.writer("received", 0, &mut |_| true)?;
    let mut at = SEGMENT_HEADER_BYTES;
    loop {
        let first = writer.published();
        let body = body(first, salt, longest);
        let sections = [(1, &body[..])];
        let draft = Draft { rows: 1, ingest_time: first as i64, meta: b"{}", sections: &sections, ..Draft::default() };
        at += draft.length();
        if at > bytes {
            break;
        }
        writer.append(&draft)?;
        // Each frame tells that those before it were durable: an owner without a control page knows by that.
        if bytes < LARGE || first % 64 == 0 {
            writer.syncer().sync()?;
        }
    }
    writer.syncer().sync()?;
    Ok(store.reader("received", 0)?.read(0, u64::MAX, usize::MAX)?)
}

fn content(disk: &SimulatedVfs, path: &Path) -> Result<Vec<u8>> {
    let file = disk.open(path, Mode::Read)?;
    let mut bytes = vec![0; file.len()? as usize];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn write(disk: &SimulatedVfs, path: &Path, bytes: &[u8]) -> Result<()> {
    let file = disk.open(path, Mode::CreateNew)?;
    file.write_at(bytes, 0)?;
    Ok(file.sync_data()?)
}

/// A name, and what stands from the cut on: of the whole bytes, older bytes, and the cut.
type Fill = (&'static str, fn(&[u8], &[u8], usize) -> Vec<u8>);

const FILLS: [Fill; 4] = [
    ("nothing", |whole, _, cut| whole[..cut].to_vec()),
    ("zeros", |whole, _, cut| [&whole[..cut], &vec![0; whole.len() - cut]].concat()),
    ("ones", |whole, _, cut| [&whole[..cut], &vec![0xFF; whole.len() - cut]].concat()),
    ("old bytes", |whole, old, cut| [&whole[..cut], &old[cut..]].concat()),
];

/// Row 5.
fn torn_tails(found: &mut Found, fills: &[Fill]) -> Result<()> {
    const SEGMENT: u64 = 96 << 10;
    let (ours, older) = (disk(OURS)?, disk(OLDER)?);
    let frames = filled(&ours, options(SEGMENT), SEGMENT, 7, 3000)?;
    let old_frames = filled(&older, options(SEGMENT), SEGMENT, 9, 3000)?;
    let path = frames.first().ok_or_else(|| anyhow!("an empty log"))?.location.path.clone();
    let whole = content(&ours, &path)?;
    let old = content(&older, &old_frames[0].location.path)?;
    let epochs = content(&ours, &root().join("received/0/epochs"))?;
    let end = frames.last().map_or(0, |frame| (frame.location.at + frame.location.length) as usize);
    for (name, fill) in fills {
        for cut in end - TAIL..end {
            let torn = fill(&whole, &old, cut);
            let intact = frames.iter().take_while(|frame| {
                let place = frame.location.at as usize..(frame.location.at + frame.location.length) as usize;
                torn.get(place.clone()) == Some(&whole[place])
            });
            let expected = intact.count() as u64;
            let disk = disk(OURS)?;
            write(&disk, &root().join("received/0/epochs"), &epochs)?;
            write(&disk, &path, &torn)?;
            let store = Store::open(Arc::new(disk.clone()), &root(), options(SEGMENT))?;
            let started = Instant::now();
            let writer = store.writer("received", 0, &mut |_| true)?;
            found.slowest = found.slowest.max(started.elapsed());
            found.tried += 1;
            let report = writer.recovery();
            match report.end {
                end if end < expected => found.lost(format!("{name}, cut at {cut}: {end} of {expected} frames")),
                end if end > expected => {
                    found.corrupt(format!("{name}, cut at {cut}: {end} frames, {expected} are whole"))
                }
                _ => {}
            }
            let next = frames.get(expected as usize).map_or(cut, |frame| frame.location.at as usize);
            if torn[next.min(torn.len())..cut.min(torn.len())].iter().any(|byte| *byte != 0) && report.cut_bytes == 0 {
                found.corrupt(format!("{name}, cut at {cut}: the torn bytes are not reported"));
            }
        }
    }
    Ok(())
}

fn place(frame: &Frame) -> Range<u64> {
    frame.location.at..frame.location.at + frame.location.length
}

/// Row 6, every bit of a small segment.
fn every_bit(found: &mut Found) -> Result<()> {
    const SEGMENT: u64 = 16 << 10;
    let disk = self::disk(OURS)?;
    let frames = filled(&disk, options(SEGMENT), SEGMENT, 3, 1200)?;
    let path = frames.first().ok_or_else(|| anyhow!("an empty log"))?.location.path.clone();
    let store = Store::open(Arc::new(disk.clone()), &root(), options(SEGMENT))?;
    let epochs = content(&disk, &root().join("received/0/epochs"))?;
    for bit in 0..8 * SEGMENT {
        disk.rot(&path, bit);
        let hit = frames.iter().position(|frame| place(frame).contains(&(bit / 8)));
        let mut reader = store.reader("received", 0)?;
        let read = reader.read(0, u64::MAX, usize::MAX)?;
        compare(found, &format!("bit {bit}"), &frames, &read, |k| Some(k) == hit);
        if reader.damage().len() != usize::from(hit.is_some()) {
            found.corrupt(format!("bit {bit}: {} places are reported", reader.damage().len()));
        }
        if bit % OWNER_EVERY == 0 {
            owner(found, bit, hit, &frames, &path, &content(&disk, &path)?, &epochs)?;
        }
        disk.rot(&path, bit);
        found.tried += 1;
    }
    Ok(())
}

/// What an owner makes of the flip: a gap in the middle stays a gap, a copy is kept, the last frame is cut.
fn owner(
    found: &mut Found,
    bit: u64,
    hit: Option<usize>,
    frames: &[Frame],
    path: &Path,
    bad: &[u8],
    epochs: &[u8],
) -> Result<()> {
    let disk = self::disk(OURS)?;
    write(&disk, &root().join("received/0/epochs"), epochs)?;
    write(&disk, path, bad)?;
    let store = Store::open(Arc::new(disk.clone()), &root(), options(16 << 10))?;
    let started = Instant::now();
    let writer = store.writer("received", 0, &mut |_| true)?;
    found.slowest = found.slowest.max(started.elapsed());
    let (report, count) = (writer.recovery(), frames.len());
    let Some(hit) = hit else { return Ok(()) };
    if hit + 1 < count {
        if report.end != count as u64 {
            found.lost(format!("bit {bit}: damage in the middle cut the log at {} of {count}", report.end));
        }
        let kept = report.damage.first().and_then(|damage| damage.quarantined.as_ref());
        let place = place(&frames[hit]);
        let copy = kept.map(|kept| content(&disk, kept)).transpose()?;
        if copy.as_deref() != Some(&bad[place.start as usize..place.end as usize]) {
            found.corrupt(format!("bit {bit}: no copy of the damaged frame was kept"));
        }
    } else if report.end + 1 != count as u64 {
        found.lost(format!("bit {bit}: damage of the last frame cut the log at {} of {count}", report.end));
    }
    Ok(())
}

/// Row 6, random bits of a large log, many at once.
fn random_bits(found: &mut Found, seed: u64, rounds: u64) -> Result<()> {
    let disk = self::disk(OURS)?;
    let frames = filled(&disk, options(LARGE), LARGE, 5, 64 << 10)?;
    let path = frames.first().ok_or_else(|| anyhow!("an empty log"))?.location.path.clone();
    let store = Store::open(Arc::new(disk.clone()), &root(), options(LARGE))?;
    let mut random = Random(seed);
    let end = frames.last().map_or(0, |frame| place(frame).end);
    for round in 0..rounds {
        let bits: Vec<u64> = (0..FLIPS).map(|_| 8 * SEGMENT_HEADER_BYTES + random.below(8 * (end - 64))).collect();
        let mut hit: Vec<bool> = vec![false; frames.len()];
        for bit in &bits {
            disk.rot(&path, *bit);
            // Two flips of one bit undo each other; that they meet is next to impossible.
            let frame = frames.partition_point(|frame| place(frame).end <= bit / 8);
            hit[frame] = true;
        }
        let mut reader = store.reader("received", 0)?;
        let read = reader.read(0, u64::MAX, usize::MAX)?;
        compare(found, &format!("seed {seed}, round {round}"), &frames, &read, |k| hit[k]);
        bits.iter().for_each(|bit| disk.rot(&path, *bit));
        found.tried += FLIPS as u64;
    }
    Ok(())
}

/// Whether what was read is all but the frames that were hit.
fn compare(found: &mut Found, case: &str, frames: &[Frame], read: &[Frame], hit: impl Fn(usize) -> bool) {
    let mut read = read.iter().peekable();
    for (k, frame) in frames.iter().enumerate() {
        match read.next_if(|other| other.info.first == frame.info.first) {
            Some(other) if other.bytes() != frame.bytes() => {
                found.corrupt(format!("{case}: frame {k} is not what was written"))
            }
            None if !hit(k) => found.lost(format!("{case}: frame {k} was not hit and is not read")),
            _ => {}
        }
    }
    if read.next().is_some() {
        found.corrupt(format!("{case}: frames that were never written"));
    }
}
