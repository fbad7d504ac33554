//! The policy in force and the state of flows, read from the maps for filter-common's decision.
//!
//! The generation is read once per packet; every table is then read in the bank it names, so a packet is judged by
//! one policy. The daemon rewrites a bank only after a grace period.

use core::arch::asm;
use core::ffi::c_void;
use core::intrinsics::{AtomicOrdering, atomic_cxchg};

use aya_ebpf::bindings::{
    bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as TupleV4,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as TupleV6,
};
use aya_ebpf::helpers::generated::{bpf_sk_release, bpf_skc_lookup_tcp};
use filter_common::entry;
use filter_common::layout::{
    Address, Bank, Binding, Config, CpuState, FlowKey, FlowState, FragmentKey, Watch, binding,
};
use filter_common::limits::{
    BANKS, BOUND_ADDRESSES, BOUND_MACS, CONFIG_SLOTS, MATRIX_ROW, RULE_SLOTS, SOURCE_CLASSES,
    VLAN_IDS, VLAN_TABLES, slot_places,
};
use filter_common::matrix::{self, Entry};
use filter_common::parse;
use filter_common::prefix::{self, ROOT6_LEN};
use filter_common::rate;
use filter_common::scan::Refused;
use filter_common::service::SERVICES;
use filter_common::verdict::Tables;

use crate::packet::{opaque, opaque_zero};
use crate::{clock, entries, flows, maps, scans};

/// Overwrites an entry or makes it (`BPF_ANY`).
const ANY: u64 = 0;
/// "The network namespace of the device" for socket look-ups (`BPF_F_CURRENT_NETNS`).
const CURRENT_NETNS: u64 = u64::MAX;
/// `TCP_LISTEN` (include/net/tcp_states.h)
const TCP_LISTEN: u32 = 10;
/// Attempts to book a packet against a rate before it counts as over the limit.
const RATE_ATTEMPTS: u64 = 4;

/// What a packet is judged by: every map that has one value is looked up here, once.
pub struct InForce {
    /// What the daemon tells beside it.
    pub watch: &'static Watch,
    /// What this CPU keeps.
    pub cpu: *mut CpuState,
    bank: &'static Bank,
    number: u32,
    /// The interface's slot.
    pub slot: u32,
    /// And its configuration.
    pub config: &'static Config,
}

/// The policy in force for an interface; `None` for an unmanaged one.
#[inline(always)]
pub fn in_force(ifindex: u32) -> Option<InForce> {
    let control = maps::CONTROL.get(0)?;
    // SAFETY: the pointer is a live map value. Volatile: the daemon flips the word while we run, it is read once.
    let generation = unsafe { core::ptr::read_volatile(&raw const control.generation) };
    let number = generation as u32 & (BANKS as u32 - 1);
    let bank = maps::BANKS.get(number)?;
    let [first, _] = slot_places(ifindex);
    let mut slot = bank.slots[first] as usize & (CONFIG_SLOTS - 1);
    if bank.configs[slot].ifindex != ifindex {
        slot = interface_slot(ifindex, number) as usize;
        if slot >= CONFIG_SLOTS {
            return None;
        }
    }
    // the bound is checked on one copy and used on another, as far as Linux 6.1's verifier can tell
    let slot = masked::<{ CONFIG_SLOTS as u32 - 1 }>(slot) & (CONFIG_SLOTS - 1);
    Some(InForce {
        cpu: maps::CPU.get_ptr_mut(0)?,
        watch: maps::WATCH.get(0)?,
        bank,
        number,
        slot: slot as u32,
        config: &bank.configs[slot],
    })
}

/// A global function (see packet.rs): where two places are tried, all that follows would be verified twice. The number
/// of slots if the interface has none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn interface_slot(ifindex: u32, bank: u32) -> u64 {
    let none = CONFIG_SLOTS as u64;
    let Some(bank) = maps::BANKS.get(bank) else {
        return none;
    };
    for place in slot_places(ifindex) {
        let slot = bank.slots[place] as usize & (CONFIG_SLOTS - 1);
        if bank.configs[slot].ifindex == ifindex {
            return slot as u64;
        }
    }
    none
}

impl InForce {
    /// The configuration for frames with this VLAN id, if the profile tells VLANs apart.
    #[inline(always)]
    pub fn vlan_config(&self, vlan: u16) -> &'static Config {
        let config = self.config;
        if config.vlan_table == 0 || vlan == 0 {
            return config;
        }
        let number = maps::VLANS
            .get(self.number * VLAN_TABLES as u32 + config.vlan_table - 1)
            .map_or(0, |table| {
                table[masked::<{ VLAN_IDS as u32 - 1 }>(vlan as usize) & (VLAN_IDS - 1)]
            });
        if number == 0 {
            return config;
        }
        &self.bank.configs[number as usize & (CONFIG_SLOTS - 1)]
    }
}

