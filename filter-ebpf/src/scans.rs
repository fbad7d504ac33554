//! Probes counted by source and reported, blocked sources looked up. What a probe is, filter-common says.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_coarse_ns};
use filter_common::layout::{Address, ProbeRecord, ScanCounters};
use filter_common::limits::{
    BLOCK_FILTER_WORDS, EARNED_PER_EPOCH, PROBES_PER_EPOCH, SCAN_CELLS, VERIFIED,
};
use filter_common::scan::{self, EARNED, PATTERN_SLOTS, Refused, Visit};

use crate::maps;
use crate::packet::Headers;
use crate::tables::masked;

/// Whether a source is blocked. Most are told apart from those that are by a bit.
#[inline(always)]
pub fn is_blocked(source: &Address) -> bool {
    let Some(control) = maps::SCAN_CONTROL.get(0) else {
        return false;
    };
    if control.blocks == 0 {
        return false;
    }
    let Some(filter) = maps::BLOCK_FILTER.get(0) else {
        return false;
    };
    let hash = scan::hash(scan::key(source), control.seed);
    let word = masked::<{ BLOCK_FILTER_WORDS as u32 - 1 }>((hash >> 50) as usize);
    filter[word & (BLOCK_FILTER_WORDS - 1)] >> (hash & 63) & 1 != 0
        && blocked(source.hi, source.lo) != 0
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
pub fn note_verified(peer: &Address, now: u64) {
    let (Some(control), Some(table)) = (maps::SCAN_CONTROL.get(0), maps::VERIFIED.get_ptr_mut(0))
    else {
        return;
    };
    let hash = scan::hash(scan::key(peer), control.seed);
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

/// See [`filter_common::verdict::Tables::local_ports`].
#[inline(always)]
pub fn local_ports() -> u32 {
    maps::SCAN_CONTROL
        .get(0)
        .map_or(0, |control| control.local_ports as u32)
}

/// See [`filter_common::verdict::Tables::account`].
#[inline(always)]
pub fn account(ctx: *mut xdp_md, refused: &Refused) {
    let [source, destination, packet, place] = refused.pack();
    account_refused(ctx, source, destination, packet, place);
}

/// A global function (see packet.rs). Touches memory of this CPU only: a flood of random sources costs a cache line.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn account_refused(
    ctx: *mut xdp_md,
    source: u64,
    destination: u64,
    packet: u64,
    place: u64,
) -> u64 {
    let refused = Refused::unpack([source, destination, packet, place]);
    let headers = Headers::received(ctx);
    let Some(control) = maps::SCAN_CONTROL.get(0) else {
        return 0;
    };
    let Some(pattern) = scan::pattern(&headers, &refused, control.local_ports as u32) else {
        return 0;
    };
    let Some(counters) = maps::SCAN_COUNTERS.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: a live map value of this CPU.
    let counters = unsafe { &mut *counters };
    counters.patterns[pattern as usize & (PATTERN_SLOTS - 1)] += 1;
    // SAFETY: both take nothing and are always allowed.
    let (cpu, now) = unsafe { (bpf_get_smp_processor_id(), bpf_ktime_get_coarse_ns()) };
    let hash = scan::hash(source, control.seed);
    let Some(cell) = maps::SCAN_CELLS.get_ptr_mut(cpu * SCAN_CELLS as u32 + (hash >> 51) as u32)
    else {
        return 0;
    };
    // SAFETY: a live map value that only this CPU writes; XDP does not nest on one CPU.
    let cell = unsafe { &mut *cell };
    let target = scan::target(&refused, pattern, control.seed);
    let visit = scan::visit(cell, source, target, scan::coarse_seconds(now));
    if matches!(visit, Visit::Known) {
        return 0;
    }
    let is_new = matches!(visit, Visit::New);
    if !within_budget(counters, is_new && cell.weight >= EARNED) {
        return 0;
    }
    let packets = if is_new { scan::mark(cell, target) } else { 1 };
    let Some((source, destination, hop_limit)) = scan::addresses(&headers, &refused) else {
        return 0;
    };
    let Some(mut record) = maps::PROBES.reserve_untyped::<ProbeRecord>(0) else {
        counters.shed += 1;
        return 0;
    };
    record.write(ProbeRecord {
        time: now,
        source,
        destination,
        packets,
        port: scan::port(&refused, pattern),
        source_port: refused.transport.source_port,
        pattern: pattern as u8,
        hints: scan::hints(&headers, &refused, pattern),
        hop_limit,
        slot: refused.slot,
        zero: 0,
    });
    record.submit(0);
    1
}

/// Whether one more probe may be reported in this epoch; else it is shed.
#[inline(always)]
fn within_budget(counters: &mut ScanCounters, earned: bool) -> bool {
    let epoch = maps::CONTROL
        .get(0)
        .map_or(0, |control| control.event_epoch);
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
