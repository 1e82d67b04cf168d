//! Killed at any operation: what was durable is there, and the log is a prefix of what was appended.

use std::sync::Arc;

use trackside_log::{Fault, FaultyVfs, RealVfs, Store};

use crate::support::*;

/// A life with everything in it: rolls, syncs, a restart that drops frames, retention. Gives the end that was durable.
fn life(store: &Store, durable: &mut u64) -> trackside_log::Result<()> {
    for round in 0..2 {
        let mut writer = store.writer("received", 0, &mut |_| true)?;
        *durable = writer.durable();
        for k in 0..60 {
            append(&mut writer)?;
            if k % 9 == 8 {
                *durable = writer.syncer().sync()?;
            }
        }
        if round == 1 {
            writer.retain(100)?;
        }
    }
    Ok(())
}

#[test]
fn killed_at_every_operation_that_changes_something() {
    let mut longest = 0;
    for k in 1.. {
        let dir = tempdir();
        let vfs =
            FaultyVfs::new(Arc::new(RealVfs), move |op| (op.nth_change == k).then_some(Fault::Stop(k * 31 % 500)));
        let mut durable = 0;
        let done = life(&store_over(Arc::new(vfs.clone()), dir.path(), small()), &mut durable);
        assert_eq!(done.is_err(), vfs.stopped(), "{k}: {done:?}");

        let store = store(dir.path());
        let mut writer = writer(&store);
        let end = writer.published();
        assert!(end >= durable, "{k}: {end} < {durable}");
        assert!(
            writer.recovery().damage.is_empty() && writer.recovery().lost.is_none(),
            "{k}: {:?}",
            writer.recovery()
        );
        append_all(&mut writer, 1);
        let first = store.reader("received", 0).unwrap().first_offset().unwrap();
        assert!(first <= 100, "{k}");
        assert_eq!(offsets(&store), (first..end + 2).step_by(2).collect::<Vec<_>>(), "{k}");
        longest = longest.max(end);
        if !vfs.stopped() {
            break;
        }
    }
    assert_eq!(longest, 240);
}
