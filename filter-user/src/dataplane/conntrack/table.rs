//! Entries of the kernel's conntrack table as flows on the outer wire. Owns the reading of
//! ctnetlink and of its /proc twin, and the undoing of address translation.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufRead as _};
use std::net::IpAddr;
use std::path::Path;

use anyhow::Context as _;
use netlink_packet_core::{DefaultNla, Nla as _};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoInfo, ProtoInfoTCP, ProtoTuple, Status,
    Tuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::{ExistingFlow, ICMP, ICMPV6, Kind, SCTP, TCP, UDP, dump, proc_net};

/// One direction of a conntrack entry. The ports of ICMP are identifier and 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Direction {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub source_port: u16,
    pub destination_port: u16,
}

/// What is used of a conntrack entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub protocol: u8,
    pub original: Direction,
    pub reply: Direction,
    /// ICMP type of the original direction.
    pub icmp_type: Option<u8>,
    pub replied: bool,
    /// TCP: TIME_WAIT or CLOSE; any protocol: being destroyed.
    pub over: bool,
    pub remaining: u32,
}

// TCP states of conntrack, include/uapi/linux/netfilter/nf_conntrack_tcp.h
const CONNTRACK_TIME_WAIT: u8 = 7;
const CONNTRACK_CLOSE: u8 = 8;

/// The conntrack table; empty where conntrack is not in use.
///
/// # Errors
/// When it is in use and cannot be read.
pub(super) fn entries() -> anyhow::Result<Vec<Entry>> {
    // Asking by netlink would load the modules, with their memory and their cost per packet.
    if !Path::new("/proc/sys/net/netfilter/nf_conntrack_max").exists() {
        return Ok(Vec::new());
    }
    let netlink = match tracked_by_netlink() {
        Ok(entries) => return Ok(entries),
        Err(error) => error,
    };
    // A kernel may have conntrack without ctnetlink. The file is deprecated, but then all there is.
    let path = proc_net("nf_conntrack");
    match fs::File::open(&path) {
        Ok(file) => {
            let mut entries = Vec::new();
            for line in io::BufReader::new(file).lines() {
                let line = line.with_context(|| format!("cannot read {}", path.display()))?;
                entries.extend(proc_entry(&line));
            }
            Ok(entries)
        }
        Err(_) => Err(netlink).context(
            "cannot read the conntrack table, so connections of containers would be cut: run as \
             root (CAP_NET_ADMIN), or load the module nf_conntrack_netlink",
        ),
    }
}

pub(super) fn tracked_by_netlink() -> io::Result<Vec<Entry>> {
    // Family 0 is both; version NFNETLINK_V0.
    let header = NetfilterHeader::new(NetfilterProtoFamily::from(0), 0, 0);
    let request = NetfilterMessage::new(header, ConntrackMessage::Get(Vec::new()));
    let mut entries = Vec::new();
    dump(NETLINK_NETFILTER, request, |answer| {
        if let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = answer.inner {
            entries.extend(netlink_entry(&attributes));
        }
    })?;
    Ok(entries)
}

fn netlink_entry(attributes: &[ConntrackAttribute]) -> Option<Entry> {
    let (mut original, mut reply) = (None, None);
    let (mut replied, mut over, mut remaining) = (false, false, 0);
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuple) => original = netlink_direction(tuple),
            ConntrackAttribute::CtaTupleReply(tuple) => reply = netlink_direction(tuple),
            ConntrackAttribute::CtaStatus(status) => {
                replied = status.contains(Status::SeenReply);
                over |= status.contains(Status::Dying);
            }
            ConntrackAttribute::CtaTimeout(seconds) => remaining = *seconds,
            ConntrackAttribute::CtaProtoInfo(info) => {
                over |= info.iter().any(|info| {
                    matches!(info, ProtoInfo::TCP(tcp) if tcp.iter().any(|part| {
                        matches!(part, ProtoInfoTCP::State(CONNTRACK_TIME_WAIT | CONNTRACK_CLOSE))
                    }))
                });
            }
            _ => {}
        }
    }
    let (protocol, icmp_type, original) = original?;
    let (_, _, reply) = reply?;
    Some(Entry {
        protocol,
        original,
        reply,
        icmp_type,
        replied,
        over,
        remaining,
    })
}

