//! The reasons a packet is counted under: the one list that counters, events, metrics and documents use.
//! Names are an interface to scripts: add, never rename. An index means a name only together with the layout hashes, which
//! the names are part of.

macro_rules! reasons {
    ($($variant:ident $name:literal $text:literal,)*) => {
        /// Why a packet passed or was dropped; every packet is counted under exactly one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason { $(#[doc = $text] $variant,)* }

        impl Reason {
            /// Every reason, in the order of its index.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name that counters, events and metrics show.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence for people.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    PassRule "pass_rule" "An allow rule let it in (or the profile passes by default).",
    PassReply "pass_reply" "It belongs to a flow that this host opened.",
    PassRelated "pass_related" "An ICMP error about a flow that this host knows.",
    PassControl "pass_control" "ARP, neighbour or router discovery, DHCP, an allowed ICMP type or ethertype.",
    PassFragment "pass_fragment" "A later fragment whose first one passed.",
    PassUnmanaged "pass_unmanaged" "The interface belongs to no profile.",
    PassEgress "pass_egress" "It leaves by an outer interface (from an address and MAC of this host, where that is asked for).",
    DropMalformed "drop_malformed" "Truncated, inconsistent, or nested too deep to be read.",
    DropEthertype "drop_ethertype" "An ethertype that the profile does not let in.",
    DropProtocol "drop_protocol" "An IP protocol that no rule lets in.",
    DropIcmp "drop_icmp" "ICMP that neither policy nor an open flow asks for.",
    DropFragment "drop_fragment" "A fragment without its first one, a header split over fragments, or fragments refused.",
    DropMartian "drop_martian" "A source address that cannot be.",
    DropOwnAddress "drop_own_address" "One of this host's own addresses as source, from outside.",
    DropReversePath "drop_reverse_path" "The way back to the source leads elsewhere.",
    DropBinding "drop_binding" "A container, or this host, sent from an address or MAC that is not its own.",
    DropDenied "drop_denied" "A deny rule matched.",
    DropSource "drop_source" "The port is open, but not to this source.",
    DropPort "drop_port" "No rule opens this port.",
    DropBlocked "drop_blocked" "The source is blocked.",
    DropRate "drop_rate" "The rule's rate limit is used up.",
    DropSend "drop_send" "The container's send list does not let it out.",
}

/// Slots for reasons in a counter array: the list may grow to this without a change of layout.
pub const REASON_SLOTS: usize = 32;

/// Hash of all names, in order: part of every layout that holds a reason's index.
pub const NAMES_HASH: u64 = {
    let mut hash = 0;
    let mut index = 0;
    while index < Reason::ALL.len() {
        hash = crate::layout::hash_text(hash, Reason::ALL[index].name());
        index += 1;
    }
    hash
};

impl Reason {
    /// Whether a packet under this reason goes on to the kernel (in enforcing mode).
    #[inline(always)]
    pub const fn passes(self) -> bool {
        (self as u8) < (Self::DropMalformed as u8)
    }

    /// The reason with this index.
    pub fn from_index(index: usize) -> Option<Self> {
        Self::ALL.get(index).copied()
    }
}

const _: () = assert!(Reason::ALL.len() <= REASON_SLOTS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_the_action() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert_eq!(Reason::from_index(index), Some(*reason));
            assert_eq!(
                reason.name().starts_with("pass_"),
                reason.passes(),
                "{}",
                reason.name()
            );
            assert!(reason.passes() || reason.name().starts_with("drop_"));
        }
    }
}
