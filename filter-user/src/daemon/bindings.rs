//! Which MAC and IP addresses each container link may send from. Pure: policy, links, CNI results and peers in, bindings
//! out.
//!
//! Who says so, in this order: the policy; the CNI plugins' results; the addresses in the container's own network
//! namespace. What a container says itself is believed only as far as it takes nothing from anybody else.

mod believed;
mod claims;
pub(super) mod cni;
mod former;
mod link_local;
mod list;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::links::{Links, Mac, Peer, Peers};
use crate::policy::{Containers, StaticBinding};
use believed::Believed;
use claims::Claims;
use cni::{CniResult, CniResults};
pub(super) use former::Former;
use list::List;

/// Most MACs that one link may be bound to.
pub(super) const MAX_BOUND_MACS: usize = 4;

/// What a container link is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) origin: Origin,
    /// 1 to [`MAX_BOUND_MACS`].
    pub(super) macs: Vec<Mac>,
    /// At most [`crate::policy::MAX_BOUND_ADDRESSES`].
    pub(super) v4: Vec<Ipv4Net>,
    /// At most [`crate::policy::MAX_BOUND_ADDRESSES`].
    pub(super) v6: Vec<Ipv6Net>,
}

/// Who says what a link is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A binding in the policy.
    Policy,
    /// The result of the CNI plugins.
    Cni,
    /// The network namespace of the other end.
    Peer,
}

impl Origin {
    /// As status and metrics name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Cni => "cni",
            Self::Peer => "peer",
        }
    }
}

/// A container link's binding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Binding {
    /// `None`: not known.
    pub(super) bound: Option<Bound>,
    /// Why there is none, or which addresses were refused; for people.
    pub(super) remarks: Vec<String>,
}

impl Binding {
    fn none(reason: impl Into<String>) -> Self {
        Self {
            bound: None,
            remarks: vec![reason.into()],
        }
    }
}

/// What bindings follow from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources<'a> {
    pub(super) links: &'a Links,
    /// Container links by index, with the settings of the profile that judges each.
    pub(super) containers: &'a BTreeMap<u32, &'a Containers>,
    pub(super) cni: &'a CniResults,
    pub(super) peers: &'a Peers,
    /// The bindings so far: who has an address keeps it.
    pub(super) former: &'a Former,
}

/// The binding of each container link.
pub(super) fn bind(sources: Sources<'_>) -> BTreeMap<u32, Binding> {
    let mut binder = Binder::new(sources);
    let (mut written, mut results, mut learned) = (Vec::new(), Vec::new(), Vec::new());
    for (&ifindex, &containers) in sources.containers {
        let name = sources.links.name(ifindex);
        let of_link = |binding: &&StaticBinding| binding.interface == name;
        if let Some(binding) = containers.bindings.iter().find(of_link) {
            binder.reserve(ifindex, binding);
            written.push((ifindex, binding));
        } else if !containers.auto {
            let reason = "the policy has no binding for it, and `bindings` is \"static\"";
            binder.bindings.insert(ifindex, Binding::none(reason));
        } else if let Some(result) = sources.cni.get(&name) {
            results.push((ifindex, result));
        } else {
            learned.push(ifindex);
        }
    }
    // better sources before worse ones; of the same kind first what a link had before, then what is new
    written.sort_by_key(|(_, binding)| binding.mac.is_none());
    results.sort_by_key(|(_, result)| result.macs.is_empty());
    let named = written.partition_point(|(_, binding)| binding.mac.is_some());
    for &(ifindex, binding) in &written[..named] {
        binder.bind_written(ifindex, binding);
    }
    for &(ifindex, result) in &results {
        binder.keep(ifindex, &result.addresses);
        binder.keep_macs(ifindex, &result.macs);
    }
    let complete = results.partition_point(|(_, result)| !result.macs.is_empty());
    for &(ifindex, result) in &results[..complete] {
        binder.bind_result(ifindex, result);
    }
    // from here on MACs are the peers' own word
    let nameless = written[named..].iter().map(|(ifindex, _)| *ifindex);
    let results = &results[complete..];
    let of_results = results.iter().map(|(ifindex, _)| *ifindex);
    for ifindex in nameless.chain(of_results).chain(learned.iter().copied()) {
        if let Ok(mac) = binder.peer_mac(ifindex) {
            binder.keep_macs(ifindex, &[mac]);
        }
    }
    for &(ifindex, binding) in &written[named..] {
        binder.bind_written(ifindex, binding);
    }
    for &(ifindex, result) in results {
        binder.bind_result(ifindex, result);
    }
    for &ifindex in &learned {
        if let Ok(peer) = binder.peer(ifindex) {
            binder.keep(ifindex, &binder.believed(ifindex, peer));
        }
    }
    for ifindex in learned {
        binder.bind_learned(ifindex);
    }
    binder.bindings
}

