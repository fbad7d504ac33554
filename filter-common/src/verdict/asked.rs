//! Which entries of the state tables a packet may be looked up under, whatever policy says: for who judges it on a copy
//! of the state.

use super::{Way, arriving, fragment_key, leaving};
use crate::flow;
use crate::layout::{FlowKey, FragmentKey};
use crate::packet::Packet;
use crate::parse::{self, Ip, Lengths, ethertype};
use crate::quote;

/// The entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The flow it may belong to.
    pub flow: Option<FlowKey>,
    /// The UDP client it may be an answer for, whoever sent it (see [`flow::wildcard`]).
    pub waiting: Option<FlowKey>,
    /// The flow that it quotes, an ICMP error.
    pub quoted: Option<FlowKey>,
    /// The train of fragments it belongs to.
    pub fragment: Option<FragmentKey>,
}

/// What a frame that goes that way asks for; nothing if it cannot be read.
pub fn asked<P: Packet + ?Sized>(packet: &P, way: Way) -> Asked {
    let mut asked = Asked::default();
    let Some(ip) = ip(packet) else {
        return asked;
    };
    asked.fragment = ip.fragment.then(|| fragment_key(&ip, way));
    if ip.fragment_offset != 0 {
        return asked;
    }
    let Ok(transport) = parse::transport(packet, &ip) else {
        return asked;
    };
    match way {
        Way::ToHost | Way::ToContainer => {
            let key = arriving::flow_key(&ip, &transport);
            asked.flow = Some(key);
            asked.waiting = Some(flow::wildcard(&key));
            let is_error =
                parse::is_icmp(ip.protocol, ip.v4) && quote::is_error(ip.v4, transport.port);
            asked.quoted = is_error.then(|| quote::quoted(packet, &ip)).flatten();
        }
        Way::FromHost | Way::FromContainer => {
            asked.flow = leaving::flow_key(&ip, &transport);
        }
    }
    asked
}

/// The IP header behind the tags. What an interface would refuse for its lengths asks for nothing; that does no harm.
fn ip<P: Packet + ?Sized>(packet: &P) -> Option<Ip> {
    let link = parse::link(packet);
    if link.broken {
        return None;
    }
    match link.ethertype {
        ethertype::IPV4 => parse::ipv4(packet, link.network, Lengths::Trusted),
        ethertype::IPV6 => parse::ipv6(packet, link.network, Lengths::Trusted),
        _ => None,
    }
}
