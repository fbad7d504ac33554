//! Sockets of this network namespace as flows. Owns the reading of sock_diag and of its /proc twins;
//! it knows nothing of translated addresses, which is the conntrack table's part.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6};
use netlink_packet_sock_diag::inet::nlas::Nla as SocketNla;
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::{ExistingFlow, ICMP, ICMPV6, Kind, SCTP, TCP, TcpSocket, UDP, dump, proc_net};

/// Connections and waiting clients among the sockets of this network namespace.
///
/// # Errors
/// When the kernel lists its TCP and UDP sockets neither by sock_diag nor in /proc.
pub(super) fn flows() -> anyhow::Result<Vec<ExistingFlow>> {
    let mut flows = Vec::new();
    flows.extend(tcp_flows(&list(TCP)?));
    flows.extend(udp_flows(&list(UDP)?, ephemeral_ports()));
    for (path, protocol) in [("icmp", ICMP), ("icmp6", ICMPV6)] {
        // Absent where IPv6 is; a ping that cannot be seen repeats itself in a second.
        let text = fs::read_to_string(proc_net(path)).unwrap_or_default();
        flows.extend(text.lines().filter_map(|line| ping_flow(line, protocol)));
    }
    let associations = fs::read_to_string(proc_net("sctp/assocs")).unwrap_or_default();
    flows.extend(associations.lines().flat_map(sctp_flows));
    Ok(flows)
}

/// All sockets of a protocol.
fn list(protocol: u8) -> anyhow::Result<Vec<HostSocket>> {
    let mut all = Vec::new();
    for family in [AF_INET, AF_INET6] {
        // sock_diag is a module; without it (a small initramfs) there is still /proc.
        let found = dump_sockets(family, protocol)
            .or_else(|error| proc_sockets(family, protocol).ok_or(error));
        all.extend(found.with_context(|| {
            format!("cannot list the sockets of IP protocol {protocol} (sock_diag, /proc/net)")
        })?);
    }
    Ok(all)
}

/// TCP connections with the sockets they belong to.
pub(super) fn tcp_sockets() -> anyhow::Result<Vec<TcpSocket>> {
    let sockets = list(TCP)?;
    let flows = tcp_flows(&sockets);
    let connected = sockets.iter().filter(|socket| is_connected(socket));
    Ok(connected
        .zip(flows)
        .map(|(socket, flow)| TcpSocket {
            local: SocketAddr::new(flow.local, flow.local_port),
            remote: SocketAddr::new(socket.remote.ip().to_canonical(), flow.remote_port),
            incoming: !flow.outgoing,
            inode: socket.inode,
        })
        .collect())
}

fn is_connected(socket: &HostSocket) -> bool {
    !matches!(socket.state, STATE_LISTEN | STATE_CLOSE | STATE_TIME_WAIT)
        && socket.remote.port() != 0
}

/// A socket as sock_diag or /proc describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostSocket {
    pub local: SocketAddr,
    /// Unspecified with port 0 when not connected.
    pub remote: SocketAddr,
    pub state: u8,
    /// An IPv6 socket that takes no IPv4.
    pub v6_only: bool,
    /// Names it among the open files of its processes; 0 for one that no process has any more.
    pub inode: u32,
}

// Socket states, include/net/tcp_states.h
pub(super) const STATE_TIME_WAIT: u8 = 6;
pub(super) const STATE_CLOSE: u8 = 7;
pub(super) const STATE_LISTEN: u8 = 10;

pub(super) fn tcp_flows(sockets: &[HostSocket]) -> Vec<ExistingFlow> {
    let listening: HashSet<u16> = sockets
        .iter()
        .filter(|socket| socket.state == STATE_LISTEN)
        .map(|socket| socket.local.port())
        .collect();
    sockets
        .iter()
        .filter(|socket| is_connected(socket))
        .map(|socket| {
            let outgoing = !listening.contains(&socket.local.port());
            connected(socket, TCP, Kind::Established, outgoing)
        })
        .collect()
}

