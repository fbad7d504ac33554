//! From a validated policy to the tables that the BPF program reads: equivalence classes of services and addresses
//! (recursive flow classification: Gupta & McKeown, "Packet classification on multiple fields", SIGCOMM 1999) and the
//! verdict matrix over them. Pure: policy and host facts in, tables out; never touches the kernel.

mod addresses;
mod classes;
mod matrix;
pub mod prefix;
mod reach;
pub mod registry;
mod services;
mod slots;

use std::net::{Ipv4Addr, Ipv6Addr};

use filter_common::layout::{RateLimits, flag};
use filter_common::limits::RULE_SLOTS;
use filter_common::matrix::Entry;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::policy::{Active, FragmentPolicy, Policy, Profile, Rate, ReversePath};

pub use addresses::AddressTables;
pub use classes::TooManyClasses;
pub use slots::{RuleSlots, SlotsFull};

/// What the tables need to know of the host beside the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Its own IPv4 addresses, on any interface.
    pub own_v4: Vec<Ipv4Addr>,
    /// Its own IPv6 addresses, on any interface.
    pub own_v6: Vec<Ipv6Addr>,
    /// Broadcast addresses of the networks it is on: they reach the host itself.
    pub broadcast: Vec<Ipv4Addr>,
    /// Those of `own_v6` that are still looked for duplicates (RFC 4862): ours to send from, but not yet refused.
    pub tentative_v6: Vec<Ipv6Addr>,
    /// Networks and addresses of its containers: never a source from outside.
    pub inside_v4: Vec<Ipv4Net>,
    /// See `inside_v4`.
    pub inside_v6: Vec<Ipv6Net>,
    /// Networks that the interfaces of a profile (by its place in the policy) are on: their members are no martians there.
    pub connected: Vec<(usize, IpNet)>,
    /// Routes of all tables; only looked at where a profile asks for the reverse path.
    pub routes: Vec<Route>,
    /// For each interface with the strict reverse path, the output interfaces that count as it: itself, its master,
    /// what is stacked on it. The place in this list is its bit.
    pub strict: Vec<Vec<u32>>,
}

/// A unicast route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Routing table.
    pub table: u32,
    /// Where it leads.
    pub prefix: IpNet,
    /// The lowest of a prefix's metrics counts.
    pub metric: u32,
    /// Output interfaces; none if it says "unreachable".
    pub interfaces: Vec<u32>,
    /// Where it leads out is not known.
    pub any: bool,
}

/// The largest verdict matrix that is accepted: 16 Mi entries, 64 MiB for each of the two banks.
pub const MAX_MATRIX: usize = 16 << 20;

/// A policy as tables, not yet placed in a bank.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Source address -> class.
    pub sources: AddressTables,
    /// Destination address -> class; `None` if no rule asks for the destination.
    pub destinations: Option<AddressTables>,
    /// Service index -> class.
    pub services: Vec<u16>,
    /// Entries of all profiles, one after the other.
    pub matrix: Vec<Entry>,
    /// By profile, in the order of the policy.
    pub profiles: Vec<CompiledProfile>,
    /// By rule slot.
    pub limits: Vec<RateLimits>,
    /// By class of source: the interfaces that lead there, a bit each.
    pub reach: Vec<u64>,
}

/// Where one profile's part of the matrix lies, and its switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompiledProfile {
    /// First entry, from the start of the bank's matrix.
    pub matrix_offset: u32,
    /// First entry about what leaves.
    pub leaving_offset: u32,
    /// Number of source classes.
    pub source_classes: u32,
    /// Number of service classes.
    pub service_classes: u32,
    /// `filter_common::layout::flag`
    pub flags: u32,
    /// A route to a source may lead out of any interface.
    pub any_interface: bool,
}

/// Why a policy cannot be put into tables.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Too many different combinations of address lists.
    #[error("{0}; merge address lists that are used by few rules")]
    Classes(#[from] TooManyClasses),
    /// The verdict matrix would be too large.
    #[error(
        "the verdict matrix would need {needed} entries ({services} service classes x {sources} source classes x \
         {destinations} destination classes x {profiles} profiles), {limit} are the limit; most classes come from \
         {causes}: give them the same port list or the same source group"
    )]
    Matrix {
        /// Entries needed.
        needed: usize,
        /// Distinct sets of rules by service.
        services: usize,
        /// Distinct sets of lists by source.
        sources: usize,
        /// Distinct sets of lists by destination.
        destinations: usize,
        /// Profiles.
        profiles: usize,
        /// [`MAX_MATRIX`]
        limit: usize,
        /// Rules with lists of their own.
        causes: String,
    },
    /// More rules than slots.
    #[error(transparent)]
    Slots(#[from] SlotsFull),
}

