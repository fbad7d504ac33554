//! What the engine says of itself: the status, and names for readers of events.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use filter_common::row;

use super::super::bindings::{Binding, Bound};
use super::super::managed::{Hooks, Managed};
use super::Engine;
use crate::compile::registry;
use crate::control::Exposed;
use crate::exposure::Openings;
use crate::policy::{self, Events, Policy, ReversePath};
use crate::report::pinned::KernelPolicy;
use crate::report::status::{
    AntiSpoofStatus, BindingStatus, InterfaceStatus, PolicyStatus, Status,
};

/// Names for readers of events, and what they tell.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Names {
    pub(in crate::daemon) interfaces: HashMap<u32, String>,
    /// By the slot of its counters.
    pub(in crate::daemon) slots: HashMap<u16, String>,
    pub(in crate::daemon) rules: HashMap<u16, String>,
    /// What a row stands for, by its slot.
    pub(in crate::daemon) rows: HashMap<u16, String>,
    /// What a container link is bound to.
    pub(in crate::daemon) bindings: HashMap<u32, String>,
    /// Which events are told.
    pub(in crate::daemon) events: Events,
}

impl Engine {
    /// Stands for the policy in force, with the prefix files it names.
    pub(in crate::daemon) fn fingerprint(&self) -> &str {
        &self.loaded.fingerprint
    }

    /// What `audit exposure` compares with.
    pub(in crate::daemon) fn exposed(&self) -> Exposed {
        Exposed {
            fingerprint: self.loaded.fingerprint.clone(),
            openings: Openings::of(&self.loaded.policy),
            cni_cache: self.options.cni_cache.clone(),
        }
    }

    /// The routers that routes name, as far as routes are asked for.
    pub(in crate::daemon) fn gateways(&self) -> &[IpAddr] {
        &self.links.gateways
    }

    /// This host's own addresses.
    pub(in crate::daemon) fn own_addresses(&self) -> Vec<IpAddr> {
        let facts = &self.links.facts;
        let v4 = facts.own_v4.iter().copied().map(IpAddr::from);
        v4.chain(facts.own_v6.iter().copied().map(IpAddr::from))
            .collect()
    }

    pub(super) fn rename(&self) {
        let rules: HashMap<u16, String> = self
            .slots
            .iter()
            .map(|(id, slot)| (slot, id.to_owned()))
            .collect();
        let mut rows: HashMap<u16, String> = row::FIXED
            .iter()
            .map(|(slot, _, text)| (*slot, (*text).to_owned()))
            .collect();
        rows.extend(registry::V4.iter().chain(registry::V6).map(|row| {
            let slot = self.slots.slot(&registry::row_id(row));
            (slot, format!("{}, {}", row.name, row.rfc))
        }));
        rows.remove(&0);
        let names = Names {
            interfaces: self
                .links
                .names
                .iter()
                .map(|(ifindex, name)| (*ifindex, name.clone()))
                .collect(),
            slots: self
                .managed
                .values()
                .map(|managed| (managed.assignment.slot, managed.name.clone()))
                .collect(),
            rules,
            rows,
            bindings: self
                .view
                .bindings
                .iter()
                .map(|(ifindex, binding)| (*ifindex, binding_text(binding)))
                .collect(),
            events: self.loaded.policy.events.clone(),
        };
        match self.names.write() {
            Ok(mut current) => *current = names,
            Err(poisoned) => *poisoned.into_inner() = names,
        }
    }

