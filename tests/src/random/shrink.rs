//! Owns making a failing case small: fewer frames, a smaller policy, shorter and emptier frames.
//! Must never use randomness: the same case and predicate give the same result.

use crate::oracle::RawPolicy;
use crate::oracle::World;
use crate::oracle::case::Case;
use crate::oracle::policy::{Control, IcmpLists, OneOrMany, RawAntiSpoof, RawProfile, RawRule};
use crate::oracle::world::LinkFacts;
use crate::random::SHORTEST;

/// Makes a case small as long as `fails` says that it still fails. At most `budget` tries.
///
/// `fails` must replay the whole case from empty tables, and say no to a policy it cannot load.
/// A case that does not fail comes back as it is.
pub fn shrink(case: &Case, budget: usize, fails: &mut dyn FnMut(&Case) -> bool) -> Case {
    let mut shrinker = Shrinker {
        best: case.clone(),
        budget,
        fails,
    };
    if !shrinker.attempt(&case.clone()) {
        return case.clone();
    }
    loop {
        let before = shrinker.best.clone();
        shrinker.steps();
        shrinker.policy();
        shrinker.world();
        shrinker.frames();
        if shrinker.best == before || shrinker.budget == 0 {
            return shrinker.best;
        }
    }
}

/// A file name for a case: the same case gets the same name (FNV-1a, 64 bits).
#[must_use]
pub fn fixture_name(case: &Case) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let steps = case.steps.iter().flat_map(|step| step.frame.iter());
    for byte in case.policy.as_bytes().iter().chain(steps) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("disagreement-{hash:016x}")
}

struct Shrinker<'a> {
    best: Case,
    budget: usize,
    fails: &'a mut dyn FnMut(&Case) -> bool,
}

impl Shrinker<'_> {
    /// Takes the candidate if it still fails.
    fn attempt(&mut self, candidate: &Case) -> bool {
        if self.budget == 0 {
            return false;
        }
        self.budget -= 1;
        let fails = (self.fails)(candidate);
        if fails {
            self.best = candidate.clone();
        }
        fails
    }

    /// Drops frames: halves first, then ever smaller runs (delta debugging, Zeller 1999).
    fn steps(&mut self) {
        let mut run = self.best.steps.len().div_ceil(2);
        while run > 0 {
            // From the end: what comes after the disagreement goes first.
            let mut end = self.best.steps.len();
            while end > 0 {
                let start = end.saturating_sub(run);
                let mut candidate = self.best.clone();
                candidate.steps.drain(start..end);
                if !candidate.steps.is_empty() {
                    self.attempt(&candidate);
                }
                end = start;
            }
            run /= 2;
        }
    }

    /// Applies every simplification of the policy, one at a time, until none is left.
    fn policy(&mut self) {
        let mut i = 0;
        while self.budget > 0 {
            let Ok(policy) = RawPolicy::parse(&self.best.policy) else {
                return;
            };
            let Some(simpler) = simplifications(&policy).into_iter().nth(i) else {
                return;
            };
            let Ok(text) = simpler.to_text() else { return };
            let candidate = Case {
                policy: text,
                ..self.best.clone()
            };
            // After a success the list is another one: what stands at `i` now is yet untried.
            if candidate.policy == self.best.policy || !self.attempt(&candidate) {
                i += 1;
            }
        }
    }

    /// Forgets what is known of the host, one thing at a time.
    fn world(&mut self) {
        let mut i = 0;
        while let Some(world) = simpler_worlds(&self.best.world).into_iter().nth(i) {
            let candidate = Case {
                world,
                ..self.best.clone()
            };
            if self.budget == 0 {
                return;
            }
            if !self.attempt(&candidate) {
                i += 1;
            }
        }
    }

    /// Cuts frames from the end and turns their bytes into zeros.
    fn frames(&mut self) {
        for i in 0..self.best.steps.len() {
            let mut cut = self.best.steps[i].frame.len() / 2;
            while cut > 0 {
                let length = self.best.steps[i].frame.len();
                let mut candidate = self.best.clone();
                candidate.steps[i]
                    .frame
                    .truncate(length.saturating_sub(cut).max(SHORTEST));
                if candidate.steps[i].frame.len() == length || !self.attempt(&candidate) {
                    cut /= 2;
                }
            }
            let mut run = 16;
            while run > 0 {
                for start in (0..self.best.steps[i].frame.len()).step_by(run) {
                    let mut candidate = self.best.clone();
                    let frame = &mut candidate.steps[i].frame;
                    let end = (start + run).min(frame.len());
                    frame[start..end].fill(0);
                    if candidate != self.best {
                        self.attempt(&candidate);
                    }
                }
                run /= 4;
            }
        }
    }
}

