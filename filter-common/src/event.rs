//! A sampled drop as it lies in the ring buffer.

use crate::layout::EventHeader;
use crate::limits::EVENT_BYTES;

/// Header and the first bytes of the frame; bytes past `captured` are zero.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Event {
    /// What happened.
    pub header: EventHeader,
    /// The frame from its Ethernet header on.
    pub frame: [u8; EVENT_BYTES],
}
