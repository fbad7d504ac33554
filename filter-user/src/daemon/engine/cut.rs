//! Which live flows a policy that is staged would drop: flows that the kernel knows of, and those that the filter noted.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use filter_common::layout::FlowKey;

use super::super::managed::Hooks;
use super::Engine;
use super::explain::hook;
use super::preflight::Tables;
use super::swap::Prepared;
use crate::dataplane::conntrack::ExistingFlow;
use crate::dataplane::scans::ip;
use crate::dataplane::{Hook, JudgeError, Place, XdpProgram};
use crate::explain::frame::{HOP_LIMIT, Mac, Packet, SOMEBODY};
use crate::guard::{Arrival, Connection, Ground, Under, Verdict};
use crate::plan::cut::{CutFlows, LiveFlow, Passage, Terrain, cut_flows};

/// Longest it may take: nothing else is done meanwhile.
const TIME: Duration = Duration::from_secs(4);

impl Engine {
    /// Live flows that the prepared policy would drop, as far as they can be found in a few seconds.
    pub(in crate::daemon) fn cut_flows(&mut self, prepared: &mut Prepared) -> CutFlows {
        let until = Instant::now() + TIME;
        let mut errors = Vec::new();
        let existing = self.established().unwrap_or_else(|error| {
            errors.push(format!("{error:#}"));
            Vec::new()
        });
        // half of the time to list, half to judge
        let (noted, more) = self
            .dataplane
            .noted(Instant::now() + TIME / 2)
            .unwrap_or_else(|error| {
                errors.push(format!("{:#}", anyhow::Error::new(error)));
                (Vec::new(), true)
            });
        let flows = existing.iter().filter_map(existing_flow);
        let flows = flows
            .chain(noted.iter().map(noted_flow))
            .filter(|flow| flow.content(flow.remote, flow.local).is_some());
        let links = self.links_of_containers();
        let mut ways = Ways {
            tables: Tables::new(&mut self.dataplane, &self.managed, prepared),
            links,
            arrivals: HashMap::new(),
        };
        let mut found = cut_flows(flows, until, &mut ways);
        found.incomplete |= more || !errors.is_empty();
        found.error = found.error.or_else(|| errors.into_iter().next());
        found
    }

    fn links_of_containers(&self) -> Vec<Link> {
        let containers = self.managed.iter();
        let containers = containers.filter(|(_, managed)| managed.hooks != Hooks::Outer);
        containers
            .map(|(ifindex, managed)| Link {
                ifindex: *ifindex,
                name: managed.name.clone(),
                hooks: managed.hooks,
            })
            .collect()
    }
}

/// A container link.
struct Link {
    ifindex: u32,
    name: String,
    hooks: Hooks,
}

/// Where packets of flows are judged.
struct Ways<'a> {
    tables: Tables<'a>,
    links: Vec<Link>,
    /// By both ends: one question to the kernel's routes for all flows between them.
    arrivals: HashMap<(IpAddr, IpAddr), Vec<Arrival>>,
}

impl Ways<'_> {
    /// By the link of the container that has the local end, if one has: what it is sent, and what it sends.
    fn by_its_link(&self, flow: &LiveFlow) -> Vec<Passage> {
        let mut passages = Vec::new();
        for link in &self.links {
            let binding = self.tables.view.bindings.get(&link.ifindex);
            let Some(bound) = binding.and_then(|binding| binding.bound.as_ref()) else {
                continue;
            };
            let has = match flow.local.ip() {
                IpAddr::V4(local) => bound.v4.iter().any(|net| net.contains(&local)),
                IpAddr::V6(local) => bound.v6.iter().any(|net| net.contains(&local)),
            };
            if !has {
                continue;
            }
            let mac = bound.macs.first().copied().unwrap_or(SOMEBODY);
            let (local, remote) = (flow.local, flow.remote);
            for (out, from, to, macs) in [
                (true, remote, local, [SOMEBODY, mac]),
                (false, local, remote, [mac, SOMEBODY]),
            ] {
                let place = Place {
                    ifindex: link.ifindex,
                    hook: hook(link.hooks, out),
                };
                passages.extend(passage(flow, place, &link.name, [from, to], macs));
            }
        }
        passages
    }
}

impl Terrain for Ways<'_> {
    fn passages(&mut self, flow: &LiveFlow) -> Vec<Passage> {
        let tables = &self.tables;
        let ends = (flow.local.ip(), flow.remote.ip());
        let arrivals = self.arrivals.entry(ends).or_insert_with(|| {
            tables.arrivals(&Connection {
                local: flow.local,
                remote: flow.remote,
                incoming: flow.incoming,
            })
        });
        let ends = [flow.remote, flow.local];
        let mut passages: Vec<Passage> = arrivals
            .iter()
            .filter_map(|arrival| {
                let place = Place {
                    ifindex: arrival.ifindex,
                    hook: Hook::Xdp(XdpProgram::In),
                };
                let macs = [SOMEBODY, arrival.mac.unwrap_or(SOMEBODY)];
                passage(flow, place, &arrival.name, ends, macs)
            })
            .collect();
        passages.extend(self.by_its_link(flow));
        passages
    }

    fn judge(&mut self, under: Under, passage: &Passage) -> Result<Verdict, JudgeError> {
        self.tables.judge_at(under, passage.place, &passage.frame)
    }
}

fn passage(
    flow: &LiveFlow,
    place: Place,
    interface: &str,
    [from, to]: [SocketAddr; 2],
    macs: [Mac; 2],
) -> Option<Passage> {
    let packet = Packet {
        macs,
        vlan: None,
        from: from.ip(),
        to: to.ip(),
        hop_limit: HOP_LIMIT,
        fragment: false,
        content: flow.content(from, to)?,
    };
    Some(Passage {
        place,
        interface: interface.to_owned(),
        frame: packet.frame().ok()?,
    })
}

/// Whoever waits for an answer of anybody has no flow yet.
fn existing_flow(existing: &ExistingFlow) -> Option<LiveFlow> {
    Some(LiveFlow {
        local: SocketAddr::new(existing.local, existing.local_port),
        remote: SocketAddr::new(existing.remote?, existing.remote_port),
        protocol: existing.protocol,
        incoming: !existing.outgoing,
    })
}

/// What the filter notes, this side began.
fn noted_flow(key: &FlowKey) -> LiveFlow {
    LiveFlow {
        local: SocketAddr::new(ip(&key.local), key.local_port),
        remote: SocketAddr::new(ip(&key.remote), key.remote_port),
        protocol: key.protocol as u8,
        incoming: false,
    }
}
