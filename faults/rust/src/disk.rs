//! A disk whose power can be cut, below the running product: in memory, with a page cache, mounted by FUSE.
//!
//! `kill -9` proves nothing about fsync, because the kernel keeps what was written. Here nothing is kept but what was
//! fsynced, and a random part of the rest. Commands come line by line on standard input: `cut` (from now on every call
//! fails, as on a machine that is gone), `on` (mounted again, as a machine finds it after the power came back).

mod mounted;
mod store;

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fuser::{BackgroundSession, Config, MountOption};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use trackside_log::Random;

use mounted::Mounted;

/// A process that was killed has closed its files after at most so long.
const BUSY_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// An empty directory to mount the disk at
    mount: PathBuf,
    /// What is lost is drawn from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Serves the disk until standard input ends; answers each command with one line.
///
/// # Errors
/// When it cannot be mounted: no `/dev/fuse`, or no right to mount.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut random = Random(options.seed);
    let disk = Mounted::default();
    let mut session = mount(&disk, &options.mount)?;
    say("mounted")?;
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "cut" => {
                disk.cut();
                say("cut")?;
            }
            "on" => {
                unmount(session, &options.mount)?;
                let lost = disk.power_on(&mut random);
                session = mount(&disk, &options.mount)?;
                say(&serde_json::to_string(&lost)?)?;
            }
            other => bail!("unknown command `{other}`; there are `cut` and `on`"),
        }
    }
    unmount(session, &options.mount)
}

fn mount(disk: &Mounted, at: &Path) -> Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("trackside-faults".into()), MountOption::NoAtime];
    fuser::spawn_mount(disk.clone(), at, &config).with_context(|| format!("mounting a disk at {}", at.display()))
}

/// Whoever was killed a moment ago may still hold files open.
fn unmount(session: BackgroundSession, at: &Path) -> Result<()> {
    let began = Instant::now();
    while let Err(error) = rustix::mount::unmount(at, UnmountFlags::empty()) {
        if error != Errno::BUSY || began.elapsed() > BUSY_MAX {
            return Err(error).with_context(|| format!("unmounting {}", at.display()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    session.join().context("the end of the mounted disk")
}

fn say(line: &str) -> Result<()> {
    println!("{line}");
    Ok(std::io::stdout().flush()?)
}
