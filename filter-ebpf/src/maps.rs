//! Every map of the program. Policy maps are filled by the daemon and read only here; state maps are ours.
//! Sizes come from `filter_common::limits`; CELLS4, CELLS6, MATRIX and FLOWS are sized by the daemon at load.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use filter_common::layout::{
    Address, Bank, Binding, Block, Control, Counter, CpuState, EntryKey, EntrySpans, FlowKey,
    FlowState, FragmentKey, InterfaceCounters, RateLimits, ScanCell, Watch,
};
use filter_common::limits::{
    BANKS as BANK_SLOTS, BLOCKS as BLOCK_SLOTS, ENTRY_KEYS, EVENT_RING, FLOW_PORT_WORDS,
    FLOWS as FLOW_SLOTS, FRAGMENTS as FRAGMENT_SLOTS, INTERFACE_SLOTS, MATRIX_ROW, PROBE_RING,
    RATE_BUCKETS, RULE_SLOTS, SCAN_CELLS as CELL_SLOTS, VERIFIED as VERIFIED_WORDS, VLAN_IDS,
    VLAN_TABLES,
};
use filter_common::matrix::Entry;
use filter_common::prefix::{Cell4, Cell6};

/// Filled through memory; also makes values start on a page, so a cell is one cache line.
const MAPPED: usize = BPF_F_MMAPABLE as usize;

// ---- policy

#[btf_map]
pub static CONTROL: Array<Control, 1, MAPPED> = Array::new();
#[btf_map]
pub static BANKS: Array<Bank, BANK_SLOTS, MAPPED> = Array::new();
/// bank * VLAN_TABLES + table; VLAN id -> config number, 0 for none.
#[btf_map]
pub static VLANS: Array<[u16; VLAN_IDS], { BANK_SLOTS * VLAN_TABLES }, MAPPED> = Array::new();
#[btf_map]
pub static CELLS4: Array<Cell4, 1, MAPPED> = Array::new();
#[btf_map]
pub static CELLS6: Array<Cell6, 1, MAPPED> = Array::new();
/// Verdicts; `Config::matrix_base` says where a profile's part begins.
#[btf_map]
pub static MATRIX: Array<[Entry; MATRIX_ROW], 1, MAPPED> = Array::new();
/// bank * INTERFACE_SLOTS + slot
#[btf_map]
pub static BINDINGS: Array<Binding, { BANK_SLOTS * INTERFACE_SLOTS }, MAPPED> = Array::new();
/// bank * RULE_SLOTS + rule
#[btf_map]
pub static LIMITS: Array<RateLimits, { BANK_SLOTS * RULE_SLOTS }, MAPPED> = Array::new();

// ---- state

#[btf_map]
pub static FLOWS: LruHashMap<FlowKey, FlowState, FLOW_SLOTS> = LruHashMap::new();
/// Flows that can still be noted before one may be pushed out; up to then a miss needs no second opinion. The daemon
/// sets it once it has noted what was there before; 0 until then.
#[btf_map]
pub static FLOW_ROOM: Array<u64, 1> = Array::new();
/// A bit for each `flow::port_bit` that a flow has had since the table was made. Set before the flow is noted, and never
/// taken back.
#[btf_map]
pub static FLOW_PORTS: Array<[u64; FLOW_PORT_WORDS], 1, MAPPED> = Array::new();
/// When a train's first fragment passed.
#[btf_map]
pub static FRAGMENTS: LruHashMap<FragmentKey, u64, FRAGMENT_SLOTS> = LruHashMap::new();
/// Theoretical arrival time of a rule's next packet, all sources together.
#[btf_map]
pub static RATES: Array<u64, RULE_SLOTS> = Array::new();
/// The same by source: two rows of hashed buckets.
#[btf_map]
pub static SOURCE_RATES: Array<u64, { 2 * RATE_BUCKETS }> = Array::new();

#[btf_map]
pub static CPU: PerCpuArray<CpuState, 1> = PerCpuArray::new();
#[btf_map]
pub static WATCH: Array<Watch, 1, MAPPED> = Array::new();

// ---- scans

/// To whom the cell of the same index belongs, see `scan::vote`.
#[btf_map]
pub static SCAN_HEADS: Array<u64, CELL_SLOTS, MAPPED> = Array::new();
/// CPU * CELL_SLOTS + cell: no CPU writes another's. The daemon makes it as large as there can be CPUs.
#[btf_map]
pub static SCAN_CELLS: Array<ScanCell, CELL_SLOTS, MAPPED> = Array::new();
#[btf_map]
pub static PROBES: RingBuf<(), PROBE_RING> = RingBuf::new();
/// An address, or `scan::network` of a /64.
#[btf_map]
pub static BLOCKS: HashMap<Address, Block, BLOCK_SLOTS> = HashMap::new();
/// Peers with a working connection, placed by hash: 32 bits of it, and when they were last sent data.
#[btf_map]
pub static VERIFIED: Array<[u64; VERIFIED_WORDS], 1, MAPPED> = Array::new();

// ---- run-time entries

/// See `filter_common::entry`. The daemon writes it.
#[btf_map]
pub static ENTRIES: LpmTrie<EntryKey, EntrySpans, ENTRY_KEYS> = LpmTrie::new();

// ---- what people read

#[btf_map]
pub static INTERFACE_COUNTERS: PerCpuArray<InterfaceCounters, INTERFACE_SLOTS> = PerCpuArray::new();
#[btf_map]
pub static RULE_COUNTERS: PerCpuArray<Counter, RULE_SLOTS> = PerCpuArray::new();
#[btf_map]
pub static EVENTS: RingBuf<(), EVENT_RING> = RingBuf::new();
