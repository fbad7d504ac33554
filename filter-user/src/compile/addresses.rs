//! Classes of addresses: prefixes that the same lists contain, IPv4 and IPv6 in one numbering.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};

use super::HostFacts;
use super::classes::{Classes, Stretch, TooManyClasses, cut};
use super::prefix::Range;
use crate::policy::{AddressSet, Destination, Policy, PrefixSet, Rule};

/// Address -> class, for both versions of IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressTables {
    /// Over the whole of IPv4.
    pub v4: Vec<Range<u32>>,
    /// Over the whole of IPv6.
    pub v6: Vec<Range<u128>>,
}

/// Tables, and which lists each class is in.
#[derive(Debug)]
pub(super) struct AddressClasses {
    pub(super) tables: AddressTables,
    /// By class: numbers of lists.
    pub(super) members: Vec<Vec<u32>>,
    lists: HashMap<*const PrefixSet, u32>,
}

/// Numbers of lists that are not written in the policy.
const OWN: u32 = 0;
const NOT_UNICAST: u32 = 1;

#[derive(Default)]
struct Lists {
    v4: Vec<Stretch<u32>>,
    v6: Vec<Stretch<u128>>,
    numbers: HashMap<*const PrefixSet, u32>,
    count: u32,
}

impl Lists {
    fn add(
        &mut self,
        v4: impl IntoIterator<Item = Ipv4Net>,
        v6: impl IntoIterator<Item = Ipv6Net>,
    ) -> u32 {
        let member = self.count;
        self.count += 1;
        self.v4.extend(v4.into_iter().map(|net| Stretch {
            first: net.network().to_bits(),
            last: net.broadcast().to_bits(),
            member,
        }));
        self.v6.extend(v6.into_iter().map(|net| Stretch {
            first: net.network().to_bits(),
            last: net.broadcast().to_bits(),
            member,
        }));
        member
    }

    fn add_set(&mut self, set: &Arc<PrefixSet>) {
        let key = Arc::as_ptr(set);
        if !self.numbers.contains_key(&key) {
            let number = self.add(set.v4.iter().copied(), set.v6.iter().copied());
            self.numbers.insert(key, number);
        }
    }

    fn classify(self, what: &'static str) -> Result<AddressClasses, TooManyClasses> {
        let mut classes = Classes::new(what);
        let v4 = cut(&self.v4, &mut classes)?;
        let v6 = cut(&self.v6, &mut classes)?;
        Ok(AddressClasses {
            tables: AddressTables { v4, v6 },
            members: classes.members,
            lists: self.numbers,
        })
    }
}

fn rules(policy: &Policy) -> impl Iterator<Item = &Rule> {
    policy
        .profiles
        .iter()
        .flat_map(|profile| profile.deny.iter().chain(&profile.allow))
}

/// Classes of source addresses.
pub(super) fn sources(policy: &Policy) -> Result<AddressClasses, TooManyClasses> {
    let mut lists = Lists::default();
    for rule in rules(policy) {
        if let AddressSet::Prefixes(set) = &rule.from {
            lists.add_set(set);
        }
    }
    lists.classify("source addresses")
}

/// Classes of destination addresses; `None` if no rule tells destinations apart.
pub(super) fn destinations(
    policy: &Policy,
    host: &HostFacts,
) -> Result<Option<AddressClasses>, TooManyClasses> {
    if rules(policy).all(|rule| rule.to == Destination::Any) {
        return Ok(None);
    }
    let mut lists = Lists::default();
    let (mut own_v4, mut own_v6) = (host.own_v4.clone(), host.own_v6.clone());
    own_v4.sort_unstable();
    own_v4.dedup();
    own_v6.sort_unstable();
    own_v6.dedup();
    lists.add(
        own_v4.into_iter().map(Ipv4Net::from),
        own_v6.into_iter().map(Ipv6Net::from),
    );
    let multicast_v4 = Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4);
    let multicast_v6 = Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8);
    let mut broadcast = host.broadcast.clone();
    broadcast.push(Ipv4Addr::BROADCAST);
    broadcast.sort_unstable();
    broadcast.dedup();
    let not_unicast = broadcast.into_iter().map(Ipv4Net::from);
    lists.add(not_unicast.chain([multicast_v4]), [multicast_v6]);
    for rule in rules(policy) {
        if let Destination::Prefixes(set) = &rule.to {
            lists.add_set(set);
        }
    }
    lists.classify("destination addresses").map(Some)
}

impl AddressClasses {
    /// Whether a rule's sources contain the class.
    pub(super) fn contains(&self, class: usize, set: &AddressSet) -> bool {
        match set {
            AddressSet::Any => true,
            AddressSet::Prefixes(set) => self.has(class, set),
        }
    }

    /// Whether a rule's destinations contain the class.
    pub(super) fn leads_to(&self, class: usize, to: &Destination) -> bool {
        match to {
            Destination::Any => true,
            Destination::SelfAddresses => self.members[class].contains(&OWN),
            Destination::Forwarded => !self.members[class]
                .iter()
                .any(|list| *list == OWN || *list == NOT_UNICAST),
            Destination::Prefixes(set) => self.has(class, set),
        }
    }

    fn has(&self, class: usize, set: &Arc<PrefixSet>) -> bool {
        self.lists
            .get(&Arc::as_ptr(set))
            .is_some_and(|number| self.members[class].binary_search(number).is_ok())
    }
}
