//! Every map of the program. Policy maps are filled by the daemon and read only here; state maps are ours.
//! Sizes come from `filter_common::limits`; CELLS4, CELLS6, MATRIX and FLOWS are sized by the daemon at load.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use filter_common::layout::{
    Binding, Config, Control, Counter, EventBudget, FlowKey, FlowState, FragmentKey,
    InterfaceCounters, RateLimits,
};
use filter_common::limits::{
    BANKS, CONFIG_SLOTS, EVENT_RING, FLOWS as FLOW_SLOTS, FRAGMENTS as FRAGMENT_SLOTS,
    IFINDEX_SLOTS, INTERFACE_SLOTS, MATRIX_ROW, RATE_BUCKETS, RULE_SLOTS, SOURCE_CLASSES, VLAN_IDS,
    VLAN_TABLES,
};
use filter_common::prefix::{Cell4, Cell6, ROOT4_LEN, ROOT6_LEN};
use filter_common::service::SERVICES as SERVICE_SLOTS;

/// Filled through memory; also makes values start on a page, so a cell is one cache line.
const MAPPED: usize = BPF_F_MMAPABLE as usize;

// ---- policy

#[btf_map]
pub static CONTROL: Array<Control, 1, MAPPED> = Array::new();
/// Low 16 bits of an interface index -> its slot.
#[btf_map]
pub static SLOTS: Array<[u16; IFINDEX_SLOTS], 1, MAPPED> = Array::new();
#[btf_map]
pub static CONFIGS: Array<[Config; CONFIG_SLOTS], BANKS, MAPPED> = Array::new();
/// bank * VLAN_TABLES + table; VLAN id -> config number, 0 for none.
#[btf_map]
pub static VLANS: Array<[u16; VLAN_IDS], { BANKS * VLAN_TABLES }, MAPPED> = Array::new();
/// bank * 2 + (0: sources, 1: destinations)
#[btf_map]
pub static ROOTS4: Array<[u32; ROOT4_LEN], { BANKS * 2 }, MAPPED> = Array::new();
#[btf_map]
pub static ROOTS6: Array<[u32; ROOT6_LEN], { BANKS * 2 }, MAPPED> = Array::new();
#[btf_map]
pub static CELLS4: Array<Cell4, 1, MAPPED> = Array::new();
#[btf_map]
pub static CELLS6: Array<Cell6, 1, MAPPED> = Array::new();
/// Service index -> service class.
#[btf_map]
pub static SERVICES: Array<[u16; SERVICE_SLOTS], BANKS, MAPPED> = Array::new();
/// Verdicts; `Config::matrix_base` says where a profile's part begins.
#[btf_map]
pub static MATRIX: Array<[u16; MATRIX_ROW], 1, MAPPED> = Array::new();
/// Class of a source -> the interfaces that lead to it, a bit each.
#[btf_map]
pub static REACH: Array<[u64; SOURCE_CLASSES], BANKS, MAPPED> = Array::new();
/// bank * INTERFACE_SLOTS + slot
#[btf_map]
pub static BINDINGS: Array<Binding, { BANKS * INTERFACE_SLOTS }, MAPPED> = Array::new();
/// bank * RULE_SLOTS + rule
#[btf_map]
pub static LIMITS: Array<RateLimits, { BANKS * RULE_SLOTS }, MAPPED> = Array::new();

// ---- state

#[btf_map]
pub static FLOWS: LruHashMap<FlowKey, FlowState, FLOW_SLOTS> = LruHashMap::new();
/// Flows that can still be noted before one may be pushed out; up to then a miss needs no second opinion. The daemon
/// sets it once it has noted what was there before; 0 until then.
#[btf_map]
pub static FLOW_ROOM: Array<u64, 1> = Array::new();
/// When a train's first fragment passed.
#[btf_map]
pub static FRAGMENTS: LruHashMap<FragmentKey, u64, FRAGMENT_SLOTS> = LruHashMap::new();
/// Theoretical arrival time of a rule's next packet, all sources together.
#[btf_map]
pub static RATES: Array<u64, RULE_SLOTS> = Array::new();
/// The same by source: two rows of hashed buckets.
#[btf_map]
pub static SOURCE_RATES: Array<u64, { 2 * RATE_BUCKETS }> = Array::new();

// ---- what people read

#[btf_map]
pub static INTERFACE_COUNTERS: PerCpuArray<InterfaceCounters, INTERFACE_SLOTS> = PerCpuArray::new();
#[btf_map]
pub static RULE_COUNTERS: PerCpuArray<Counter, RULE_SLOTS> = PerCpuArray::new();
#[btf_map]
pub static EVENT_BUDGET: PerCpuArray<EventBudget, 1> = PerCpuArray::new();
#[btf_map]
pub static EVENTS: RingBuf<(), EVENT_RING> = RingBuf::new();
