//! The flow table, behind the local ports that flows have had: what asks for another is not looked up.

use core::intrinsics::{AtomicOrdering, atomic_or, atomic_xadd};

use filter_common::flow;
use filter_common::layout::{FlowKey, FlowState};
use filter_common::limits::FLOW_PORT_WORDS;

use crate::maps;
use crate::tables::masked;

/// Overwrites an entry or makes it (`BPF_ANY`).
const ANY: u64 = 0;

/// See [`filter_common::verdict::Tables::flow`].
#[inline(always)]
pub fn find<'a>(key: &FlowKey) -> Option<&'a mut FlowState> {
    let (ports, bit) = ports(key)?;
    // SAFETY: a live map value, one word.
    if unsafe { ports.read_volatile() } & bit == 0 {
        return None;
    }
    // SAFETY: a live map value. Other CPUs may write it too: fields are whole words, a lost refresh is harmless,
    // and an entry that is recycled meanwhile can at worst have one of its stamps renewed.
    maps::FLOWS
        .get_ptr_mut(key)
        .map(|flow| unsafe { &mut *flow })
}

/// See [`filter_common::verdict::Tables::note_flow`].
#[inline(always)]
pub fn note(key: &FlowKey, flow: &FlowState) {
    if let Some(room) = maps::FLOW_ROOM.get_ptr_mut(0) {
        // SAFETY: a live, 8-byte aligned map value. It may sink a little below 0 when CPUs race: a negative room is
        // no room.
        unsafe {
            if room.read_volatile() as i64 > 0 {
                atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(room, u64::MAX);
            }
        }
    }
    if let Some((ports, bit)) = ports(key) {
        // SAFETY: a live, 8-byte aligned map value; others set bits of the same word, and only atomically.
        unsafe {
            if ports.read_volatile() & bit == 0 {
                atomic_or::<u64, u64, { AtomicOrdering::SeqCst }>(ports, bit);
            }
        }
    }
    // fails only without memory for a per-CPU free list; the flow's next packet tries again
    let _ = maps::FLOWS.insert(key, flow, ANY);
}

/// Where the bit of a flow's local port stands, and the bit.
#[inline(always)]
fn ports(key: &FlowKey) -> Option<(*mut u64, u64)> {
    let ports = maps::FLOW_PORTS.get_ptr_mut(0)?;
    let bit = flow::port_bit(key);
    let word = masked::<{ FLOW_PORT_WORDS as u32 - 1 }>(bit / 64) & (FLOW_PORT_WORDS - 1);
    // SAFETY: inside the value.
    Some((unsafe { &raw mut (*ports)[word] }, 1 << (bit & 63)))
}
