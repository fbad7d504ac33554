//! The link-local address that a kernel makes of a MAC (modified EUI-64, RFC 4291 appendix A). Pure.

use std::net::Ipv6Addr;

use crate::daemon::links::Mac;

/// `fe80::` with the MAC, its universal bit turned over and `ff:fe` in the middle.
pub(super) fn eui64(mac: Mac) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0xfe, 0x80]);
    octets[8..11].copy_from_slice(&mac[..3]);
    octets[11..13].copy_from_slice(&[0xff, 0xfe]);
    octets[13..].copy_from_slice(&mac[3..]);
    octets[8] ^= 2;
    Ipv6Addr::from(octets)
}
