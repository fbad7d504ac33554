//! Rows: what decides beside the rules of a policy, with slots among those of the rules, so that each is counted and
//! named like a rule. Their names hold a `:` or are reserved: no rule of a policy can have them.

macro_rules! rows {
    ($($slot:literal $constant:ident $name:literal $text:literal,)*) => {
        $(#[doc = $text] pub const $constant: u16 = $slot;)*
        /// Slot, name and meaning of every row with a fixed slot.
        pub const FIXED: &[(u16, &str, &str)] = &[$(($slot, $name, $text),)*];
    };
}

rows! {
    1 DEFAULT "default" "the profile's default verdict `pass`, or a container without a send list",
    2 GROUP_MAC "martian:group-mac" "the source MAC is a group address (IEEE 802.3, 3.2.5)",
    3 LAND "martian:land" "source and destination are the same address",
    4 BROADCAST "martian:broadcast" "the broadcast address of a network this host is on (RFC 1122, 3.2.1.3)",
    5 OWN_ADDRESS "own-address" "an address of this host",
    6 OWN_CONTAINER "own-container" "an address or network of this host's containers",
    7 REVERSE_PATH "reverse-path" "no route leads back to the source, or none by this interface (RFC 3704)",
    8 EGRESS_MAC "egress:mac" "leaves from a MAC that is not this host's",
    9 EGRESS_SOURCE "egress:source" "leaves from an address that is not this host's",
    10 EGRESS_ARP "egress:arp" "ARP that speaks for an address that is not this host's",
    11 BINDING_UNKNOWN "binding:unknown" "nothing is known of the container on this link",
    12 BINDING_MAC "binding:mac" "not a MAC of the container",
    13 BINDING_SOURCE "binding:source" "not an address of the container",
    14 BINDING_ARP "binding:arp" "ARP that speaks for an address or MAC that is not the container's",
    15 BINDING_ND "binding:nd" "neighbour discovery about an address that is not the container's",
    16 BINDING_ROLE "binding:role" "a router advertisement, redirect or DHCP answer from a container",
    17 MAPPED "martian:::ffff:0:0/96" "IPv4-mapped Address, RFC 4291",
    18 ALLOW_ENTRY "allow-entry" "an entry of `edgefilter allow` lets the source in for a time",
    19 DENY_ENTRY "deny-entry" "an entry of `edgefilter deny` keeps the source out for a time",
}

/// The first slot that rules and rows of the registry share.
pub const FIRST_FREE: u16 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_in_order() {
        for (at, (slot, name, _)) in FIXED.iter().enumerate() {
            assert_eq!(*slot as usize, at + 1, "{name}");
        }
        assert_eq!(FIXED.len() + 1, FIRST_FREE as usize);
    }
}
