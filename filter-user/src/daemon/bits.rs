//! Bindings as the program reads them, and back. Pure.

use filter_common::layout::{Binding as Bits, binding};
use ipnet::{Ipv4Net, Ipv6Net};

use super::bindings::{Bound, Origin};
use super::links::Mac;
use crate::dataplane::UNBOUND;

pub(super) fn write(bound: &Bound) -> Bits {
    let mut bits = Bits {
        known: binding::KNOWN,
        macs: macs(&bound.macs),
        ..UNBOUND
    };
    for (entry, net) in bits.v4.iter_mut().zip(&bound.v4) {
        *entry = v4(*net);
    }
    for (entry, net) in bits.v6.iter_mut().zip(&bound.v6) {
        *entry = v6(*net);
    }
    bits
}

/// What was written, but for who said so. `None` where nothing was known.
pub(super) fn read(bits: &Bits) -> Option<Bound> {
    if bits.known != binding::KNOWN {
        return None;
    }
    let of_mac = |bits: &u64| {
        let [_, _, mac @ ..] = bits.to_be_bytes();
        (*bits != binding::NO_MAC).then_some(mac)
    };
    // an entry that is not used has a mask of zero, and matches nothing
    let of_v4 = |[network, mask]: &[u32; 2]| {
        let net = Ipv4Net::with_netmask((*network).into(), (*mask).into()).ok()?;
        (net.trunc() == net).then_some(net)
    };
    let of_v6 = |[high, low, mask_high, mask_low]: &[u64; 4]| {
        let whole = |high: &u64, low: &u64| (u128::from(*high) << 64 | u128::from(*low)).into();
        let net = Ipv6Net::with_netmask(whole(high, low), whole(mask_high, mask_low)).ok()?;
        (net.trunc() == net).then_some(net)
    };
    Some(Bound {
        origin: Origin::Peer,
        macs: bits.macs.iter().filter_map(of_mac).collect(),
        v4: bits.v4.iter().filter_map(of_v4).collect(),
        v6: bits.v6.iter().filter_map(of_v6).collect(),
    })
}

pub(super) fn macs<const N: usize>(macs: &[Mac]) -> [u64; N] {
    let mut bits = [binding::NO_MAC; N];
    for (entry, mac) in bits.iter_mut().zip(macs) {
        *entry = mac
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte));
    }
    bits
}

fn v4(net: Ipv4Net) -> [u32; 2] {
    [net.network().to_bits(), net.netmask().to_bits()]
}

fn v6(net: Ipv6Net) -> [u64; 4] {
    let (network, mask) = (net.network().to_bits(), net.netmask().to_bits());
    [
        (network >> 64) as u64,
        network as u64,
        (mask >> 64) as u64,
        mask as u64,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let bound = Bound {
            origin: Origin::Peer,
            macs: vec![[2, 0, 0, 0, 0, 5], [0xfe, 1, 2, 3, 4, 6]],
            v4: ["10.22.0.5/32", "10.22.0.16/28", "0.0.0.0/0"]
                .map(|text| text.parse().expect("a prefix"))
                .to_vec(),
            v6: ["2001:db8::5/128", "fd00:1::/64", "fe80::ff:fe00:5/128"]
                .map(|text| text.parse().expect("a prefix"))
                .to_vec(),
        };
        assert_eq!(read(&write(&bound)), Some(bound));
        assert_eq!(read(&UNBOUND), None);
        let open = Bits {
            known: binding::OPEN,
            ..UNBOUND
        };
        assert_eq!(read(&open), None);
    }
}
