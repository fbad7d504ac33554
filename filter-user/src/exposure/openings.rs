//! What a policy opens to packets that arrive at this host, by profile: a short form that is kept beside the policy in
//! force.

use std::net::IpAddr;
use std::sync::Arc;

use crate::policy::{
    AddressSet, DefaultVerdict, Destination, Policy, PortProtocol, PrefixSet, Rule, Service,
};

/// Everything that is open, by outer profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Openings {
    /// The profiles that guard this host.
    pub(super) profiles: Vec<Profile>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Profile {
    pub(super) name: String,
    pub(super) interfaces: Vec<String>,
    pub(super) enforced: bool,
    /// What no rule is about passes.
    pub(super) passes: bool,
    pub(super) open: Vec<Opening>,
    /// Refused to everybody, whatever is open.
    pub(super) shut: Vec<Opening>,
}

/// Ports that a rule is about.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Opening {
    pub(super) rule: String,
    pub(super) protocol: PortProtocol,
    pub(super) first: u16,
    pub(super) last: u16,
    /// How many prefixes; `None`: everybody.
    pub(super) prefixes: Option<usize>,
    /// `None`: every address of this host.
    to: Option<Arc<PrefixSet>>,
}

impl Openings {
    /// What `policy` opens.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        let outer = policy
            .profiles
            .iter()
            .filter(|profile| profile.containers.is_none());
        let profiles = outer.map(|profile| Profile {
            name: profile.name.clone(),
            interfaces: profile.interfaces.clone(),
            enforced: profile.enforce,
            passes: profile.default_verdict == DefaultVerdict::Pass,
            open: policy
                .failsafe
                .rules()
                .iter()
                .chain(&profile.allow)
                .flat_map(openings)
                .collect(),
            shut: profile
                .deny
                .iter()
                .flat_map(openings)
                .filter(|opening| opening.prefixes.is_none() && opening.to.is_none())
                .collect(),
        });
        Self {
            profiles: profiles.collect(),
        }
    }
}

impl Opening {
    /// Whether it is about this port, at one of these addresses at least.
    pub(super) fn covers(&self, protocol: &str, port: u16, address: IpAddr) -> bool {
        let at = self
            .to
            .as_ref()
            .is_none_or(|set| address.is_unspecified() || holds(set, address));
        at && word(self.protocol) == protocol && (self.first..=self.last).contains(&port)
    }
}

/// As listeners are named.
pub(super) fn word(protocol: PortProtocol) -> &'static str {
    match protocol {
        PortProtocol::Tcp => "tcp",
        PortProtocol::Udp => "udp",
        PortProtocol::Sctp => "sctp",
    }
}

fn openings(rule: &Rule) -> Vec<Opening> {
    let to = match &rule.to {
        Destination::Any | Destination::SelfAddresses => None,
        Destination::Prefixes(set) => Some(Arc::clone(set)),
        // what is only let through arrives at nobody here
        Destination::Forwarded => return Vec::new(),
    };
    let prefixes = match &rule.from {
        AddressSet::Any => None,
        AddressSet::Prefixes(set) => (!world(set)).then_some(set.v4.len() + set.v6.len()),
    };
    let id = match &rule.schedule {
        Some(_) => format!("{} (at times)", rule.id),
        None => rule.id.clone(),
    };
    let opening = |protocol, first, last| Opening {
        rule: id.clone(),
        protocol,
        first,
        last,
        prefixes,
        to: to.clone(),
    };
    let all = |protocol| opening(protocol, 0, u16::MAX);
    rule.services
        .iter()
        .flat_map(|service| match *service {
            Service::Any => [PortProtocol::Tcp, PortProtocol::Udp, PortProtocol::Sctp]
                .map(all)
                .to_vec(),
            Service::Protocol(number) => PortProtocol::from_number(number)
                .map(all)
                .into_iter()
                .collect(),
            Service::Ports {
                protocol,
                first,
                last,
            } => vec![opening(protocol, first, last)],
        })
        .collect()
}

/// Either version's whole space is the world to those who use it.
fn world(set: &PrefixSet) -> bool {
    set.v4.iter().any(|net| net.prefix_len() == 0) || set.v6.iter().any(|net| net.prefix_len() == 0)
}

fn holds(set: &PrefixSet, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => set.v4.iter().any(|net| net.contains(&address)),
        IpAddr::V6(address) => set.v6.iter().any(|net| net.contains(&address)),
    }
}