/// Every host of which one thing less is known. Its addresses stay: a policy may well speak of them.
fn simpler_worlds(world: &World) -> Vec<World> {
    let mut all = Vec::new();
    let mut without = |change: &dyn Fn(&mut World)| {
        let mut simpler = world.clone();
        change(&mut simpler);
        all.push(simpler);
    };
    if world.routes.len() > 2 {
        without(&|world| world.routes.truncate(world.routes.len() / 2));
        without(&|world| drop(world.routes.drain(..world.routes.len() / 2)));
    }
    for i in 0..world.routes.len() {
        without(&|world| _ = world.routes.remove(i));
    }
    for i in 0..world.blocked.len() {
        without(&|world| _ = world.blocked.remove(i));
    }
    for i in 0..world.entries.len() {
        without(&|world| _ = world.entries.remove(i));
    }
    for i in 0..world.inside.len() {
        without(&|world| _ = world.inside.remove(i));
    }
    for i in 0..world.broadcast.len() {
        without(&|world| _ = world.broadcast.remove(i));
    }
    for i in 0..world.tentative_v6.len() {
        without(&|world| _ = world.tentative_v6.remove(i));
    }
    for (name, facts) in &world.links {
        let mut without = |change: &dyn Fn(&mut LinkFacts)| {
            without(&|world| {
                if let Some(facts) = world.links.get_mut(name) {
                    change(facts);
                }
            });
        };
        for i in 0..facts.macs.len() {
            without(&|facts| _ = facts.macs.remove(i));
        }
        let binding = facts.binding.clone().unwrap_or_default();
        for i in 0..binding.addresses.len() {
            without(&|facts| {
                if let Some(known) = &mut facts.binding {
                    known.addresses.remove(i);
                }
            });
        }
        for i in 0..binding.macs.len() {
            without(&|facts| _ = facts.binding.as_mut().map(|known| known.macs.remove(i)));
        }
        if facts.binding.is_some() {
            without(&|facts| facts.binding = None);
        }
        if facts.outputs.is_some() {
            without(&|facts| facts.outputs = None);
        }
    }
    all
}

/// Every policy that is simpler by one thing.
fn simplifications(policy: &RawPolicy) -> Vec<RawPolicy> {
    let mut all = Vec::new();
    for at in 0..policy.failsafe.len() {
        let mut simpler = policy.clone();
        simpler.failsafe.remove(at);
        all.push(simpler);
    }
    for name in policy.profiles.keys() {
        let mut simpler = policy.clone();
        simpler.profiles.shift_remove(name);
        if !simpler.profiles.is_empty() {
            all.push(simpler);
        }
    }
    for (name, profile) in &policy.profiles {
        for profile in simpler_profiles(profile) {
            let mut simpler = policy.clone();
            simpler.profiles.insert(name.clone(), profile);
            all.push(simpler);
        }
    }
    for (name, group) in &policy.groups {
        let mut simpler = policy.clone();
        simpler.groups.shift_remove(name);
        // A group that a rule still names must stay.
        if !policy
            .to_text()
            .unwrap_or_default()
            .contains(&format!("@{name}"))
        {
            all.push(simpler);
        }
        for i in 0..group.cidrs.len() {
            if group.cidrs.len() > 1 {
                let mut simpler = policy.clone();
                let mut group = group.clone();
                group.cidrs.remove(i);
                simpler.groups.insert(name.clone(), group);
                all.push(simpler);
            }
        }
    }
    all
}

