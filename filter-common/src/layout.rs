//! The structs that the BPF program and the daemon both read, and a hash of their shape.
//!
//! Every field is explicit and no padding is left to the compiler. The hash goes into the names of pinned maps, so a
//! program never adopts a map of another shape; it is derived from the definitions, nobody has to remember it.

use crate::limits::{
    BLOCK_FILTER_WORDS, BOUND_ADDRESSES, BOUND_MACS, CELL_WORDS, CONFIG_SLOTS, ENTRY_FILTER_WORDS,
    ENTRY_SPANS, EVENT_BYTES, IFINDEX_SLOTS, MATRIX_ROW, RULE_SLOTS, SOURCE_CLASSES, VLAN_IDS,
};
use crate::prefix::{Cell4, Cell6, ROOT4_LEN, ROOT6_LEN};
use crate::reason::{NAMES_HASH, REASON_SLOTS};
use crate::scan::PATTERN_SLOTS;
use crate::service::SERVICES;

/// A shape that can be hashed: names, order and types of all fields.
pub trait Layout {
    /// Hash of the shape (64-bit FNV-1a).
    const HASH: u64;
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// FNV-1a over a text, starting from `seed`.
pub const fn hash_text(seed: u64, text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut hash = seed;
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(FNV_PRIME);
        index += 1;
    }
    hash
}

/// Mixes another hash (or a number) into `seed`.
pub const fn hash_mix(seed: u64, value: u64) -> u64 {
    let mut hash = seed;
    let mut shift = 0;
    while shift < 64 {
        hash = (hash ^ ((value >> shift) & 0xff)).wrapping_mul(FNV_PRIME);
        shift += 8;
    }
    hash
}

macro_rules! primitive {
    ($($type:ident)*) => { $(impl Layout for $type { const HASH: u64 = hash_text(FNV_OFFSET, stringify!($type)); })* };
}
primitive!(u8 u16 u32 u64);

impl<T: Layout, const N: usize> Layout for [T; N] {
    const HASH: u64 = hash_mix(T::HASH, N as u64);
}