    /// What `edgefilter status` shows.
    pub(in crate::daemon) fn status(&self) -> Status {
        let policy = &self.loaded.policy;
        let (rules, prefixes) = figures(policy);
        let profile = |number: usize| {
            policy
                .profiles
                .get(number)
                .map(|profile| profile.name.clone())
                .unwrap_or_default()
        };
        let interfaces = self
            .managed
            .iter()
            .map(|(ifindex, managed)| InterfaceStatus {
                name: managed.name.clone(),
                ifindex: *ifindex,
                profile: managed.assignment.profile.map(profile).unwrap_or_default(),
                vlans: managed
                    .assignment
                    .vlans
                    .iter()
                    .map(|(vlan, number)| (*vlan, profile(*number)))
                    .collect(),
                enforce: managed
                    .profile(policy)
                    .is_some_and(|profile| profile.enforce),
                mode: managed.mode,
                attached: managed.error.is_none() && self.is_attached(*ifindex),
                error: managed.error.clone(),
                antispoof: antispoof(managed, policy),
                binding: self.binding(*ifindex, managed),
            })
            .collect();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: Some(std::process::id()),
            daemon: "running".to_owned(),
            started_at: Some(crate::report::time::rfc3339(self.started_at)),
            generation: self.dataplane.generation().unwrap_or_default(),
            kernel: self.dataplane.policy().ok().map(KernelPolicy::from),
            policy: Some(PolicyStatus {
                fingerprint: self.loaded.fingerprint.clone(),
                loaded_at: crate::report::time::rfc3339(self.loaded_at),
                rules,
                prefixes,
                last_error: self.last_error.clone(),
                ..PolicyStatus::default()
            }),
            interfaces,
            // the control socket adds these: other tasks keep them
            scans: None,
            entries: None,
            sandbox: Some(self.options.sandbox.clone()),
            settings: None,
            warnings: self
                .loaded
                .warnings
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }
}

impl Engine {
    fn binding(&self, ifindex: u32, managed: &Managed) -> Option<BindingStatus> {
        if managed.hooks == Hooks::Outer {
            return None;
        }
        let open = managed
            .profile(&self.loaded.policy)
            .and_then(|profile| profile.containers.as_ref())
            .is_some_and(|containers| containers.unbound_open);
        let known = self.view.bindings.get(&ifindex);
        let bound = known.and_then(|binding| binding.bound.as_ref());
        Some(BindingStatus {
            origin: match bound {
                Some(bound) => bound.origin.name(),
                None if open => "open",
                None => "closed",
            }
            .to_owned(),
            macs: bound.map_or_else(Vec::new, mac_texts),
            addresses: bound.map_or_else(Vec::new, address_texts),
            remarks: known.map_or_else(Vec::new, |binding| binding.remarks.clone()),
        })
    }
}

fn antispoof(managed: &Managed, policy: &Policy) -> Option<AntiSpoofStatus> {
    if managed.hooks != Hooks::Outer {
        return None;
    }
    let antispoof = &managed.profile(policy)?.antispoof;
    Some(AntiSpoofStatus {
        martians: antispoof.martians,
        internet: antispoof.internet,
        own_addresses: antispoof.own_addresses,
        reverse_path: match antispoof.reverse_path {
            ReversePath::Off => "off",
            ReversePath::Loose => "loose",
            ReversePath::Strict => "strict",
        }
        .to_owned(),
        egress: antispoof.egress,
    })
}

fn mac_texts(bound: &Bound) -> Vec<String> {
    let text = |mac: &[u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    bound.macs.iter().map(text).collect()
}

/// A single address without its prefix length.
fn address_texts(bound: &Bound) -> Vec<String> {
    let v4 = bound.v4.iter().map(|net| match net.prefix_len() {
        32 => net.addr().to_string(),
        _ => net.to_string(),
    });
    let v6 = bound.v6.iter().map(|net| match net.prefix_len() {
        128 => net.addr().to_string(),
        _ => net.to_string(),
    });
    v4.chain(v6).collect()
}

/// For a line of text.
fn binding_text(binding: &Binding) -> String {
    match &binding.bound {
        Some(bound) => format!(
            "bound to {} {} ({})",
            mac_texts(bound).join(" "),
            address_texts(bound).join(" "),
            bound.origin.name()
        ),
        None => format!("no binding: {}", binding.remarks.join("; ")),
    }
}

/// Rules of a policy, and distinct prefixes in its address lists.
pub(in crate::daemon) fn figures(policy: &Policy) -> (usize, usize) {
    let mut sets = HashMap::new();
    let from = policy.rules().filter_map(|rule| match &rule.from {
        policy::AddressSet::Prefixes(set) => Some(set),
        policy::AddressSet::Any => None,
    });
    let others = policy.profiles.iter().flat_map(|profile| {
        let antispoof = &profile.antispoof;
        [&antispoof.legitimate, &antispoof.egress_sources]
    });
    for set in from.chain(others.flatten()) {
        sets.insert(Arc::as_ptr(set), set.v4.len() + set.v6.len());
    }
    (policy.rules().count(), sets.values().sum())
}
