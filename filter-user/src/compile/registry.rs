//! Which sources cannot be: IANA's IPv4 and IPv6 Special-Purpose Address Registries, both as last updated on 2025-10-09,
//! and what the address architecture says beside them. Owns only the table; must never know interfaces or policies.
//!
//! The registries' column `Source` says whether an address may be the source of a packet that passes two devices. It
//! does not say whose packets those are, so [`Scope`] is our reading of each row's RFC: the comments say where it
//! differs from the columns. Addresses without a row of their own follow the longest prefix that covers them.

/// Who can have sent a packet from an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Anybody: never a martian.
    Global,
    /// Somebody of the same network: a martian on an interface that faces the internet.
    Private,
    /// A neighbour on the link: never a martian, and needed there.
    LinkLocal,
    /// A host that has no address yet: a martian but for the protocols that give it one.
    Unspecified,
    /// Nobody: always a martian.
    Never,
}

/// One prefix of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// In CIDR notation as the registry writes it, host bits zero.
    pub prefix: &'static str,
    /// The registry's name for it.
    pub name: &'static str,
    /// The document that says so, `RFC 1918`; several with a comma between them.
    pub rfc: &'static str,
    /// Who can have sent from it.
    pub scope: Scope,
}

const fn row(prefix: &'static str, scope: Scope, rfc: &'static str, name: &'static str) -> Row {
    Row {
        prefix,
        name,
        rfc,
        scope,
    }
}

use Scope::{Global, LinkLocal, Never, Private, Unspecified};

/// IPv4, by address, then by length; the longest prefix wins and the first row covers the rest.
#[rustfmt::skip]
pub const V4: &[Row] = &[
    row("0.0.0.0/0", Global, "RFC 791", "Unicast"),
    row("0.0.0.0/8", Never, "RFC 791", "\"This network\""),
    row("0.0.0.0/32", Unspecified, "RFC 1122", "\"This host on this network\""),
    row("10.0.0.0/8", Private, "RFC 1918", "Private-Use"),
    row("100.64.0.0/10", Private, "RFC 6598", "Shared Address Space"),
    row("127.0.0.0/8", Never, "RFC 1122", "Loopback"),
    row("169.254.0.0/16", Private, "RFC 3927", "Link Local"),
    row("172.16.0.0/12", Private, "RFC 1918", "Private-Use"),
    row("192.0.0.0/24", Never, "RFC 6890", "IETF Protocol Assignments"),
    // Between a DS-Lite B4 or a 464XLAT CLAT and what stands behind it or ends its tunnel: inside a provider's network.
    row("192.0.0.0/29", Private, "RFC 7335", "IPv4 Service Continuity Prefix"),
    // Routers that have no IPv4 address send ICMP errors from it (Linux does: INADDR_DUMMY, net/ipv4/icmp.c), and
    // "fragmentation needed" may come from any of them, however far. Nothing can answer it, so it is of no use to hide.
    row("192.0.0.8/32", Global, "RFC 7600", "IPv4 dummy address"),
    row("192.0.0.9/32", Global, "RFC 7723", "Port Control Protocol Anycast"),
    row("192.0.0.10/32", Global, "RFC 8155", "Traversal Using Relays around NAT Anycast"),
    row("192.0.0.170/32", Never, "RFC 8880, RFC 7050", "NAT64/DNS64 Discovery"),
    row("192.0.0.171/32", Never, "RFC 8880, RFC 7050", "NAT64/DNS64 Discovery"),
    row("192.0.2.0/24", Never, "RFC 5737", "Documentation (TEST-NET-1)"),
    row("192.31.196.0/24", Global, "RFC 7535", "AS112-v4"),
    row("192.52.193.0/24", Global, "RFC 7450", "AMT"),
    row("192.88.99.0/24", Never, "RFC 7526", "Deprecated (6to4 Relay Anycast)"),
    // A provider's relay answers its own customers from it.
    row("192.88.99.2/32", Private, "RFC 6751", "6a44-relay anycast address"),
    row("192.168.0.0/16", Private, "RFC 1918", "Private-Use"),
    row("192.175.48.0/24", Global, "RFC 7534", "Direct Delegation AS112 Service"),
    row("198.18.0.0/15", Never, "RFC 2544", "Benchmarking"),
    row("198.51.100.0/24", Never, "RFC 5737", "Documentation (TEST-NET-2)"),
    row("203.0.113.0/24", Never, "RFC 5737", "Documentation (TEST-NET-3)"),
    // IANA IPv4 Address Space: a multicast address is never a source (RFC 1112, section 7.2).
    row("224.0.0.0/4", Never, "RFC 5771, RFC 1112", "Multicast"),
    row("240.0.0.0/4", Never, "RFC 1112", "Reserved"),
    row("255.255.255.255/32", Never, "RFC 8190, RFC 919", "Limited Broadcast"),
];

