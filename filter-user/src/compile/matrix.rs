//! The verdict matrix: for each profile, class of destination, class of service and class of source, what happens. Behind
//! that part stands what leaves: one row by class of the source on an outer interface (is it ours?), on a container link
//! rows by service and class of the destination (may it be sent?).

use std::collections::HashSet;
use std::sync::Arc;

use filter_common::matrix::{
    ALLOW, ALLOW_LIMITED, CLOSED, CONTROL, CONTROL_ON_LINK, DENY, Entry, FAILSAFE, MARTIAN,
    OTHER_SOURCES, OWN, entry,
};
use filter_common::row;

use super::addresses::{AddressClasses, Meaning};
use super::registry::{Scope, row_id};
use super::services::{Member, ServiceClasses};
use super::{CompileError, MAX_MATRIX, RuleSlots};
use crate::policy::{AddressSet, DefaultVerdict, Policy, Profile, Rule};

/// Where a profile's parts begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offsets {
    /// What arrives.
    pub(super) arriving: u32,
    /// What leaves.
    pub(super) leaving: u32,
}

/// All profiles' parts, and where each begins.
pub(super) fn build(
    policy: &Policy,
    slots: &RuleSlots,
    services: &ServiceClasses,
    sources: &AddressClasses,
    destinations: Option<&AddressClasses>,
) -> Result<(Vec<Entry>, Vec<Offsets>), CompileError> {
    let columns = sources.members.len();
    let targets = destinations.map_or(1, |destinations| destinations.members.len());
    let rows = services.members.len();
    let leaving = |profile: &Profile| {
        if profile.containers.is_some() {
            rows
        } else {
            1
        }
    };
    let needed = policy.profiles.iter().fold(0_usize, |needed, profile| {
        let rows = rows.saturating_mul(targets) + leaving(profile);
        needed.saturating_add(rows.saturating_mul(columns))
    });
    if needed > MAX_MATRIX {
        return Err(CompileError::Matrix {
            needed,
            services: services.members.len(),
            sources: columns,
            destinations: targets,
            profiles: policy.profiles.len(),
            limit: MAX_MATRIX,
            causes: causes(policy),
        });
    }
    let mut matrix = vec![0; needed];
    let mut offsets = Vec::with_capacity(policy.profiles.len());
    let mut rest = matrix.chunks_exact_mut(columns);
    let mut at = 0;
    for (number, profile) in policy.profiles.iter().enumerate() {
        let fill = Filler {
            policy,
            slots,
            services,
            sources,
            destinations,
            number,
            refused: (0..columns)
                .map(|class| refused(policy, number, class, sources, slots))
                .collect(),
        };
        let arriving = at;
        for target in 0..targets {
            for class in 0..rows {
                if let Some(row) = rest.next() {
                    fill.row(class, target, row);
                    at += columns;
                }
            }
        }
        offsets.push(Offsets {
            arriving: arriving as u32,
            leaving: at as u32,
        });
        for class in 0..leaving(profile) {
            if let Some(row) = rest.next() {
                fill.leaving(class, row);
                at += columns;
            }
        }
    }
    Ok((matrix, offsets))
}

/// A source that no packet can have here.
#[derive(Clone, Copy, Debug)]
struct Refused {
    entry: Entry,
    /// What asks for an address comes from here all the same.
    unspecified: Option<Member>,
}

/// Whether sources of this class are refused, whatever they ask for. An own address comes before the registry.
fn refused(
    policy: &Policy,
    number: usize,
    class: usize,
    sources: &AddressClasses,
    slots: &RuleSlots,
) -> Option<Refused> {
    let antispoof = &policy.profiles[number].antispoof;
    let mut martian = None;
    let neighbour = sources.means(class, Meaning::Connected(number));
    let legitimate = antispoof
        .legitimate
        .as_ref()
        .is_some_and(|set| sources.has(class, set));
    for meaning in sources.meanings(class) {
        match meaning {
            Meaning::Own if antispoof.own_addresses => {
                return Some(refuse(OWN, row::OWN_ADDRESS));
            }
            Meaning::Inside if antispoof.own_addresses => {
                return Some(refuse(OWN, row::OWN_CONTAINER));
            }
            Meaning::Martian(of) if antispoof.martians => {
                // rows come from the shortest prefix to the longest: the last one counts
                let never = match of.scope {
                    Scope::Global | Scope::LinkLocal => false,
                    Scope::Private => antispoof.internet && !neighbour,
                    Scope::Unspecified | Scope::Never => true,
                };
                martian = (never && !legitimate).then(|| Refused {
                    unspecified: (of.scope == Scope::Unspecified).then(|| {
                        if of.prefix.contains(':') {
                            Member::NoAddress6
                        } else {
                            Member::NoAddress4
                        }
                    }),
                    ..refuse(MARTIAN, slots.slot(&row_id(of)))
                });
            }
            _ => {}
        }
    }
    if antispoof.martians && sources.means(class, Meaning::Broadcast) {
        martian = Some(refuse(MARTIAN, row::BROADCAST));
    }
    martian
}

const fn refuse(kind: u16, row: u16) -> Refused {
    Refused {
        entry: entry(kind, row),
        unspecified: None,
    }
}

struct Filler<'a> {
    policy: &'a Policy,
    slots: &'a RuleSlots,
    services: &'a ServiceClasses,
    sources: &'a AddressClasses,
    destinations: Option<&'a AddressClasses>,
    number: usize,
    /// By class of source.
    refused: Vec<Option<Refused>>,
}