fn simpler_profiles(profile: &RawProfile) -> Vec<RawProfile> {
    let mut all = vec![
        RawProfile {
            enforce: true,
            ..profile.clone()
        },
        RawProfile {
            default: crate::oracle::policy::Default_::default(),
            ..profile.clone()
        },
        RawProfile {
            fragments: crate::oracle::policy::Fragments::default(),
            ..profile.clone()
        },
        RawProfile {
            control: Control::default(),
            ..profile.clone()
        },
        RawProfile {
            icmp: IcmpLists::default(),
            ..profile.clone()
        },
        RawProfile {
            ethertypes: Vec::new(),
            ..profile.clone()
        },
        RawProfile {
            antispoof: None,
            ..profile.clone()
        },
        RawProfile {
            send: None,
            ..profile.clone()
        },
    ];
    if let Some(given) = &profile.antispoof {
        let simpler = simpler_antispoof(given).into_iter();
        all.extend(simpler.map(|given| RawProfile {
            antispoof: Some(given),
            ..profile.clone()
        }));
    }
    if let Some(containers) = &profile.containers {
        for i in 0..containers.binding.len() {
            let mut simpler = profile.clone();
            let mut containers = containers.clone();
            containers.binding.remove(i);
            simpler.containers = Some(containers);
            all.push(simpler);
        }
    }
    all.retain(|simpler| simpler != profile);
    if profile.vlans.len() > 1 {
        for i in 0..profile.vlans.len() {
            let mut simpler = profile.clone();
            simpler.vlans.remove(i);
            all.push(simpler);
        }
    }
    for i in 0..profile.allow.len() {
        let mut simpler = profile.clone();
        simpler.allow.remove(i);
        all.push(simpler);
    }
    for i in 0..profile.deny.len() {
        let mut simpler = profile.clone();
        simpler.deny.remove(i);
        all.push(simpler);
    }
    for (i, rule) in profile.allow.iter().enumerate() {
        for rule in simpler_rules(rule) {
            let mut simpler = profile.clone();
            simpler.allow[i] = rule;
            all.push(simpler);
        }
    }
    for (i, rule) in profile.deny.iter().enumerate() {
        for rule in simpler_rules(rule) {
            let mut simpler = profile.clone();
            simpler.deny[i] = rule;
            all.push(simpler);
        }
    }
    let send = profile.send.as_deref().unwrap_or_default();
    for i in 0..send.len() {
        let with = |rules: Vec<RawRule>| RawProfile {
            send: Some(rules),
            ..profile.clone()
        };
        let mut shorter = send.to_vec();
        shorter.remove(i);
        all.push(with(shorter));
        for rule in simpler_rules(&send[i]) {
            let mut rules = send.to_vec();
            rules[i] = rule;
            all.push(with(rules));
        }
    }
    all
}

/// Without each of the switches and lists in turn; a switch that is left out has its default.
fn simpler_antispoof(given: &RawAntiSpoof) -> Vec<RawAntiSpoof> {
    let nothing = RawAntiSpoof::default();
    let mut all = vec![
        RawAntiSpoof {
            martians: Some(false),
            ..given.clone()
        },
        RawAntiSpoof {
            internet: nothing.internet,
            ..given.clone()
        },
        RawAntiSpoof {
            legitimate: nothing.legitimate,
            ..given.clone()
        },
        RawAntiSpoof {
            own_addresses: Some(false),
            ..given.clone()
        },
        RawAntiSpoof {
            reverse_path: nothing.reverse_path,
            ..given.clone()
        },
        RawAntiSpoof {
            egress: Some(false),
            ..given.clone()
        },
        RawAntiSpoof {
            egress_sources: nothing.egress_sources,
            ..given.clone()
        },
    ];
    for legitimate in without_one(Some(&given.legitimate)) {
        all.push(RawAntiSpoof {
            legitimate,
            ..given.clone()
        });
    }
    for egress_sources in without_one(Some(&given.egress_sources)) {
        all.push(RawAntiSpoof {
            egress_sources,
            ..given.clone()
        });
    }
    all.retain(|simpler| simpler != given);
    all
}

