//! Every packet of a capture under both policies, and what differs, by flow.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Instant;

use filter_common::layout::FlowKey;
use filter_common::verdict::{Way, asked};

use super::frames::can_be_judged;
use super::{BadCapture, ChangedFlow, Frames, Judgement, Replayed};
use crate::dataplane::JudgeError;
use crate::dataplane::scans::ip;
use crate::explain::Verdict;
use crate::guard::Under;

/// Flows that are shown.
const SHOWN: usize = 50;

/// Flows that are told apart; packets of further ones are counted, and no flows.
const FLOWS: usize = 200_000;

/// What is said of a packet; the reason as the name that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// What becomes of it.
    pub verdict: Verdict,
    /// Why.
    pub reason: &'static str,
    /// Slot of the rule that decided, 0 if none.
    pub rule: u16,
}

/// Both policies.
pub trait Judge {
    /// Whether a frame leaves by the interface that it was captured on.
    fn leaves(&self, frame: &[u8]) -> bool;

    /// Which way frames go there.
    fn way(&self, out: bool) -> Way;

    /// What becomes of the next frame; `None`: the kernel does not run the program on it.
    fn judge(&mut self, under: Under, out: bool, frame: &[u8]) -> Result<Option<Told>, JudgeError>;

    /// What a slot stands for.
    fn rule(&self, slot: u16) -> Option<String>;
}

/// Why a capture could not be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error(transparent)]
    Capture(#[from] BadCapture),
    /// Its packets cannot be judged.
    #[error(transparent)]
    Judge(#[from] JudgeError),
}

/// One policy's side: what it let nobody begin, nobody answers.
#[derive(Debug, Default)]
struct Side {
    refused: HashSet<Ends>,
}

impl Side {
    /// What becomes of a packet; `None`: it would not be there, because it answers what was refused.
    fn judge(
        &mut self,
        under: Under,
        packet: &Packet<'_>,
        judge: &mut impl Judge,
    ) -> Result<Outcome, JudgeError> {
        if let Some(key) = packet.flow
            && packet.ours
            && self.refused.contains(&key)
        {
            return Ok(Outcome::NotThere);
        }
        let Some(told) = judge.judge(under, packet.out, packet.frame)? else {
            return Ok(Outcome::Unjudged);
        };
        if let Some(key) = packet.flow.filter(|_| !packet.ours) {
            if told.verdict != Verdict::Drop {
                self.refused.remove(&key);
            } else if self.refused.len() < FLOWS {
                self.refused.insert(key);
            }
        }
        Ok(Outcome::Told(told))
    }
}

enum Outcome {
    Told(Told),
    NotThere,
    Unjudged,
}

struct Packet<'a> {
    frame: &'a [u8],
    out: bool,
    /// Whether the party that is guarded sends it.
    ours: bool,
    flow: Option<Ends>,
}

/// Both ends of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ends {
    local: IpAddr,
    local_port: u16,
    remote: IpAddr,
    remote_port: u16,
    protocol: u8,
}

impl From<FlowKey> for Ends {
    fn from(key: FlowKey) -> Self {
        Self {
            local: ip(&key.local),
            local_port: key.local_port,
            remote: ip(&key.remote),
            remote_port: key.remote_port,
            protocol: key.protocol as u8,
        }
    }
}

/// Judges every packet of a capture under both policies, until a moment.
pub fn replay(
    frames: Frames<'_>,
    until: Instant,
    judge: &mut impl Judge,
) -> Result<Replayed, ReplayError> {
    let mut replayed = Replayed::default();
    let mut changed: HashMap<Option<Ends>, ChangedFlow> = HashMap::new();
    let (mut now, mut then) = (Side::default(), Side::default());
    let mut number = 0;
    for frame in frames {
        let frame = frame?;
        number += 1;
        if Instant::now() >= until {
            replayed.incomplete = true;
            break;
        }
        if !can_be_judged(&frame) {
            replayed.unjudged += 1;
            continue;
        }
        let out = judge.leaves(&frame);
        let way = judge.way(out);
        let packet = Packet {
            frame: &frame,
            out,
            ours: matches!(way, Way::FromHost | Way::FromContainer),
            flow: asked(frame.as_slice(), way).flow.map(Ends::from),
        };
        let before = now.judge(Under::InForce, &packet, judge)?;
        let after = then.judge(Under::Staged, &packet, judge)?;
        let (before, after) = match (before, after) {
            (Outcome::Told(before), Outcome::Told(after)) => (before, after),
            (Outcome::Unjudged, _) | (_, Outcome::Unjudged) => {
                replayed.unjudged += 1;
                continue;
            }
            _ => {
                replayed.packets += 1;
                continue;
            }
        };
        replayed.packets += 1;
        match (before.verdict, after.verdict) {
            (same, other) if same == other => continue,
            (_, Verdict::Drop) => replayed.packets_closed += 1,
            (Verdict::Drop, _) => replayed.packets_opened += 1,
            _ => replayed.packets_monitored += 1,
        }
        if let Some(flow) = changed.get_mut(&packet.flow) {
            flow.packets += 1;
        } else if changed.len() < FLOWS {
            let flow = flow(&packet, number, [before, after], judge);
            changed.insert(packet.flow, flow);
        } else {
            replayed.incomplete = true;
        }
    }
    replayed.flows = changed.len() as u64;
    let mut first: Vec<ChangedFlow> = changed.into_values().collect();
    first.sort_by_key(|flow| (std::cmp::Reverse(flow.packets), flow.packet));
    first.truncate(SHOWN);
    replayed.first = first;
    Ok(replayed)
}

