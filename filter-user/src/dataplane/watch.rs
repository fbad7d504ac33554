//! What the daemon tells the program beside a policy, as words.

use std::mem::offset_of;

use filter_common::layout::Watch;

use super::load::{LoadError, map_file};
use super::memory::MappedArray;
use super::pins::Pins;

const WORD: usize = size_of::<u64>();

pub(super) const SEED: usize = offset_of!(Watch, seed) / WORD;
pub(super) const LOCAL_PORTS: usize = offset_of!(Watch, local_ports) / WORD;
pub(super) const BLOCKS: usize = offset_of!(Watch, blocks) / WORD;
pub(super) const ENTRIES: usize = offset_of!(Watch, entries) / WORD;
pub(super) const WILDCARD_UNTIL: usize = offset_of!(Watch, wildcard_until) / WORD;
pub(super) const EVENT_EPOCH: usize = offset_of!(Watch, event_epoch) / WORD;
/// First of many.
pub(super) const ENTRY_BITS: usize = offset_of!(Watch, entry_bits) / WORD;
/// First of many.
pub(super) const BLOCK_BITS: usize = offset_of!(Watch, block_bits) / WORD;

/// The pinned words. Each is written by one part of the daemon.
pub(super) fn open(pins: &Pins) -> Result<MappedArray<u64>, LoadError> {
    map_file(&pins.state_map("WATCH"), size_of::<Watch>() / WORD)
}