macro_rules! shared {
    ($($(#[$meta:meta])* struct $name:ident { $($(#[$fmeta:meta])* $field:ident: $type:ty,)* })*) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(C)]
        pub struct $name { $($(#[$fmeta])* pub $field: $type,)* }

        impl Layout for $name {
            const HASH: u64 = {
                let mut hash = hash_text(FNV_OFFSET, stringify!($name));
                $(hash = hash_mix(hash_text(hash, stringify!($field)), <$type as Layout>::HASH);)*
                hash_mix(hash, size_of::<$name>() as u64)
            };
        }

        const _: () = assert!(size_of::<$name>() == 0 $(+ size_of::<$type>())*, "padding is written out");
    )* };
}

shared! {
    /// Which policy is in force.
    struct Control {
        /// Counts policies; its lowest bit is the bank in force.
        generation: u64,
        /// By bank: generation of the policy (not of the tables), and the first 64 bits of its digest.
        policies: [[u64; 2]; 2],
    }

    /// The tables of a policy that every packet may read and whose size no policy changes, in one bank: one look-up finds
    /// them all. A look-up in an array is some ten instructions, half of which wait for each other.
    struct Bank {
        /// Class of a source -> the interfaces that lead to it, a bit each.
        reach: [u64; SOURCE_CLASSES],
        /// Sources, destinations.
        roots4: [[u32; ROOT4_LEN]; 2],
        /// The same for IPv6.
        roots6: [[u32; ROOT6_LEN]; 2],
        /// By slot; those of VLAN profiles follow.
        configs: [Config; CONFIG_SLOTS],
        /// Place of an interface index ([`crate::limits::slot_places`]) -> its slot.
        slots: [u16; IFINDEX_SLOTS],
        /// Service index -> service class.
        services: [u16; SERVICES],
    }

    /// What one interface (or one VLAN of it) does with its packets, in one bank.
    struct Config {
        /// Interface index this is for; the slot table is only a hint.
        ifindex: u32,
        /// First entry of the profile's part of the verdict matrix.
        matrix_base: u32,
        /// Classes in the matrix: sources are the fastest dimension, then services, then destinations.
        source_classes: u32,
        /// See `source_classes`.
        service_classes: u32,
        /// `flag::*`
        flags: u32,
        /// VLAN table number + 1, or 0: frames with a tag are judged like others.
        vlan_table: u32,
        /// First matrix entry about what leaves: outer interfaces have one row by class of the source; container links a
        /// part like the one above, by service and class of the destination.
        leaving_base: u32,
        /// Where the guarded party's MACs and addresses stand in BINDINGS.
        binding: u32,
        /// The bit of the reach words that says whether a source is reached by this interface.
        reach_bit: u32,
    }

    /// What the guarded party of an interface may send from. An entry that is not used matches nothing.
    struct Binding {
        /// `binding::*`
        known: u64,
        /// 48 bits, big-endian; [`binding::NO_MAC`] for none.
        macs: [u64; BOUND_MACS],
        /// Network and mask.
        v4: [[u32; 2]; BOUND_ADDRESSES],
        /// Network (upper, lower half) and mask.
        v6: [[u64; 4]; BOUND_ADDRESSES],
    }

    /// Packets and bytes.
    struct Counter {
        /// Packets.
        packets: u64,
        /// Bytes of the frames, from the Ethernet header on.
        bytes: u64,
    }

    /// One interface's counters: reasons, then the same reasons as `would_drop` in monitor mode.
    struct InterfaceCounters {
        /// By reason.
        enforced: [Counter; REASON_SLOTS],
        /// By reason, in monitor mode (drops only).
        monitored: [Counter; REASON_SLOTS],
    }

    /// An address, host order; IPv4 as `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2).
    struct Address {
        /// Upper 64 bits.
        hi: u64,
        /// Lower 64 bits.
        lo: u64,
    }

    /// A flow as the host sees it, whichever way a packet goes.
    struct FlowKey {
        /// Our side.
        local: Address,
        /// The other side.
        remote: Address,
        /// Host order; the identifier for ICMP echo; 0 without ports.
        local_port: u16,
        /// Host order; 0 for ICMP and without ports.
        remote_port: u16,
        /// IP protocol number; a whole word, since LLVM would zero three bytes with a call.
        protocol: u32,
    }

    /// What is known of a flow.
    struct FlowState {
        /// Coarse `CLOCK_MONOTONIC` nanoseconds of the last packet, at most a second behind.
        seen: u64,
        /// `flow::state::*`
        state: u32,
        /// Zero.
        zero: u32,
    }

    /// A train of fragments (RFC 791, RFC 8200).
    struct FragmentKey {
        /// Source.
        source: Address,
        /// Destination.
        destination: Address,
        /// Identification.
        id: u32,
        /// IPv4: the protocol; IPv6: 0. Above these 8 bits the way that the train goes.
        protocol: u32,
    }

    /// Rate limits of a rule, as emission interval and tolerance of the virtual scheduling algorithm; 0 = no limit.
    struct RateLimits {
        /// Nanoseconds a packet, all sources together.
        interval: u64,
        /// Nanoseconds the arrival may run ahead.
        tolerance: u64,
        /// Nanoseconds a packet, each source.
        source_interval: u64,
        /// See `tolerance`.
        source_tolerance: u64,
    }

    /// How many sampled drops this CPU has reported in the running epoch.
    struct EventBudget {
        /// Epoch the counts are of.
        epoch: u64,
        /// Drops that were not reported for want of budget or room, since the start.
        suppressed: u64,
        /// By reason.
        used: [u32; REASON_SLOTS],
    }

    /// What the daemon tells the program beside a policy. One look-up finds it all, and most packets that it is nothing.
    struct Watch {
        /// Secret part of every hash; 0 until the daemon has chosen one.
        seed: u64,
        /// First and last of this host's ephemeral ports, 16 bits each.
        local_ports: u64,
        /// Blocks that may be in force; 0: no need to look.
        blocks: u64,
        /// 0: there are no run-time entries.
        entries: u64,
        /// `CLOCK_MONOTONIC` nanoseconds until which [`FlowKey`]s without a remote are looked up (start-up only).
        wildcard_until: u64,
        /// Counts spans of 100 ms; a new one renews the budgets of events.
        event_epoch: u64,
        /// The bits begin on a cache line.
        zero: [u64; 2],
        /// `entry::filter_bit` of each address that an entry names.
        entry_bits: [u64; ENTRY_FILTER_WORDS],
        /// A bit for what `scan::hash` makes of a blocked source.
        block_bits: [u64; BLOCK_FILTER_WORDS],
    }

    /// What one CPU keeps for itself: one look-up finds it all.
    struct CpuState {
        /// This CPU's count of clock ticks when it last asked for the time, and the time.
        clock: [u64; 2],
        /// Of sampled drops.
        events: EventBudget,
        /// Of probes.
        scans: ScanCounters,
    }

    /// What one CPU counts of probes.
    struct ScanCounters {
        /// Epoch the budget is of.
        epoch: u64,
        /// Reports of anybody, and of sources that send often, in this epoch.
        reported: [u32; 2],
        /// Probes that were not reported for want of budget or room.
        shed: u64,
        /// By pattern.
        patterns: [u64; PATTERN_SLOTS],
    }

    /// One source on one CPU.
    struct ScanCell {
        /// `scan::key` of the source.
        key: u64,
        /// `scan::spans` since which `seen` counts.
        since: u32,
        /// Packets since the last report.
        packets: u32,
        /// Targets that were reported, a bit each.
        seen: [u64; CELL_WORDS],
        /// Makes it one cache line.
        zero: [u64; 2],
    }

    /// A probe as it lies in the ring buffer.
    struct ProbeRecord {
        /// Coarse `CLOCK_MONOTONIC` nanoseconds.
        time: u64,
        /// Source.
        source: Address,
        /// Destination.
        destination: Address,
        /// Refused packets of the source on this CPU since its last report, this one included.
        packets: u32,
        /// Destination port, or the protocol number.
        port: u16,
        /// Source port.
        source_port: u16,
        /// `Pattern`
        pattern: u8,
        /// `hint::*`
        hints: u8,
        /// TTL or hop limit.
        hop_limit: u8,
        /// Slot of the interface.
        slot: u8,
        /// `scan::filled` of the source's cell before.
        filled: u32,
    }

    /// A blocked source.
    struct Block {
        /// `CLOCK_MONOTONIC` nanoseconds of the block.
        since: u64,
        /// The same of its end.
        until: u64,
        /// Blocks of this source so far.
        strikes: u32,
        /// 0: a scan, 1: a person.
        origin: u32,
    }

    /// What run-time entries are looked up by: the longest prefix of the address, for just this service.
    struct EntryKey {
        /// `entry::service`
        service: u64,
        /// Big-endian, so that its first bits come first.
        address: [u64; 2],
    }

    /// A time in which one run-time entry decides.
    struct EntrySpan {
        /// `CLOCK_MONOTONIC` nanoseconds of its begin.
        from: u64,
        /// The same of its end.
        until: u64,
        /// `entry::answer`
        answer: u64,
    }

    /// What entries say of the sources and the service of one key, now and later. Shorter prefixes have their part
    /// in it: the look-up finds the longest only.
    struct EntrySpans {
        /// In order; none overlaps another.
        spans: [EntrySpan; ENTRY_SPANS],
    }

    /// A sampled drop; `EVENT_BYTES` of the frame follow.
    struct EventHeader {
        /// Coarse `CLOCK_MONOTONIC` nanoseconds.
        time: u64,
        /// Interface the frame came in on.
        ifindex: u32,
        /// Bytes on the wire.
        frame_length: u32,
        /// Bytes of `frame` that are filled.
        captured: u32,
        /// Rule slot, 0 if none.
        rule: u16,
        /// `Reason`
        reason: u8,
        /// 1: monitor mode, the packet passed.
        monitored: u8,
    }
}

/// Bits of [`Config::flags`].
pub mod flag {
    /// Drops are drops; without it the profile only counts what it would do.
    pub const ENFORCE: u32 = 1 << 0;
    /// Any fragment is refused.
    pub const DROP_FRAGMENTS: u32 = 1 << 1;
    /// ARP passes.
    pub const ARP: u32 = 1 << 2;
    /// DHCP answers to the host pass.
    pub const DHCP: u32 = 1 << 3;
    /// Path-MTU messages about known flows pass.
    pub const PMTU: u32 = 1 << 4;
    /// The matrix has more than one destination class: look the destination up.
    pub const DESTINATIONS: u32 = 1 << 5;
    /// Only VLAN profiles name the interface: frames without their ids are left alone.
    pub const UNMANAGED: u32 = 1 << 6;
    /// Frames that cannot have come from a neighbour are refused: a group as source MAC, source equal to destination.
    pub const MARTIANS: u32 = 1 << 7;
    /// The source must be reached by [`super::Config::reach_bit`].
    pub const REVERSE_PATH: u32 = 1 << 8;
    /// What leaves must carry a MAC and an address of the guarded party.
    pub const SENDER: u32 = 1 << 9;
    /// A container link: the guarded party is the container behind it, not this host.
    pub const CONTAINER: u32 = 1 << 10;
    /// Probes among refused packets are counted and reported.
    pub const SCANS: u32 = 1 << 11;
}

/// Values of [`Binding::known`].
pub mod binding {
    /// Nothing is known: nothing is let through.
    pub const UNKNOWN: u64 = 0;
    /// The addresses are those listed.
    pub const KNOWN: u64 = 1;
    /// Nothing is known, and sources are not checked.
    pub const OPEN: u64 = 2;
    /// No MAC.
    pub const NO_MAC: u64 = u64::MAX;
    /// An IPv4 entry that matches no address.
    pub const NONE4: [u32; 2] = [1, 0];
    /// An IPv6 entry that matches no address.
    pub const NONE6: [u64; 4] = [1, 1, 0, 0];
}

/// Bit of a reach word: some interface leads to the source.
pub const REACH_ANY: u32 = 63;

/// Shape of the look-up tables of a policy. They are created, filled and retired together.
pub const POLICY_LAYOUT: u64 = {
    let mut hash = hash_mix(Control::HASH, Bank::HASH);
    hash = hash_mix(hash, hash_mix(RateLimits::HASH, RULE_SLOTS as u64));
    hash = hash_mix(hash, MATRIX_ROW as u64);
    hash = hash_mix(hash, (size_of::<Cell4>() + size_of::<Cell6>()) as u64);
    hash = hash_mix(hash, VLAN_IDS as u64);
    hash = hash_mix(hash, Binding::HASH);
    hash = hash_text(hash, "slots: two places");
    hash = hash_text(hash, crate::prefix::ENCODING);
    hash_text(hash, crate::matrix::ENCODING)
};

/// Shape of the counters: their names belong to it, since an index means a name.
pub const COUNTERS_LAYOUT: u64 = hash_mix(InterfaceCounters::HASH, NAMES_HASH);

/// Shape of sampled drops, which carry a reason's index.
pub const EVENTS_LAYOUT: u64 =
    hash_mix(hash_mix(EventHeader::HASH, EVENT_BYTES as u64), NAMES_HASH);

/// Shape of what CPUs keep, which count by a pattern's and a reason's index.
pub const CPU_LAYOUT: u64 = hash_mix(
    hash_mix(CpuState::HASH, crate::scan::NAMES_HASH),
    NAMES_HASH,
);

/// Shape of probes that are reported, which hold a pattern's index.
pub const PROBES_LAYOUT: u64 = hash_mix(ProbeRecord::HASH, crate::scan::NAMES_HASH);

impl Address {
    /// An IPv4 address, host order.
    #[inline(always)]
    pub const fn v4(address: u32) -> Self {
        Self {
            hi: 0,
            lo: 0xffff_0000_0000 | address as u64,
        }
    }

    /// An IPv6 address, host order.
    #[inline(always)]
    pub const fn v6(address: u128) -> Self {
        Self {
            hi: (address >> 64) as u64,
            lo: address as u64,
        }
    }
}

impl Counter {
    /// Nothing counted.
    pub const ZERO: Self = Self {
        packets: 0,
        bytes: 0,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_differ() {
        assert_ne!(FlowKey::HASH, FragmentKey::HASH);
        assert_ne!(<[u16; 4]>::HASH, <[u16; 5]>::HASH);
        assert_eq!(size_of::<FlowKey>(), 40);
        assert_eq!(size_of::<Config>(), 36);
        assert_eq!(size_of::<ScanCell>(), 64, "a cache line");
        assert_eq!(size_of::<Bank>() % 64, 0, "both begin on a cache line");
    }
}