/// Why a peer's word does not count.
enum Unheard {
    Unknown(String),
    /// The bridge's name and that of its other port.
    Uplink(String, String),
}

impl std::fmt::Display for Unheard {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(reason) => out.write_str(reason),
            Self::Uplink(bridge, port) => {
                write!(out, "its bridge {bridge} has another port, {port}")
            }
        }
    }
}

/// Most addresses of one peer that are looked at: a container may set as many as it likes.
const MAX_LOOKED_AT: usize = 256;

struct Binder<'a> {
    sources: Sources<'a>,
    claims: Claims<'a>,
    /// Bridges with a port that no container profile judges, and that port: whoever is behind it has addresses that
    /// nobody here knows.
    uplinks: BTreeMap<u32, u32>,
    bindings: BTreeMap<u32, Binding>,
}

impl<'a> Binder<'a> {
    fn new(sources: Sources<'a>) -> Self {
        let ports = sources.links.details.keys().rev();
        let foreign = ports.filter(|port| !sources.containers.contains_key(port));
        Self {
            sources,
            claims: Claims::new(sources.links),
            uplinks: foreign
                .filter_map(|port| Some((sources.links.bridge(*port)?, *port)))
                .collect(),
            bindings: BTreeMap::new(),
        }
    }

    /// The other end, if its word counts.
    fn peer(&self, ifindex: u32) -> Result<&'a Peer, Unheard> {
        let links = self.sources.links;
        if let Some(bridge) = links.bridge(ifindex)
            && let Some(port) = self.uplinks.get(&bridge)
        {
            return Err(Unheard::Uplink(links.name(bridge), links.name(*port)));
        }
        match self.sources.peers.get(&ifindex) {
            Some(Ok(peer)) => Ok(peer),
            Some(Err(reason)) => Err(Unheard::Unknown(reason.clone())),
            None => Err(Unheard::Unknown(
                "its other end was not looked at yet".to_owned(),
            )),
        }
    }

    fn peer_mac(&self, ifindex: u32) -> Result<Mac, String> {
        let peer = self.peer(ifindex).map_err(|reason| reason.to_string())?;
        peer.mac
            .ok_or_else(|| "its other end has none either".to_owned())
    }

    fn keep(&mut self, ifindex: u32, addresses: &[IpAddr]) {
        self.claims.keep(ifindex, addresses, self.sources.former);
    }

    fn keep_macs(&mut self, ifindex: u32, macs: &[Mac]) {
        self.claims.keep_macs(ifindex, macs, self.sources.former);
    }

    /// What a link had before comes first: so there is room for it.
    fn in_order(&self, ifindex: u32, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let former = self.sources.former.get(self.sources.links, ifindex);
        let mut addresses = addresses.to_vec();
        addresses.sort_by_key(|ip| (!claims::had(former, *ip), !is_link_local(*ip)));
        addresses
    }

    /// What is believed of a peer's addresses.
    fn believed(&self, ifindex: u32, peer: &Peer) -> Vec<IpAddr> {
        let believed = Believed::new(self.sources.links, ifindex, peer.here);
        let mut addresses = self.in_order(ifindex, &peer.addresses);
        addresses.truncate(MAX_LOOKED_AT);
        addresses.retain(|ip| believed.judge(*ip).is_ok());
        addresses
    }

    /// What the policy says of addresses and MACs is beyond dispute.
    fn reserve(&mut self, ifindex: u32, binding: &StaticBinding) {
        for net in nets(binding) {
            self.claims.reserve(ifindex, net);
        }
        if let Some(mac) = binding.mac {
            self.claims.reserve_mac(ifindex, mac);
        }
    }

    fn bind_written(&mut self, ifindex: u32, binding: &StaticBinding) {
        let mut list = List::new(Origin::Policy, ifindex);
        if let Some(mac) = binding.mac {
            list.write_mac(mac);
        } else {
            let learned = self.peer_mac(ifindex);
            let taken = learned.and_then(|mac| {
                let taken = self.claims.take_mac(ifindex, mac);
                taken.map(|()| list.write_mac(mac))
            });
            if let Err(reason) = taken {
                list.remark(format!(
                    "its binding in the policy has no `mac`, and {reason}"
                ));
            }
        }
        for net in nets(binding) {
            list.write(net);
        }
        self.finish(ifindex, list);
    }

    fn bind_result(&mut self, ifindex: u32, result: &CniResult) {
        let mut list = List::new(Origin::Cni, ifindex);
        for mac in &result.macs {
            list.take_mac(&mut self.claims, *mac);
        }
        if result.macs.is_empty() {
            // some plugins (Calico's) name no interface in the container
            match self.peer_mac(ifindex) {
                Ok(mac) => list.take_mac(&mut self.claims, mac),
                Err(reason) => list.remark(format!("the CNI result has no MAC, and {reason}")),
            }
        }
        let believed = Believed::new(self.sources.links, ifindex, false);
        for ip in self.in_order(ifindex, &result.addresses) {
            match believed.judge_any(ip) {
                Ok(()) => list.take(&mut self.claims, ip),
                Err(reason) => list.remark(reason),
            }
        }
        self.finish(ifindex, list);
    }

    fn bind_learned(&mut self, ifindex: u32) {
        let binding = match self.peer(ifindex) {
            Ok(peer) => self.learn(ifindex, peer),
            Err(reason @ Unheard::Uplink(..)) => {
                Binding::none(format!("{reason}: write a `binding` for it"))
            }
            Err(reason) => Binding::none(format!(
                "no CNI result, and {reason}; write a `binding` for it"
            )),
        };
        self.bindings.insert(ifindex, binding);
    }

    fn learn(&mut self, ifindex: u32, peer: &Peer) -> Binding {
        let mut list = List::new(Origin::Peer, ifindex);
        let Some(mac) = peer.mac else {
            list.remark("its other end has no MAC".to_owned());
            return list.give_up(&mut self.claims);
        };
        list.take_mac(&mut self.claims, mac);
        if peer.addresses.is_empty() {
            list.remark("its other end has no address yet".to_owned());
        }
        let believed = Believed::new(self.sources.links, ifindex, peer.here);
        let addresses = self.in_order(ifindex, &peer.addresses);
        list.left_out(addresses.len().saturating_sub(MAX_LOOKED_AT));
        for ip in addresses.into_iter().take(MAX_LOOKED_AT) {
            match believed.judge(ip) {
                Ok(()) => list.take(&mut self.claims, ip),
                Err(reason) => list.remark(reason),
            }
        }
        if list.has_addresses() {
            list.finish(&mut self.claims)
        } else {
            list.give_up(&mut self.claims)
        }
    }

    /// With the link-local addresses of its MACs, but not if those are the host's own.
    fn finish(&mut self, ifindex: u32, mut list: List) {
        let believed = Believed::new(self.sources.links, ifindex, false);
        list.take_link_local(&mut self.claims, |ip| believed.judge_any(ip).is_ok());
        let binding = list.finish(&mut self.claims);
        self.bindings.insert(ifindex, binding);
    }
}

fn nets(binding: &StaticBinding) -> impl Iterator<Item = IpNet> {
    let v4 = binding.v4.iter().map(|net| IpNet::V4(*net));
    v4.chain(binding.v6.iter().map(|net| IpNet::V6(*net)))
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}
