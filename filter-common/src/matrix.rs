//! The verdict matrix's entries: a kind, and an argument (a rule slot).

/// 4 bits of kind above 16 bits of argument.
pub type Entry = u32;

/// Part of the layout hash: change it when a kind changes its meaning.
pub const ENCODING: &str = "kind4 arg16: closed=0 source=1 allow=2 limited=3 failsafe=4 deny=5 control=6 neighbour=7 martian=10 own=11";

/// No rule opens the service.
pub const CLOSED: u16 = 0;
/// A rule opens the service, but not to this source.
pub const OTHER_SOURCES: u16 = 1;
/// The rule in the argument lets it in.
pub const ALLOW: u16 = 2;
/// The rule in the argument lets it in within its rate limits.
pub const ALLOW_LIMITED: u16 = 3;
/// The failsafe rule in the argument lets it in, blocked or not.
pub const FAILSAFE: u16 = 4;
/// The deny rule in the argument drops it.
pub const DENY: u16 = 5;
/// Let in as control traffic.
pub const CONTROL: u16 = 6;
/// Let in as control traffic if the hop limit is 255, which proves that it comes from this link (RFC 4861, 7.1).
pub const CONTROL_ON_LINK: u16 = 7;
/// Not in the matrix: a rule would let it in, but the source is blocked.
pub const BLOCKED: u16 = 8;
/// Not in the matrix: no rule opens the service to the source, but a run-time entry does.
pub const LISTED: u16 = 9;
/// The source cannot be; the row in the argument says why. From here on the source is a forger's.
pub const MARTIAN: u16 = 10;
/// The source is this host's, or one of its containers'; the row in the argument says which.
pub const OWN: u16 = 11;

/// The entry of what no rule opens.
pub const NO_RULE: Entry = entry(CLOSED, 0);

/// Builds an entry.
pub const fn entry(kind: u16, rule: u16) -> Entry {
    (kind as u32) << 16 | rule as u32
}

/// The entry's kind.
#[inline(always)]
pub const fn kind(entry: Entry) -> u16 {
    (entry >> 16) as u16 & 0x0f
}

/// The entry's rule slot.
#[inline(always)]
pub const fn rule(entry: Entry) -> u16 {
    entry as u16
}

/// Whether no rule lets the packets in, nor refuses them.
#[inline(always)]
pub const fn is_unruled(entry: Entry) -> bool {
    kind(entry) == CLOSED || kind(entry) == OTHER_SOURCES
}

/// Whether the entry lets packets in by a rule.
#[inline(always)]
pub const fn allows(entry: Entry) -> bool {
    // one comparison: the three kinds stand side by side
    kind(entry).wrapping_sub(ALLOW) <= FAILSAFE - ALLOW
}

/// Whether the entry lets packets in by a rule as long as their source is not blocked.
#[inline(always)]
pub const fn blockable(entry: Entry) -> bool {
    kind(entry).wrapping_sub(ALLOW) <= ALLOW_LIMITED - ALLOW
}