/// Compiles `policy`; rules keep the slots they have in `slots`, new ones get free slots. Rules that are not in `active`
/// match nothing, and keep slots and counters.
pub fn compile(
    policy: &Policy,
    active: &Active,
    host: &HostFacts,
    slots: &mut RuleSlots,
) -> Result<Compiled, CompileError> {
    slots.assign(policy)?;
    let services = services::classify(policy, active)?;
    let sources = addresses::sources(policy, host)?;
    let destinations = addresses::destinations(policy, host)?;
    let (matrix, offsets) =
        matrix::build(policy, slots, &services, &sources, destinations.as_ref())?;
    let profiles = policy
        .profiles
        .iter()
        .zip(offsets)
        .map(|(profile, offsets)| CompiledProfile {
            matrix_offset: offsets.arriving,
            leaving_offset: offsets.leaving,
            source_classes: sources.members.len() as u32,
            service_classes: services.members.len() as u32,
            flags: flags(policy, profile, destinations.is_some()),
            any_interface: profile.antispoof.reverse_path != ReversePath::Strict,
        })
        .collect();
    let reach = (0..sources.members.len())
        .map(|class| {
            sources
                .meanings(class)
                .fold(0, |word, meaning| match meaning {
                    addresses::Meaning::Reached(bits) => word | bits,
                    _ => word,
                })
        })
        .collect();
    Ok(Compiled {
        reach,
        services: services.table,
        sources: sources.tables,
        destinations: destinations.map(|destinations| destinations.tables),
        matrix,
        profiles,
        limits: limits(policy, slots),
    })
}

fn flags(policy: &Policy, profile: &Profile, destinations: bool) -> u32 {
    let control = profile.control;
    [
        (profile.enforce, flag::ENFORCE),
        (
            profile.fragments == FragmentPolicy::Drop,
            flag::DROP_FRAGMENTS,
        ),
        (control.arp, flag::ARP),
        (control.dhcp, flag::DHCP),
        (control.pmtu, flag::PMTU),
        (destinations, flag::DESTINATIONS),
        (profile.antispoof.martians, flag::MARTIANS),
        (
            profile.antispoof.reverse_path != ReversePath::Off,
            flag::REVERSE_PATH,
        ),
        (profile.antispoof.egress, flag::SENDER),
        (profile.containers.is_some(), flag::CONTAINER),
        (
            policy.scans.enabled && profile.containers.is_none(),
            flag::SCANS,
        ),
    ]
    .iter()
    .fold(0, |flags, &(on, bit)| if on { flags | bit } else { flags })
}

fn limits(policy: &Policy, slots: &RuleSlots) -> Vec<RateLimits> {
    let none = RateLimits {
        interval: 0,
        tolerance: 0,
        source_interval: 0,
        source_tolerance: 0,
    };
    let mut limits = vec![none; RULE_SLOTS];
    for rule in policy.rules() {
        let (interval, tolerance) = schedule(rule.rate);
        let (source_interval, source_tolerance) = schedule(rule.rate_per_source);
        limits[slots.slot(&rule.id) as usize] = RateLimits {
            interval,
            tolerance,
            source_interval,
            source_tolerance,
        };
    }
    limits
}

/// Granularity of the clock that the program reads, at most (ns): a jiffy at 100 Hz.
const CLOCK_TICK: u64 = 10_000_000;

/// Emission interval and tolerance in nanoseconds; (0, 0) without a limit.
fn schedule(rate: Option<Rate>) -> (u64, u64) {
    let Some(rate) = rate else { return (0, 0) };
    let interval = (1_000_000_000 / rate.packets.max(1)).max(1);
    // packets of one tick arrive "at once" as far as the coarse clock can tell: below that a burst cannot be held to
    let tolerance = interval
        .saturating_mul(rate.burst.saturating_sub(1))
        .max(if interval < CLOCK_TICK { CLOCK_TICK } else { 0 });
    (interval, tolerance)
}
