//! What follows from how links hang together: which networks are inside, which output interfaces count as one, which
//! MACs the host sends with. Pure.

use std::collections::{BTreeMap, BTreeSet};

use filter_common::limits::BOUND_MACS;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::bindings::{Bound, Origin};
use super::links::{Kind, Links, Mac};
use crate::dataplane::Side;

/// Most MACs of the host that one interface may send with.
pub(super) const MAX_HOST_MACS: usize = BOUND_MACS;

/// Prefixes that are never a source from outside: the networks of containers, and what container links are bound to.
/// `sides` holds the interfaces that a profile judges, `bound` the bindings by link.
pub(super) fn inside<'a>(
    links: &Links,
    sides: &BTreeMap<u32, Side>,
    bound: impl IntoIterator<Item = (u32, &'a Bound)>,
) -> (Vec<Ipv4Net>, Vec<Ipv6Net>) {
    let outer = outer(links, sides);
    let (mut inner, mut outside) = (Vec::new(), Vec::new());
    for (ifindex, link) in &links.details {
        if outer.contains(ifindex) {
            outside.extend_from_slice(&link.prefixes);
        } else if is_inner(links, sides, *ifindex) {
            inner.extend_from_slice(&link.prefixes);
        }
    }
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    let mut add = |net: IpNet| match net {
        IpNet::V4(net) => v4.push(net),
        IpNet::V6(net) => v6.push(net),
    };
    for net in inner {
        without(net, &outside).into_iter().for_each(&mut add);
    }
    for (ifindex, bound) in bound {
        let all = bound.v4.iter().map(|net| IpNet::V4(*net));
        for net in all.chain(bound.v6.iter().map(|net| IpNet::V6(*net))) {
            let link_local = matches!(net, IpNet::V6(net) if net.network().is_unicast_link_local());
            // a container may give itself an address: its word alone makes nobody else's traffic forged
            let hearsay = bound.origin == Origin::Peer && !links.leads_only_to(net.addr(), ifindex);
            // a container that may send as anybody is a router, not where everybody is
            if net.prefix_len() > 0 && !link_local && !hearsay {
                add(net);
            }
        }
    }
    (Ipv4Net::aggregate(&v4), Ipv6Net::aggregate(&v6))
}

/// Interfaces that other profiles judge, and those that share their wire: the bridge or bond they are ports of, and
/// what is stacked on them.
fn outer(links: &Links, sides: &BTreeMap<u32, Side>) -> BTreeSet<u32> {
    sides
        .iter()
        .filter(|(_, side)| **side == Side::Outer)
        .flat_map(|(ifindex, _)| above(links, *ifindex))
        .filter(|ifindex| sides.get(ifindex) != Some(&Side::Container))
        .collect()
}

fn is_inner(links: &Links, sides: &BTreeMap<u32, Side>, ifindex: u32) -> bool {
    let by_container = |ifindex: &u32| sides.get(ifindex) == Some(&Side::Container);
    let Some(link) = links.details.get(&ifindex) else {
        return false;
    };
    let has_container_port = || {
        let mut ports = links.details.iter();
        ports.any(|(port, link)| link.master == Some(ifindex) && by_container(port))
    };
    // a bridge without a profile is one of containers unless something else hangs on it, a network card say
    let only_pairs = || {
        let mut ports = links.details.values();
        ports.all(|link| link.master != Some(ifindex) || link.kind == Kind::Veth)
    };
    let without_profile = !sides.contains_key(&ifindex);
    by_container(&ifindex)
        || link.kind == Kind::Bridge && (has_container_port() || without_profile && only_pairs())
        || link.kind == Kind::Veth && without_profile
}

/// What is left of a network without others: nothing of it if it is one of them, smaller prefixes where one of them
/// lies within. A network that itself lies within another stays: the route to it is the longer one.
fn without(net: IpNet, others: &[IpNet]) -> Vec<IpNet> {
    if others.contains(&net) {
        return Vec::new();
    }
    if !others.iter().any(|other| net.contains(other)) {
        return vec![net];
    }
    match net.subnets(net.prefix_len() + 1) {
        Ok(halves) => halves.flat_map(|half| without(half, others)).collect(),
        Err(_) => Vec::new(),
    }
}

/// For each of these interfaces, the output interfaces that count as it, itself first.
pub(super) fn strict(links: &Links, interfaces: impl IntoIterator<Item = u32>) -> Vec<Vec<u32>> {
    interfaces
        .into_iter()
        .map(|ifindex| above(links, ifindex))
        .collect()
}

/// The MACs that the host sends with on an interface: its own, those of its masters, those of what is stacked on them.
pub(super) fn macs(links: &Links, ifindex: u32) -> Vec<Mac> {
    let mut macs = Vec::new();
    for ifindex in above(links, ifindex) {
        let mac = links.details.get(&ifindex).and_then(|link| link.mac);
        if let Some(mac) = mac.filter(|mac| !macs.contains(mac)) {
            macs.push(mac);
        }
    }
    macs.truncate(MAX_HOST_MACS);
    macs
}

/// An interface and all whose frames go through it: first itself and its masters, then what is stacked on those, and
/// so on. Other ports of a master are not among them.
fn above(links: &Links, ifindex: u32) -> Vec<u32> {
    let mut found = vec![ifindex];
    let add_masters = |found: &mut Vec<u32>| {
        let mut at = 0;
        while let Some(ifindex) = found.get(at) {
            let master = links.details.get(ifindex).and_then(|link| link.master);
            if let Some(master) = master.filter(|master| !found.contains(master)) {
                found.push(master);
            }
            at += 1;
        }
    };
    add_masters(&mut found);
    loop {
        let before = found.len();
        for (index, link) in &links.details {
            let stacked = link.lower.is_some_and(|lower| found.contains(&lower));
            if stacked && !found.contains(index) {
                found.push(*index);
            }
        }
        add_masters(&mut found);
        if found.len() == before {
            return found;
        }
    }
}

#[cfg(test)]
mod tests;
