//! Counting, and the sampled drops. Every packet comes through [`count`] exactly once.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use filter_common::event::Event;
use filter_common::layout::{Counter, CpuState, EventHeader, Watch};
use filter_common::limits::{EVENT_BYTES, EVENTS_PER_EPOCH};
use filter_common::reason::{REASON_SLOTS, Reason};
use filter_common::verdict::Decision;

use crate::maps;
use crate::tables::masked;

/// Adds a packet to an interface's counters; `enforced` is false for what monitor mode would have dropped.
#[inline(always)]
pub fn count(slot: u32, reason: Reason, enforced: bool, length: u64) {
    let Some(counters) = maps::INTERFACE_COUNTERS.get_ptr_mut(slot) else {
        return;
    };
    // LLVM knows that no reason is above the last one; the verifier does not, where several paths meet
    let index = masked::<{ REASON_SLOTS as u32 - 1 }>(reason as usize) & (REASON_SLOTS - 1);
    // SAFETY: a live map value of this CPU; XDP does not nest on one CPU.
    unsafe {
        if enforced {
            add(&raw mut (*counters).enforced[index], length);
        } else {
            add(&raw mut (*counters).monitored[index], length);
        }
    }
}

/// Adds a packet to a rule's counters.
#[inline(always)]
pub fn count_rule(rule: u16, length: u64) {
    if let Some(counter) = maps::RULE_COUNTERS.get_ptr_mut(rule as u32) {
        // SAFETY: a live map value of this CPU.
        unsafe { add(counter, length) }
    }
}

/// Zeroes in words: the `memset` that is linked in writes byte by byte.
#[inline(always)]
fn zero<T>(target: *mut T) {
    for index in 0..size_of::<T>() / 8 {
        // SAFETY: inside the value, which is 8-byte aligned as all map values and ring buffer records are; both types
        // this is called with are multiples of 8 long and valid as zeros.
        unsafe { target.cast::<u64>().add(index).write_volatile(0) };
    }
}

/// # Safety
/// `counter` is valid and only this CPU writes it.
#[inline(always)]
unsafe fn add(counter: *mut Counter, length: u64) {
    // SAFETY: as the caller says.
    unsafe {
        (*counter).packets += 1;
        (*counter).bytes += length;
    }
}

/// What a sampled drop is about, in one number: a global function takes five at most.
#[inline(always)]
pub const fn pack(decision: &Decision, enforced: bool) -> u32 {
    (decision.rule as u32) << 16 | (decision.reason as u32) << 8 | enforced as u32
}

/// Whether a drop is to be reported, within this CPU's budget for its reason: a flood costs one comparison a packet, and
/// does not hide drops under other reasons.
#[inline(always)]
pub fn is_sampled(watch: &Watch, cpu: *mut CpuState, reason: Reason) -> bool {
    // SAFETY: a live map value that only this CPU writes.
    let budget = unsafe { &mut (*cpu).events };
    let index = masked::<{ REASON_SLOTS as u32 - 1 }>(reason as usize) & (REASON_SLOTS - 1);
    if budget.epoch == watch.event_epoch && budget.used[index] >= EVENTS_PER_EPOCH {
        budget.suppressed += 1;
        return false;
    }
    true
}

/// Reports a drop that [`is_sampled`].
#[inline(always)]
pub fn sample(load: impl Fn(*mut c_void, u32) -> bool, length: u64, ifindex: u32, packed: u32) {
    let Some(watch) = maps::WATCH.get(0) else {
        return;
    };
    let Some(cpu) = maps::CPU.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: a live map value that only this CPU writes.
    let budget = unsafe { &mut (*cpu).events };
    let index = (packed >> 8) as usize & (REASON_SLOTS - 1);
    if budget.epoch != watch.event_epoch {
        budget.epoch = watch.event_epoch;
        zero(&raw mut budget.used);
    }
    budget.used[index] += 1;
    let Some(mut event) = maps::EVENTS.reserve_untyped::<Event>(0) else {
        budget.suppressed += 1;
        return;
    };
    let captured = if length < EVENT_BYTES as u64 {
        length
    } else {
        EVENT_BYTES as u64
    };
    // SAFETY: the reservation is as large as an `Event`; every byte of it is written before it is submitted.
    unsafe {
        let target = event.as_mut_ptr();
        zero(&raw mut (*target).frame);
        (*target).header = EventHeader {
            time: bpf_ktime_get_coarse_ns(),
            ifindex,
            frame_length: length as u32,
            captured: captured as u32,
            rule: (packed >> 16) as u16,
            reason: (packed >> 8) as u8,
            monitored: (packed & 1 ^ 1) as u8,
        };
        // 1 to EVENT_BYTES, in the form that Linux 6.1's verifier can follow: behind a comparison it is another copy
        let wanted = masked::<{ EVENT_BYTES as u32 - 1 }>((captured as usize).wrapping_sub(1)) + 1;
        if !load((&raw mut (*target).frame).cast(), wanted as u32) {
            (*target).header.captured = 0;
        }
    }
    event.submit(0);
}
