//! What would become of a packet, and why: the question, the answer, and frames for both.

pub mod frame;
pub mod pcap;

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use frame::{Content, FrameError, HOP_LIMIT, Mac, Packet, SOMEBODY};

/// Longest frame that is judged: as long as the longest that a usual link carries.
pub const FRAME_BYTES: usize = 9216;

/// The body of `POST /v1/explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Interface that the packet comes in by.
    pub interface: String,
    /// It leaves by the interface instead.
    #[serde(default)]
    pub out: bool,
    /// Which packet.
    pub packet: Subject,
}

/// A packet that somebody asks about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The frame from its Ethernet header on, in hex.
    Frame(String),
    /// What is known of it.
    Described(Description),
}

/// What is known of a packet; the daemon fills in the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Source; without it, for what leaves, an address of the interface.
    #[serde(default)]
    pub from: Option<IpAddr>,
    /// Destination; without it, for what comes in, an address of the interface.
    #[serde(default)]
    pub to: Option<IpAddr>,
    /// What it carries.
    pub content: Content,
    /// VLAN id of its tag.
    #[serde(default)]
    pub vlan: Option<u16>,
    /// Source MAC.
    #[serde(default)]
    pub mac: Option<Mac>,
    /// TTL or hop limit; without it 64.
    #[serde(default)]
    pub hop_limit: Option<u8>,
    /// It is the first of a train of fragments.
    #[serde(default)]
    pub fragment: bool,
}

/// What is known of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
}

/// Why there is no frame to judge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// The description makes none.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Not hex.
    #[error("the frame is not written in hex: two digits a byte, nothing else")]
    Hex,
    /// Of no length that a frame can have.
    #[error("a frame has 14 to {FRAME_BYTES} bytes, this one {0}")]
    Length(usize),
    /// Both addresses are unknown, or the interface has none to fill in.
    #[error("the interface has no address to take for the packet's {0}: name one")]
    Address(&'static str),
}

impl Question {
    /// The frame to judge.
    pub fn frame(&self, interface: &Known) -> Result<Vec<u8>, SubjectError> {
        let frame = match &self.packet {
            Subject::Frame(text) => bytes(text).ok_or(SubjectError::Hex)?,
            Subject::Described(description) => description.frame(self.out, interface)?,
        };
        if (14..=FRAME_BYTES).contains(&frame.len()) {
            Ok(frame)
        } else {
            Err(SubjectError::Length(frame.len()))
        }
    }
}

impl Description {
    fn frame(&self, out: bool, interface: &Known) -> Result<Vec<u8>, SubjectError> {
        let own = |other: Option<IpAddr>| {
            let fits = |own: &&IpAddr| other.is_none_or(|other| other.is_ipv4() == own.is_ipv4());
            interface.addresses.iter().find(fits).copied()
        };
        let from = self
            .from
            .or_else(|| out.then(|| own(self.to)).flatten())
            .ok_or(SubjectError::Address("source"))?;
        let to = self
            .to
            .or_else(|| (!out).then(|| own(Some(from))).flatten())
            .ok_or(SubjectError::Address("destination"))?;
        let mac = interface.mac.unwrap_or(SOMEBODY);
        let (source, destination) = if out {
            (mac, SOMEBODY)
        } else {
            (SOMEBODY, mac)
        };
        let packet = Packet {
            macs: [self.mac.unwrap_or(source), destination],
            vlan: self.vlan,
            from,
            to,
            hop_limit: self.hop_limit.unwrap_or(HOP_LIMIT),
            fragment: self.fragment,
            content: self.content,
        };
        Ok(packet.frame()?)
    }
}

