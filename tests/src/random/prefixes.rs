//! Owns random prefixes: new ones, and ones inside, around and beside others.
//! Must never know what a prefix is for.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::dice::Dice;

/// Prefixes grow out of these addresses.
const SEEDS: [&str; 15] = [
    "203.0.113.9",
    "203.0.113.128",
    "198.51.100.0",
    "10.1.2.3",
    "223.255.255.255",
    "127.255.0.0",
    "2001:db8:9::9",
    "2001:db8:9:8000::",
    "2001:db8:a::",
    "fe80::1",
    "fd00::1:0",
    "2001:db8:8:ffff::",
    "9.9.9.9",
    "2620:fe::9",
    "::",
];

/// Between one and `most` of the nets, none twice.
pub fn distinct(dice: &mut Dice, nets: &[IpNet], most: usize) -> Vec<IpNet> {
    let mut list: Vec<IpNet> = Vec::new();
    for _ in 0..dice.within(1..=most) {
        let net = dice.pick(nets);
        if !list.contains(&net) {
            list.push(net);
        }
    }
    list
}

/// A prefix: new, or inside, around or beside one there is.
pub fn net(dice: &mut Dice, others: &[IpNet]) -> IpNet {
    if others.is_empty() || dice.percent(40) {
        let address = SEEDS[dice.below(SEEDS.len())]
            .parse()
            .unwrap_or(IpAddr::from([203, 0, 113, 9]));
        return around(dice, address);
    }
    let other = dice.pick(others);
    match dice.below(3) {
        0 => with_length(
            last(other),
            other.prefix_len().saturating_add(dice.pick(&[1, 2, 8])),
        ),
        1 => other.supernet().unwrap_or(other),
        _ => beside(other),
    }
}

/// A prefix that holds the address.
pub fn around(dice: &mut Dice, address: IpAddr) -> IpNet {
    let length = match address {
        IpAddr::V4(_) => dice.pick(&[8, 12, 16, 20, 22, 23, 24, 25, 27, 29, 30, 31, 32, 32]),
        IpAddr::V6(_) => dice.pick(&[16, 32, 47, 48, 49, 56, 63, 64, 65, 96, 120, 127, 128, 128]),
    };
    with_length(address, length)
}

fn last(net: IpNet) -> IpAddr {
    net.broadcast()
}

fn with_length(address: IpAddr, length: u8) -> IpNet {
    match address {
        IpAddr::V4(v4) => {
            Ipv4Net::new(v4, length.min(32)).map_or(address.into(), |net| net.trunc().into())
        }
        IpAddr::V6(v6) => {
            Ipv6Net::new(v6, length.min(128)).map_or(address.into(), |net| net.trunc().into())
        }
    }
}

/// The neighbour of the same size.
pub fn beside(net: IpNet) -> IpNet {
    let next = match last(net) {
        IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).wrapping_add(1).into()),
        IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).wrapping_add(1).into()),
    };
    with_length(next, net.prefix_len())
}
