//! Takes the disk's part out of a run, to show what it costs: this program's own `fsync` and `fdatasync` stand before
//! those of the C library, and do nothing once they are told so. For the benchmark and for nothing else.

use std::ffi::{c_int, c_long};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static LEFT_OUT: AtomicBool = AtomicBool::new(false);

/// From now on nothing is made durable.
pub(crate) fn leave_out() {
    LEFT_OUT.store(true, Relaxed);
}

fn call(number: c_long, fd: c_int) -> c_int {
    if LEFT_OUT.load(Relaxed) {
        return 0;
    }
    // SAFETY: both calls take a descriptor and touch no memory; they answer 0 or -1, which fits.
    #[allow(unsafe_code)]
    unsafe {
        libc::syscall(number, fd) as c_int
    }
}

// SAFETY: the name and the types are those of the C library's function, which this one replaces in this program.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    call(libc::SYS_fdatasync, fd)
}

// SAFETY: as above.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    call(libc::SYS_fsync, fd)
}
