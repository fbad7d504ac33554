//! Which packets of a capture another policy would judge otherwise than the one in force. Pure, but for the tables.

mod frames;
mod tally;

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::explain::Verdict;
use crate::policy::Bundle;

pub use frames::{BadCapture, Frames};
pub use tally::{Judge, ReplayError, Told, replay};

/// Longest capture, in bytes.
pub const LONGEST: usize = 64 << 20;

/// A capture, and the policy to judge it by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// The policy and all files it names.
    pub bundle: Bundle,
    /// Interface that the packets were captured on; without it, the one outer interface there is.
    #[serde(default)]
    pub interface: Option<String>,
    /// The capture file (pcap) in base64 (RFC 4648, 4), at most 64 MiB before encoding.
    pub capture: String,
}

/// What would be judged otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replayed {
    /// Interface that the packets were judged at.
    pub interface: String,
    /// Packets that were judged.
    pub packets: u64,
    /// Whether there are more, or the time was over.
    pub incomplete: bool,
    /// Packets that the kernel could not be asked about.
    pub unjudged: u64,
    /// Packets that go on and would not.
    pub packets_closed: u64,
    /// Packets that do not go on and would.
    pub packets_opened: u64,
    /// Packets that go on either way, but only one of the policies means it (monitor mode).
    pub packets_monitored: u64,
    /// Flows with such packets.
    pub flows: u64,
    /// The flows with the most such packets.
    pub first: Vec<ChangedFlow>,
}

/// A flow that has packets which are judged otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangedFlow {
    /// This host's or a container's end; `null` for what is no IP.
    pub local: Option<IpAddr>,
    /// Its port, or identifier.
    pub local_port: u16,
    /// The other end.
    pub remote: Option<IpAddr>,
    /// Its port.
    pub remote_port: u16,
    /// Number of the IP protocol.
    pub protocol: u8,
    /// Packets that are judged otherwise.
    pub packets: u64,
    /// The first of them, counted from 1.
    pub packet: u64,
    /// Whether that one leaves by the interface.
    pub out: bool,
    /// What becomes of it now.
    pub before: Judgement,
    /// What would become of it.
    pub after: Judgement,
}

/// What becomes of a packet, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Judgement {
    /// What becomes of it.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
    /// Id of the rule, or name of the check, that decided.
    pub rule: Option<String>,
}
