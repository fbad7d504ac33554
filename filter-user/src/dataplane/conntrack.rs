//! Connections that exist already when the filter is switched on, so that it cuts none of them.
//!
//! Owns the look at the kernel's sockets and at its conntrack table, in the network namespace of
//! the calling thread, and the translation of both into flows as an outer wire sees them. It only
//! reads, never makes the kernel load conntrack where it is not in use, and decides nothing: what
//! becomes of a flow is up to the caller.

pub(crate) mod sockets;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

// Protocol numbers, IANA.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// What sort of exchange a flow is; decides its timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// TCP that is opening, open or half closed. Closed and lingering connections are not listed.
    Established,
    /// UDP.
    Udp,
    /// Echo (or timestamp) requests sent; `local_port` is their identifier, `remote_port` 0.
    IcmpEcho,
    /// Any other protocol; ports are 0 but for SCTP.
    Other,
}

/// A connection as it looks on the outer wire: after this host's source translation, before its
/// destination translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExistingFlow {
    /// This side's address. Unspecified (0.0.0.0 or ::) for a socket bound to every address.
    pub local: IpAddr,
    /// The other side; `None` for a socket that may hear from anyone (unconnected UDP, ping).
    pub remote: Option<IpAddr>,
    /// Port or ICMP identifier, in host byte order.
    pub local_port: u16,
    /// Port in host byte order; 0 without a remote.
    pub remote_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// The sort of exchange.
    pub kind: Kind,
    /// This side began it: by conntrack where it knows the connection; for sockets, no listening
    /// socket has the local port.
    pub outgoing: bool,
    /// Seconds until conntrack would forget it; `None` when only the socket is known. For TCP that
    /// is 300 while sent data waits for its acknowledgement, so it is no measure of a connection's
    /// life.
    pub remaining: Option<u32>,
}

/// A TCP connection of this network namespace, as its own socket knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// This side.
    pub local: SocketAddr,
    /// The other side.
    pub remote: SocketAddr,
    /// A listening socket has the local port, so the other side opened it.
    pub incoming: bool,
    /// Names it among the open files of its processes.
    pub inode: u32,
}

/// The TCP connections of the calling thread's network namespace.
///
/// # Errors
/// When the kernel lists its sockets neither by sock_diag nor in /proc.
pub fn tcp_sockets() -> anyhow::Result<Vec<TcpSocket>> {
    sockets::tcp_sockets()
}

/// Everything that is under way in the calling thread's network namespace, each flow once; flows of
/// addresses that `inside` knows also as they look on their container's link.
///
/// Flows with loopback, and between addresses of this host, are left out: they never arrive on a
/// wire. A forwarded connection that involves no address of this host cannot be told inside from
/// outside here, so it is listed from both ends.
///
/// # Errors
/// When the kernel refuses to list its sockets, or conntrack is in use and cannot be read, which
/// takes CAP_NET_ADMIN. Without conntrack the sockets alone are the answer.
pub fn established(inside: impl Fn(IpAddr) -> bool) -> anyhow::Result<Vec<ExistingFlow>> {
    let own = own_addresses().context("cannot list this host's addresses by rtnetlink")?;
    let mut flows = HashMap::new();
    // conntrack comes last: it knows who began a connection, sockets have to guess.
    let sockets = sockets::flows()?;
    let tracked = table::entries()?;
    for entry in &tracked {
        // these come first: where a connection looks the same outside, that view knows more
        for flow in table::on_container_links(entry, &inside) {
            flows.insert(key(&flow), flow);
        }
    }
    let tracked = tracked
        .iter()
        .flat_map(|entry| table::on_the_wire(entry, &own));
    for flow in sockets.into_iter().chain(tracked) {
        let to_itself = flow.remote.is_some_and(|remote| own.contains(&remote));
        if flow.local.is_loopback() || to_itself || flow.remote.is_some_and(|r| r.is_loopback()) {
            continue;
        }
        flows.insert(key(&flow), flow);
    }
    Ok(flows.into_values().collect())
}

fn key(flow: &ExistingFlow) -> (u8, IpAddr, u16, Option<IpAddr>, u16) {
    (
        flow.protocol,
        flow.local,
        flow.local_port,
        flow.remote,
        flow.remote_port,
    )
}

fn own_addresses() -> io::Result<HashSet<IpAddr>> {
    let mut own = HashSet::new();
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    dump(NETLINK_ROUTE, request, |answer| {
        if let RouteNetlinkMessage::NewAddress(message) = answer {
            let of = |wanted_local: bool| {
                message
                    .attributes
                    .iter()
                    .find_map(|attribute| match attribute {
                        AddressAttribute::Local(address) if wanted_local => Some(*address),
                        AddressAttribute::Address(address) if !wanted_local => Some(*address),
                        _ => None,
                    })
            };
            // On a point-to-point link `Address` is the other side's.
            own.extend(of(true).or_else(|| of(false)));
        }
    })?;
    Ok(own)
}

/// /proc/net would be the main thread's namespace.
fn proc_net(file: &str) -> PathBuf {
    Path::new("/proc/thread-self/net").join(file)
}

/// The interface that packets to `to` from this host's address `from` leave by, as the kernel's routes say.
///
/// # Errors
/// Without a route.
pub fn leaves_by(from: IpAddr, to: IpAddr) -> io::Result<Option<u32>> {
    let mut request = RouteMessage::default();
    let (family, bits) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    request.header.address_family = family;
    request.header.destination_prefix_length = bits;
    request.header.source_prefix_length = bits;
    request.attributes = vec![
        RouteAttribute::Destination(to.into()),
        RouteAttribute::Source(from.into()),
    ];
    let mut found = None;
    let request = RouteNetlinkMessage::GetRoute(request);
    ask(NETLINK_ROUTE, request, NLM_F_REQUEST, |answer| {
        if let RouteNetlinkMessage::NewRoute(route) = answer {
            found = route.attributes.iter().find_map(|known| match known {
                RouteAttribute::Oif(ifindex) => Some(*ifindex),
                _ => None,
            });
        }
    })?;
    Ok(found)
}

/// Sends one dump request on a socket of its own and hands each answer on. A message that the
/// decoder does not understand is left out, since a newer kernel may add what it does not know.
fn dump<T>(protocol: isize, request: T, each: impl FnMut(T)) -> io::Result<()>
where
    T: NetlinkSerializable + NetlinkDeserializable,
{
    ask(protocol, request, NLM_F_REQUEST | NLM_F_DUMP, each)
}

/// The same for any request: one that is no dump has one answer.
fn ask<T>(protocol: isize, request: T, flags: u16, mut each: impl FnMut(T)) -> io::Result<()>
where
    T: NetlinkSerializable + NetlinkDeserializable,
{
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    message.finalize();
    let mut buffer = vec![0; message.buffer_len()];
    message.serialize(&mut buffer);
    socket.send(&buffer, 0)?;

    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while let Ok(next) = NetlinkBuffer::new_checked(rest) {
            let length = (next.length() as usize).next_multiple_of(4);
            if let Ok(answer) = NetlinkMessage::<T>::deserialize(rest) {
                match answer.payload {
                    NetlinkPayload::InnerMessage(inner) => each(inner),
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-done.code));
                    }
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
            }
            // The checked length is at least the header's, so this ends.
            rest = rest.get(length..).unwrap_or_default();
        }
        if flags & NLM_F_DUMP != NLM_F_DUMP {
            return Ok(());
        }
    }
}