/// Which address is classified; selects the root.
const SOURCES: usize = 0;
const DESTINATIONS: usize = 1;

/// Masks a number with an instruction that LLVM cannot leave out. It knows that 16 bits in network order stay 16 bits
/// when swapped; Linux 6.1's verifier does not. (Not an empty barrier: two lines of source would share an instruction,
/// which the kernel refuses.)
#[inline(always)]
pub fn masked<const MASK: u32>(mut number: usize) -> usize {
    // SAFETY: one instruction on one register.
    unsafe { asm!("{0} &= {1}", inout(reg) number, const MASK, options(pure, nomem, nostack)) };
    number
}

/// `CONTAINER`: for a program of container links. They look at more entries, so those are read by a global function.
pub struct PolicyTables<'a, const CONTAINER: bool> {
    ctx: *mut c_void,
    policy: &'a InForce,
    zero: u64,
}

impl<'a, const CONTAINER: bool> PolicyTables<'a, CONTAINER> {
    #[inline(always)]
    pub fn new(ctx: *mut c_void, policy: &'a InForce) -> Self {
        Self {
            ctx,
            policy,
            zero: opaque_zero(),
        }
    }

    #[inline(always)]
    fn class(&self, side: usize, v4: bool, address: &Address) -> Option<u16> {
        if v4 {
            let address = address.lo as u32;
            let root = self.policy.bank.roots4[side][(address >> 16) as usize];
            let class = prefix::lookup4(root, address, |index| maps::CELLS4.get(index))?;
            Some(opaque(class as u64, self.zero) as u16)
        } else {
            let index = prefix::root6_index(address.hi) as usize;
            let index = masked::<{ ROOT6_LEN.next_power_of_two() as u32 - 1 }>(index);
            if !CONTAINER && index < ROOT6_LEN {
                let word = self.policy.bank.roots6[side][index];
                if !prefix::is_pointer(word) {
                    return Some(opaque(word as u64, self.zero) as u16);
                }
            }
            let root = self.policy.number * 2 + side as u32;
            let class = class6(address.hi, address.lo, root);
            (class >= 0).then_some(opaque(class as u64, self.zero) as u16)
        }
    }
}

/// A global function (see packet.rs): its loop is verified once. `root`: bank * 2 + side. -1 if the table is inconsistent.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn class6(hi: u64, lo: u64, root: u32) -> i64 {
    let Some(bank) = maps::BANKS.get(root >> 1) else {
        return -1;
    };
    let index = prefix::root6_index(hi) as usize;
    if index >= ROOT6_LEN {
        return -1;
    }
    prefix::lookup6(bank.roots6[root as usize & 1][index], hi, lo, |index| {
        maps::CELLS6.get(index)
    })
    .map_or(-1, i64::from)
}

/// Whether a binding has this MAC. A global function (see packet.rs).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bound_mac(index: u32, mac: u64) -> u64 {
    let Some(bound) = maps::BINDINGS.get(index) else {
        return 0;
    };
    // without a branch: the verifier would walk every combination
    let mut found = 0;
    for at in 0..BOUND_MACS {
        found |= u64::from(bound.macs[at] == mac);
    }
    found
}

/// Whether a binding has this IPv4 address. A global function (see packet.rs).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bound4(index: u32, address: u32) -> u64 {
    let Some(bound) = maps::BINDINGS.get(index) else {
        return 0;
    };
    for at in 0..BOUND_ADDRESSES {
        let [network, mask] = bound.v4[at];
        if address & mask == network {
            return 1;
        }
    }
    0
}

/// Whether a binding has this IPv6 address. A global function (see packet.rs).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bound6(index: u32, hi: u64, lo: u64) -> u64 {
    let Some(bound) = maps::BINDINGS.get(index) else {
        return 0;
    };
    for at in 0..BOUND_ADDRESSES {
        let [network_hi, network_lo, mask_hi, mask_lo] = bound.v6[at];
        if (hi & mask_hi ^ network_hi) | (lo & mask_lo ^ network_lo) == 0 {
            return 1;
        }
    }
    0
}

#[inline(always)]
fn matrix_entry(index: u32) -> Option<Entry> {
    Some(maps::MATRIX.get(index / MATRIX_ROW as u32)?[index as usize & (MATRIX_ROW - 1)])
}

/// A global function (see packet.rs): -1 if the table is inconsistent.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn matrix_at(index: u32) -> i64 {
    matrix_entry(index).map_or(-1, i64::from)
}

