//! Classes of addresses: prefixes that the same lists contain, IPv4 and IPv6 in one numbering.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::classes::{Classes, Stretch, TooManyClasses, cut};
use super::prefix::Range;
use super::registry::{self, Row};
use super::{HostFacts, reach};
use crate::policy::{AddressSet, AntiSpoof, Destination, Policy, PrefixSet, ReversePath};

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
    /// By class: numbers of lists, ascending.
    pub(super) members: Vec<Vec<u32>>,
    lists: HashMap<*const PrefixSet, u32>,
    /// By number of list: what it stands for beside the lists of the policy.
    pub(super) meaning: HashMap<u32, Meaning>,
}

/// Lists that no policy writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Destinations: the host's own addresses.
    OwnDestination,
    /// Destinations: multicast and broadcast.
    NotUnicast,
    /// Sources: the host's own addresses, and nobody else's for sure.
    Own,
    /// Sources: addresses of ours that may turn out to be somebody else's as well (RFC 4862).
    Tentative,
    /// Sources: loopback, which is ours but leaves by no wire (RFC 1122, 3.2.1.3; RFC 4291, 2.5.3).
    Loopback,
    /// Sources: networks and addresses of this host's containers.
    Inside,
    /// Sources: broadcast addresses of the networks this host is on.
    Broadcast,
    /// Sources: a row of the registry; rows that cover it come before it.
    Martian(&'static Row),
    /// Sources: on a network that interfaces of this profile are on.
    Connected(usize),
    /// Sources: the interfaces that lead there.
    Reached(u64),
}

#[derive(Default)]
struct Lists {
    v4: Vec<Stretch<u32>>,
    v6: Vec<Stretch<u128>>,
    numbers: HashMap<*const PrefixSet, u32>,
    meaning: HashMap<u32, Meaning>,
    count: u32,
}

impl Lists {
    /// A list without a set in the policy.
    fn add_meaning(
        &mut self,
        meaning: Meaning,
        v4: impl IntoIterator<Item = Ipv4Net>,
        v6: impl IntoIterator<Item = Ipv6Net>,
    ) {
        let number = self.add(v4, v6);
        self.meaning.insert(number, meaning);
    }

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

    /// One list for each set of interfaces that leads somewhere.
    fn add_reach(&mut self, host: &HostFacts) {
        let (v4, v6) = (reach::v4(host), reach::v6(host));
        let mut words: Vec<u64> = v4
            .iter()
            .map(|stretch| stretch.word)
            .chain(v6.iter().map(|stretch| stretch.word))
            .filter(|word| *word != 0)
            .collect();
        words = sorted(&words);
        let first = self.count;
        self.count += words.len() as u32;
        for (number, word) in words.iter().enumerate() {
            self.meaning
                .insert(first + number as u32, Meaning::Reached(*word));
        }
        let member = |word: u64| {
            words
                .binary_search(&word)
                .ok()
                .map(|number| first + number as u32)
        };
        self.v4.extend(reach::stretches(&v4, u32::MAX, member));
        self.v6.extend(reach::stretches(&v6, u128::MAX, member));
    }

    fn classify(self, what: &'static str) -> Result<AddressClasses, TooManyClasses> {
        let mut classes = Classes::new(what);
        let v4 = cut(&self.v4, &mut classes)?;
        let v6 = cut(&self.v6, &mut classes)?;
        Ok(AddressClasses {
            tables: AddressTables { v4, v6 },
            members: classes.members,
            lists: self.numbers,
            meaning: self.meaning,
        })
    }
}