/// Clients that wait for answers: connected sockets, and unconnected ones on a port of the range
/// that the kernel hands out. An unconnected socket on another port is a service, which the
/// policy's rules decide about.
pub(super) fn udp_flows(sockets: &[HostSocket], ephemeral: (u16, u16)) -> Vec<ExistingFlow> {
    let unconnected: HashSet<u16> = sockets
        .iter()
        .filter(|socket| socket.remote.port() == 0)
        .map(|socket| socket.local.port())
        .collect();
    let mut flows = Vec::new();
    for socket in sockets {
        let port = socket.local.port();
        if socket.remote.port() != 0 {
            // A server may connect a socket to its client, beside the one it hears everybody on.
            let outgoing = !unconnected.contains(&port);
            flows.push(connected(socket, UDP, Kind::Udp, outgoing));
        } else if (ephemeral.0..=ephemeral.1).contains(&port) {
            let local = socket.local.ip().to_canonical();
            flows.push(anyone(local, port, UDP, Kind::Udp));
            if local == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !socket.v6_only {
                flows.push(anyone(Ipv4Addr::UNSPECIFIED.into(), port, UDP, Kind::Udp));
            }
        }
    }
    flows
}

pub(super) fn connected(
    socket: &HostSocket,
    protocol: u8,
    kind: Kind,
    outgoing: bool,
) -> ExistingFlow {
    // IPv4 through an IPv6 socket shows as ::ffff:a.b.c.d.
    ExistingFlow {
        local: socket.local.ip().to_canonical(),
        remote: Some(socket.remote.ip().to_canonical()),
        local_port: socket.local.port(),
        remote_port: socket.remote.port(),
        protocol,
        kind,
        outgoing,
        remaining: None,
    }
}

fn anyone(local: IpAddr, local_port: u16, protocol: u8, kind: Kind) -> ExistingFlow {
    ExistingFlow {
        local,
        remote: None,
        local_port,
        remote_port: 0,
        protocol,
        kind,
        outgoing: true,
        remaining: None,
    }
}

/// A socket that waits for anybody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) protocol: u8,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) inode: u32,
    pub(crate) uid: u32,
}

/// Listening TCP and unconnected UDP sockets of this network namespace.
pub(crate) fn waiting() -> io::Result<Vec<Waiting>> {
    let mut found = Vec::new();
    for (protocol, state) in [(TCP, STATE_LISTEN), (UDP, STATE_CLOSE)] {
        for family in [AF_INET, AF_INET6] {
            dump_inet(family, protocol, |answer| {
                let id = &answer.header.socket_id;
                if answer.header.state == state && id.source_port != 0 && id.destination_port == 0 {
                    found.push(Waiting {
                        protocol,
                        address: id.source_address,
                        port: id.source_port,
                        inode: answer.header.inode,
                        uid: answer.header.uid,
                    });
                }
            })?;
        }
    }
    Ok(found)
}

/// Hands on what sock_diag says of every socket of a protocol.
fn dump_inet(family: u8, protocol: u8, mut each: impl FnMut(&InetResponse)) -> io::Result<()> {
    let request = SockDiagMessage::InetRequest(InetRequest {
        family,
        protocol,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: if family == AF_INET {
            SocketId::new_v4()
        } else {
            SocketId::new_v6()
        },
    });
    dump(NETLINK_SOCK_DIAG, request, |answer| {
        if let SockDiagMessage::InetResponse(answer) = answer {
            each(&answer);
        }
    })
}

pub(super) fn dump_sockets(family: u8, protocol: u8) -> io::Result<Vec<HostSocket>> {
    let mut sockets = Vec::new();
    dump_inet(family, protocol, |answer| {
        let id = &answer.header.socket_id;
        sockets.push(HostSocket {
            local: SocketAddr::new(id.source_address, id.source_port),
            remote: SocketAddr::new(id.destination_address, id.destination_port),
            state: answer.header.state,
            v6_only: answer
                .nlas
                .iter()
                .any(|nla| matches!(nla, SocketNla::SkV6Only(true))),
            inode: answer.header.inode,
        });
    })?;
    Ok(sockets)
}