/// A global function (see packet.rs), for the few sources that entries or blocks may name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn entry_now(index: u32, source_hi: u64, source_lo: u64, asked: u32) -> u64 {
    let Some(entry) = matrix_entry(index) else {
        return matrix::NO_RULE as u64;
    };
    let source = Address {
        hi: source_hi,
        lo: source_lo,
    };
    let Some(watch) = maps::WATCH.get(0) else {
        return matrix::NO_RULE as u64;
    };
    if entries::may_name(watch, &source) && matrix::kind(entry) < matrix::MARTIAN {
        let answer = entries::answer(source.hi, source.lo, asked);
        let applied = entry::applied(entry, answer, asked);
        if applied != entry {
            return applied as u64;
        }
    }
    // connections need ICMP
    if matrix::blockable(entry)
        && !parse::is_icmp(entry::protocol_of(asked), entry::is_v4(&source))
        && scans::is_blocked(watch, &source)
    {
        return matrix::entry(matrix::BLOCKED, 0) as u64;
    }
    entry as u64
}

impl<const CONTAINER: bool> Tables for PolicyTables<'_, CONTAINER> {
    #[inline(always)]
    fn source_class(&mut self, v4: bool, address: &Address) -> Option<u16> {
        self.class(SOURCES, v4, address)
    }

    #[inline(always)]
    fn destination_class(&mut self, v4: bool, address: &Address) -> Option<u16> {
        self.class(DESTINATIONS, v4, address)
    }

    #[inline(always)]
    fn service_class(&mut self, service: u32) -> Option<u16> {
        let service = masked::<{ SERVICES.next_power_of_two() as u32 - 1 }>(service as usize);
        if service >= SERVICES {
            return None;
        }
        Some(self.policy.bank.services[service])
    }

    #[inline(always)]
    fn matrix_entry(&mut self, index: u32) -> Option<Entry> {
        if !CONTAINER {
            return matrix_entry(index);
        }
        let entry = matrix_at(index);
        (entry >= 0).then_some(entry as Entry)
    }

    #[inline(always)]
    fn reach(&mut self, class: u16) -> Option<u64> {
        let class = masked::<{ SOURCE_CLASSES as u32 - 1 }>(class as usize) & (SOURCE_CLASSES - 1);
        Some(self.policy.bank.reach[class])
    }

    #[inline(always)]
    fn binding_has_mac(&mut self, binding: u32, mac: u64) -> bool {
        bound_mac(binding, mac) != 0
    }

    #[inline(always)]
    fn binding_has_address(&mut self, binding: u32, v4: bool, address: &Address) -> bool {
        if v4 {
            bound4(binding, address.lo as u32) != 0
        } else {
            bound6(binding, address.hi, address.lo) != 0
        }
    }

    #[inline(always)]
    fn binding_known(&mut self, binding: u32) -> u64 {
        maps::BINDINGS
            .get(binding)
            .map_or(binding::UNKNOWN, |bound: &Binding| bound.known)
    }

    #[inline(always)]
    fn within_rate(&mut self, rule: u16, source: &Address) -> bool {
        let now = self.now();
        within_rate(
            self.policy.number * RULE_SLOTS as u32 + rule as u32,
            source.hi,
            source.lo,
            now,
        ) != 0
    }

    #[inline(always)]
    fn now(&mut self) -> u64 {
        opaque(clock::coarse_time(self.policy.cpu), self.zero)
    }

    #[inline(always)]
    fn flow(&mut self, key: &FlowKey) -> Option<(&mut FlowState, u64)> {
        let flow = flows::find(key)?;
        Some((flow, self.now()))
    }

    #[inline(always)]
    fn note_flow(&mut self, key: &FlowKey, flow: &FlowState) {
        flows::note(key, flow);
    }

    #[inline(always)]
    fn wildcard_until(&mut self) -> u64 {
        self.policy.watch.wildcard_until
    }

    #[inline(always)]
    fn host_socket(&mut self, key: &FlowKey, v4: bool) -> bool {
        // while no flow can have been pushed out of the table, a TCP packet that misses it belongs to no connection
        let room = maps::FLOW_ROOM.get(0).map_or(0, |room| *room as i64);
        room <= 0 && host_socket(self.ctx, key, v4)
    }

    #[inline(always)]
    fn fragment_seen(&mut self, key: &FragmentKey) -> Option<u64> {
        // SAFETY: a live map value, one word.
        unsafe { maps::FRAGMENTS.get(key) }.copied()
    }

    #[inline(always)]
    fn note_fragment(&mut self, key: &FragmentKey, now: u64) {
        // a full table recycles its oldest train; that train's later fragments are dropped
        let _ = maps::FRAGMENTS.insert(key, now, ANY);
    }

    #[inline(always)]
    fn is_blocked(&mut self, source: &Address) -> bool {
        scans::is_blocked(self.policy.watch, source)
    }

    #[inline(always)]
    fn entry_now(&mut self, index: u32, source: &Address, asked: u32) -> Entry {
        let watch = self.policy.watch;
        let entry = if entries::may_name(watch, source) | scans::may_be_blocked(watch, source) {
            entry_now(index, source.hi, source.lo, asked)
        } else {
            matrix_entry(index).unwrap_or(matrix::NO_RULE) as u64
        };
        opaque(entry, self.zero) as Entry
    }

    #[inline(always)]
    fn note_verified(&mut self, peer: &Address) {
        let now = self.now();
        scans::note_verified(self.policy.watch, peer, now);
    }

    #[inline(always)]
    fn local_ports(&mut self) -> u32 {
        self.policy.watch.local_ports as u32
    }

    #[inline(always)]
    fn account(&mut self, refused: &Refused<'_>, slot: u8) {
        let InForce { watch, cpu, .. } = *self.policy;
        scans::account(self.ctx.cast(), refused, slot, watch, cpu);
    }
}

