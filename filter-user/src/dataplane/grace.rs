//! Waiting until no CPU runs the program with what it read before.

use std::io;
use std::time::Duration;

/// `MEMBARRIER_CMD_GLOBAL` (linux/membarrier.h): returns after an RCU grace period (kernel/sched/membarrier.c).
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// Longest a packet could be under way on a kernel that offers no grace period to user space.
const FALLBACK: Duration = Duration::from_millis(200);

/// Returns when every run of the program that began before the call has ended.
pub(super) fn wait() {
    // SAFETY: no memory is passed.
    let answer = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if answer != 0 {
        // with nohz_full CPUs the kernel refuses
        tracing::debug!(error = %io::Error::last_os_error(), "no membarrier, waiting by the clock");
        std::thread::sleep(FALLBACK);
    }
}