fn flow(packet: &Packet<'_>, number: u64, told: [Told; 2], judge: &impl Judge) -> ChangedFlow {
    let [before, after] = told.map(|told| Judgement {
        verdict: told.verdict,
        reason: told.reason.to_owned(),
        rule: judge.rule(told.rule),
    });
    let ends = packet.flow;
    ChangedFlow {
        local: ends.map(|ends| ends.local),
        local_port: ends.map_or(0, |ends| ends.local_port),
        remote: ends.map(|ends| ends.remote),
        remote_port: ends.map_or(0, |ends| ends.remote_port),
        protocol: ends.map_or(0, |ends| ends.protocol),
        packets: 1,
        packet: number,
        out: packet.out,
        before,
        after,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use etherparse::PacketBuilder;
    use pcap_file::pcap::{PcapPacket, PcapWriter};

    use super::*;

    const HOST: [u8; 4] = [192, 0, 2, 1];
    const PEER: [u8; 4] = [198, 51, 100, 7];

    /// What leaves comes from the MAC 2; port 443 is open under both policies, 8443 only now, 9443 only then.
    struct Play {
        judged: u64,
    }

    impl Judge for Play {
        fn leaves(&self, frame: &[u8]) -> bool {
            frame[6] == 2
        }

        fn way(&self, out: bool) -> Way {
            if out { Way::FromHost } else { Way::ToHost }
        }

        fn judge(
            &mut self,
            under: Under,
            out: bool,
            frame: &[u8],
        ) -> Result<Option<Told>, JudgeError> {
            self.judged += 1;
            let port = u16::from_be_bytes([frame[36], frame[37]]);
            let passes = out
                || match under {
                    Under::InForce => [443, 8443],
                    Under::Staged => [443, 9443],
                }
                .contains(&port);
            let (verdict, reason) = if passes {
                (Verdict::Pass, "pass_rule")
            } else {
                (Verdict::Drop, "drop_port")
            };
            Ok(Some(Told {
                verdict,
                reason,
                rule: 7,
            }))
        }

        fn rule(&self, slot: u16) -> Option<String> {
            Some(format!("rule-{slot}"))
        }
    }

    fn capture(packets: &[(bool, u16, u16)]) -> Vec<u8> {
        let mut writer = PcapWriter::new(Vec::new()).unwrap();
        for &(out, local, remote) in packets {
            let (macs, ends, ports) = if out {
                ([[2; 6], [4; 6]], [HOST, PEER], [local, remote])
            } else {
                ([[4; 6], [2; 6]], [PEER, HOST], [remote, local])
            };
            let mut frame = Vec::new();
            PacketBuilder::ethernet2(macs[0], macs[1])
                .ipv4(ends[0], ends[1], 64)
                .tcp(ports[0], ports[1], 1, 1000)
                .write(&mut frame, &[])
                .unwrap();
            let packet = PcapPacket::new(Duration::ZERO, frame.len() as u32, &frame);
            writer.write_packet(&packet).unwrap();
        }
        writer.into_writer()
    }

    fn replayed(packets: &[(bool, u16, u16)]) -> (Replayed, u64) {
        let mut play = Play { judged: 0 };
        let file = capture(packets);
        let until = Instant::now() + Duration::from_mins(1);
        let replayed = replay(Frames::new(&file).unwrap(), until, &mut play).unwrap();
        (replayed, play.judged)
    }

    #[test]
    fn what_changes_is_counted_by_flow() {
        let (found, _) = replayed(&[
            (false, 443, 1),
            (false, 8443, 1),
            (false, 8443, 2),
            (false, 8443, 2),
            (false, 9443, 3),
        ]);
        assert_eq!((found.packets, found.flows), (5, 3));
        assert_eq!((found.packets_closed, found.packets_opened), (3, 1));
        let most = &found.first[0];
        assert_eq!((most.remote_port, most.packets, most.packet), (2, 2, 3));
        assert_eq!(most.local, Some(IpAddr::from(HOST)));
        assert_eq!(most.before.verdict, Verdict::Pass);
        assert_eq!(most.after.reason, "drop_port");
        assert_eq!(most.after.rule.as_deref(), Some("rule-7"));
    }

    #[test]
    fn what_is_refused_is_not_answered() {
        let (found, judged) = replayed(&[
            (false, 8443, 1),
            (true, 8443, 1),
            (true, 8443, 1),
            (true, 5000, 443),
        ]);
        assert_eq!(found.packets, 4);
        assert_eq!(found.packets_closed, 1);
        assert_eq!(judged, 2 + 1 + 1 + 2, "answers only where it passed");
    }

    #[test]
    fn it_ends_when_the_time_is_over() {
        let file = capture(&[(false, 443, 1)]);
        let mut play = Play { judged: 0 };
        let found = replay(Frames::new(&file).unwrap(), Instant::now(), &mut play).unwrap();
        assert_eq!((found.packets, found.incomplete), (0, true));
    }
}
