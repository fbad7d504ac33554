//! What the daemon would hand the programs about `lo` on a given host: facts for the compiler, profile, binding.
//! Must never decide what a binding is; the oracle's host says that.

use std::net::IpAddr;

use filter_common::layout::{Binding, REACH_ANY, binding};
use filter_user::compile::{HostFacts, Route};
use filter_user::dataplane::{Assignment, UNBOUND};
use filter_user::policy::{Policy, Profile, ReversePath};
use ipnet::IpNet;

use super::filter::SLOT;
use super::place::LOOPBACK;
use crate::oracle::case::INTERFACE;
use crate::oracle::policy::{Mac, RawPolicy};
use crate::oracle::rules;
use crate::oracle::world::{Binding as Known, World};

/// What the compiler asks for.
#[must_use]
pub fn facts(world: &World) -> HostFacts {
    let mut facts = HostFacts {
        own_v4: world.own_v4.clone(),
        own_v6: world.own_v6.clone(),
        broadcast: world.broadcast.clone(),
        tentative_v6: world.tentative_v6.clone(),
        strict: strict(world).map(|(_, outputs)| outputs.to_vec()).collect(),
        ..HostFacts::default()
    };
    for cidr in &world.inside {
        match cidr.0 {
            IpNet::V4(net) => facts.inside_v4.push(net),
            IpNet::V6(net) => facts.inside_v6.push(net),
        }
    }
    facts.routes = world
        .routes
        .iter()
        .map(|route| Route {
            table: route.table,
            prefix: route.prefix.0,
            metric: route.metric,
            interfaces: route.interfaces.clone(),
            any: route.any,
        })
        .collect();
    facts
}

/// Interfaces that can have the strict reverse path; the place is the bit.
fn strict(world: &World) -> impl Iterator<Item = (&str, &[u32])> {
    world
        .links
        .iter()
        .filter_map(|(name, link)| Some((name.as_str(), link.outputs.as_deref()?)))
}

/// What is said about `lo`; nothing where no profile names it. `text` is the policy's.
#[must_use]
pub fn assignments(policy: &Policy, text: &str, world: &World) -> Vec<Assignment> {
    let winners = policy.profile_for(INTERFACE, world.bridge(INTERFACE));
    let Some((_, first)) = winners.first() else {
        return Vec::new();
    };
    let mut vlans: Vec<(u16, usize)> = Vec::new();
    for (index, profile) in &winners {
        for id in &profile.vlans {
            if vlans.iter().all(|(known, _)| known != id) {
                vlans.push((*id, *index));
            }
        }
    }
    let is_strict = |profile: &Profile| profile.antispoof.reverse_path == ReversePath::Strict;
    let bit = strict(world).position(|(name, _)| name == INTERFACE);
    vec![Assignment {
        ifindex: LOOPBACK,
        slot: SLOT,
        profile: winners
            .iter()
            .find(|(_, profile)| profile.vlans.is_empty())
            .map(|(index, _)| *index),
        vlans,
        binding: bits(first, text, world),
        reach_bit: match bit {
            _ if !winners.iter().any(|(_, profile)| is_strict(profile)) => REACH_ANY,
            // An interface that no list names: no source is reached by it.
            None => REACH_ANY - 1,
            Some(bit) => bit as u32,
        },
    }]
}

fn bits(profile: &Profile, text: &str, world: &World) -> Binding {
    let Some(containers) = &profile.containers else {
        let link = world.links.get(INTERFACE);
        return Binding {
            known: binding::KNOWN,
            macs: macs(link.map_or(&[], |link| &link.macs)),
            ..UNBOUND
        };
    };
    let known = RawPolicy::parse(text).ok().and_then(|policy| {
        let profiles = rules::resolve(&policy);
        let judge = profiles.iter().find(|known| known.name == profile.name)?;
        judge.binding(INTERFACE, world)
    });
    match known {
        Some(known) => bound(&known),
        None if containers.unbound_open => Binding {
            known: binding::OPEN,
            ..UNBOUND
        },
        None => UNBOUND,
    }
}

fn bound(known: &Known) -> Binding {
    let mut bits = Binding {
        known: binding::KNOWN,
        macs: macs(&known.macs),
        ..UNBOUND
    };
    let (mut v4, mut v6) = (bits.v4.iter_mut(), bits.v6.iter_mut());
    for cidr in &known.addresses {
        match (cidr.0.network(), cidr.0.netmask()) {
            (IpAddr::V4(network), IpAddr::V4(mask)) => {
                if let Some(entry) = v4.next() {
                    *entry = [network.to_bits(), mask.to_bits()];
                }
            }
            (IpAddr::V6(network), IpAddr::V6(mask)) => {
                let halves = |bits: u128| [(bits >> 64) as u64, bits as u64];
                let ([a, b], [c, d]) = (halves(network.to_bits()), halves(mask.to_bits()));
                if let Some(entry) = v6.next() {
                    *entry = [a, b, c, d];
                }
            }
            _ => {}
        }
    }
    bits
}

fn macs<const N: usize>(known: &[Mac]) -> [u64; N] {
    let mut bits = [binding::NO_MAC; N];
    for (entry, mac) in bits.iter_mut().zip(known) {
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&mac.0);
        *entry = u64::from_be_bytes(bytes);
    }
    bits
}
