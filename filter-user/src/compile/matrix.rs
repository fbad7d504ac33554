//! The verdict matrix: for each profile, class of destination, class of service and class of source, what happens.

use std::collections::HashSet;
use std::sync::Arc;

use filter_common::matrix::{
    ALLOW, ALLOW_LIMITED, CLOSED, CONTROL, CONTROL_ON_LINK, DEFAULT_RULE, DENY, OTHER_SOURCES,
    entry,
};

use super::addresses::AddressClasses;
use super::services::{Member, ServiceClasses};
use super::{CompileError, MAX_MATRIX, RuleSlots};
use crate::policy::{AddressSet, DefaultVerdict, Policy, Rule};

/// All profiles' parts, and where each begins.
pub(super) fn build(
    policy: &Policy,
    slots: &RuleSlots,
    services: &ServiceClasses,
    sources: &AddressClasses,
    destinations: Option<&AddressClasses>,
) -> Result<(Vec<u16>, Vec<u32>), CompileError> {
    let columns = sources.members.len();
    let targets = destinations.map_or(1, |destinations| destinations.members.len());
    let rows = services.members.len() * targets;
    let part = rows.saturating_mul(columns);
    let needed = part.saturating_mul(policy.profiles.len());
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
    for number in 0..policy.profiles.len() {
        let offset = number * part;
        offsets.push(offset as u32);
        let mut fill = Filler {
            policy,
            slots,
            services,
            sources,
            destinations,
            number,
        };
        for target in 0..targets {
            for class in 0..services.members.len() {
                let at = offset + (target * services.members.len() + class) * columns;
                fill.row(class, target, &mut matrix[at..at + columns]);
            }
        }
    }
    Ok((matrix, offsets))
}

struct Filler<'a> {
    policy: &'a Policy,
    slots: &'a RuleSlots,
    services: &'a ServiceClasses,
    sources: &'a AddressClasses,
    destinations: Option<&'a AddressClasses>,
    number: usize,
}

impl Filler<'_> {
    /// One row: least important first, each step overwrites.
    fn row(&mut self, class: usize, target: usize, row: &mut [u16]) {
        let profile = &self.policy.profiles[self.number];
        let (mut deny, mut allow) = (Vec::new(), Vec::new());
        let (mut on_link, mut discovery, mut control) = (false, false, false);
        for member in &self.services.members[class] {
            match self.services.meaning[*member as usize] {
                Member::Deny { profile, rule } if profile == self.number => deny.push(rule),
                Member::Allow { profile, rule } if profile == self.number => allow.push(rule),
                Member::OnLink { profile } if profile == self.number => on_link = true,
                Member::Discovery { profile } if profile == self.number => discovery = true,
                Member::Control { profile } if profile == self.number => control = true,
                _ => {}
            }
        }
        let allow: Vec<&Rule> = allow
            .into_iter()
            .map(|rule| &profile.allow[rule])
            .filter(|rule| self.leads(rule, target))
            .collect();
        let unmatched = match profile.default_verdict {
            DefaultVerdict::Pass => entry(ALLOW, DEFAULT_RULE),
            DefaultVerdict::Drop if allow.is_empty() => entry(CLOSED, 0),
            DefaultVerdict::Drop => entry(OTHER_SOURCES, 0),
        };
        row.fill(if control {
            entry(CONTROL, 0)
        } else {
            unmatched
        });
        for rule in allow.iter().rev() {
            let limited = rule.rate.is_some() || rule.rate_per_source.is_some();
            let kind = if limited { ALLOW_LIMITED } else { ALLOW };
            self.paint(row, rule, entry(kind, self.slots.slot(&rule.id)));
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
    }

    fn leads(&self, rule: &Rule, target: usize) -> bool {
        self.destinations
            .is_none_or(|destinations| destinations.leads_to(target, &rule.to))
    }

    fn paint(&self, row: &mut [u16], rule: &Rule, value: u16) {
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
        .profiles
        .iter()
        .flat_map(|profile| profile.deny.iter().chain(&profile.allow))
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
