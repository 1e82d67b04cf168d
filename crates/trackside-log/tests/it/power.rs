//! Power loss: the log that is found again is a prefix of what was appended, with everything that was durable.

use std::path::Path;
use std::sync::Arc;

use trackside_log::{Fault, OpKind, Options, Random, SimulatedVfs, Store, Vfs};

use crate::support::*;

const SEEDS: u64 = 400;

/// One life: some appends and syncs, perhaps failing ones, a little retention. Gives what was durable and appended.
fn live(store: &Store, random: &mut Random, given_up: &mut u64) -> (u64, u64) {
    let mut writer = writer(store);
    for _ in 0..random.below(80) {
        let _ = append(&mut writer); // a read-only log refuses
        match random.below(12) {
            0 => drop(writer.syncer().sync()),
            1 => drop(writer.reserve(random.below(8000))),
            2 => {
                let keep_from = writer.durable().saturating_sub(random.below(60));
                if writer.retain(keep_from).is_ok_and(|freed| freed > 0) {
                    *given_up = writer.first_offset();
                }
            }
            _ => {}
        }
    }
    (writer.durable(), writer.published())
}

#[test]
fn what_survives_is_a_prefix_with_all_that_was_durable() {
    let options = Options { max_undurable_bytes: 8 << 10, ..small() };
    let mut cut = 0;
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let mut disk = SimulatedVfs::new(seed);
        disk.create_dir_all(Path::new("/sim")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let mut given_up = 0;
        for _ in 0..4 {
            let failing = random.below(3) == 0;
            let mut dice = Random(random.next());
            let chance = std::sync::Mutex::new(move || failing && dice.below(8) == 0);
            disk.plan(move |op| {
                let segment = op.kind == OpKind::SyncData && op.path.extension().is_some_and(|ext| ext == "seg");
                (segment && op.nth > 12 && chance.lock().unwrap()()).then_some(Fault::Error(libc::EIO))
            });
            let store = store_over(Arc::new(disk.clone()), Path::new("/sim"), options);
            let (mut durable, mut appended) = live(&store, &mut random, &mut given_up);
            drop(store);
            disk.heal();
            if random.below(3) == 0 {
                // Killed and started again before the power goes: what was found then counts as durable.
                let again = writer(&store_over(Arc::new(disk.clone()), Path::new("/sim"), options));
                assert!(again.durable() >= durable && again.durable() == again.published(), "seed {seed}");
                (durable, appended) = (again.durable(), again.published());
            }

            disk = disk.lose_power(&mut random);
            let found = store_over(Arc::new(disk.clone()), Path::new("/sim"), options);
            let writer = crate::support::writer(&found);
            let end = writer.published();
            assert!(durable <= end && end <= appended, "seed {seed}: {durable} <= {end} <= {appended}");
            assert!(writer.recovery().damage.is_empty(), "seed {seed}: {:?}", writer.recovery());
            let mut reader = found.reader("received", 0).unwrap();
            let first = reader.first_offset().unwrap();
            assert!(first == given_up, "seed {seed}: {first} is not {given_up}");
            assert_eq!(offsets(&found), (first..end).step_by(2).collect::<Vec<_>>(), "seed {seed}");
            cut += u64::from(writer.recovery().cut_bytes > 0);
        }
    }
    assert!(cut > SEEDS / 4, "the tails that were torn: {cut}");
}

#[test]
fn the_newest_durable_frame_outlives_retention_and_a_power_loss() {
    for seed in 0..64 {
        let disk = SimulatedVfs::new(seed);
        disk.create_dir_all(Path::new("/sim")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let store = || store_over(Arc::new(disk.clone()), Path::new("/sim"), small());
        append_all(&mut writer(&store()), 3);
        // A new reign: what it writes is newer, and not durable yet.
        let mut writer = writer(&store());
        append_all(&mut writer, 2);
        writer.retain(u64::MAX).unwrap();
        drop(writer);
        let found = disk.lose_power(&mut Random(seed));
        let writer = crate::support::writer(&store_over(Arc::new(found), Path::new("/sim"), small()));
        assert!(writer.newest().is_some_and(|newest| newest.first >= 4), "seed {seed}: {:?}", writer.newest());
    }
}
