//! All routing tables: where each prefix leads out, and who is a gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteType, RouteVia,
};
use rtnetlink::{Error, Handle};

use crate::compile::Route;

/// The kernel's own table: addresses of the host, not routes (RT_TABLE_LOCAL).
const LOCAL: u32 = 255;

/// All that is read of the routes.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// In the order of [`merge`].
    pub(super) routes: Vec<Route>,
    /// Ordered.
    pub(super) gateways: Vec<IpAddr>,
}

/// Reads every table. Routes that differ only in what the reverse path does not look at come out as one.
pub(super) async fn dump(handle: &Handle) -> Result<Tables, Error> {
    let (mut routes, mut known) = (Vec::new(), BTreeSet::new());
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        let list = handle.route().get(request).execute();
        futures::pin_mut!(list);
        while let Some(message) = list.try_next().await? {
            known.extend(gateways(&message.attributes));
            routes.extend(read(&message));
        }
    }
    Ok(Tables {
        routes: merge(routes),
        gateways: known.into_iter().collect(),
    })
}

/// The next routers that a route or a next hop names; those of another version of IP stand in RTA_VIA.
pub(super) fn gateways(attributes: &[RouteAttribute]) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for attribute in attributes {
        match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(ip))
            | RouteAttribute::Via(RouteVia::Inet(ip)) => found.push(IpAddr::V4(*ip)),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip))
            | RouteAttribute::Via(RouteVia::Inet6(ip)) => found.push(IpAddr::V6(*ip)),
            RouteAttribute::MultiPath(hops) => {
                found.extend(hops.iter().flat_map(|hop| gateways(&hop.attributes)));
            }
            _ => {}
        }
    }
    // an interface, not a router
    found.retain(|ip| !ip.is_unspecified());
    found
}

/// The best route of each table to an address: the longest prefix, of those the lowest metric. `routes` are in the
/// order of [`merge`].
pub(super) fn best(routes: &[Route], ip: IpAddr) -> impl Iterator<Item = &Route> {
    let mut rest = routes;
    std::iter::from_fn(move || {
        let table = rest.first()?.table;
        let (here, others) = rest.split_at(rest.partition_point(|route| route.table == table));
        rest = others;
        Some(longest(here, ip))
    })
    .flatten()
}

fn longest(table: &[Route], ip: IpAddr) -> Option<&Route> {
    let host = IpNet::from(ip);
    (0..=host.max_prefix_len()).rev().find_map(|length| {
        let prefix = IpNet::new(ip, length).ok()?.trunc();
        let at = table.partition_point(|route| route.prefix < prefix);
        table.get(at).filter(|route| route.prefix == prefix)
    })
}

/// `None` for what is no route, or is one that the kernel passes over.
pub(super) fn read(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let mut route = Route {
        table: header.table.into(),
        prefix: default_prefix(header.address_family)?,
        metric: 0,
        interfaces: Vec::new(),
        any: false,
    };
    let (mut hops, mut alive) = (0, Vec::new());
    let mut hop = |ifindex: u32, dead: bool| {
        hops += 1;
        if !dead && ifindex != 0 {
            alive.push(ifindex);
        }
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Destination(address) => {
                let address = match address {
                    RouteAddress::Inet(ip) => IpAddr::V4(*ip),
                    RouteAddress::Inet6(ip) => IpAddr::V6(*ip),
                    _ => return None,
                };
                route.prefix = IpNet::new(address, header.destination_prefix_length)
                    .ok()?
                    .trunc();
            }
            RouteAttribute::Oif(ifindex) => hop(*ifindex, header.flags.contains(RouteFlags::Dead)),
            RouteAttribute::MultiPath(list) => {
                for next in list {
                    let dead = next.flags.contains(RouteNextHopFlags::Dead);
                    hop(next.interface_index, dead);
                }
            }
            _ => {}
        }
    }
    if route.table == LOCAL || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    match header.kind {
        RouteType::Unicast if hops == 0 => {
            // a next-hop object, and net.ipv4.nexthop_compat_mode is 0: else the object's interfaces are there too.
            // Where a route leads that we cannot tell must not make sources unreachable
            route.any = true;
            Some(route)
        }
        // all next hops dead: the kernel takes the next best route
        RouteType::Unicast if alive.is_empty() => None,
        RouteType::Unicast => {
            route.interfaces = alive;
            Some(route)
        }
        // these may name an interface (IPv6: `lo`), which is not where packets go
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => Some(route),
        _ => None,
    }
}

fn default_prefix(family: AddressFamily) -> Option<IpNet> {
    let unspecified = match family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    IpNet::new(unspecified, 0).ok()
}

/// One route for each table, prefix and metric, in this order: a prefix such as a link's own IPv6 network may be there once for each
/// interface.
pub(super) fn merge(routes: Vec<Route>) -> Vec<Route> {
    let mut merged: BTreeMap<_, Route> = BTreeMap::new();
    for route in routes {
        let key = (route.table, route.prefix, route.metric);
        match merged.get_mut(&key) {
            Some(known) => {
                known.any |= route.any;
                known.interfaces.extend(route.interfaces);
            }
            None => {
                merged.insert(key, route);
            }
        }
    }
    merged
        .into_values()
        .map(|mut route| {
            super::sort(&mut route.interfaces);
            route
        })
        .collect()
}
