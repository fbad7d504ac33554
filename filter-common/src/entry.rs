//! Run-time entries: sources that an operator lets in or keeps out for a time, beside the policy. What they are looked
//! up by, and which of several decides. The longest prefix does; of two of the same length, the one that names the
//! service.

use crate::layout::{Address, EntryKey, EntrySpans};
use crate::limits::ENTRY_FILTER_WORDS;
use crate::matrix::{self, Entry};
use crate::row;
use crate::service::protocol;

/// Bits of [`EntryKey`] in front of the address.
pub const SERVICE_BITS: u32 = 64;

/// Part of the layout's hash: change it when a number changes its meaning.
pub const ENCODING: &str = "service: v4 protocol16 port; answer: prefix+1 verdict8, allow=1 deny=2";

/// Nothing is said.
pub const NONE: u64 = 0;
/// Let in what no rule speaks of.
pub const ALLOW: u64 = 1;
/// Keep out.
pub const DENY: u64 = 2;

const VERDICT_BITS: u32 = 8;

/// What a packet asks for: protocol and destination port.
#[inline(always)]
pub const fn asked(protocol: u8, port: u16) -> u32 {
    (protocol as u32) << 16 | port as u32
}

/// The protocol that [`asked`] was made of.
#[inline(always)]
pub const fn protocol_of(asked: u32) -> u8 {
    (asked >> 16) as u8
}

/// Whether the protocol has ports. Only what has may be let in by an entry.
#[inline(always)]
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP)
}

/// The service of a key: what [`asked`] says, or 0 for all that a source may ask for. IPv4 and IPv6 are apart, so that
/// no IPv6 prefix covers an IPv4 address.
#[inline(always)]
pub const fn service(v4: bool, asked: u32) -> u64 {
    (v4 as u64) << 32 | asked as u64
}

/// The key of an address and a service.
#[inline(always)]
pub const fn key(service: u64, address: &Address) -> EntryKey {
    EntryKey {
        service,
        address: [address.hi.to_be(), address.lo.to_be()],
    }
}

/// What an entry with a prefix of this length says, so that of two answers the larger prefix is the larger number.
#[inline(always)]
pub const fn answer(prefix: u8, verdict: u64) -> u64 {
    (prefix as u64 + 1) << VERDICT_BITS | verdict
}

/// [`ALLOW`], [`DENY`] or [`NONE`].
#[inline(always)]
pub const fn verdict(answer: u64) -> u64 {
    answer & ((1 << VERDICT_BITS) - 1)
}

/// The prefix length that [`answer`] was made of; `None` for no answer.
pub const fn prefix(answer: u64) -> Option<u8> {
    match answer >> VERDICT_BITS {
        0 => None,
        length => Some((length - 1) as u8),
    }
}

/// What is said at this time (`CLOCK_MONOTONIC` ns); [`NONE`] if nothing is.
#[inline(always)]
pub fn at(spans: &EntrySpans, now: u64) -> u64 {
    for span in &spans.spans {
        if span.from <= now && now < span.until {
            return span.answer;
        }
    }
    NONE
}

/// Which answer counts: the one to this very service, unless a longer prefix says something of all services.
#[inline(always)]
pub const fn stronger(of_service: u64, of_all: u64) -> u64 {
    if of_all >> VERDICT_BITS > of_service >> VERDICT_BITS {
        of_all
    } else {
        of_service
    }
}

/// What a policy's entry becomes by an answer. The failsafe list stands above both kinds, and a forger's source stays
/// one: do not ask for it.
#[inline(always)]
pub const fn applied(entry: Entry, answer: u64, asked: u32) -> Entry {
    match verdict(answer) {
        DENY if matrix::kind(entry) != matrix::FAILSAFE => {
            matrix::entry(matrix::DENY, row::DENY_ENTRY)
        }
        ALLOW if matrix::is_unruled(entry) && has_ports(protocol_of(asked)) => {
            matrix::entry(matrix::LISTED, row::ALLOW_ENTRY)
        }
        _ => entry,
    }
}

/// The bit that stands for an address: every IPv4 /16 has one of its own, IPv6 /32 share as many.
#[inline(always)]
pub const fn filter_bit(address: &Address) -> usize {
    if is_v4(address) {
        (address.lo >> 16) as usize & 0xffff
    } else {
        0x10000 | ((address.hi >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize
    }
}

/// Whether it is an IPv4 address.
#[inline(always)]
pub const fn is_v4(address: &Address) -> bool {
    address.hi == 0 && address.lo >> 32 == 0xffff
}

const _: () = assert!(ENTRY_FILTER_WORDS * 64 == 2 << 16, "a bit for each number");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::EntrySpan;
    use crate::limits::ENTRY_SPANS;

    #[test]
    fn the_longest_prefix_decides_then_the_service() {
        let (allow, deny) = (answer(24, ALLOW), answer(24, DENY));
        assert_eq!(stronger(allow, deny), allow);
        assert_eq!(stronger(allow, answer(25, DENY)), answer(25, DENY));
        assert_eq!(stronger(NONE, answer(0, DENY)), answer(0, DENY));
        assert_eq!(stronger(answer(0, ALLOW), NONE), answer(0, ALLOW));
        assert_eq!(
            (verdict(deny), prefix(deny), prefix(NONE)),
            (DENY, Some(24), None)
        );
    }

    #[test]
    fn an_answer_has_its_time() {
        let none = EntrySpan {
            from: 0,
            until: 0,
            answer: 0,
        };
        let mut spans = EntrySpans {
            spans: [none; ENTRY_SPANS],
        };
        spans.spans[1] = EntrySpan {
            from: 10,
            until: 20,
            answer: 7,
        };
        for (now, said) in [(9, NONE), (10, 7), (19, 7), (20, NONE), (0, NONE)] {
            assert_eq!(at(&spans, now), said, "{now}");
        }
    }

    #[test]
    fn a_rule_outranks_what_lets_in_and_not_what_keeps_out() {
        let web = asked(protocol::TCP, 443);
        let (allow, deny) = (answer(24, ALLOW), answer(24, DENY));
        let denied = matrix::entry(matrix::DENY, row::DENY_ENTRY);
        let listed = matrix::entry(matrix::LISTED, row::ALLOW_ENTRY);
        let (ruled, refused) = (
            matrix::entry(matrix::ALLOW, 40),
            matrix::entry(matrix::DENY, 41),
        );
        for entry in [matrix::NO_RULE, matrix::entry(matrix::OTHER_SOURCES, 0)] {
            assert_eq!(applied(entry, allow, web), listed);
            assert_eq!(applied(entry, deny, web), denied);
            assert_eq!(applied(entry, NONE, web), entry);
            assert_eq!(applied(entry, allow, asked(47, 0)), entry, "no ports");
        }
        for entry in [ruled, refused] {
            assert_eq!(applied(entry, allow, web), entry);
            assert_eq!(applied(entry, deny, web), denied);
        }
    }

    #[test]
    fn bits_of_both_families_are_apart() {
        let v4 = filter_bit(&Address::v4(0xffff_ffff));
        let v6 = filter_bit(&Address::v6(0x2001_0db8 << 96));
        assert!(v4 == 0xffff && (0x10000..0x20000).contains(&v6));
        let same = filter_bit(&Address::v6(0x2001_0db8_ffff << 80));
        assert_eq!(v6, same);
    }
}
