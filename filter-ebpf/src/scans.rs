//! Probes counted by source and reported, blocked sources looked up. What a probe is, filter-common says.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_coarse_ns};
use filter_common::layout::{Address, CpuState, ProbeRecord, ScanCounters, Watch};
use filter_common::limits::{
    BLOCK_FILTER_WORDS, EARNED_PER_EPOCH, PROBES_PER_EPOCH, SCAN_CELLS, VERIFIED,
};
use filter_common::parse::Ip;
use filter_common::scan::{self, EARNED, PATTERN_SLOTS, Probe, Refused, Vote};

use crate::maps;
use crate::packet::Headers;
use crate::tables::masked;

/// Whether a source is blocked.
#[inline(always)]
pub fn is_blocked(watch: &Watch, source: &Address) -> bool {
    may_be_blocked(watch, source) && blocked(source.hi, source.lo) != 0
}

/// Whether a source may be blocked: most that are not are told apart from those that are by a bit.
#[inline(always)]
pub fn may_be_blocked(watch: &Watch, source: &Address) -> bool {
    if watch.blocks == 0 {
        return false;
    }
    let hash = scan::hash(scan::key(source), watch.seed);
    let word = masked::<{ BLOCK_FILTER_WORDS as u32 - 1 }>((hash >> 50) as usize);
    watch.block_bits[word & (BLOCK_FILTER_WORDS - 1)] >> (hash & 63) & 1 != 0
}

/// A global function (see packet.rs). An end that is past counts at once, without the daemon.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn blocked(hi: u64, lo: u64) -> u64 {
    // SAFETY: takes nothing, always allowed.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let in_force = |key: &Address| {
        // SAFETY: a live map value; the daemon replaces values as a whole.
        unsafe { maps::BLOCKS.get(key) }.is_some_and(|block| block.until > now)
    };
    let source = Address { hi, lo };
    if in_force(&source) {
        return 1;
    }
    u64::from(hi != 0 && in_force(&scan::network(&source)))
}

/// Remembers a peer that was sent data. Written once a second at most; whom it takes the place of is forgotten.
#[inline(always)]
pub fn note_verified(watch: &Watch, peer: &Address, now: u64) {
    let Some(table) = maps::VERIFIED.get_ptr_mut(0) else {
        return;
    };
    let hash = scan::hash(scan::key(peer), watch.seed);
    let at = masked::<{ VERIFIED as u32 - 1 }>((hash >> 48) as usize) & (VERIFIED - 1);
    let word = hash << 32 | scan::coarse_seconds(now) as u64;
    // SAFETY: a live map value; all CPUs write whole words.
    unsafe {
        let place = (&raw mut (*table)[at]);
        if place.read_volatile() != word {
            place.write_volatile(word);
        }
    }
}

/// See [`filter_common::verdict::Tables::account`]. Calls nothing unless there is something to report.
#[inline(always)]
pub fn account(
    ctx: *mut xdp_md,
    refused: &Refused<'_>,
    slot: u8,
    watch: &Watch,
    cpu: *mut CpuState,
) {
    let Some(probe) = Probe::of(refused, slot, watch.local_ports as u32) else {
        return;
    };
    let counted = account_probe(refused.ip, &probe, watch, cpu);
    if counted != 0 {
        report_probe(ctx, probe.pack(), counted);
    }
}

/// Touches memory of this CPU only: a flood of random sources costs a word. How many packets to report, 0 for no report;
/// above 32 bits, the bits of its cell that were set.
#[inline(always)]
fn account_probe(ip: &Ip, probe: &Probe, watch: &Watch, cpu: *mut CpuState) -> u64 {
    // SAFETY: a live map value of this CPU.
    let counters = unsafe { &mut (*cpu).scans };
    counters.patterns
        [masked::<{ PATTERN_SLOTS as u32 - 1 }>(probe.pattern as usize) & (PATTERN_SLOTS - 1)] += 1;
    let (epoch, seed) = (watch.event_epoch, watch.seed);
    // SAFETY: takes nothing, always allowed.
    let number = unsafe { bpf_get_smp_processor_id() };
    let key = scan::key(&ip.source);
    let hash = scan::hash(key, seed);
    let place = number * SCAN_CELLS as u32 + (hash >> 51) as u32;
    let Some(head) = maps::SCAN_HEADS.get_ptr_mut(place) else {
        return 0;
    };
    // SAFETY: a live map value that only this CPU writes; XDP does not nest on one CPU.
    let head = unsafe { &mut *head };
    let now = scan::spans(epoch);
    let vote = if scan::owns(*head, hash) {
        scan::support(head, hash, now)
    } else {
        let kept = scan::challenge(head, hash, now);
        if !within_budget(counters, epoch, false) {
            return 0;
        }
        if kept != 0 {
            return 1;
        }
        Vote::First
    };
    let Some(cell) = maps::SCAN_CELLS.get_ptr_mut(place) else {
        return 0;
    };
    // SAFETY: as the head.
    let cell = unsafe { &mut *cell };
    let target = scan::target(&ip.destination, probe, seed);
    if !scan::visit(cell, key, target, now, vote) {
        return 0;
    }
    let earned = scan::weight(*head) >= EARNED;
    if matches!(vote, Vote::Own) && !within_budget(counters, epoch, earned) {
        return 0;
    }
    let filled = scan::filled(cell);
    let packets = scan::mark(cell, target);
    (filled as u64) << 32 | packets as u64
}

/// A global function (see packet.rs).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn report_probe(ctx: *mut xdp_md, probe: u64, counted: u64) -> u64 {
    let probe = Probe::unpack(probe);
    let headers = Headers::received(ctx);
    let Some(mut record) = maps::PROBES.reserve_untyped::<ProbeRecord>(0) else {
        if let Some(cpu) = maps::CPU.get_ptr_mut(0) {
            // SAFETY: a live map value of this CPU.
            unsafe { (*cpu).scans.shed += 1 };
        }
        return 0;
    };
    let target = record.as_mut_ptr();
    // SAFETY: the reservation is as large as a `ProbeRecord`; every field is written before it is submitted. One by one:
    // as a whole it would be made on the stack first. The time comes before anything that had to be kept there meanwhile.
    unsafe { (*target).time = bpf_ktime_get_coarse_ns() };
    let Some((source, destination, hop_limit)) = scan::addresses(&headers, &probe) else {
        record.discard(0);
        return 0;
    };
    // SAFETY: as above.
    unsafe {
        (*target).source = source;
        (*target).destination = destination;
        (*target).packets = counted as u32;
        (*target).port = probe.port;
        (*target).source_port = scan::source_port(&headers, &probe);
        (*target).pattern = probe.pattern;
        (*target).hints = scan::hints(&headers, &probe);
        (*target).hop_limit = hop_limit;
        (*target).slot = probe.slot;
        (*target).filled = (counted >> 32) as u32;
    }
    record.submit(0);
    1
}

/// Whether one more probe may be reported in this epoch; else it is shed.
#[inline(always)]
fn within_budget(counters: &mut ScanCounters, epoch: u64, earned: bool) -> bool {
    if counters.epoch != epoch {
        counters.epoch = epoch;
        counters.reported = [0; 2];
    }
    if counters.reported[0] < PROBES_PER_EPOCH {
        counters.reported[0] += 1;
        return true;
    }
    if earned && counters.reported[1] < EARNED_PER_EPOCH {
        counters.reported[1] += 1;
        return true;
    }
    counters.shed += 1;
    false
}
