//! Look-ups of the source alone: our table, the kernel's LPM trie, and neither. For `cargo xtask bench` only; the code of
//! our look-up is the very code of the filter.
//!
//! Chained: each look-up waits for the answer of the one before, as a packet's verdict waits for its look-up, so that the
//! processor cannot overlap them. The addresses come from a list that is read in order, which costs next to nothing.
#![no_std]
#![no_main]
#![expect(
    missing_docs,
    reason = "the attribute macros make functions that no comment reaches"
)]

use aya_ebpf::bindings::{BPF_F_MMAPABLE, xdp_action};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, LpmTrie};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use filter_common::prefix::{self, Cell4, Cell6, ROOT4_LEN, ROOT6_LEN};

/// As in the filter: cells are lines.
const MAPPED: usize = BPF_F_MMAPABLE as usize;
/// Addresses of each kind.
const QUERIES_EACH: usize = 1 << 20;

/// What a program keeps from one run to the next.
#[repr(C)]
pub struct State {
    /// The next address.
    cursor: u64,
    /// The last answer.
    answer: u64,
    /// 0, which the compiler cannot know.
    zero: u64,
    /// All answers, added up.
    sum: u64,
}

/// One for each program.
#[btf_map]
pub static STATES: Array<State, 12, MAPPED> = Array::new();
/// Upper and lower half of an address in host order; an IPv4 address is in the upper half's low bits. The first half
/// of the list are random addresses, the second are in the set.
#[btf_map]
pub static QUERIES: Array<[u64; 2], { 2 * QUERIES_EACH }, MAPPED> = Array::new();
#[btf_map]
pub static ROOT4: Array<[u32; ROOT4_LEN], 1, MAPPED> = Array::new();
#[btf_map]
pub static CELLS4: Array<Cell4, 1, MAPPED> = Array::new();
#[btf_map]
pub static ROOT6: Array<[u32; ROOT6_LEN], 1, MAPPED> = Array::new();
#[btf_map]
pub static CELLS6: Array<Cell6, 1, MAPPED> = Array::new();
#[btf_map]
pub static TRIE4: LpmTrie<[u32; 1], u32, 1> = LpmTrie::new();
#[btf_map]
pub static TRIE6: LpmTrie<[u32; 4], u32, 1> = LpmTrie::new();

/// One look-up of the next address.
#[inline(always)]
fn step(program: u32, hits: bool, answer: impl Fn(u64, u64) -> u64) -> u32 {
    let Some(state) = STATES.get_ptr_mut(program) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: the map's value; this program alone uses it, on one CPU.
    let state = unsafe { &mut *state };
    let index = state.cursor as u32 & (QUERIES_EACH as u32 - 1);
    let first = if hits { QUERIES_EACH as u32 } else { 0 };
    let Some(&[hi, lo]) = QUERIES.get(first + index) else {
        return xdp_action::XDP_ABORTED;
    };
    let found = answer(hi + (state.answer & state.zero), lo);
    state.cursor += 1;
    state.answer = found;
    state.sum = state.sum.wrapping_add(found);
    xdp_action::XDP_DROP
}

#[inline(always)]
fn none(hi: u64, lo: u64) -> u64 {
    hi ^ lo
}

#[inline(always)]
fn cells4(hi: u64, _lo: u64) -> u64 {
    let address = hi as u32;
    let Some(root) = ROOT4.get(0) else {
        return 0;
    };
    let word = root[(address >> 16) as usize];
    prefix::lookup4(word, address, |index| CELLS4.get(index)).map_or(0, u64::from)
}

/// A global function, as in the filter.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn cells6(hi: u64, lo: u64) -> u64 {
    let index = prefix::root6_index(hi) as usize;
    let Some(root) = ROOT6.get(0) else {
        return 0;
    };
    if index >= ROOT6_LEN {
        return 0;
    }
    prefix::lookup6(root[index], hi, lo, |index| CELLS6.get(index)).map_or(0, u64::from)
}

#[inline(always)]
fn trie4(hi: u64, _lo: u64) -> u64 {
    let key = Key::new(32, [(hi as u32).to_be()]);
    TRIE4.get(&key).map_or(0, |answer| u64::from(*answer))
}

#[inline(always)]
fn trie6(hi: u64, lo: u64) -> u64 {
    let words = [(hi >> 32) as u32, hi as u32, (lo >> 32) as u32, lo as u32];
    let key = Key::new(128, words.map(u32::to_be));
    TRIE6.get(&key).map_or(0, |answer| u64::from(*answer))
}

macro_rules! programs {
    ($($number:literal $name:ident $hits:literal $answer:ident;)*) => {
        $(
            #[xdp]
            pub fn $name(_ctx: XdpContext) -> u32 {
                // a closure even around a plain function: the kernel refuses the type information of what calls that
                step($number, $hits, |hi, lo| $answer(hi, lo))
            }
        )*
    };
}

programs! {
    0 none4_random false none;
    1 none4_hits true none;
    2 cells4_random false cells4;
    3 cells4_hits true cells4;
    4 trie4_random false trie4;
    5 trie4_hits true trie4;
    6 none6_random false none;
    7 none6_hits true none;
    8 cells6_random false cells6;
    9 cells6_hits true cells6;
    10 trie6_random false trie6;
    11 trie6_hits true trie6;
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// "Dual MIT/GPL": as the filter.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
