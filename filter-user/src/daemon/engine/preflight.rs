//! What speaks against a policy that is staged: the very tables that would be in force are asked.

use std::collections::BTreeMap;

use super::super::links::Links;
use super::super::managed::{Hooks, Managed};
use super::super::view::View;
use super::Engine;
use super::swap::Prepared;
use crate::compile::RuleSlots;
use crate::dataplane::{Dataplane, Hook, JudgeError, Place, XdpProgram, conntrack};
use crate::guard::{self, Arrival, Connection, Ground, Objection, Pusher, Under, Verdict};

impl Engine {
    /// What speaks against putting a policy in force, for whoever pushes it.
    pub(in crate::daemon) fn objections(
        &mut self,
        prepared: &mut Prepared,
        pusher: &Pusher,
    ) -> Vec<Objection> {
        let mut objections = match pusher.connections() {
            Ok(connections) => {
                let mut tables = Tables::new(&mut self.dataplane, &self.managed, prepared);
                guard::cuts(&connections, &mut tables)
            }
            Err(error) => vec![Objection::Untested {
                connection: None,
                why: format!("{error:#}"),
            }],
        };
        let links = &prepared.links;
        let outer: Vec<(&str, Option<&str>)> = self
            .managed
            .iter()
            .filter(|(_, managed)| managed.hooks == Hooks::Outer)
            .map(|(ifindex, managed)| (managed.name.as_str(), links.bridge_name(*ifindex)))
            .collect();
        let (in_force, next) = (&self.loaded.policy, &prepared.loaded.policy);
        if guard::closes_every_way(in_force, next, &outer) {
            objections.push(Objection::ClosesEveryWay);
        }
        if let Some(what) = guard::takes_from_failsafe(in_force, next) {
            objections.push(Objection::TakesFailsafe { what });
        }
        objections
    }
}

/// The tables in force, and those that are staged.
pub(super) struct Tables<'a> {
    in_force: &'a mut Dataplane,
    /// The set that the staged tables are in, if it is another one.
    larger: Option<&'a mut Dataplane>,
    generation: u64,
    slots: &'a RuleSlots,
    links: &'a Links,
    pub(super) view: &'a View,
    outer: Vec<Arrival>,
}

impl<'a> Tables<'a> {
    pub(super) fn new(
        in_force: &'a mut Dataplane,
        managed: &BTreeMap<u32, Managed>,
        prepared: &'a mut Prepared,
    ) -> Self {
        let links = &prepared.links;
        let mut outer: Vec<Arrival> = managed
            .iter()
            .chain(&prepared.plan.managed)
            .filter(|(_, managed)| managed.hooks == Hooks::Outer && managed.error.is_none())
            .map(|(ifindex, managed)| Arrival {
                ifindex: *ifindex,
                name: managed.name.clone(),
                mac: links.details.get(ifindex).and_then(|link| link.mac),
            })
            .collect();
        outer.sort_by_key(|arrival| arrival.ifindex);
        outer.dedup();
        Self {
            in_force,
            larger: prepared.filled.larger.as_mut(),
            generation: prepared.filled.staged.generation(),
            slots: &prepared.slots,
            links,
            view: &prepared.view,
            outer,
        }
    }

    /// What becomes of a frame in some place.
    pub(super) fn judge_at(
        &mut self,
        under: Under,
        place: Place,
        frame: &[u8],
    ) -> Result<Verdict, JudgeError> {
        let judged = match (under, &mut self.larger) {
            (Under::InForce, _) => self.in_force.shadow()?.judge_now(place, frame)?,
            (Under::Staged, None) => {
                let shadow = self.in_force.shadow()?;
                shadow.judge(self.generation, place, frame)?
            }
            (Under::Staged, Some(larger)) => {
                larger.shadow()?.judge(self.generation, place, frame)?
            }
        };
        let rule = self.slots.iter().find(|(_, slot)| *slot == judged.rule);
        Ok(Verdict {
            passes: judged.passes,
            reason: judged.reason,
            rule: rule.map(|(id, _)| id.to_owned()),
        })
    }

    fn is_port_or_lower(&self, ifindex: u32, of: u32) -> bool {
        let link = |ifindex| self.links.details.get(&ifindex);
        link(ifindex).and_then(|port| port.master) == Some(of)
            || link(of).and_then(|device| device.lower) == Some(ifindex)
    }
}

impl Ground for Tables<'_> {
    /// The interface that answers leave by, or those it is made of; all, where the routes tell nothing.
    fn arrivals(&self, connection: &Connection) -> Vec<Arrival> {
        let (local, remote) = (connection.local.ip(), connection.remote.ip());
        let route = conntrack::leaves_by(local, remote).unwrap_or_else(|error| {
            tracing::debug!(%error, %remote, "no route");
            None
        });
        let Some(route) = route else {
            return self.outer.clone();
        };
        let of = |wanted: &dyn Fn(u32) -> bool| -> Vec<Arrival> {
            let found = self.outer.iter().filter(|arrival| wanted(arrival.ifindex));
            found.cloned().collect()
        };
        let same = of(&|ifindex| ifindex == route);
        if !same.is_empty() {
            return same;
        }
        of(&|ifindex| self.is_port_or_lower(ifindex, route))
    }

    fn judge(
        &mut self,
        under: Under,
        arrival: &Arrival,
        frame: &[u8],
    ) -> Result<Verdict, JudgeError> {
        let place = Place {
            ifindex: arrival.ifindex,
            hook: Hook::Xdp(XdpProgram::In),
        };
        self.judge_at(under, place, frame)
    }
}