/// Bytes of a text in hex; blanks, colons and line ends between them do not count.
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|c| !c.is_whitespace() && *c != ':')
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// What becomes of it.
    pub verdict: Verdict,
    /// Reason it would be counted under.
    pub reason: String,
    /// What that means.
    pub meaning: String,
    /// The rule, or the check of sources, that decided.
    pub rule: Option<DecidedBy>,
    /// Interface.
    pub interface: String,
    /// The packet leaves by it.
    pub out: bool,
    /// Profile that judges it; `null`: none.
    pub profile: Option<String>,
    /// Whether the profile drops what it refuses; else it only counts (monitor mode).
    pub enforce: bool,
    /// What is known of the source.
    pub source: Option<Source>,
    /// The flow that it belongs to, where that decided.
    pub flow: Option<Flow>,
    /// Generation of the policy that judged.
    pub generation: u64,
    /// The frame that was judged, in hex.
    pub frame: String,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It is dropped.
    Drop,
    /// It goes on, since the profile does not enforce.
    WouldDrop,
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DecidedBy {
    /// Id of the rule, or name of the check.
    pub id: String,
    /// A rule's comment, or what the check is about.
    pub text: String,
    /// File that the rule stands in; `null` for what is no rule.
    pub file: Option<String>,
    /// Its line there.
    pub line: Option<usize>,
}

/// What is known of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// Its address.
    pub address: IpAddr,
    /// Groups and lists of the policy that have it.
    pub listed: Vec<String>,
    /// Until when it is blocked; `null`: it is not.
    pub blocked_until: Option<String>,
}

/// A flow that this host knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flow {
    /// Our side.
    pub local: IpAddr,
    /// Its port, or the identifier of an ICMP request.
    pub local_port: u16,
    /// The other side; `::` for whoever answers first.
    pub remote: IpAddr,
    /// Its port.
    pub remote_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(packet: Subject, out: bool) -> Question {
        Question {
            interface: "eth0".to_owned(),
            out,
            packet,
        }
    }

    fn eth0() -> Known {
        Known {
            mac: Some([2, 0, 0, 0, 0, 1]),
            addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        }
    }

    fn described(from: Option<&str>, to: Option<&str>) -> Subject {
        Subject::Described(Description {
            from: from.map(|text| text.parse().unwrap()),
            to: to.map(|text| text.parse().unwrap()),
            content: Content::Protocol(47),
            vlan: None,
            mac: None,
            hop_limit: None,
            fragment: false,
        })
    }

    #[test]
    fn the_interface_fills_in_what_is_not_said() {
        let frame = |packet, out| question(packet, out).frame(&eth0());
        let arrives = frame(described(Some("198.51.100.7"), None), false).unwrap();
        assert_eq!(arrives[..6], [2, 0, 0, 0, 0, 1], "to its MAC");
        assert_eq!(arrives[30..34], [192, 0, 2, 1], "to its address");
        let leaves = frame(described(None, Some("2001:db8:9::9")), true).unwrap();
        assert_eq!(leaves[6..12], [2, 0, 0, 0, 0, 1], "from its MAC");
        assert_eq!(leaves[22..24], [0x20, 0x01], "from its address");
        assert_eq!(
            frame(described(None, None), false),
            Err(SubjectError::Address("source"))
        );
        let nothing = question(described(Some("198.51.100.7"), None), false);
        assert_eq!(
            nothing.frame(&Known::default()),
            Err(SubjectError::Address("destination"))
        );
    }

    #[test]
    fn hex_is_read_as_people_paste_it() {
        assert_eq!(bytes("02:00 ff\n0A"), Some(vec![2, 0, 255, 10]));
        for text in ["0", "0x02", "zz", "é0"] {
            assert_eq!(bytes(text), None, "{text}");
        }
        let short = question(Subject::Frame("0200".to_owned()), false);
        assert_eq!(short.frame(&eth0()), Err(SubjectError::Length(2)));
        let long = question(Subject::Frame("00".repeat(FRAME_BYTES + 1)), false);
        assert_eq!(
            long.frame(&eth0()),
            Err(SubjectError::Length(FRAME_BYTES + 1))
        );
    }
}