/// Asks the kernel for a TCP socket that is connected to just this peer.
#[inline(always)]
fn host_socket(ctx: *mut c_void, key: &FlowKey, v4: bool) -> bool {
    // SAFETY: all bytes zero is a valid tuple.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let size = if v4 {
        tuple.__bindgen_anon_1.ipv4 = TupleV4 {
            saddr: (key.remote.lo as u32).to_be(),
            daddr: (key.local.lo as u32).to_be(),
            sport: key.remote_port.to_be(),
            dport: key.local_port.to_be(),
        };
        size_of::<TupleV4>()
    } else {
        tuple.__bindgen_anon_1.ipv6 = TupleV6 {
            saddr: words(&key.remote),
            daddr: words(&key.local),
            sport: key.remote_port.to_be(),
            dport: key.local_port.to_be(),
        };
        size_of::<TupleV6>()
    };
    // SAFETY: context and tuple are valid for the call; the socket is released before we return.
    unsafe {
        let socket = bpf_skc_lookup_tcp(ctx, &raw mut tuple, size as u32, CURRENT_NETNS, 0);
        if socket.is_null() {
            return false;
        }
        let state = (*socket).state;
        bpf_sk_release(socket.cast());
        state != TCP_LISTEN
    }
}

/// An address as four big-endian words.
#[inline(always)]
fn words(address: &Address) -> [u32; 4] {
    [
        ((address.hi >> 32) as u32).to_be(),
        (address.hi as u32).to_be(),
        ((address.lo >> 32) as u32).to_be(),
        (address.lo as u32).to_be(),
    ]
}

/// Books one packet against a rule's limits. The limit by source is a sketch of two rows of hashed buckets: flat cost
/// and fixed memory whatever the number of sources; two sources share a limit only if both their buckets collide.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn within_rate(limits: u32, source_hi: u64, source_lo: u64, now: u64) -> u64 {
    let Some(limit) = maps::LIMITS.get(limits) else {
        return 0;
    };
    let rule = limits & (RULE_SLOTS as u32 - 1);
    if limit.interval != 0 {
        let Some(arrival) = maps::RATES.get_ptr_mut(rule) else {
            return 0;
        };
        if book(arrival, now, limit.interval, limit.tolerance) == 0 {
            return 0;
        }
    }
    if limit.source_interval != 0 {
        let source = Address {
            hi: source_hi,
            lo: source_lo,
        };
        let [first, second] = rate::source_buckets(rule, &source);
        let Some(first) = maps::SOURCE_RATES.get_ptr_mut(first) else {
            return 0;
        };
        let Some(second) = maps::SOURCE_RATES.get_ptr_mut(second) else {
            return 0;
        };
        // conforming in either row is enough: a bucket that others fill does not count against this source
        let (interval, tolerance) = (limit.source_interval, limit.source_tolerance);
        return book(first, now, interval, tolerance) | book(second, now, interval, tolerance);
    }
    1
}

/// 1 if the packet conforms and was booked.
#[inline(always)]
fn book(arrival: *mut u64, now: u64, interval: u64, tolerance: u64) -> u64 {
    for _ in 0..RATE_ATTEMPTS {
        // SAFETY: a live, 8-byte aligned map value; other CPUs change it only atomically.
        let seen = unsafe { arrival.read_volatile() };
        let Some(next) = rate::conform(seen, now, interval, tolerance) else {
            return 0;
        };
        // SAFETY: as above.
        let (_, booked) = unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                arrival, seen, next,
            )
        };
        if booked {
            return 1;
        }
    }
    0
}