fn simpler_rules(rule: &RawRule) -> Vec<RawRule> {
    let mut all = Vec::new();
    if rule.from.is_some() {
        all.push(RawRule {
            from: None,
            ..rule.clone()
        });
    }
    if rule.to.is_some() {
        all.push(RawRule {
            to: None,
            ..rule.clone()
        });
    }
    if rule.ports.is_some() {
        all.push(RawRule {
            ports: None,
            ..rule.clone()
        });
    }
    for ports in without_one(rule.ports.as_deref()) {
        all.push(RawRule {
            ports: Some(ports),
            ..rule.clone()
        });
    }
    for from in without_one(rule.from.as_deref()) {
        all.push(RawRule {
            from: Some(from),
            ..rule.clone()
        });
    }
    if let Some(OneOrMany::Many(to)) = &rule.to {
        for to in without_one(Some(to)) {
            all.push(RawRule {
                to: Some(OneOrMany::Many(to)),
                ..rule.clone()
            });
        }
    }
    if let Some(OneOrMany::Many(protocol)) = &rule.protocol {
        for protocol in without_one(Some(protocol)) {
            all.push(RawRule {
                protocol: Some(OneOrMany::Many(protocol)),
                ..rule.clone()
            });
        }
    }
    all
}

/// The list without each of its elements in turn; a list of one stays as it is.
fn without_one<T: Clone>(list: Option<&[T]>) -> Vec<Vec<T>> {
    match list {
        Some(list) if list.len() > 1 => (0..list.len())
            .map(|i| {
                let mut shorter = list.to_vec();
                shorter.remove(i);
                shorter
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Outcome;
    use crate::oracle::case::{Direction, Step};

    /// Stands for a filter that forgets flows: every `pass_reply` that arrives is a disagreement.
    fn has_reply(case: &Case) -> bool {
        let is_reply = |(step, outcome): (&Step, &Outcome)| {
            step.direction == Direction::Ingress && outcome.reason == "pass_reply"
        };
        case.outcomes()
            .is_ok_and(|outcomes| case.steps.iter().zip(&outcomes).any(is_reply))
    }

    #[test]
    fn a_reply_shrinks_to_two_frames_and_a_bare_policy() {
        let seed = (0..1000)
            .find(|seed| has_reply(&crate::random::case(*seed, 300)))
            .unwrap();
        let case = crate::random::case(seed, 300);
        let small = shrink(&case, 20_000, &mut has_reply);
        assert!(has_reply(&small));
        assert_eq!(small.steps.len(), 2, "{}", small.to_fixture().unwrap());
        assert_eq!(small.steps[0].direction, Direction::Egress);
        let policy = RawPolicy::parse(&small.policy).unwrap();
        assert_eq!(policy.profiles.len(), 1);
        assert!(policy.groups.is_empty(), "{}", small.policy);
        let rules = policy
            .profiles
            .values()
            .map(|p| p.allow.len() + p.deny.len())
            .sum::<usize>();
        assert_eq!(rules, 0, "{}", small.policy);
        assert_eq!(
            small,
            shrink(&case, 20_000, &mut has_reply),
            "not deterministic"
        );
        let name = fixture_name(&small);
        assert_eq!(
            name,
            fixture_name(&Case::from_fixture(&small.to_fixture().unwrap()).unwrap())
        );
    }

    #[test]
    fn a_case_that_does_not_fail_is_left_alone() {
        let case = crate::random::case(1, 20);
        assert_eq!(shrink(&case, 100, &mut |_| false), case);
    }
}
