//! Which addresses are believed: a container may have set those in its namespace itself. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

use super::is_link_local;
use crate::daemon::links::Links;

/// Which addresses are believed to be those behind a link.
pub(super) struct Believed<'a> {
    links: &'a Links,
    ifindex: u32,
    /// The link and its bridge.
    segment: Vec<u32>,
    /// The other end is an interface of the host, with addresses of the host.
    here: bool,
    connected: Vec<IpNet>,
}

impl<'a> Believed<'a> {
    pub(super) fn new(links: &'a Links, ifindex: u32, here: bool) -> Self {
        let segment: Vec<u32> = [Some(ifindex), links.bridge(ifindex)]
            .into_iter()
            .flatten()
            .collect();
        let connected = segment
            .iter()
            .filter_map(|ifindex| links.details.get(ifindex))
            .flat_map(|link| link.prefixes.iter().copied())
            // everything is no network
            .filter(|net| net.prefix_len() > 0)
            .collect();
        Self {
            links,
            ifindex,
            segment,
            here,
            connected,
        }
    }

    /// Whether an address may be anybody's but the host's and its routers', whoever says so; or why not.
    pub(super) fn judge_any(&self, ip: IpAddr) -> Result<(), String> {
        if is_link_local(ip) {
            // means something on its own link only
            let taken = self.segment.iter().any(|ifindex| {
                let link = self.links.details.get(ifindex);
                link.is_some_and(|link| link.addresses.contains(&ip))
            });
            if taken {
                return Err(format!("{ip} refused: the host's own on this link"));
            }
        } else if self.is_own(ip) {
            return if self.here {
                Ok(())
            } else {
                Err(format!("{ip} refused: the host's own"))
            };
        }
        if self.links.gateways.contains(&ip) {
            return Err(format!(
                "{ip} refused: a route of the host names it as gateway; write a `binding` for it"
            ));
        }
        Ok(())
    }

    /// Whether an address is believed that stands in the peer's namespace, or why not.
    pub(super) fn judge(&self, ip: IpAddr) -> Result<(), String> {
        let broadcast = match ip {
            IpAddr::V4(ip) => ip.is_broadcast() || self.links.facts.broadcast.contains(&ip),
            IpAddr::V6(ip) => ip.to_ipv4_mapped().is_some(),
        };
        let all = self.connected.iter().any(|net| is_for_all(*net, ip));
        if ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || broadcast || all {
            return Err(format!("{ip} refused: not the address of a host"));
        }
        self.judge_any(ip)?;
        if is_link_local(ip) || self.connected.iter().any(|net| net.contains(&ip)) {
            return Ok(());
        }
        if !self.connected.is_empty() {
            return Err(format!(
                "{ip} refused: outside the networks of the link and its bridge; write a `binding` for it"
            ));
        }
        if self.here || self.links.leads_only_to(ip, self.ifindex) {
            return Ok(());
        }
        Err(format!(
            "{ip} refused: the link has no network, and no route of the host leads there by it; write a `binding` for it"
        ))
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.links.facts.own_v4.contains(&ip),
            IpAddr::V6(ip) => self.links.facts.own_v6.contains(&ip),
        }
    }
}

/// The first and last IPv4 address of a network, and IPv6's anycast address of its routers (RFC 4291, 2.6.1). Networks
/// of two have none (RFC 3021, RFC 6164).
fn is_for_all(net: IpNet, ip: IpAddr) -> bool {
    let two = net.max_prefix_len() - net.prefix_len() < 2;
    !two && (ip == net.network() || net.network().is_ipv4() && ip == net.broadcast())
}