/// IPv6, by address, then by length; the longest prefix wins and the first row covers the rest.
#[rustfmt::skip]
pub const V6: &[Row] = &[
    // IANA IPv6 Address Space: what is neither 2000::/3 nor has a row here is reserved by the IETF.
    row("::/0", Never, "RFC 4291", "Unassigned"),
    row("::/96", Never, "RFC 4291", "IPv4-Compatible (deprecated)"),
    row("::/128", Unspecified, "RFC 4291", "Unspecified Address"),
    row("::1/128", Never, "RFC 4291", "Loopback Address"),
    row("::ffff:0:0/96", Never, "RFC 4291", "IPv4-mapped Address"),
    row("64:ff9b::/96", Global, "RFC 6052", "IPv4-IPv6 Translat."),
    row("64:ff9b:1::/48", Private, "RFC 8215", "IPv4-IPv6 Translat."),
    // `Source` is true, but what is sent to it is discarded: nobody there can want an answer.
    row("100::/64", Never, "RFC 6666", "Discard-Only Address Block"),
    // `Source` is true, but only inside an MPLS path: BFD, which ends before IP is looked at.
    row("100:0:0:1::/64", Never, "RFC 9780", "Dummy IPv6 Prefix"),
    row("2000::/3", Global, "RFC 4291", "Global Unicast"),
    row("2001::/23", Never, "RFC 2928", "IETF Protocol Assignments"),
    row("2001::/32", Global, "RFC 4380, RFC 8190", "TEREDO"),
    row("2001:1::1/128", Global, "RFC 7723", "Port Control Protocol Anycast"),
    row("2001:1::2/128", Global, "RFC 8155", "Traversal Using Relays around NAT Anycast"),
    row("2001:1::3/128", Global, "RFC 9665", "DNS-SD Service Registration Protocol Anycast"),
    row("2001:2::/48", Never, "RFC 5180", "Benchmarking"),
    row("2001:3::/32", Global, "RFC 7450", "AMT"),
    row("2001:4:112::/48", Global, "RFC 7535", "AS112-v6"),
    row("2001:10::/28", Never, "RFC 4843", "Deprecated (previously ORCHID)"),
    // RFC 7343, section 4: that ORCHIDs are not routed is for the policy to say, not for code.
    row("2001:20::/28", Global, "RFC 7343", "ORCHIDv2"),
    row("2001:30::/28", Global, "RFC 9374", "Drone Remote ID Protocol Entity Tags (DETs) Prefix"),
    row("2001:db8::/32", Never, "RFC 3849", "Documentation"),
    // `Source` is true. Without the anycast relays (RFC 7526) 6to4 has no working way back from a native host, and
    // what still carries such a source is mostly forged: `legitimate` lets it in where 6to4 is used on purpose.
    row("2002::/16", Never, "RFC 3056, RFC 7526", "6to4"),
    row("2620:4f:8000::/48", Global, "RFC 7534", "Direct Delegation AS112 Service"),
    row("3fff::/20", Never, "RFC 9637", "Documentation"),
    row("5f00::/16", Private, "RFC 9602", "Segment Routing (SRv6) SIDs"),
    row("fc00::/7", Private, "RFC 4193, RFC 8190", "Unique-Local"),
    row("fe80::/10", LinkLocal, "RFC 4291", "Link-Local Unicast"),
    row("fec0::/10", Never, "RFC 3879", "Site-Local (deprecated)"),
    // IANA IPv6 Address Space: a multicast address is never a source (RFC 4291, section 2.7).
    row("ff00::/8", Never, "RFC 4291", "Multicast"),
];

