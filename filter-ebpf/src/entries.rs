//! Run-time entries looked up. What they mean, filter-common says.

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use filter_common::entry::{self, SERVICE_BITS};
use filter_common::layout::{Address, Watch};
use filter_common::limits::ENTRY_FILTER_WORDS;

use crate::maps;
use crate::tables::masked;

/// Bits of a key whose whole address counts.
const KEY_BITS: u32 = SERVICE_BITS + 128;

/// Whether an entry may name the source. Most that none names are told by a bit, whatever the number of entries.
#[inline(always)]
pub fn may_name(watch: &Watch, source: &Address) -> bool {
    if watch.entries == 0 {
        return false;
    }
    let bit = entry::filter_bit(source);
    let word = masked::<{ ENTRY_FILTER_WORDS as u32 - 1 }>(bit / 64) & (ENTRY_FILTER_WORDS - 1);
    watch.entry_bits[word] >> (bit & 63) & 1 != 0
}

/// A global function (see packet.rs): what the entries say of the source, by `entry::answer`. An end that is past counts
/// at once, without the daemon.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn answer(hi: u64, lo: u64, asked: u32) -> u64 {
    // SAFETY: takes nothing, always allowed.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let source = Address { hi, lo };
    let v4 = entry::is_v4(&source);
    let said_of = |asked: u32| {
        let key = entry::key(entry::service(v4, asked), &source);
        maps::ENTRIES
            .get(&Key::new(KEY_BITS, key))
            .map_or(entry::NONE, |spans| entry::at(spans, now))
    };
    let of_service = if entry::has_ports(entry::protocol_of(asked)) {
        said_of(asked)
    } else {
        entry::NONE
    };
    entry::stronger(of_service, said_of(0))
}
