//! Who has which address: no two links get the same one. Pure.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::former::Former;
use super::{Bound, Mac, is_link_local};
use crate::daemon::links::Links;

/// Addresses and MACs that are given away.
pub(super) struct Claims<'a> {
    links: &'a Links,
    /// From the policy: by prefix, and beyond dispute.
    reserved: Vec<(IpNet, u32)>,
    /// Single addresses; those that mean something on one segment only, with that.
    taken: HashMap<(Option<u32>, IpAddr), u32>,
    macs: HashMap<(u32, Mac), u32>,
}

impl<'a> Claims<'a> {
    pub(super) fn new(links: &'a Links) -> Self {
        Self {
            links,
            reserved: Vec::new(),
            taken: HashMap::new(),
            macs: HashMap::new(),
        }
    }

    pub(super) fn reserve(&mut self, ifindex: u32, net: IpNet) {
        self.reserved.push((net, ifindex));
    }

    pub(super) fn reserve_mac(&mut self, ifindex: u32, mac: Mac) {
        self.macs
            .entry((self.segment(ifindex), mac))
            .or_insert(ifindex);
    }

    /// Takes, of the addresses that a link asks for now, those that it had before.
    pub(super) fn keep(&mut self, ifindex: u32, addresses: &[IpAddr], former: &Former) {
        for ip in addresses {
            if had(former.get(self.links, ifindex), *ip) {
                // a better source may have given it away
                let _ = self.take(ifindex, *ip);
            }
        }
    }

    /// As [`Claims::keep`], of MACs.
    pub(super) fn keep_macs(&mut self, ifindex: u32, macs: &[Mac], former: &Former) {
        let Some(bound) = former.get(self.links, ifindex) else {
            return;
        };
        for mac in macs.iter().filter(|mac| bound.macs.contains(mac)) {
            let _ = self.take_mac(ifindex, *mac);
        }
    }

    /// Gives back what a link took; what the policy reserved for it stays.
    pub(super) fn release(&mut self, ifindex: u32) {
        self.taken.retain(|_, holder| *holder != ifindex);
        self.macs.retain(|_, holder| *holder != ifindex);
    }

    /// Gives an address to a link, unless another one has it.
    pub(super) fn take(&mut self, ifindex: u32, ip: IpAddr) -> Result<(), String> {
        let segment = self.segment(ifindex);
        // a link-local address means something on one segment only
        let scope = is_link_local(ip).then_some(segment);
        let reserved = self.reserved.iter().find(|(net, other)| {
            *other != ifindex
                && net.contains(&ip)
                && scope.is_none_or(|scope| self.segment(*other) == scope)
        });
        let holder = match reserved {
            Some((_, other)) => *other,
            None => *self.taken.entry((scope, ip)).or_insert(ifindex),
        };
        if holder == ifindex {
            Ok(())
        } else {
            let holder = self.links.name(holder);
            Err(format!("{ip} refused: {holder} is bound to it"))
        }
    }

    /// Gives a MAC to a link, unless the bridge or another port of it has the same: frames for one would go to the
    /// other. A link that is no port has nobody to mix it up with.
    pub(super) fn take_mac(&mut self, ifindex: u32, mac: Mac) -> Result<(), String> {
        let text = text(mac);
        if mac[0] & 1 == 1 || mac == [0; 6] {
            return Err(format!("{text} refused: not the MAC of a host"));
        }
        let segment = self.segment(ifindex);
        if segment != ifindex {
            let mut devices = self.links.details.iter();
            let own = devices.find(|(index, link)| {
                (**index == segment || link.master == Some(segment)) && link.mac == Some(mac)
            });
            if let Some((index, _)) = own {
                let name = self.links.name(*index);
                return Err(format!("{text} refused: {name} of the host has it"));
            }
        }
        let holder = *self.macs.entry((segment, mac)).or_insert(ifindex);
        if holder == ifindex {
            Ok(())
        } else {
            let holder = self.links.name(holder);
            Err(format!("{text} refused: {holder} is bound to it"))
        }
    }

    /// What a link shares with others: its bridge, or nothing but itself.
    fn segment(&self, ifindex: u32) -> u32 {
        self.links.bridge(ifindex).unwrap_or(ifindex)
    }
}

/// Whether an address was among those of a former binding.
pub(super) fn had(former: Option<&Bound>, ip: IpAddr) -> bool {
    former.is_some_and(|bound| match IpNet::from(ip) {
        IpNet::V4(net) => bound.v4.contains(&net),
        IpNet::V6(net) => bound.v6.contains(&net),
    })
}

fn text(mac: Mac) -> String {
    let parts: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.join(":")
}