impl Filler<'_> {
    /// One row: least important first, each step overwrites.
    fn row(&self, class: usize, target: usize, row: &mut [Entry]) {
        let profile = &self.policy.profiles[self.number];
        let (mut deny, mut allow) = (Vec::new(), Vec::new());
        let (mut on_link, mut discovery, mut control) = (false, false, false);
        let (mut no_address, mut failsafe) = (Vec::new(), Vec::new());
        for member in &self.services.members[class] {
            match self.services.meaning[*member as usize] {
                Member::Deny { profile, rule } if profile == self.number => deny.push(rule),
                Member::Allow { profile, rule } if profile == self.number => allow.push(rule),
                Member::OnLink { profile } if profile == self.number => on_link = true,
                Member::Discovery { profile } if profile == self.number => discovery = true,
                Member::Control { profile } if profile == self.number => control = true,
                Member::Failsafe { rule } => failsafe.push(rule),
                member @ (Member::NoAddress4 | Member::NoAddress6) => no_address.push(member),
                _ => {}
            }
        }
        let allow: Vec<&Rule> = allow
            .into_iter()
            .map(|rule| &profile.allow[rule])
            .filter(|rule| self.leads(rule, target))
            .collect();
        let unmatched = match profile.default_verdict {
            DefaultVerdict::Pass => entry(ALLOW, row::DEFAULT),
            DefaultVerdict::Drop if allow.is_empty() => entry(CLOSED, 0),
            DefaultVerdict::Drop => entry(OTHER_SOURCES, 0),
        };
        row.fill(if control {
            entry(CONTROL, 0)
        } else {
            unmatched
        });
        for rule in allow.iter().rev() {
            self.paint(row, rule, self.allow(rule));
        }
        if discovery {
            row.fill(entry(CONTROL, 0));
        }
        if on_link {
            row.fill(entry(CONTROL_ON_LINK, 0));
        }
        for rule in deny
            .into_iter()
            .rev()
            .map(|rule| &profile.deny[rule])
            .filter(|rule| self.leads(rule, target))
        {
            self.paint(row, rule, entry(DENY, self.slots.slot(&rule.id)));
        }
        if profile.containers.is_none() {
            let rules = self.policy.failsafe.rules();
            for rule in failsafe
                .into_iter()
                .rev()
                .filter_map(|rule| rules.get(rule))
            {
                // discovery proves by its hop limit that it comes from this link: that stays asked for
                let value = if on_link {
                    entry(CONTROL_ON_LINK, 0)
                } else {
                    entry(FAILSAFE, self.slots.slot(&rule.id))
                };
                self.paint(row, rule, value);
            }
        }
        for (entry, refused) in row.iter_mut().zip(&self.refused) {
            if let Some(refused) = refused
                && !refused
                    .unspecified
                    .is_some_and(|member| no_address.contains(&member))
            {
                *entry = refused.entry;
            }
        }
    }

    /// A row of what leaves. Columns stand for sources on an outer interface, for destinations on a container link.
    fn leaving(&self, class: usize, row: &mut [Entry]) {
        let profile = &self.policy.profiles[self.number];
        let Some(containers) = &profile.containers else {
            let others = profile.antispoof.egress_sources.as_ref();
            for (class, entry_of) in row.iter_mut().enumerate() {
                let own = self.sources.means(class, Meaning::Own)
                    || self.sources.means(class, Meaning::Tentative);
                let ours = own && !self.sources.means(class, Meaning::Loopback)
                    || others.is_some_and(|set| self.sources.has(class, set));
                *entry_of = entry(if ours { ALLOW } else { CLOSED }, 0);
            }
            return;
        };
        let Some(send) = &containers.send else {
            row.fill(entry(ALLOW, row::DEFAULT));
            return;
        };
        row.fill(entry(CLOSED, 0));
        let mut rules: Vec<&Rule> = Vec::new();
        for member in &self.services.members[class] {
            if let Member::Send { profile, rule } = self.services.meaning[*member as usize]
                && profile == self.number
            {
                rules.extend(send.get(rule));
            }
        }
        for rule in rules.into_iter().rev() {
            self.paint(row, rule, self.allow(rule));
        }
    }

    fn allow(&self, rule: &Rule) -> Entry {
        let limited = rule.rate.is_some() || rule.rate_per_source.is_some();
        let kind = if limited { ALLOW_LIMITED } else { ALLOW };
        entry(kind, self.slots.slot(&rule.id))
    }

    fn leads(&self, rule: &Rule, target: usize) -> bool {
        self.destinations
            .is_none_or(|destinations| destinations.leads_to(target, &rule.to))
    }

    fn paint(&self, row: &mut [Entry], rule: &Rule, value: Entry) {
        for (class, entry) in row.iter_mut().enumerate() {
            if self.sources.contains(class, &rule.from) {
                *entry = value;
            }
        }
    }
}

/// Names of rules whose source list nobody else uses: what makes classes multiply.
fn causes(policy: &Policy) -> String {
    let mut seen = HashSet::new();
    let names: Vec<&str> = policy
        .rules()
        .filter(|rule| match &rule.from {
            AddressSet::Prefixes(set) => seen.insert(Arc::as_ptr(set)),
            AddressSet::Any => false,
        })
        .map(|rule| rule.id.as_str())
        .collect();
    const SHOWN: usize = 5;
    let first = names
        .iter()
        .take(SHOWN)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    match names.len() {
        0 => "the number of different port lists".to_owned(),
        1..=SHOWN => format!("the rules {first}"),
        more => format!("the rules {first} and {} others", more - SHOWN),
    }
}