/// Classes of source addresses; for what a container sends, of destinations.
pub(super) fn sources(policy: &Policy, host: &HostFacts) -> Result<AddressClasses, TooManyClasses> {
    let mut lists = Lists::default();
    let asked = |wanted: fn(&AntiSpoof) -> bool| {
        policy
            .profiles
            .iter()
            .any(|profile| wanted(&profile.antispoof))
    };
    if asked(|antispoof| antispoof.own_addresses || antispoof.egress) {
        let tentative = sorted(&host.tentative_v6);
        let (sure_v4, mut sure_v6) = (sorted(&host.own_v4), sorted(&host.own_v6));
        sure_v6.retain(|address| tentative.binary_search(address).is_err());
        lists.add_meaning(
            Meaning::Own,
            sure_v4.into_iter().map(Ipv4Net::from),
            sure_v6.into_iter().map(Ipv6Net::from),
        );
        let tentative = tentative.into_iter().map(Ipv6Net::from);
        lists.add_meaning(Meaning::Tentative, [], tentative);
        let loopback = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
        lists.add_meaning(Meaning::Loopback, [loopback], [Ipv6Addr::LOCALHOST.into()]);
    }
    if asked(|antispoof| antispoof.own_addresses) {
        lists.add_meaning(
            Meaning::Inside,
            Ipv4Net::aggregate(&host.inside_v4),
            Ipv6Net::aggregate(&host.inside_v6),
        );
    }
    if asked(|antispoof| antispoof.martians) {
        let broadcast = sorted(&host.broadcast).into_iter().map(Ipv4Net::from);
        lists.add_meaning(Meaning::Broadcast, broadcast, []);
        for row in registry::V4.iter().chain(registry::V6) {
            // the rows are constants, and a test parses them all
            match row.prefix.parse() {
                Ok(IpNet::V4(net)) => lists.add_meaning(Meaning::Martian(row), [net], []),
                Ok(IpNet::V6(net)) => lists.add_meaning(Meaning::Martian(row), [], [net]),
                Err(_) => {}
            }
        }
    }
    for (number, profile) in policy.profiles.iter().enumerate() {
        if profile.antispoof.martians && profile.antispoof.internet {
            let nets = host.connected.iter().filter(|(of, _)| *of == number);
            let (mut v4, mut v6) = (Vec::new(), Vec::new());
            for (_, net) in nets {
                match net {
                    IpNet::V4(net) => v4.push(*net),
                    IpNet::V6(net) => v6.push(*net),
                }
            }
            lists.add_meaning(
                Meaning::Connected(number),
                Ipv4Net::aggregate(&v4),
                Ipv6Net::aggregate(&v6),
            );
        }
    }
    if asked(|antispoof| antispoof.reverse_path != ReversePath::Off) {
        lists.add_reach(host);
    }
    for profile in &policy.profiles {
        let antispoof = &profile.antispoof;
        for set in [&antispoof.legitimate, &antispoof.egress_sources]
            .into_iter()
            .flatten()
        {
            lists.add_set(set);
        }
    }
    for rule in policy.rules() {
        if let AddressSet::Prefixes(set) = &rule.from {
            lists.add_set(set);
        }
    }
    lists.classify("source addresses")
}

fn sorted<T: Ord + Copy>(list: &[T]) -> Vec<T> {
    let mut list = list.to_vec();
    list.sort_unstable();
    list.dedup();
    list
}

/// Classes of destination addresses; `None` if no rule tells destinations apart.
pub(super) fn destinations(
    policy: &Policy,
    host: &HostFacts,
) -> Result<Option<AddressClasses>, TooManyClasses> {
    if policy.rules().all(|rule| rule.to == Destination::Any) {
        return Ok(None);
    }
    let mut lists = Lists::default();
    lists.add_meaning(
        Meaning::OwnDestination,
        sorted(&host.own_v4).into_iter().map(Ipv4Net::from),
        sorted(&host.own_v6).into_iter().map(Ipv6Net::from),
    );
    let multicast_v4 = Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4);
    let multicast_v6 = Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8);
    let mut broadcast = host.broadcast.clone();
    broadcast.push(Ipv4Addr::BROADCAST);
    let broadcast = sorted(&broadcast).into_iter().map(Ipv4Net::from);
    lists.add_meaning(
        Meaning::NotUnicast,
        broadcast.chain([multicast_v4]),
        [multicast_v6],
    );
    for rule in policy.rules() {
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
            Destination::SelfAddresses => self.means(class, Meaning::OwnDestination),
            Destination::Forwarded => {
                !self.means(class, Meaning::OwnDestination)
                    && !self.means(class, Meaning::NotUnicast)
            }
            Destination::Prefixes(set) => self.has(class, set),
        }
    }

    /// What the class's lists stand for beside those of the policy, in the order of the lists.
    pub(super) fn meanings(&self, class: usize) -> impl Iterator<Item = Meaning> {
        self.members[class]
            .iter()
            .filter_map(|list| self.meaning.get(list).copied())
    }

    pub(super) fn means(&self, class: usize, wanted: Meaning) -> bool {
        self.meanings(class).any(|meaning| meaning == wanted)
    }

    /// Whether the set has the class.
    pub(super) fn has(&self, class: usize, set: &Arc<PrefixSet>) -> bool {
        self.lists
            .get(&Arc::as_ptr(set))
            .is_some_and(|number| self.members[class].binary_search(number).is_ok())
    }
}
