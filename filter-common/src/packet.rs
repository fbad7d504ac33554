//! How a frame is read: bounds-checked windows at an offset. Nothing else in this crate touches packet bytes.

use crate::extension::{self, Chain, Walk};

/// A frame, from its Ethernet header on.
pub trait Packet {
    /// The `N` bytes at `offset`, if the directly readable part of the frame holds them all.
    fn window<const N: usize>(&self, offset: usize) -> Option<&[u8; N]>;

    /// Walks an IPv6 extension header chain. The BPF program does it in a subprogram of its own, which is verified
    /// once instead of once for each way that leads here.
    fn walk_extensions(&self, chain: Chain) -> Option<Walk> {
        extension::walk(self, chain)
    }

    /// Whether the frame has `end` bytes, see [`Packet::length`].
    #[inline(always)]
    fn holds(&self, end: usize) -> bool {
        end <= self.length()
    }

    /// The same number. The BPF program hides it from the verifier, which walks on from a place once for everything it
    /// knows of the numbers there: paths of which it knows the same are one path.
    #[inline(always)]
    fn opaque(&self, number: u64) -> u64 {
        number
    }

    /// Bytes of the whole frame, including parts that cannot be read directly (XDP fragments, paged skb data).
    fn length(&self) -> usize;
}

/// A frame in memory, on the host.
impl Packet for [u8] {
    fn window<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.get(offset..)?.first_chunk()
    }

    fn length(&self) -> usize {
        self.len()
    }
}

/// Big-endian 16 bits at a constant index of a window.
#[inline(always)]
pub fn be16<const N: usize>(window: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([window[at], window[at + 1]])
}

/// Big-endian 32 bits at a constant index of a window.
#[inline(always)]
pub fn be32<const N: usize>(window: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([window[at], window[at + 1], window[at + 2], window[at + 3]])
}

/// Big-endian 48 bits at a constant index of a window.
#[inline(always)]
pub fn be48<const N: usize>(window: &[u8; N], at: usize) -> u64 {
    (be16(window, at) as u64) << 32 | be32(window, at + 2) as u64
}

/// Big-endian 64 bits at a constant index of a window.
#[inline(always)]
pub fn be64<const N: usize>(window: &[u8; N], at: usize) -> u64 {
    (be32(window, at) as u64) << 32 | be32(window, at + 4) as u64
}
