//! Flows that are live now and that another policy would drop: a packet of each is judged under both.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Instant;

use filter_common::flow::tcp::ACK;
use filter_common::service::protocol;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataplane::{JudgeError, Place};
use crate::explain::frame::Content;
use crate::guard::{Under, Verdict};

/// Flows that are looked at.
pub const LOOKED_AT: usize = 100_000;

/// Flows that are shown.
const SHOWN: usize = 20;

/// Live flows that a policy would drop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CutFlows {
    /// How many were looked at.
    pub looked_at: u64,
    /// Whether there are more, or the time was over.
    pub incomplete: bool,
    /// How many would be dropped.
    pub count: u64,
    /// The first of them.
    pub first: Vec<CutFlow>,
    /// Why flows could not be looked at.
    pub error: Option<String>,
}

/// A live flow that a policy would drop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CutFlow {
    /// This host's or a container's end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Number of the IP protocol.
    pub protocol: u8,
    /// The other end began it.
    pub incoming: bool,
    /// Interface that its packets would be dropped at.
    pub interface: String,
    /// Why.
    pub reason: String,
    /// The rule that would refuse it.
    pub rule: Option<String>,
}

/// A flow that is live now. Ports are 0 where the protocol has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveFlow {
    /// This host's or a container's end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Number of the IP protocol.
    pub protocol: u8,
    /// The other end began it.
    pub incoming: bool,
}

impl LiveFlow {
    /// What a packet of it carries that goes from one end to the other; `None` where only the flow's own packets would
    /// tell: echoes have an identifier, SCTP a tag.
    pub fn content(&self, from: SocketAddr, to: SocketAddr) -> Option<Content> {
        let (source, destination) = (from.port(), to.port());
        match self.protocol {
            protocol::TCP => Some(Content::Tcp {
                source,
                destination,
                flags: ACK,
            }),
            protocol::UDP => Some(Content::Udp {
                source,
                destination,
            }),
            protocol::ICMP | protocol::ICMPV6 | protocol::SCTP => None,
            other => Some(Content::Protocol(other)),
        }
    }
}

/// A packet of a flow, where it is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Interface and program.
    pub place: Place,
    /// The interface's name.
    pub interface: String,
    /// The packet.
    pub frame: Vec<u8>,
}

/// The tables that packets are judged by, and the ways they take.
pub trait Terrain {
    /// A packet of the flow wherever one is judged.
    fn passages(&mut self, flow: &LiveFlow) -> Vec<Passage>;

    /// What becomes of it.
    fn judge(&mut self, under: Under, passage: &Passage) -> Result<Verdict, JudgeError>;
}

/// Judges flows, each once, until a moment.
pub fn cut_flows(
    flows: impl IntoIterator<Item = LiveFlow>,
    until: Instant,
    terrain: &mut impl Terrain,
) -> CutFlows {
    let mut found = CutFlows::default();
    let mut seen = HashSet::new();
    for flow in flows {
        if !seen.insert((flow.local, flow.remote, flow.protocol)) {
            continue;
        }
        if seen.len() > LOOKED_AT || Instant::now() >= until {
            found.incomplete = true;
            break;
        }
        match cut(&flow, terrain) {
            Ok(None) => {}
            Ok(Some(cut)) => {
                found.count += 1;
                if found.first.len() < SHOWN {
                    found.first.push(cut);
                }
            }
            Err(error) => {
                found.error = Some(format!("{:#}", anyhow::Error::new(error)));
                found.incomplete = true;
                break;
            }
        }
        found.looked_at += 1;
    }
    found
}

fn cut(flow: &LiveFlow, terrain: &mut impl Terrain) -> Result<Option<CutFlow>, JudgeError> {
    for passage in terrain.passages(flow) {
        let then = terrain.judge(Under::Staged, &passage)?;
        // what is refused now is no flow that this policy would cut
        if then.passes || !terrain.judge(Under::InForce, &passage)?.passes {
            continue;
        }
        return Ok(Some(CutFlow {
            local: flow.local,
            remote: flow.remote,
            protocol: flow.protocol,
            incoming: flow.incoming,
            interface: passage.interface,
            reason: then.reason.name().to_owned(),
            rule: then.rule,
        }));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use filter_common::reason::Reason;

    use super::*;
    use crate::dataplane::{Hook, XdpProgram};

    /// Flows of ports from 100 on are dropped by the staged policy, of ports from 200 on by that in force as well.
    struct Play;

    impl Terrain for Play {
        fn passages(&mut self, flow: &LiveFlow) -> Vec<Passage> {
            vec![Passage {
                place: Place {
                    ifindex: 2,
                    hook: Hook::Xdp(XdpProgram::In),
                },
                interface: "eth0".to_owned(),
                frame: flow.local.port().to_be_bytes().to_vec(),
            }]
        }

        fn judge(&mut self, under: Under, passage: &Passage) -> Result<Verdict, JudgeError> {
            let port = u16::from_be_bytes([passage.frame[0], passage.frame[1]]);
            let passes = port < if under == Under::Staged { 100 } else { 200 };
            Ok(Verdict {
                passes,
                reason: if passes {
                    Reason::PassRule
                } else {
                    Reason::DropPort
                },
                rule: None,
            })
        }
    }

    fn flow(port: u16, remote: u16) -> LiveFlow {
        LiveFlow {
            local: SocketAddr::from(([192, 0, 2, 1], port)),
            remote: SocketAddr::from(([198, 51, 100, 7], remote)),
            protocol: protocol::TCP,
            incoming: true,
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    #[test]
    fn what_passes_now_and_would_not_is_cut() {
        let found = cut_flows(
            [flow(99, 1), flow(100, 1), flow(100, 1), flow(200, 1)],
            soon(),
            &mut Play,
        );
        assert_eq!((found.looked_at, found.count), (3, 1), "each once");
        assert_eq!(found.first[0].local.port(), 100);
        assert_eq!(found.first[0].reason, "drop_port");
        assert!(!found.incomplete);
    }

    #[test]
    fn all_are_counted_and_the_first_are_shown() {
        let found = cut_flows((1..=50).map(|remote| flow(150, remote)), soon(), &mut Play);
        assert_eq!((found.count, found.first.len()), (50, SHOWN));
        let many = (0..2 * LOOKED_AT).map(|n| flow((n / 50_000) as u16, (n % 50_000) as u16));
        let found = cut_flows(many, soon(), &mut Play);
        assert_eq!(found.looked_at, LOOKED_AT as u64);
        assert!(found.incomplete);
    }

    #[test]
    fn it_ends_when_the_time_is_over() {
        let found = cut_flows([flow(150, 1)], Instant::now(), &mut Play);
        assert_eq!((found.looked_at, found.incomplete), (0, true));
    }
}
