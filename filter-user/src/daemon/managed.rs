//! Which interfaces the policy names, which profile judges each, and in which slot it is counted. Pure.

use std::collections::{BTreeMap, HashMap};

use filter_common::layout::REACH_ANY;
use filter_common::limits::INTERFACE_SLOTS;

use super::links::Links;
use super::view::{self, View};
use crate::dataplane::{self, Assignment, Mode, TcProgram, UNBOUND, XdpProgram};
use crate::policy::{Hook, Policy, Profile};

/// What is known of an interface that the policy names.
#[derive(Clone, Debug)]
pub(super) struct Managed {
    pub(super) name: String,
    pub(super) hooks: Hooks,
    pub(super) assignment: Assignment,
    pub(super) mode: Option<Mode>,
    /// Why it is not filtered.
    pub(super) error: Option<String>,
}

/// Where the programs of an interface are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hooks {
    Outer,
    Container,
    /// XDP for what the container sends.
    ContainerXdp,
}

impl Hooks {
    pub(super) fn of(profile: &Profile) -> Self {
        match profile
            .containers
            .as_ref()
            .map(|containers| containers.hook)
        {
            None => Self::Outer,
            Some(Hook::Tc) => Self::Container,
            Some(Hook::Xdp) => Self::ContainerXdp,
        }
    }

    /// All of its programs.
    pub(super) const fn programs(self) -> &'static [dataplane::Hook] {
        use dataplane::Hook::{Tc, Xdp};
        match self {
            Self::Outer => &[Xdp(XdpProgram::In), Tc(TcProgram::Out)],
            Self::Container => &[Tc(TcProgram::Send), Tc(TcProgram::Deliver)],
            Self::ContainerXdp => &[Xdp(XdpProgram::Send), Tc(TcProgram::Deliver)],
        }
    }

    /// The program that has to be on the interface, if it is one that `ip link` shows.
    pub(super) fn xdp(self) -> Option<XdpProgram> {
        match self {
            Self::Outer => Some(XdpProgram::In),
            Self::Container => None,
            Self::ContainerXdp => Some(XdpProgram::Send),
        }
    }
}

/// The programs that a policy takes, on the interfaces it names that are there and on those to come.
pub(super) fn programs(policy: &Policy) -> Vec<dataplane::Hook> {
    let hooks = policy.profiles.iter().map(Hooks::of);
    hooks.flat_map(Hooks::programs).copied().collect()
}

impl Managed {
    /// One that has nothing yet.
    pub(super) fn new(name: String, hooks: Hooks) -> Self {
        Self {
            name,
            hooks,
            assignment: Assignment {
                ifindex: 0,
                slot: 0,
                profile: None,
                vlans: Vec::new(),
                binding: UNBOUND,
                reach_bit: REACH_ANY,
            },
            mode: None,
            error: None,
        }
    }

    /// The profile that judges frames no VLAN profile claims, or the first VLAN profile.
    pub(super) fn profile<'a>(&self, policy: &'a Policy) -> Option<&'a Profile> {
        let first_vlan = self.assignment.vlans.first().map(|vlan| vlan.1);
        policy.profiles.get(self.assignment.profile.or(first_vlan)?)
    }
}

/// Interfaces and the slots that change hands.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) managed: BTreeMap<u32, Managed>,
    /// Slots that start at zero.
    pub(super) fresh: Vec<u16>,
    /// Slots that nobody uses any more.
    pub(super) free: Vec<u16>,
}

/// Whether a profile names the interface. Loopback counts only when it is named as such: no glob means it.
pub(super) fn is_named(policy: &Policy, name: &str, bridge: Option<&str>) -> bool {
    !policy.profile_for(name, bridge).is_empty() && (name != "lo" || is_named_exactly(policy, name))
}

/// Whether a profile names just this interface, not by a glob.
pub(super) fn is_named_exactly(policy: &Policy, name: &str) -> bool {
    policy
        .profiles
        .iter()
        .any(|profile| profile.interfaces.iter().any(|pattern| pattern == name))
}

/// Plans for the links there are. `slots` are those in use: interface index -> slot.
pub(super) fn plan(
    policy: &Policy,
    links: &Links,
    view: &View,
    slots: &HashMap<u32, u16>,
    before: &BTreeMap<u32, Managed>,
) -> Plan {
    let mut taken = vec![false; INTERFACE_SLOTS];
    taken[0] = true;
    // a slot that this very plan releases is the last choice: packets may still be counted in it
    for slot in slots.values() {
        if let Some(taken) = taken.get_mut(*slot as usize) {
            *taken = true;
        }
    }
    let mut plan = Plan {
        managed: BTreeMap::new(),
        fresh: Vec::new(),
        free: Vec::new(),
    };
    for (ifindex, name) in &links.names {
        if !view.sides.contains_key(ifindex) {
            continue;
        }
        let mut error = None;
        if view.too_many_strict.contains(ifindex) {
            error = Some(format!(
                "{name}: too many interfaces with reverse_path = \"strict\"; use \"loose\" on some"
            ));
        }
        if links.not_ethernet.contains(ifindex) {
            error = Some(format!(
                "{name}: not an Ethernet device, and the program reads Ethernet frames; leave it out of the policy"
            ));
        }
        let slot = match slots.get(ifindex) {
            Some(slot) => *slot,
            None => match taken.iter().position(|taken| !taken) {
                Some(slot) => {
                    taken[slot] = true;
                    plan.fresh.push(slot as u16);
                    slot as u16
                }
                None => {
                    error = Some(format!(
                        "{name}: more than {} interfaces",
                        INTERFACE_SLOTS - 1
                    ));
                    0
                }
            },
        };
        let assignment = assignment(policy, links, view, *ifindex, slot);
        let mode = before.get(ifindex).and_then(|known| known.mode);
        let name = name.clone();
        plan.managed.insert(
            *ifindex,
            Managed {
                name,
                hooks: view::profile(policy, links, *ifindex).map_or(Hooks::Outer, Hooks::of),
                assignment,
                mode,
                error,
            },
        );
    }
    for (ifindex, slot) in slots {
        if !plan.managed.contains_key(ifindex) {
            plan.free.push(*slot);
        }
    }
    plan
}

fn assignment(policy: &Policy, links: &Links, view: &View, ifindex: u32, slot: u16) -> Assignment {
    let mut assignment = Assignment {
        ifindex,
        slot,
        profile: None,
        vlans: Vec::new(),
        binding: UNBOUND,
        reach_bit: REACH_ANY,
    };
    if let Some(profile) = view::profile(policy, links, ifindex) {
        assignment.binding = view.bits(links, ifindex, profile);
        assignment.reach_bit = view.reach_bit(ifindex);
    }
    let name = links.name(ifindex);
    for (number, profile) in policy.profile_for(&name, links.bridge_name(ifindex)) {
        if profile.vlans.is_empty() {
            assignment.profile = Some(number);
        }
        for vlan in &profile.vlans {
            // the first profile that claims an id keeps it
            if assignment.vlans.iter().all(|(known, _)| known != vlan) {
                assignment.vlans.push((*vlan, number));
            }
        }
    }
    assignment
}

/// The assignments that go into the tables: those of interfaces that can be filtered.
pub(super) fn assignments(managed: &BTreeMap<u32, Managed>) -> Vec<Assignment> {
    managed
        .values()
        .filter(|managed| managed.assignment.slot != 0)
        .map(|managed| managed.assignment.clone())
        .collect()
}
