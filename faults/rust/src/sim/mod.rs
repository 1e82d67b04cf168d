//! The simulator: the product's log, cleaning, tables and retention on a disk that fails by a seed.
//!
//! Nothing here runs on threads or reads a clock: a seed decides what is sent, in which order the stages move, and what
//! breaks when. So a finding is played again by one line, which is printed with it.

mod check;
mod events;
mod world;

use anyhow::{Context, Result, anyhow, bail};
use check::Found;
use serde_json::{Value, json};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;
use trackside_engine::Pipeline;
use trackside_log::{Fault, OpKind};
use world::{ClockMode, World, trace};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const HOUR: i64 = 3600;
const FIFTY_YEARS: i64 = 50 * 365 * 24 * HOUR;
/// Findings are told up to this many; all are counted.
const MAX_TOLD: usize = 5;

/// `sim`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// One seed, or a range: `7`, `0..10000`; without, those of the row's CI tier
    #[arg(long)]
    seeds: Option<Seeds>,
    /// Row of the fault table: 3 power loss, 8 full disk, 9 failed fsync, 10 short calls, 25 clock
    #[arg(long, default_value_t = 3)]
    row: u32,
    /// Plant this bug, and end with the first seed that shows it
    #[arg(long)]
    bug: Option<String>,
    /// Only JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug)]
struct Seeds(Range<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u64>().map_err(|error| format!("`{text}` is no seed: {error}"));
        match text.split_once("..") {
            Some((from, to)) => Ok(Self(number(from)?..number(to)?)),
            None => number(text).map(|seed| Self(seed..seed + 1)),
        }
    }
}

/// A row that is simulated: seeds of its CI tier, and what one seed does.
struct Row {
    number: u32,
    name: &'static str,
    seeds: u64,
    play: fn(&mut World, u64, &mut Found) -> Result<()>,
}

const ROWS: &[Row] = &[
    Row { number: 3, name: "power loss", seeds: 10_000, play: power_loss },
    Row { number: 8, name: "disk full", seeds: 600, play: full_disk },
    Row { number: 9, name: "failed fsync", seeds: 400, play: failed_fsync },
    Row { number: 10, name: "short calls", seeds: 1_000, play: short_calls },
    Row { number: 25, name: "clock", seeds: 200, play: odd_clock },
];