/// The name under which packets from a row are counted: `martian:192.0.2.0/24`.
#[must_use]
pub fn row_id(row: &Row) -> String {
    format!("martian:{}", row.prefix)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::IpAddr;

    use ipnet::IpNet;

    use super::*;

    /// Longest name of a rule (filter-common keeps room for no more).
    const ID_BYTES: usize = 63;

    fn net(row: &Row) -> IpNet {
        row.prefix.parse().unwrap()
    }

    fn tables() -> [&'static [Row]; 2] {
        [V4, V6]
    }

    /// What covers a row most closely.
    fn cover(table: &'static [Row], row: &Row) -> Option<&'static Row> {
        let inner = net(row);
        table
            .iter()
            .filter(|outer| outer.prefix != row.prefix && net(outer).contains(&inner))
            .max_by_key(|outer| net(outer).prefix_len())
    }

    fn scope(address: &str) -> Scope {
        let address: IpAddr = address.parse().unwrap();
        let table = if address.is_ipv4() { V4 } else { V6 };
        table
            .iter()
            .filter(|row| net(row).contains(&address))
            .max_by_key(|row| net(row).prefix_len())
            .unwrap()
            .scope
    }

    #[test]
    fn rows_are_prefixes_without_host_bits() {
        for (table, v4) in tables().into_iter().zip([true, false]) {
            for row in table {
                let net = net(row);
                assert_eq!(net, net.trunc(), "{}", row.prefix);
                assert_eq!(net.addr().is_ipv4(), v4, "{}", row.prefix);
            }
        }
    }

    #[test]
    fn rows_are_sorted_and_distinct_and_the_first_covers_all() {
        for table in tables() {
            assert_eq!(net(&table[0]).prefix_len(), 0);
            for pair in table.windows(2) {
                let key = |row| (net(row).network(), net(row).prefix_len());
                assert!(key(&pair[0]) < key(&pair[1]), "{pair:?}");
            }
        }
    }

    #[test]
    fn a_more_specific_row_says_something_else_than_its_cover() {
        for table in tables() {
            for row in &table[1..] {
                let cover = cover(table, row).unwrap();
                assert!(
                    cover.scope != row.scope || cover.name != row.name,
                    "{} adds nothing to {}",
                    row.prefix,
                    cover.prefix
                );
            }
        }
    }

    #[test]
    fn row_ids_fit_and_are_no_rule_ids() {
        let mut seen = HashSet::new();
        for row in tables().concat() {
            let id = row_id(&row);
            assert!(id.len() <= ID_BYTES, "{id}");
            assert!(id.contains(':'), "{id} could be a rule's");
            assert!(seen.insert(id.clone()), "{id} twice");
        }
    }

    #[test]
    fn every_row_names_its_documents() {
        for row in tables().concat() {
            assert!(!row.name.is_empty());
            for rfc in row.rfc.split(", ") {
                let number = rfc.strip_prefix("RFC ").and_then(|n| n.parse::<u16>().ok());
                assert!(number.is_some(), "{}: {}", row.prefix, row.rfc);
            }
        }
    }

    #[test]
    fn all_rows_of_the_registries_are_there() {
        // 25 and 25 rows in the registries, one of which names two addresses. Ours beside them: the two first rows,
        // 224.0.0.0/4; ::/96, 2000::/3, fec0::/10, ff00::/8.
        assert_eq!(V4.len(), 25 + 1 + 2);
        assert_eq!(V6.len(), 25 + 5);
    }

    #[test]
    fn the_longest_prefix_decides() {
        for (address, expected) in [
            ("8.8.8.8", Global),
            ("0.0.0.0", Unspecified),
            ("0.0.0.1", Never),
            ("192.0.0.7", Private),
            ("192.0.0.8", Global),
            ("192.0.0.11", Never),
            ("192.88.99.1", Never),
            ("192.88.99.2", Private),
            ("239.255.255.255", Never),
            ("255.255.255.255", Never),
            ("::", Unspecified),
            ("::1", Never),
            ("::192.0.2.1", Never),
            ("64:ff9b::c000:201", Global),
            ("64:ff9b:1::1", Private),
            ("64:ff9b:2::1", Never),
            ("100:0:0:2::1", Never),
            ("2001::1", Global),
            ("2001:1::4", Never),
            ("2001:1ff::1", Never),
            ("2001:200::1", Global),
            ("2002:c000:201::1", Never),
            ("2606:4700::1111", Global),
            ("4000::1", Never),
            ("fdff::1", Private),
            ("fe80::1", LinkLocal),
            ("fec0::1", Never),
            ("ff02::1", Never),
        ] {
            assert_eq!(scope(address), expected, "{address}");
        }
    }
}