/// The same from /proc/net/tcp, tcp6, udp and udp6; `None` when there is no such file.
pub(super) fn proc_sockets(family: u8, protocol: u8) -> Option<Vec<HostSocket>> {
    let file = match (protocol, family) {
        (TCP, AF_INET) => "tcp",
        (TCP, _) => "tcp6",
        (UDP, AF_INET) => "udp",
        _ => "udp6",
    };
    match fs::read_to_string(proc_net(file)) {
        Ok(text) => Some(text.lines().filter_map(proc_socket).collect()),
        // A kernel without IPv6.
        Err(_) if family == AF_INET6 => Some(Vec::new()),
        Err(_) => None,
    }
}

/// A line of such a file. It does not tell whether an IPv6 socket takes IPv4: most do.
pub(super) fn proc_socket(line: &str) -> Option<HostSocket> {
    let mut fields = line.split_whitespace().skip(1);
    Some(HostSocket {
        local: proc_address(fields.next()?)?.into(),
        remote: proc_address(fields.next()?)?.into(),
        state: u8::from_str_radix(fields.next()?, 16).ok()?,
        v6_only: false,
        // behind queues, timers and owner (Documentation/networking/proc_net_tcp.rst)
        inode: fields
            .nth(5)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
    })
}

/// The ports the kernel gives to sockets that ask for none in particular.
pub(crate) fn ephemeral_ports() -> (u16, u16) {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| {
            let mut numbers = text.split_whitespace().map(|number| number.parse().ok());
            Some((numbers.next()??, numbers.next()??))
        })
        // The kernel's own default, Documentation/networking/ip-sysctl.rst
        .unwrap_or((32768, 60999))
}

/// A line of /proc/net/icmp or icmp6: a ping socket, its port is the identifier.
pub(super) fn ping_flow(line: &str, protocol: u8) -> Option<ExistingFlow> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, identifier) = proc_address(fields.next()?)?;
    let (remote, _) = proc_address(fields.next()?)?;
    let mut flow = anyone(local, identifier, protocol, Kind::IcmpEcho);
    flow.remote = (!remote.is_unspecified()).then_some(remote);
    Some(flow)
}

/// "0100007F:0016": 32-bit words of the address as numbers of this machine, then the port.
pub(super) fn proc_address(field: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = field.split_once(':')?;
    let word = |index: usize| -> Option<[u8; 4]> {
        let digits = address.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::from(octets).to_canonical()
        }
        _ => return None,
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

/// A line of /proc/net/sctp/assocs: ports in columns 12 and 13, then the addresses of both sides
/// with "<->" between (net/sctp/proc.c). Each pair of addresses can carry the association.
pub(super) fn sctp_flows(line: &str) -> Vec<ExistingFlow> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let port = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<u16>().ok())
    };
    let (Some(local_port), Some(remote_port)) = (port(11), port(12)) else {
        return Vec::new();
    };
    // A star marks the primary address.
    let address = |field: &&str| {
        field
            .trim_start_matches('*')
            .parse()
            .ok()
            .map(|ip: IpAddr| ip.to_canonical())
    };
    let rest = fields.get(13..).unwrap_or_default();
    let middle = rest
        .iter()
        .position(|field| *field == "<->")
        .unwrap_or(rest.len());
    let locals: Vec<IpAddr> = rest.iter().take(middle).filter_map(address).collect();
    let remotes = rest.iter().skip(middle + 1).map_while(address);
    remotes
        .flat_map(|remote| {
            locals
                .iter()
                .filter(move |local| local.is_ipv4() == remote.is_ipv4())
                .map(move |local| ExistingFlow {
                    remote: Some(remote),
                    remote_port,
                    ..anyone(*local, local_port, SCTP, Kind::Other)
                })
        })
        .collect()
}
