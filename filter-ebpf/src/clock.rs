//! The time, for packets that have to know it.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};

use crate::maps;

/// Coarse monotonic nanoseconds. They move on with the kernel's count of ticks, which it hands out without a call: only
/// the first packet of a tick asks for them (by up to a tick late, as the kernel counts first).
#[inline(always)]
pub fn coarse_time() -> u64 {
    // SAFETY: takes nothing, always allowed.
    let ticks = unsafe { bpf_jiffies64() };
    let Some(clock) = maps::CLOCK.get_ptr_mut(0) else {
        // SAFETY: as above.
        return unsafe { bpf_ktime_get_coarse_ns() };
    };
    // SAFETY: a live map value that only this CPU writes.
    unsafe {
        if (*clock)[0] != ticks {
            (*clock)[1] = bpf_ktime_get_coarse_ns();
            (*clock)[0] = ticks;
        }
        (*clock)[1]
    }
}
