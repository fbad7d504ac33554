//! Classes of services: positions of the service table that the same rules and settings cover.

use filter_common::quote::icmp;
use filter_common::service::{self, protocol};

use super::classes::{Classes, Stretch, TooManyClasses, cut};
use crate::policy::{Active, Policy, PortProtocol, Profile, Rule, Service};

/// What can cover a service, in one numbering over the whole policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Member {
    /// The nth deny rule of a profile.
    Deny { profile: usize, rule: usize },
    /// Neighbour or router discovery that has to come from the link.
    OnLink { profile: usize },
    /// Discovery that comes before the allow rules, from any distance: MLD queries.
    Discovery { profile: usize },
    /// The nth allow rule of a profile.
    Allow { profile: usize, rule: usize },
    /// Let in as control traffic: ICMP types, ethertypes.
    Control { profile: usize },
    /// The nth rule of a container profile's send list.
    Send { profile: usize, rule: usize },
    /// The nth rule of the failsafe list.
    Failsafe { rule: usize },
    /// What comes from a host that has no address yet, of either version of IP.
    NoAddress4,
    /// See `NoAddress4`.
    NoAddress6,
}

#[derive(Debug)]
pub(super) struct ServiceClasses {
    /// Service index -> class.
    pub(super) table: Vec<u16>,
    /// By class: numbers of members.
    pub(super) members: Vec<Vec<u32>>,
    /// By number of member.
    pub(super) meaning: Vec<Member>,
}

/// ICMPv6 types of neighbour discovery (RFC 4861): solicitation, advertisement, redirect.
const NEIGHBOUR: [u32; 3] = [135, 136, 137];
/// Router solicitation and advertisement.
const ROUTER: [u32; 2] = [133, 134];
/// MLD query (RFC 2710): unanswered, a snooping switch forgets the groups that neighbour discovery needs.
const MLD_QUERY: u32 = 130;

/// What asks for an IPv4 address comes from 0.0.0.0 (RFC 2131), as do reports of groups (RFC 3376, 4.2.13).
const DHCP_SERVER: u32 = 67;
/// What comes from `::`: duplicate address detection, router solicitation, reports of groups (RFC 4862, RFC 3590).
const NO_ADDRESS6: [u16; 5] = [
    icmp::V6_MLD_REPORT,
    icmp::V6_MLD_DONE,
    icmp::V6_ROUTER_SOLICIT,
    icmp::V6_NEIGHBOUR_SOLICIT,
    icmp::V6_MLD2_REPORT,
];

pub(super) fn classify(policy: &Policy, active: &Active) -> Result<ServiceClasses, TooManyClasses> {
    let mut meaning = Vec::new();
    let mut stretches = Vec::new();
    let mut cover = |member: Member, ranges: Vec<(u32, u32)>| {
        let number = meaning.len() as u32;
        meaning.push(member);
        stretches.extend(merged(ranges).map(|(first, last)| Stretch {
            first,
            last,
            member: number,
        }));
    };
    let counts = |(_, rule): &(usize, &Rule)| active.has(rule);
    for (rule, text) in policy.failsafe.rules().iter().enumerate() {
        cover(Member::Failsafe { rule }, rule_ranges(text));
    }
    for (number, profile) in policy.profiles.iter().enumerate() {
        for (rule, text) in profile.deny.iter().enumerate().filter(counts) {
            cover(
                Member::Deny {
                    profile: number,
                    rule,
                },
                rule_ranges(text),
            );
        }
        for (rule, text) in profile.allow.iter().enumerate().filter(counts) {
            cover(
                Member::Allow {
                    profile: number,
                    rule,
                },
                rule_ranges(text),
            );
        }
        cover(Member::OnLink { profile: number }, on_link(profile));
        let queries = if profile.control.nd {
            vec![single(service::ICMPV6 + MLD_QUERY)]
        } else {
            Vec::new()
        };
        cover(Member::Discovery { profile: number }, queries);
        cover(Member::Control { profile: number }, control(profile));
        let send = profile
            .containers
            .iter()
            .flat_map(|c| c.send.iter().flatten());
        for (rule, text) in send.enumerate().filter(counts) {
            cover(
                Member::Send {
                    profile: number,
                    rule,
                },
                rule_ranges(text),
            );
        }
    }
    if policy
        .profiles
        .iter()
        .any(|profile| profile.antispoof.martians)
    {
        cover(
            Member::NoAddress4,
            vec![
                single(service::UDP + DHCP_SERVER),
                single(service::PROTOCOL + protocol::IGMP as u32),
            ],
        );
        cover(
            Member::NoAddress6,
            NO_ADDRESS6
                .map(|kind| single(service::ICMPV6 + kind as u32))
                .to_vec(),
        );
    }
    let mut classes = Classes::new("services");
    let ranges = cut(&stretches, &mut classes)?;
    let mut table = vec![0; service::SERVICES];
    for (index, range) in ranges.iter().enumerate() {
        let end = ranges
            .get(index + 1)
            .map_or(service::SERVICES, |next| next.start as usize);
        table[range.start as usize..end].fill(range.answer);
    }
    Ok(ServiceClasses {
        table,
        members: classes.members,
        meaning,
    })
}