/// Runs the seeds of a row; whether all is well.
pub(crate) fn run(options: Options) -> Result<bool> {
    let row = ROWS.iter().find(|row| row.number == options.row).ok_or_else(|| {
        let choices: Vec<String> = ROWS.iter().map(|row| row.number.to_string()).collect();
        anyhow!("row {} is not simulated; choose from {}", options.row, choices.join(", "))
    })?;
    crate::bugs::plant(options.bug.as_deref())?;
    std::panic::set_hook(Box::new(|_| {})); // told with the seed that panicked
    let pipelines = [pipeline(1)?, pipeline(2)?];
    let started = Instant::now();
    let seeds = options.seeds.map_or(0..row.seeds, |seeds| seeds.0);
    let (mut total, mut events, mut bad) = (Found::default(), 0u64, Vec::new());
    let mut played = 0u64;
    for seed in seeds {
        let (found, sent) = one(row, seed, &pipelines[(seed % 2) as usize]);
        events += sent;
        played += 1;
        if found.any() {
            if bad.len() < MAX_TOLD && !options.json {
                println!(
                    "seed {seed}: {}\n  again: {}",
                    found.why.join("\n  "),
                    again(row, seed, options.bug.as_deref())
                );
            }
            bad.push(seed);
            total.lost += found.lost;
            total.duplicated += found.duplicated;
            total.phantom += found.phantom;
            total.corrupt += found.corrupt;
            if options.bug.is_some() {
                break;
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let repro = bad.first().map(|seed| again(row, *seed, options.bug.as_deref()));
    let mut answer = json!({
        "row": row.number, "events": events, "lost": total.lost, "duplicated": total.duplicated,
        "phantom": total.phantom, "corrupt": total.corrupt, "seeds": played, "seconds": (seconds * 10.0).round() / 10.0,
        "bars": [], "repro": repro, "failed_seeds": bad.iter().take(MAX_TOLD).collect::<Vec<_>>(),
    });
    if let (Some(bug), Value::Object(object)) = (&options.bug, &mut answer) {
        object.insert("bug".into(), json!(bug));
        object.insert("caught".into(), json!(!bad.is_empty()));
    }
    if !options.json {
        println!("row {:<3} {:<14} {played} seeds  {} failed  {seconds:.1} s", row.number, row.name, bad.len());
    }
    println!("{answer}");
    Ok(bad.is_empty() != options.bug.is_some())
}

fn again(row: &Row, seed: u64, bug: Option<&str>) -> String {
    let bug = bug.map(|bug| format!(" --bug {bug}")).unwrap_or_default();
    format!("cargo run --profile wheel -p trackside-faults -- sim --row {} --seeds {seed}{bug}", row.number)
}

/// The pipeline of the simulations; never read from a disk.
fn pipeline(partitions: u32) -> Result<Arc<Pipeline>> {
    let text = events::PIPELINE.replace("PARTITIONS", &partitions.to_string());
    let mut pipeline = Pipeline::parse(Path::new("/sim/pipeline.toml"), &text).map_err(|error| anyhow!("{error}"))?;
    pipeline.retention.max_mib = 0; // whatever nobody needs goes
    Ok(Arc::new(pipeline))
}

/// Plays one seed; a panic or an error is a finding as well.
fn one(row: &Row, seed: u64, pipeline: &Arc<Pipeline>) -> (Found, u64) {
    let mut found = Found::default();
    let mut world = World::new(seed, pipeline.clone());
    let played =
        catch_unwind(AssertUnwindSafe(|| world.format().and_then(|()| (row.play)(&mut world, seed, &mut found))));
    match played {
        Ok(Ok(())) => {}
        Ok(Err(error)) => found.corrupt(format!("{error:#}")),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            found.corrupt(format!("panicked: {}", said.unwrap_or_default()));
        }
    }
    (found, world.events.all.len() as u64 + world.payloads)
}

/// Lives that end by a power loss, a kill or a stop, at any operation, also while recovering.
fn power_loss(world: &mut World, _: u64, found: &mut Found) -> Result<()> {
    for _ in 0..1 + world.random.below(3) {
        start(world, found)?;
        if world.random.once_in(4) {
            world.live(60)?;
            if world.random.once_in(2) {
                rest(world, found)?;
            }
        } else {
            let stop_at = 1 + world.random.below(300);
            let part = world.random.below(3000);
            world.disk.plan(move |op| (op.nth_change == stop_at).then_some(Fault::Stop(part)));
            world.live(20 + world.random.clone().below(80))?;
        }
        end(world)?;
    }
    start(world, found)?;
    rest(world, found)
}

/// A life ends: by a kill, or by a power loss.
fn end(world: &mut World) -> Result<()> {
    world.die()?;
    world.power = !world.random.once_in(4);
    trace(|| format!("a life ended, power {}", world.power));
    if world.power {
        world.lose_power();
    }
    if world.random.once_in(5) {
        world.rot_a_snapshot()?;
    }
    Ok(())
}

/// Starts, perhaps after starts that were ended in the middle.
fn start(world: &mut World, found: &mut Found) -> Result<()> {
    while world.random.once_in(4) {
        let stop_at = 1 + world.random.below(60);
        world.disk.plan(move |op| (op.nth_change == stop_at).then_some(Fault::Stop(100)));
        let started = world.start();
        trace(|| format!("a start stopped at {stop_at}: {:?}", started.as_ref().err().map(ToString::to_string)));
        if !world.disk.stopped() {
            started.context("a start failed on a sound disk")?;
        }
        world.run = None;
        world.disk.heal();
        if world.random.once_in(2) {
            world.lose_power();
            world.power = true;
        }
    }
    world.disk.heal();
    world.start().context("the pipeline does not start")?;
    let power = std::mem::take(&mut world.power);
    world.compare(found, power)
}

/// All comes to rest, and is counted.
fn rest(world: &mut World, found: &mut Found) -> Result<()> {
    world.drain()?;
    check::tables(world, found)
}

/// The k-th write, allocation or creation finds no room, and some after it; then there is room again.
fn full_disk(world: &mut World, seed: u64, found: &mut Found) -> Result<()> {
    world.start()?;
    let (k, kind) = (1 + seed % 200, [OpKind::Write, OpKind::Allocate, OpKind::Create][(seed / 200 % 3) as usize]);
    let (until, part) = (k + 1 + world.random.below(20), world.random.below(600));
    world.failing = true;
    world.disk.plan(move |op| (op.kind == kind && op.nth >= k && op.nth < until).then_some(Fault::Short(part, ENOSPC)));
    world.live(150)?;
    world.disk.heal();
    if world.random.once_in(2) {
        world.disk.set_room(world.random.clone().below(200_000));
        world.live(60)?;
        world.disk.set_room(u64::MAX);
    }
    // Without a restart or a human.
    world.failing = false;
    let before = world.acked.len();
    world.live(40)?;
    rest(world, found)?;
    if world.acked.len() == before {
        bail!("nothing was acknowledged after there was room again");
    }
    end(world)?;
    start(world, found)?;
    rest(world, found)
}

/// The k-th fsync fails: of a file or of a directory, once or for ever.
fn failed_fsync(world: &mut World, seed: u64, found: &mut Found) -> Result<()> {
    world.start()?;
    let (k, once) = (1 + seed % 100, (seed / 100).is_multiple_of(2));
    let kind = [OpKind::SyncData, OpKind::SyncDir][(seed / 200 % 2) as usize];
    world.failing = true;
    world.disk.plan(move |op| (op.kind == kind && (op.nth == k || op.nth > k && !once)).then_some(Fault::Error(EIO)));
    world.live(150)?;
    world.disk.heal();
    if once && kind == OpKind::SyncData && world.random.once_in(2) {
        world.failing = false; // made good by itself
        world.live(20)?;
        rest(world, found)?;
    }
    end(world)?;
    world.failing = false;
    world.power = true; // what was read back past a failed fsync is not trusted: the end may go
    start(world, found)?;
    rest(world, found)
}

/// Every call reads and writes less than it was asked to, and is interrupted.
fn short_calls(world: &mut World, seed: u64, found: &mut Found) -> Result<()> {
    world.disk.rough(true);
    power_loss(world, seed, found)
}

/// The wall clock jumps an hour back or on, fifty years on, or stands.
fn odd_clock(world: &mut World, seed: u64, found: &mut Found) -> Result<()> {
    world.clock_mode = match seed % 4 {
        0 => ClockMode::Jumps(-HOUR),
        1 => ClockMode::Jumps(HOUR),
        2 => ClockMode::Jumps(FIFTY_YEARS),
        _ => ClockMode::Stands,
    };
    power_loss(world, seed, found)
}
