//! The questions put to the kernel by netlink: links, tc filters, XDP features. Owns the sockets
//! for them; it only sends requests that read.

use std::io;

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, Nla, NlasIterator,
    Parseable, ParseableParametrized,
};
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::tc::{TcHandle, TcMessage};
use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};

/// All links of this network namespace.
pub(super) fn links() -> io::Result<Vec<LinkMessage>> {
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let answers = exchange(NETLINK_ROUTE, request, Amount::All)?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        })
        .collect())
}

/// The clsact filters at egress of the interface, in the order in which they run.
pub(super) fn egress_filters(ifindex: u32) -> io::Result<Vec<TcMessage>> {
    let index = i32::try_from(ifindex).map_err(io::Error::other)?;
    let mut request = TcMessage::with_index(index);
    // TC_H_CLSACT with TC_H_MIN_EGRESS, include/uapi/linux/pkt_sched.h
    request.header.parent = TcHandle {
        major: 0xffff,
        minor: 0xfff3,
    };
    let answers = exchange(
        NETLINK_ROUTE,
        RouteNetlinkMessage::GetTrafficFilter(request),
        Amount::All,
    )?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewTrafficFilter(filter) => Some(filter),
            _ => None,
        })
        .collect())
}

/// `NETDEV_A_DEV_XDP_FEATURES` of the interface (include/uapi/linux/netdev.h).
///
/// `None` where the kernel has no `netdev` family, which came with Linux 6.3.
pub(super) fn xdp_features(ifindex: u32) -> io::Result<Option<u64>> {
    let family = match netdev_family() {
        Ok(Some(id)) => id,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let request = NetdevMessage {
        attributes: vec![DefaultNla::new(
            ATTR_IFINDEX,
            ifindex.to_ne_bytes().to_vec(),
        )],
    };
    let mut message = GenlMessage::from_payload(request);
    message.set_resolved_family_id(family);
    let answers = exchange(NETLINK_GENERIC, message, Amount::One)?;
    Ok(answers
        .iter()
        .flat_map(|answer| &answer.payload.attributes)
        .find_map(u64_feature))
}

fn u64_feature(attribute: &DefaultNla) -> Option<u64> {
    if attribute.kind() != ATTR_XDP_FEATURES {
        return None;
    }
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    Some(u64::from_ne_bytes(value.try_into().ok()?))
}

fn netdev_family() -> io::Result<Option<u16>> {
    let request = GenlMessage::from_payload(GenlCtrl {
        cmd: GenlCtrlCmd::GetFamily,
        nlas: vec![GenlCtrlAttrs::FamilyName(
            NetdevMessage::family_name().to_owned(),
        )],
    });
    let answers = exchange(NETLINK_GENERIC, request, Amount::One)?;
    Ok(answers
        .iter()
        .flat_map(|answer| &answer.payload.nlas)
        .find_map(|attribute| match attribute {
            GenlCtrlAttrs::FamilyId(id) => Some(*id),
            _ => None,
        }))
}

const COMMAND_DEV_GET: u8 = 1;
const ATTR_IFINDEX: u16 = 1;
const ATTR_XDP_FEATURES: u16 = 3;

/// A `NETDEV_CMD_DEV_GET` request or its answer.
#[derive(Clone, Debug)]
struct NetdevMessage {
    attributes: Vec<DefaultNla>,
}

impl GenlFamily for NetdevMessage {
    fn family_name() -> &'static str {
        "netdev"
    }

    fn command(&self) -> u8 {
        COMMAND_DEV_GET
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for NetdevMessage {
    fn buffer_len(&self) -> usize {
        self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.attributes.as_slice().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for NetdevMessage {
    fn parse_with_param(buffer: &[u8], _header: GenlHeader) -> Result<Self, DecodeError> {
        let attributes = NlasIterator::new(buffer)
            .map(|attribute| DefaultNla::parse(&attribute?))
            .collect::<Result<_, _>>()?;
        Ok(NetdevMessage { attributes })
    }
}

/// Whether the request is a dump (ended by NLMSG_DONE) or a single question (ended by its ACK).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Amount {
    All,
    One,
}

/// Sends one request on a socket of its own and collects the answers.
fn exchange<T>(protocol: isize, request: T, amount: Amount) -> io::Result<Vec<T>>
where
    T: NetlinkSerializable + NetlinkDeserializable,
{
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;

    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST
        | if amount == Amount::All {
            NLM_F_DUMP
        } else {
            NLM_F_ACK
        };
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    message.finalize();
    let mut buffer = vec![0; message.buffer_len()];
    message.serialize(&mut buffer);
    socket.send(&buffer, 0)?;

    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let answer = NetlinkMessage::<T>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            // Messages are padded to four bytes; a length of zero would loop for ever.
            let length = (answer.header.length as usize).next_multiple_of(4).max(16);
            match answer.payload {
                NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}
