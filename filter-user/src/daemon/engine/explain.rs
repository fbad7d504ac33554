//! Answers to questions about packets: the shadow judges them, the policy says what its words mean.

use std::net::IpAddr;
use std::time::Duration;

use filter_common::layout::FlowKey;
use filter_common::parse;
use filter_common::row;

use super::super::managed::Hooks;
use super::Engine;
use crate::compile::registry;
use crate::control::Refusal;
use crate::dataplane::scans::ip;
use crate::dataplane::{self, Hook, Judged, Place, TcProgram, XdpProgram};
use crate::explain::{DecidedBy, Explanation, Flow, Known, Question, Source, Verdict};
use crate::policy::{AddressSet, Policy, Profile, hex};
use crate::report::time::{from_monotonic, rfc3339};

impl Engine {
    /// What would become of a packet now.
    pub(in crate::daemon) fn explain(
        &mut self,
        question: &Question,
    ) -> Result<Explanation, Refusal> {
        let ifindex = self
            .links
            .names
            .iter()
            .find_map(|(ifindex, name)| (*name == question.interface).then_some(*ifindex))
            .ok_or_else(|| {
                Refusal::Unknown(format!("there is no interface {}", question.interface))
            })?;
        let link = self.links.details.get(&ifindex);
        let known = link.map(|link| Known {
            mac: link.mac,
            addresses: link.addresses.clone(),
        });
        let frame = question
            .frame(&known.unwrap_or_default())
            .map_err(|error| Refusal::Wrong(error.to_string()))?;
        let managed = self.managed.get(&ifindex);
        let place = Place {
            ifindex,
            hook: hook(
                managed.map_or(Hooks::Outer, |managed| managed.hooks),
                question.out,
            ),
        };
        let failed = |error: anyhow::Error| Refusal::Failed(format!("{error:#}"));
        let shadow = self.dataplane.shadow().map_err(|e| failed(e.into()))?;
        let judged = shadow
            .judge_now(place, &frame)
            .map_err(|e| failed(e.into()))?;
        let header = parse::link(frame.as_slice());
        let source = parse::source(frame.as_slice(), &header).map(|(_, source)| source);
        let until = match &source {
            Some(source) => shadow.blocked_until(source).map_err(|e| failed(e.into()))?,
            None => None,
        };
        let now = dataplane::now().unwrap_or_default();
        let until = until
            .filter(|until| *until > now)
            .map(|until| rfc3339(from_monotonic(now) + Duration::from_nanos(until - now)));
        let profile = self.profile_of(ifindex, header.vlan);
        Ok(Explanation {
            verdict: verdict(&judged),
            reason: judged.reason.name().to_owned(),
            meaning: judged.reason.text().to_owned(),
            rule: self.decided_by(judged.rule),
            interface: question.interface.clone(),
            out: question.out,
            profile: profile.map(|profile| profile.name.clone()),
            enforce: profile.is_some_and(|profile| profile.enforce),
            source: source.map(|source| Source {
                address: ip(&source),
                listed: listed(&self.loaded.policy, ip(&source)),
                blocked_until: until,
            }),
            flow: judged.flow.map(|(key, _)| flow(&key)),
            generation: self.mark.generation,
            frame: hex(&frame),
        })
    }

    /// The profile that judges frames with this VLAN id, 0 for none.
    fn profile_of(&self, ifindex: u32, vlan: u16) -> Option<&Profile> {
        let assignment = &self.managed.get(&ifindex)?.assignment;
        let tagged = assignment.vlans.iter().find(|(known, _)| *known == vlan);
        let number = tagged.map(|(_, number)| *number).or(assignment.profile)?;
        self.loaded.policy.profiles.get(number)
    }

    fn decided_by(&self, slot: u16) -> Option<DecidedBy> {
        if slot == 0 {
            return None;
        }
        if let Some((_, name, text)) = row::FIXED.iter().find(|(known, ..)| *known == slot) {
            return Some(check(name, text));
        }
        let (id, _) = self.slots.iter().find(|(_, known)| *known == slot)?;
        let rule = self.loaded.policy.rules().find(|rule| rule.id == id);
        Some(match rule {
            Some(rule) => DecidedBy {
                id: id.to_owned(),
                text: rule.comment.clone(),
                file: Some(rule.file.display().to_string()),
                line: Some(rule.line),
            },
            None => {
                let mut rows = registry::V4.iter().chain(registry::V6);
                let row = rows.find(|row| registry::row_id(row) == id);
                let text = row.map(|row| format!("{}, {}", row.name, row.rfc));
                check(id, &text.unwrap_or_default())
            }
        })
    }
}

fn check(name: &str, text: &str) -> DecidedBy {
    DecidedBy {
        id: name.to_owned(),
        text: text.to_owned(),
        file: None,
        line: None,
    }
}

/// The program that judges what comes in by an interface, or leaves by it.
pub(super) fn hook(hooks: Hooks, out: bool) -> Hook {
    match (hooks, out) {
        (Hooks::Outer, false) => Hook::Xdp(XdpProgram::In),
        (Hooks::Outer, true) => Hook::Tc(TcProgram::Out),
        (Hooks::Container, false) => Hook::Tc(TcProgram::Send),
        (Hooks::ContainerXdp, false) => Hook::Xdp(XdpProgram::Send),
        (Hooks::Container | Hooks::ContainerXdp, true) => Hook::Tc(TcProgram::Deliver),
    }
}

pub(super) fn verdict(judged: &Judged) -> Verdict {
    if judged.monitored {
        Verdict::WouldDrop
    } else if judged.passes {
        Verdict::Pass
    } else {
        Verdict::Drop
    }
}

fn flow(key: &FlowKey) -> Flow {
    Flow {
        local: ip(&key.local),
        local_port: key.local_port,
        remote: ip(&key.remote),
        remote_port: key.remote_port,
        protocol: key.protocol as u8,
    }
}

/// The lists of rules that an address is on, each once.
fn listed(policy: &Policy, address: IpAddr) -> Vec<String> {
    let mut names: Vec<String> = policy
        .rules()
        .filter_map(|rule| match &rule.from {
            AddressSet::Prefixes(set) if set.contains(address) => Some(set.name.clone()),
            _ => None,
        })
        .collect();
    names.sort();
    names.dedup();
    names
}
