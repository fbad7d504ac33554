//! The other ends of veth pairs, as seen from here: their addresses are asked for by the number that this namespace
//! has for theirs. Never enters another namespace.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use futures::StreamExt;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::Handle;

use super::addresses::Address;
use super::{Links, Mac, PeerId, mac, sort};

/// The other end of a pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::daemon) struct Peer {
    /// It is in this namespace, so its addresses are the host's too.
    pub(in crate::daemon) here: bool,
    pub(in crate::daemon) mac: Option<Mac>,
    /// Its addresses, with those that are still tentative.
    pub(in crate::daemon) addresses: Vec<IpAddr>,
}

/// By the index of this end: the other end, or why it is not known.
pub(in crate::daemon) type Peers = BTreeMap<u32, Result<Peer, String>>;

/// Looks at the other ends of these links; `strict` is a connection with NETLINK_GET_STRICT_CHK, without which a dump
/// takes no notice of the namespace asked for.
pub(super) async fn look(strict: &Handle, links: &Links, of: &[u32]) -> Peers {
    let mut peers = Peers::new();
    for ifindex in of {
        let id = links.details.get(ifindex).and_then(|link| link.peer);
        let peer = match id {
            None => Err("it is not one end of a veth pair".to_owned()),
            Some(PeerId {
                nsid: None,
                ifindex,
            }) => here(links, ifindex),
            // NETNSA_NSID_NOT_ASSIGNED
            Some(PeerId { nsid: Some(id), .. }) if id < 0 => {
                Err("the network namespace of the other end is not known here".to_owned())
            }
            Some(PeerId {
                nsid: Some(nsid),
                ifindex,
            }) => there(strict, nsid, ifindex).await.map_err(|error| {
                format!("the network namespace of the other end cannot be asked: {error}")
            }),
        };
        peers.insert(*ifindex, peer);
    }
    peers
}

fn here(links: &Links, ifindex: u32) -> Result<Peer, String> {
    let link = links
        .details
        .get(&ifindex)
        .ok_or_else(|| "the other end is gone".to_owned())?;
    Ok(Peer {
        here: true,
        mac: link.mac,
        addresses: link.addresses.clone(),
    })
}

async fn there(handle: &Handle, nsid: i32, ifindex: u32) -> io::Result<Peer> {
    let mut peer = Peer::default();
    let mut link = LinkMessage::default();
    link.header.index = ifindex;
    // IFLA_TARGET_NETNSID by its former name
    link.attributes.push(LinkAttribute::IfNetnsId(nsid));
    let request = RouteNetlinkMessage::GetLink(link);
    ask(handle, request, NLM_F_REQUEST, |answer| {
        if let RouteNetlinkMessage::NewLink(link) = answer
            && link.header.index == ifindex
        {
            peer.mac = link
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    LinkAttribute::Address(bytes) => mac(bytes),
                    _ => None,
                });
        }
    })
    .await?;
    let mut address = AddressMessage::default();
    address.header.index = ifindex;
    address
        .attributes
        .push(AddressAttribute::TargetNetNsId(nsid));
    let request = RouteNetlinkMessage::GetAddress(address);
    ask(handle, request, NLM_F_REQUEST | NLM_F_DUMP, |answer| {
        if let RouteNetlinkMessage::NewAddress(message) = answer {
            // a kernel that filters by neither would answer with addresses of this very host
            let asked_for = message
                .attributes
                .contains(&AddressAttribute::TargetNetNsId(nsid));
            let address = Address::read(&message).filter(|a| asked_for && a.ifindex == ifindex);
            peer.addresses.extend(address.map(|address| address.ip));
        }
    })
    .await?;
    sort(&mut peer.addresses);
    Ok(peer)
}

async fn ask(
    handle: &Handle,
    request: RouteNetlinkMessage,
    flags: u16,
    mut each: impl FnMut(RouteNetlinkMessage),
) -> io::Result<()> {
    let mut message = NetlinkMessage::from(request);
    message.header.flags = flags;
    let mut answers = handle.clone().request(message).map_err(io::Error::other)?;
    while let Some(answer) = answers.next().await {
        match answer.payload {
            NetlinkPayload::InnerMessage(inner) => each(inner),
            NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
            _ => {}
        }
    }
    Ok(())
}
