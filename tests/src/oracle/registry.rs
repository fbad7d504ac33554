//! Owns the oracle's list of special-purpose prefixes, written from the IANA IPv4 and IPv6 Special-Purpose Address
//! Registries and the address architecture (RFC 1112, RFC 4291). Must never be derived from the filter's own table.

use std::net::IpAddr;

use ipnet::IpNet;

/// What a source in a prefix is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A source like any other.
    Usable,
    /// A source inside a site, none on the internet.
    Site,
    /// No address yet: only what finds one is sent from it.
    Nobody,
    /// Never a source.
    Impossible,
}

use Kind::{Impossible, Nobody, Site, Usable};

/// The longest prefix that holds an address decides.
pub const PREFIXES: &[(&str, Kind)] = &[
    ("0.0.0.0/0", Usable),
    ("0.0.0.0/8", Impossible),          // "this network", RFC 791
    ("0.0.0.0/32", Nobody),             // "this host", RFC 1122
    ("10.0.0.0/8", Site),               // RFC 1918
    ("100.64.0.0/10", Site),            // carrier-grade NAT, RFC 6598
    ("127.0.0.0/8", Impossible),        // loopback, RFC 1122
    ("169.254.0.0/16", Site),           // link local, RFC 3927
    ("172.16.0.0/12", Site),            // RFC 1918
    ("192.0.0.0/24", Impossible),       // IETF protocol assignments, RFC 6890
    ("192.0.0.0/29", Site),             // IPv4 service continuity (DS-Lite), RFC 7335
    ("192.0.0.8/32", Usable),           // dummy source of ICMP errors, RFC 7600
    ("192.0.0.9/32", Usable),           // PCP anycast, RFC 7723
    ("192.0.0.10/32", Usable),          // TURN anycast, RFC 8155
    ("192.0.0.170/32", Impossible),     // NAT64/DNS64 discovery, RFC 8880
    ("192.0.0.171/32", Impossible),     // NAT64/DNS64 discovery, RFC 8880
    ("192.0.2.0/24", Impossible),       // documentation, RFC 5737
    ("192.31.196.0/24", Usable),        // AS112, RFC 7535
    ("192.52.193.0/24", Usable),        // AMT, RFC 7450
    ("192.88.99.0/24", Impossible),     // 6to4 relay anycast, RFC 7526
    ("192.168.0.0/16", Site),           // RFC 1918
    ("192.175.48.0/24", Usable),        // AS112, RFC 7534
    ("198.18.0.0/15", Impossible),      // benchmarking, RFC 2544
    ("198.51.100.0/24", Impossible),    // documentation, RFC 5737
    ("203.0.113.0/24", Impossible),     // documentation, RFC 5737
    ("224.0.0.0/4", Impossible),        // multicast, RFC 1112
    ("240.0.0.0/4", Impossible),        // reserved, RFC 1112
    ("255.255.255.255/32", Impossible), // limited broadcast, RFC 919
    ("::/0", Impossible),               // not assigned, RFC 4291
    ("2000::/3", Usable),               // global unicast, RFC 4291
    ("::/128", Nobody),                 // unspecified, RFC 4291
    ("::1/128", Impossible),            // loopback, RFC 4291
    ("::/96", Impossible),              // IPv4-compatible, RFC 4291
    ("::ffff:0:0/96", Impossible),      // IPv4-mapped, RFC 4291
    ("64:ff9b::/96", Usable),           // NAT64, RFC 6052
    ("64:ff9b:1::/48", Site),           // NAT64 inside a site, RFC 8215
    ("100::/64", Impossible),           // discard only, RFC 6666
    ("100:0:0:1::/64", Impossible),     // dummy prefix, RFC 9780
    ("2001::/23", Impossible),          // IETF protocol assignments, RFC 2928
    ("2001::/32", Usable),              // Teredo, RFC 4380
    ("2001:1::1/128", Usable),          // PCP anycast, RFC 7723
    ("2001:1::2/128", Usable),          // TURN anycast, RFC 8155
    ("2001:1::3/128", Usable),          // DNS-SD service registration anycast, RFC 9665
    ("2001:2::/48", Impossible),        // benchmarking, RFC 5180
    ("2001:3::/32", Usable),            // AMT, RFC 7450
    ("2001:4:112::/48", Usable),        // AS112, RFC 7535
    ("2001:10::/28", Impossible),       // ORCHID, deprecated, RFC 4843
    ("2001:20::/28", Usable),           // ORCHIDv2, RFC 7343
    ("2001:30::/28", Usable),           // drone remote identification, RFC 9374
    ("2001:db8::/32", Impossible),      // documentation, RFC 3849
    ("2002::/16", Impossible),          // 6to4, RFC 3056
    ("2620:4f:8000::/48", Usable),      // AS112, RFC 7534
    ("3fff::/20", Impossible),          // documentation, RFC 9637
    ("5f00::/16", Site),                // segment routing SIDs, RFC 9602
    ("fc00::/7", Site),                 // unique local, RFC 4193
    ("fe80::/10", Usable),              // link local, RFC 4291
    ("fec0::/10", Impossible),          // site local, deprecated, RFC 3879
    ("ff00::/8", Impossible),           // multicast, RFC 4291
];

/// The longest prefix that holds the address, and what it says.
#[must_use]
pub fn look_up(address: IpAddr) -> Option<(&'static str, Kind)> {
    let holds = |text: &str| {
        let net: IpNet = text.parse().ok()?;
        net.contains(&address).then_some(net.prefix_len())
    };
    PREFIXES
        .iter()
        .filter_map(|(text, kind)| Some((holds(text)?, (*text, *kind))))
        .max_by_key(|(length, _)| *length)
        .map(|(_, found)| found)
}

/// Every prefix; text that is none is left out, which a test rules out.
pub fn nets() -> impl Iterator<Item = (IpNet, Kind)> {
    PREFIXES
        .iter()
        .filter_map(|(text, kind)| Some((text.parse().ok()?, *kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_is_one() {
        assert_eq!(nets().count(), PREFIXES.len());
        for (text, _) in PREFIXES {
            let net: IpNet = text.parse().unwrap();
            assert_eq!(net, net.trunc(), "{text}");
        }
    }
}
