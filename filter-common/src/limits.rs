//! The fixed sizes of the tables: one definition each, used by the maps, the compiler and the documents.

/// Slots for managed interfaces; slot 0 counts packets of interfaces without a configuration.
pub const INTERFACE_SLOTS: usize = 256;
/// Configurations a bank holds: one for each interface slot, the rest for VLAN profiles.
pub const CONFIG_SLOTS: usize = 512;
/// Places for interface indexes in the slot table, see [`slot_places`].
pub const IFINDEX_SLOTS: usize = 65536;

/// The two places in the slot table where an interface index may stand: indexes grow for ever on a host that starts
/// containers, so the first place alone would one day be shared.
#[inline(always)]
pub const fn slot_places(ifindex: u32) -> [usize; 2] {
    [
        ifindex as usize & (IFINDEX_SLOTS - 1),
        ifindex.wrapping_mul(0x9e37_79b9) as usize >> 16 & (IFINDEX_SLOTS - 1),
    ]
}
/// VLAN tables a bank holds (4,096 ids each).
pub const VLAN_TABLES: usize = 32;
/// VLAN ids (IEEE 802.1Q: 12 bits).
pub const VLAN_IDS: usize = 4096;
/// Rule slots; 0 means "no rule", 1 is the default verdict `pass`.
pub const RULE_SLOTS: usize = 16384;
/// Classes of source addresses that can be told apart.
pub const SOURCE_CLASSES: usize = 65536;
/// MACs that the guarded party of an interface may send from.
pub const BOUND_MACS: usize = 16;
/// Prefixes of each version of IP that a container may send from.
pub const BOUND_ADDRESSES: usize = 16;
/// Entries of the verdict matrix in one map value (a row that is read through one look-up).
pub const MATRIX_ROW: usize = 2048;
/// Entries of the per-source rate sketch, in each of its two rows.
pub const RATE_BUCKETS: usize = 65536;
/// Flows that are remembered by default (IPv4 and IPv6 together).
pub const FLOWS: usize = 131_072;
/// Words of the table of local ports that flows have, see [`crate::flow::port_bit`].
pub const FLOW_PORT_WORDS: usize = 2 * 65536 / 64;
/// Fragment trains that are remembered at one time.
pub const FRAGMENTS: usize = 8192;
/// Bytes of the ring buffer of sampled drops.
pub const EVENT_RING: usize = 1 << 20;
/// Sampled drops a CPU may report for each reason in one epoch (the daemon starts ten epochs a second).
pub const EVENTS_PER_EPOCH: u32 = 20;
/// Bytes of the frame that a sampled drop carries; a power of two.
pub const EVENT_BYTES: usize = 128;
/// Banks a policy alternates between.
pub const BANKS: usize = 2;
/// Cells that count refused packets by source, for each CPU.
pub const SCAN_CELLS: usize = 8192;
/// Words of a cell's bitmap of targets; a power of two.
pub const CELL_WORDS: usize = 4;
/// Probes a CPU may report in one epoch, whoever sent them.
pub const PROBES_PER_EPOCH: u32 = 16;
/// Probes a CPU may report in one epoch beyond, of sources that send often.
pub const EARNED_PER_EPOCH: u32 = 192;
/// Bytes of the ring buffer of probes.
pub const PROBE_RING: usize = 1 << 19;
/// Sources that can be blocked at one time.
pub const BLOCKS: usize = 65536;
/// Words of the filter in front of the blocks: at 65,536 blocks one packet in 16 is looked up in vain.
pub const BLOCK_FILTER_WORDS: usize = 16384;
/// Keys of run-time entries: one for each prefix and service.
pub const ENTRY_KEYS: usize = 4096;
/// Times that one key holds, what shorter prefixes say included.
pub const ENTRY_SPANS: usize = 4;
/// Words of the filter in front of the run-time entries: a bit for each IPv4 /16, as many for hashes of IPv6 /32.
pub const ENTRY_FILTER_WORDS: usize = 2048;
/// Words of the table of peers with a working connection.
pub const VERIFIED: usize = 65536;