fn single(index: u32) -> (u32, u32) {
    (index, index)
}

fn on_link(profile: &Profile) -> Vec<(u32, u32)> {
    let neighbour = NEIGHBOUR.iter().filter(|_| profile.control.nd);
    let router = ROUTER.iter().filter(|_| profile.control.ra);
    neighbour
        .chain(router)
        .map(|kind| single(service::ICMPV6 + kind))
        .collect()
}

fn control(profile: &Profile) -> Vec<(u32, u32)> {
    let mut ranges: Vec<_> = profile
        .icmp_v4
        .iter()
        .map(|kind| single(service::ICMP + *kind as u32))
        .collect();
    ranges.extend(
        profile
            .icmp_v6
            .iter()
            .map(|kind| single(service::ICMPV6 + *kind as u32)),
    );
    ranges.extend(
        profile
            .ethertypes
            .iter()
            .map(|kind| single(service::ETHERTYPE + *kind as u32)),
    );
    ranges
}

fn rule_ranges(rule: &Rule) -> Vec<(u32, u32)> {
    rule.services
        .iter()
        .flat_map(|service| service_ranges(*service))
        .collect()
}

fn service_ranges(service: Service) -> Vec<(u32, u32)> {
    let port_base = |protocol| match protocol {
        PortProtocol::Tcp => service::TCP,
        PortProtocol::Udp => service::UDP,
        PortProtocol::Sctp => service::SCTP,
    };
    match service {
        // every IP packet; ethertypes are no IP packets
        Service::Any => vec![
            (0, service::ETHERTYPE - 1),
            (service::ICMP, service::SERVICES as u32 - 1),
        ],
        Service::Ports {
            protocol,
            first,
            last,
        } => {
            let base = port_base(protocol);
            vec![(base + first as u32, base + last as u32)]
        }
        Service::Protocol(number) => match (number, PortProtocol::from_number(number)) {
            (_, Some(protocol)) => vec![(port_base(protocol), port_base(protocol) + 65535)],
            // by type on their own version of IP, by number on the other
            (protocol::ICMP, _) => vec![
                (service::ICMP, service::ICMP + 255),
                single(service::PROTOCOL + number as u32),
            ],
            (protocol::ICMPV6, _) => vec![
                (service::ICMPV6, service::ICMPV6 + 255),
                single(service::PROTOCOL + number as u32),
            ],
            _ => vec![single(service::PROTOCOL + number as u32)],
        },
    }
}

/// Sorted, without overlaps.
fn merged(mut ranges: Vec<(u32, u32)>) -> impl Iterator<Item = (u32, u32)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(previous) if first <= previous.1 => previous.1 = previous.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged.into_iter()
}