/// Protocol, ICMP type and the direction itself.
fn netlink_direction(tuple: &[Tuple]) -> Option<(u8, Option<u8>, Direction)> {
    let (mut source, mut destination) = (None, None);
    let (mut protocol, mut icmp_type) = (None, None);
    let (mut source_port, mut destination_port) = (0, 0);
    for part in tuple {
        match part {
            Tuple::Ip(addresses) => {
                for address in addresses {
                    match address {
                        IPTuple::SourceAddress(address) => source = Some(*address),
                        IPTuple::DestinationAddress(address) => destination = Some(*address),
                        _ => {}
                    }
                }
            }
            Tuple::Proto(parts) => {
                for part in parts {
                    match part {
                        ProtoTuple::Protocol(number) => protocol = Some(u8::from(*number)),
                        ProtoTuple::SourcePort(port) => source_port = *port,
                        ProtoTuple::DestinationPort(port) => destination_port = *port,
                        // CTA_PROTO_ICMP_ID, _TYPE and their ICMPv6 twins,
                        // include/uapi/linux/netfilter/nfnetlink_conntrack.h
                        ProtoTuple::Other(nla) if matches!(nla.kind(), 4 | 7) => {
                            source_port = u16::from_be_bytes(value(nla)?);
                        }
                        ProtoTuple::Other(nla) if matches!(nla.kind(), 5 | 8) => {
                            icmp_type = Some(u8::from_be_bytes(value(nla)?));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let direction = Direction {
        source: source?,
        destination: destination?,
        source_port,
        destination_port,
    };
    Some((protocol?, icmp_type, direction))
}

fn value<const N: usize>(nla: &DefaultNla) -> Option<[u8; N]> {
    let mut bytes = vec![0; nla.value_len()];
    nla.emit_value(&mut bytes);
    bytes.try_into().ok()
}

/// A line of /proc/net/nf_conntrack.
pub(super) fn proc_entry(line: &str) -> Option<Entry> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let protocol = fields.get(3)?.parse().ok()?;
    let remaining = fields.get(4)?.parse().ok()?;
    // Each key stands twice, once for each direction, in this order.
    let nth = |key: &str, n: usize| {
        fields
            .iter()
            .filter_map(|field| field.split_once('='))
            .filter(|(k, _)| *k == key)
            .nth(n)
            .map(|(_, v)| v)
    };
    let port = |key: &str, n: usize| nth(key, n).and_then(|text| text.parse().ok());
    let direction = |n: usize| {
        Some(Direction {
            source: nth("src", n)?.parse().ok()?,
            destination: nth("dst", n)?.parse().ok()?,
            source_port: port("sport", n).or_else(|| port("id", n)).unwrap_or(0),
            destination_port: port("dport", n).unwrap_or(0),
        })
    };
    Some(Entry {
        protocol,
        original: direction(0)?,
        reply: direction(1)?,
        icmp_type: nth("type", 0).and_then(|text| text.parse().ok()),
        replied: !fields.contains(&"[UNREPLIED]"),
        over: protocol == TCP
            && fields
                .get(5)
                .is_some_and(|s| matches!(*s, "TIME_WAIT" | "CLOSE")),
        remaining,
    })
}

/// The flow as it looks on the link of the container that `inside` knows: before source translation, after destination
/// translation.
pub(super) fn on_container_links(
    entry: &Entry,
    inside: impl Fn(IpAddr) -> bool,
) -> Vec<ExistingFlow> {
    let Entry {
        protocol,
        original,
        reply,
        ..
    } = *entry;
    let Some(kind) = kind(entry) else {
        return Vec::new();
    };
    let with_ports = has_ports(protocol);
    let port = |port| if with_ports { port } else { 0 };
    let echo = kind == Kind::IcmpEcho;
    let mut flows = Vec::new();
    if inside(original.source) {
        flows.push(ExistingFlow {
            local: original.source,
            remote: Some(original.destination),
            local_port: port(original.source_port),
            remote_port: if echo {
                0
            } else {
                port(original.destination_port)
            },
            protocol,
            kind,
            outgoing: true,
            remaining: Some(entry.remaining),
        });
    }
    if inside(reply.source) && entry.replied && !echo {
        flows.push(ExistingFlow {
            local: reply.source,
            remote: Some(reply.destination),
            local_port: port(reply.source_port),
            remote_port: port(reply.destination_port),
            protocol,
            kind,
            outgoing: false,
            remaining: Some(entry.remaining),
        });
    }
    flows
}

fn kind(entry: &Entry) -> Option<Kind> {
    let kind = match (entry.protocol, entry.icmp_type) {
        (TCP, _) => Kind::Established,
        (UDP, _) => Kind::Udp,
        // Echo and timestamp request; ICMPv6 echo request.
        (ICMP, Some(8 | 13)) | (ICMPV6, Some(128)) => Kind::IcmpEcho,
        (ICMP | ICMPV6, _) => return None,
        _ => Kind::Other,
    };
    (!entry.over).then_some(kind)
}

const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP | ICMP | ICMPV6)
}

/// The flows that an entry stands for on a wire outside of this host and its containers.
pub(super) fn on_the_wire(entry: &Entry, own: &HashSet<IpAddr>) -> Vec<ExistingFlow> {
    let Entry {
        protocol,
        original,
        reply,
        ..
    } = *entry;
    let Some(kind) = kind(entry) else {
        return Vec::new();
    };
    let with_ports = has_ports(protocol);
    let flow = |local, remote, local_port, remote_port, outgoing| ExistingFlow {
        local,
        remote: Some(remote),
        local_port: if with_ports { local_port } else { 0 },
        remote_port: if with_ports { remote_port } else { 0 },
        protocol,
        kind,
        outgoing,
        remaining: Some(entry.remaining),
    };
    // Where the translated address is ours, the connection is masqueraded; where the address
    // first asked for is ours, it is for us or for a published port. Both at once happens when a
    // connection from outside is sent on to another machine under our address (a node port).
    let from_inside = own.contains(&original.source) || own.contains(&reply.destination);
    let to_inside = own.contains(&original.destination) || own.contains(&reply.source);
    let mut flows = Vec::new();
    if from_inside || !to_inside {
        // What comes back is the reply, before its translation is undone.
        flows.push(flow(
            reply.destination,
            reply.source,
            reply.destination_port_or_identifier(protocol),
            if kind == Kind::IcmpEcho {
                0
            } else {
                reply.source_port
            },
            true,
        ));
    }
    // An unanswered attempt from outside is no connection, and pings are no flow of ours.
    if (to_inside || !from_inside) && entry.replied && kind != Kind::IcmpEcho {
        flows.push(flow(
            original.destination,
            original.source,
            original.destination_port,
            original.source_port,
            false,
        ));
    }
    flows
}

impl Direction {
    fn destination_port_or_identifier(&self, protocol: u8) -> u16 {
        if matches!(protocol, ICMP | ICMPV6) {
            self.source_port
        } else {
            self.destination_port
        }
    }
}
