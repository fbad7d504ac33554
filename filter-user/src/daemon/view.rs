//! What the policy makes of the links there are: which side each interface stands on, what it is bound to, and the
//! facts that the compiler asks for. Pure.

use std::collections::BTreeMap;

use filter_common::layout::{Binding as Bits, REACH_ANY, binding};
use ipnet::IpNet;

use super::bindings::cni::CniResults;
use super::bindings::{self, Binding, Bound, Former};
use super::bits;
use super::links::{Links, Peers};
use super::managed::is_named;
use super::topology;
use crate::compile::HostFacts;
use crate::dataplane::{Side, UNBOUND};
use crate::policy::{Containers, Policy, Profile, ReversePath, ScanAction};

/// Interfaces with the strict reverse path: one bit each, one more stands for any interface.
const MAX_STRICT: usize = REACH_ANY as usize;

/// The view of one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// Interfaces that a profile judges.
    pub(super) sides: BTreeMap<u32, Side>,
    /// Of every container link.
    pub(super) bindings: BTreeMap<u32, Binding>,
    /// For the compiler.
    pub(super) facts: HostFacts,
    /// Interface -> its bit of the reverse path.
    strict: BTreeMap<u32, u32>,
    /// Strict interfaces beyond [`MAX_STRICT`].
    pub(super) too_many_strict: Vec<u32>,
}

/// The profile for frames that no VLAN profile claims, or the first VLAN profile.
pub(super) fn profile<'a>(policy: &'a Policy, links: &Links, ifindex: u32) -> Option<&'a Profile> {
    let name = links.names.get(&ifindex)?;
    let bridge = links.bridge_name(ifindex);
    is_named(policy, name, bridge).then_some(())?;
    let profiles = policy.profile_for(name, bridge);
    profiles.first().map(|(_, profile)| *profile)
}

/// Container links, with the settings of the profile that judges each.
pub(super) fn containers<'a>(policy: &'a Policy, links: &Links) -> BTreeMap<u32, &'a Containers> {
    links
        .names
        .keys()
        .filter_map(|ifindex| {
            let containers = profile(policy, links, *ifindex)?.containers.as_ref()?;
            Some((*ifindex, containers))
        })
        .collect()
}

/// Whether the routes have to be known: for the reverse path, to tell what a container may be believed, or which
/// gateways must not be blocked.
pub(super) fn wants_routes(policy: &Policy) -> bool {
    let learns = |profile: &Profile| profile.containers.as_ref().is_some_and(|c| c.auto);
    let blocks = policy.scans.enabled && policy.scans.action == ScanAction::Block;
    blocks || has_reverse_path(policy) || policy.profiles.iter().any(learns)
}

fn has_reverse_path(policy: &Policy) -> bool {
    let mut profiles = policy.profiles.iter();
    profiles.any(|profile| profile.antispoof.reverse_path != ReversePath::Off)
}

impl View {
    /// Looks; who has an address already keeps it (`former`).
    pub(super) fn new(
        policy: &Policy,
        links: &Links,
        cni: &CniResults,
        peers: &Peers,
        former: &Former,
    ) -> Self {
        let (mut sides, mut strict_interfaces) = (BTreeMap::new(), Vec::new());
        for ifindex in links.names.keys() {
            let Some(profile) = profile(policy, links, *ifindex) else {
                continue;
            };
            let side = if profile.containers.is_some() {
                Side::Container
            } else {
                Side::Outer
            };
            sides.insert(*ifindex, side);
            // a profile for VLAN ids may ask for more than the one for all other frames
            let judges =
                policy.profile_for(links.name(*ifindex).as_ref(), links.bridge_name(*ifindex));
            let strict = |profile: &Profile| profile.antispoof.reverse_path == ReversePath::Strict;
            if judges.iter().any(|(_, profile)| strict(profile)) {
                strict_interfaces.push(*ifindex);
            }
        }
        let too_many_strict = strict_interfaces.split_off(strict_interfaces.len().min(MAX_STRICT));
        let bindings = bindings::bind(bindings::Sources {
            links,
            containers: &containers(policy, links),
            cni,
            peers,
            former,
        });
        let bound = bindings
            .iter()
            .filter_map(|(ifindex, binding)| Some((*ifindex, binding.bound.as_ref()?)));
        let (inside_v4, inside_v6) = topology::inside(links, &sides, bound);
        let facts = HostFacts {
            connected: connected(policy, links, &sides),
            inside_v4,
            inside_v6,
            strict: topology::strict(links, strict_interfaces.iter().copied()),
            // those that no profile asks for must not look like a change
            routes: if has_reverse_path(policy) {
                links.facts.routes.clone()
            } else {
                Vec::new()
            },
            own_v4: links.facts.own_v4.clone(),
            own_v6: links.facts.own_v6.clone(),
            broadcast: links.facts.broadcast.clone(),
            tentative_v6: links.facts.tentative_v6.clone(),
        };
        let strict = strict_interfaces.into_iter().zip(0..).collect();
        Self {
            sides,
            bindings,
            facts,
            strict,
            too_many_strict,
        }
    }

    /// What each container link is bound to, without the remarks.
    pub(super) fn bound(&self) -> impl Iterator<Item = (u32, Option<&Bound>)> {
        let bindings = self.bindings.iter();
        bindings.map(|(ifindex, binding)| (*ifindex, binding.bound.as_ref()))
    }

    /// Where the interface stands; an interface that no profile judges is an outer one.
    pub(super) fn side(&self, ifindex: u32) -> Side {
        self.sides.get(&ifindex).copied().unwrap_or(Side::Outer)
    }

    /// The bit of the reverse path. Beyond the limit no source is ever reached: closed, and said in the status.
    pub(super) fn reach_bit(&self, ifindex: u32) -> u32 {
        self.strict.get(&ifindex).copied().unwrap_or(REACH_ANY - 1)
    }

    /// What the interface's guarded party may send from, as the program reads it.
    pub(super) fn bits(&self, links: &Links, ifindex: u32, profile: &Profile) -> Bits {
        let Some(containers) = &profile.containers else {
            return Bits {
                known: binding::KNOWN,
                macs: bits::macs(&topology::macs(links, ifindex)),
                ..UNBOUND
            };
        };
        match self.bindings.get(&ifindex).and_then(|b| b.bound.as_ref()) {
            Some(bound) => bits::write(bound),
            None if containers.unbound_open => Bits {
                known: binding::OPEN,
                ..UNBOUND
            },
            None => UNBOUND,
        }
    }
}

/// The networks that each profile's interfaces are on, and what is stacked on them.
fn connected(policy: &Policy, links: &Links, sides: &BTreeMap<u32, Side>) -> Vec<(usize, IpNet)> {
    let mut connected = Vec::new();
    let outer = sides.iter().filter(|(_, side)| **side == Side::Outer);
    for (ifindex, _) in outer {
        let profiles = policy.profile_for(&links.name(*ifindex), links.bridge_name(*ifindex));
        let family = topology::strict(links, [*ifindex]).concat();
        let details = family
            .iter()
            .filter_map(|ifindex| links.details.get(ifindex));
        for net in details.flat_map(|link| &link.prefixes) {
            connected.extend(profiles.iter().map(|(number, _)| (*number, *net)));
        }
    }
    connected.sort_unstable();
    connected.dedup();
    connected
}
