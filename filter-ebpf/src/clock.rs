//! The time, for packets that have to know it.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};

use filter_common::layout::CpuState;

/// Coarse monotonic nanoseconds. They move on with the kernel's count of ticks, which it hands out without a call: only
/// the first packet of a tick asks for them (by up to a tick late, as the kernel counts first).
#[inline(always)]
pub fn coarse_time(cpu: *mut CpuState) -> u64 {
    // SAFETY: takes nothing, always allowed.
    let ticks = unsafe { bpf_jiffies64() };
    // SAFETY: a live map value that only this CPU writes.
    unsafe {
        let clock = &mut (*cpu).clock;
        if clock[0] != ticks {
            clock[1] = bpf_ktime_get_coarse_ns();
            clock[0] = ticks;
        }
        clock[1]
    }
}
