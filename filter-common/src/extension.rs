//! The chain of IPv6 extension headers (RFC 8200, section 4): bounded in number and in reach.

use crate::packet::{Packet, be16};
use crate::parse::MAX_OFFSET;

/// Headers that lead on to a next header (IANA "IPv6 Extension Header Types"); ESP hides what follows and is not one.
mod kind {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION: u8 = 60;
    pub(super) const MOBILITY: u8 = 135;
    pub(super) const HIP: u8 = 139;
    pub(super) const SHIM6: u8 = 140;
}

/// Extension headers that are followed; a ninth is malformed.
pub const MAX_EXTENSIONS: u32 = 8;

/// Where a chain begins and may not go past.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    /// Type of the first header.
    pub next: u8,
    /// Its offset in the frame.
    pub at: usize,
    /// One past the packet's last byte.
    pub end: usize,
}

/// Where a chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Protocol behind it.
    pub next: u8,
    /// Offset of that protocol's header, at most [`MAX_OFFSET`].
    pub at: usize,
    /// Offset of the fragment header, 0 if there is none.
    pub fragment: usize,
}

/// Whether the chain goes on behind a header of this type.
#[inline(always)]
pub const fn is_extension(next: u8) -> bool {
    matches!(
        next,
        kind::HOP_BY_HOP
            | kind::ROUTING
            | kind::FRAGMENT
            | kind::AUTHENTICATION
            | kind::DESTINATION
            | kind::MOBILITY
            | kind::HIP
            | kind::SHIM6
    )
}

/// Byte offset of a fragment and whether more follow.
#[inline(always)]
pub fn fragment_position(header: &[u8; 8]) -> (usize, bool) {
    let word = be16(header, 2);
    ((word & 0xfff8) as usize, word & 1 != 0)
}

/// Walks the chain; `None` if it is malformed. Behind the header of a later fragment nothing is read.
#[inline(always)]
pub fn walk<P: Packet + ?Sized>(packet: &P, chain: Chain) -> Option<Walk> {
    let Chain {
        mut next,
        mut at,
        end,
    } = chain;
    let mut fragment = 0;
    if !is_extension(next) {
        return Some(Walk { next, at, fragment });
    }
    let mut count = 0;
    // Tested at its end, so that the way back is a conditional jump: Linux 6.1's verifier takes no other
    // (push_insn in kernel/bpf/verifier.c).
    loop {
        // hop-by-hop options stand first or nowhere
        if count == MAX_EXTENSIONS || (next == kind::HOP_BY_HOP && count != 0) || at + 8 > end {
            return None;
        }
        let header = packet.window::<8>(at)?;
        let mut length = (header[1] as usize + 1) * 8;
        if next == kind::AUTHENTICATION {
            length = (header[1] as usize + 2) * 4;
        }
        // type 0 routing headers amplify (RFC 5095)
        if next == kind::ROUTING && header[2] == 0 {
            return None;
        }
        let mut later = false;
        if next == kind::FRAGMENT {
            if fragment != 0 {
                return None;
            }
            fragment = at;
            length = 8;
            later = fragment_position(header).0 != 0;
        }
        next = header[0];
        at += length;
        if at > end || at > MAX_OFFSET {
            return None;
        }
        count += 1;
        if later || !is_extension(next) {
            break;
        }
    }
    Some(Walk { next, at, fragment })
}

impl Walk {
    /// A walk in one word, for a subprogram's return value; never 0.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        1 << 63 | (self.next as u64) << 32 | (self.at as u64) << 16 | self.fragment as u64
    }

    /// The walk in a word; `None` for 0.
    #[inline(always)]
    pub const fn unpack(word: u64) -> Option<Self> {
        if word == 0 {
            return None;
        }
        Some(Self {
            next: (word >> 32) as u8,
            at: (word >> 16) as usize & MAX_OFFSET,
            fragment: word as usize & MAX_OFFSET,
        })
    }
}
