//! Pushing a policy: fill the idle bank, read it back, flip the generation word, wait out a grace period.

use std::io;

use filter_common::layout::{Binding, Config, Control, REACH_ANY, binding, flag};
use filter_common::limits::{
    BOUND_ADDRESSES, BOUND_MACS, CONFIG_SLOTS, INTERFACE_SLOTS, RULE_SLOTS, SOURCE_CLASSES,
    VLAN_IDS, VLAN_TABLES, slot_places,
};
use filter_common::prefix::{ROOT4_LEN, ROOT6_LEN};
use filter_common::service::SERVICES;

use super::grace;
use super::load::{Dataplane, Sizes};
use super::memory::MappedArray;
use crate::compile::prefix::{BuildError, Built4, Built6, Range};
use crate::compile::{AddressTables, Compiled};

/// Words of `Control`.
pub(super) const CONTROL_WORDS: usize = size_of::<Control>() / size_of::<u64>();
pub(super) const GENERATION: usize = 0;
pub(super) const WILDCARD_UNTIL: usize = 1;
const EVENT_EPOCH: usize = 2;
/// Of the bank 0; that of the other bank follows.
const POLICIES: usize = 3;

/// Which policy a bank holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyMark {
    /// Its generation; 0: none that anybody keeps.
    pub generation: u64,
    /// The first 64 bits of its digest.
    pub digest: u64,
}

/// A policy in the idle bank, read back, that no packet is judged by yet. The next one that is staged overwrites it.
#[derive(Debug)]
#[must_use]
pub struct Staged {
    next: u64,
}

impl Staged {
    /// What the word that says which bank is in force has to be for a program to read it.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.next
    }
}

/// Which profile judges an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Interface index.
    pub ifindex: u32,
    /// Slot of its counters, from 1.
    pub slot: u16,
    /// Profile for frames that no VLAN profile claims.
    pub profile: Option<usize>,
    /// VLAN id -> profile.
    pub vlans: Vec<(u16, usize)>,
    /// What the guarded party may send from.
    pub binding: Binding,
    /// The bit of its strict reverse path; profiles with the loose one do not look at it.
    pub reach_bit: u32,
}

/// A binding of which nothing is known.
pub const UNBOUND: Binding = Binding {
    known: binding::UNKNOWN,
    macs: [binding::NO_MAC; BOUND_MACS],
    v4: [binding::NONE4; BOUND_ADDRESSES],
    v6: [binding::NONE6; BOUND_ADDRESSES],
};

/// Why a policy was not pushed; the one in force stays.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// Larger than the loaded set: load again with these sizes.
    #[error("the policy needs larger tables than the loaded ones")]
    TooLarge(Sizes),
    /// The prefix table could not be built.
    #[error("the prefix table cannot be built: {0}")]
    Prefixes(#[from] BuildError),
    /// More than the tables can name.
    #[error("{0}")]
    Limit(String),
    /// What was read back is not what was written.
    #[error("the kernel does not hold what was written to {0}")]
    ReadBack(&'static str),
    /// Writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The prefix tables of a policy, placed for one bank.
struct Prefixes {
    roots4: [Vec<u32>; 2],
    roots6: [Vec<u32>; 2],
    built4: Vec<Built4>,
    built6: Vec<Built6>,
}

impl Prefixes {
    fn build(compiled: &Compiled, base4: u32, base6: u32) -> Result<Self, BuildError> {
        let everything = AddressTables {
            v4: vec![Range {
                start: 0,
                answer: 0,
            }],
            v6: vec![Range {
                start: 0,
                answer: 0,
            }],
        };
        let mut prefixes = Self {
            roots4: Default::default(),
            roots6: Default::default(),
            built4: vec![],
            built6: vec![],
        };
        let (mut base4, mut base6) = (base4, base6);
        let sides = [
            &compiled.sources,
            compiled.destinations.as_ref().unwrap_or(&everything),
        ];
        for (side, tables) in sides.into_iter().enumerate() {
            let mut v4 = Built4::build(&tables.v4, base4)?;
            let mut v6 = Built6::build(&tables.v6, base6)?;
            base4 += v4.cells.len() as u32;
            base6 += v6.cells.len() as u32;
            prefixes.roots4[side] = std::mem::take(&mut v4.root);
            prefixes.roots6[side] = std::mem::take(&mut v6.root);
            prefixes.built4.push(v4);
            prefixes.built6.push(v6);
        }
        Ok(prefixes)
    }

    fn cells4(&self) -> usize {
        self.built4.iter().map(|built| built.cells.len()).sum()
    }

    fn cells6(&self) -> usize {
        self.built6.iter().map(|built| built.cells.len()).sum()
    }
}

impl Sizes {
    /// What a policy needs.
    pub fn needed(compiled: &Compiled) -> Result<Self, BuildError> {
        let prefixes = Prefixes::build(compiled, 0, 0)?;
        Ok(Self {
            cells4: prefixes.cells4(),
            cells6: prefixes.cells6(),
            matrix: compiled.matrix.len(),
        })
    }
}

impl Dataplane {
    /// Generations so far; the lowest bit is the bank in force.
    pub fn generation(&self) -> io::Result<u64> {
        self.memory.control.read(GENERATION)
    }

    /// Puts a policy in force: all of it, for all packets that begin after one store.
    pub fn push(
        &mut self,
        compiled: &Compiled,
        assignments: &[Assignment],
        mark: PolicyMark,
    ) -> Result<u64, PushError> {
        let staged = self.stage(compiled, assignments, mark)?;
        Ok(self.flip(staged)?)
    }

    /// Fills the idle bank and reads it back.
    pub fn stage(
        &mut self,
        compiled: &Compiled,
        assignments: &[Assignment],
        mark: PolicyMark,
    ) -> Result<Staged, PushError> {
        let next = self.generation()? + 1;
        let bank = (next & 1) as usize;
        let base4 = bank * self.sizes.cells4;
        let base6 = bank * self.sizes.cells6;
        let prefixes = Prefixes::build(compiled, base4 as u32, base6 as u32)?;
        let needed = Sizes {
            cells4: prefixes.cells4(),
            cells6: prefixes.cells6(),
            matrix: compiled.matrix.len(),
        };
        if !self.fits(&needed) {
            return Err(PushError::TooLarge(needed));
        }
        let matrix_base = bank * self.sizes.matrix;
        let (configs, vlans) = configs(compiled, assignments, matrix_base as u32, bank)?;
        let bindings = bindings(assignments);

        let memory = &mut self.memory;
        let mut at = base4;
        for built in &prefixes.built4 {
            memory.cells4.write(at, &built.cells)?;
            at += built.cells.len();
        }
        at = base6;
        for built in &prefixes.built6 {
            memory.cells6.write(at, &built.cells)?;
            at += built.cells.len();
        }
        for side in 0..2 {
            memory
                .roots4
                .write((bank * 2 + side) * ROOT4_LEN, &prefixes.roots4[side])?;
            memory
                .roots6
                .write((bank * 2 + side) * ROOT6_LEN, &prefixes.roots6[side])?;
        }
        memory.services.write(bank * SERVICES, &compiled.services)?;
        memory.matrix.write(matrix_base, &compiled.matrix)?;
        memory.limits.write(bank * RULE_SLOTS, &compiled.limits)?;
        memory.reach.write(bank * SOURCE_CLASSES, &compiled.reach)?;
        memory.bindings.write(bank * INTERFACE_SLOTS, &bindings)?;
        memory
            .vlans
            .fill(bank * VLAN_TABLES * VLAN_IDS, VLAN_TABLES * VLAN_IDS, 0)?;
        memory.vlans.write(bank * VLAN_TABLES * VLAN_IDS, &vlans)?;
        memory.configs.write(bank * CONFIG_SLOTS, &configs)?;
        self.write_slots(assignments)?;
        self.memory
            .control
            .write(POLICIES + 2 * bank, &[mark.generation, mark.digest])?;
        self.read_back(bank, compiled, &prefixes, &configs, &bindings)?;
        Ok(Staged { next })
    }

    /// Puts what is staged in force, and waits until no packet is judged by what was in force before.
    pub fn flip(&mut self, staged: Staged) -> io::Result<u64> {
        self.memory.control.publish(GENERATION, staged.next)?;
        grace::wait();
        Ok(staged.next)
    }

    /// Which policy is in force.
    pub fn policy(&self) -> io::Result<PolicyMark> {
        mark(&self.memory.control, (self.generation()? & 1) as usize)
    }

    /// Slots are the same in both banks: an interface keeps its slot and its place, a new one has no configuration
    /// before the flip.
    fn write_slots(&mut self, assignments: &[Assignment]) -> Result<(), PushError> {
        for assignment in assignments {
            let mut free = None;
            let mut found = false;
            for place in slot_places(assignment.ifindex) {
                let slot = self.memory.slots.read(place)?;
                found |= slot == assignment.slot;
                let taken = slot != 0
                    && assignments.iter().any(|other| {
                        other.slot == slot && slot_places(other.ifindex).contains(&place)
                    });
                if !taken && free.is_none() {
                    free = Some(place);
                }
            }
            match free {
                _ if found => {}
                Some(place) => self.memory.slots.write(place, &[assignment.slot])?,
                None => {
                    return Err(PushError::Limit(format!(
                        "interface index {} collides with those of two other interfaces",
                        assignment.ifindex
                    )));
                }
            }
        }
        Ok(())
    }

    fn read_back(
        &self,
        bank: usize,
        compiled: &Compiled,
        prefixes: &Prefixes,
        configs: &[Config],
        bindings: &[Binding],
    ) -> Result<(), PushError> {
        let memory = &self.memory;
        let (mut at4, mut at6) = (bank * self.sizes.cells4, bank * self.sizes.cells6);
        let mut same = vec![
            (
                "SERVICES",
                memory.services.holds(bank * SERVICES, &compiled.services)?,
            ),
            (
                "MATRIX",
                memory
                    .matrix
                    .holds(bank * self.sizes.matrix, &compiled.matrix)?,
            ),
            (
                "LIMITS",
                memory.limits.holds(bank * RULE_SLOTS, &compiled.limits)?,
            ),
            (
                "REACH",
                memory.reach.holds(bank * SOURCE_CLASSES, &compiled.reach)?,
            ),
            (
                "BINDINGS",
                memory.bindings.holds(bank * INTERFACE_SLOTS, bindings)?,
            ),
            (
                "CONFIGS",
                memory.configs.holds(bank * CONFIG_SLOTS, configs)?,
            ),
        ];
        for side in 0..2 {
            same.push((
                "ROOTS4",
                memory
                    .roots4
                    .holds((bank * 2 + side) * ROOT4_LEN, &prefixes.roots4[side])?,
            ));
            same.push((
                "ROOTS6",
                memory
                    .roots6
                    .holds((bank * 2 + side) * ROOT6_LEN, &prefixes.roots6[side])?,
            ));
            same.push((
                "CELLS4",
                memory.cells4.holds(at4, &prefixes.built4[side].cells)?,
            ));
            same.push((
                "CELLS6",
                memory.cells6.holds(at6, &prefixes.built6[side].cells)?,
            ));
            at4 += prefixes.built4[side].cells.len();
            at6 += prefixes.built6[side].cells.len();
        }
        match same.iter().find(|(_, holds)| !holds) {
            Some((name, _)) => Err(PushError::ReadBack(name)),
            None => Ok(()),
        }
    }

    /// Lets sampled drops flow for another span; call it every 100 ms.
    pub fn renew_event_budget(&mut self) -> io::Result<()> {
        let epoch = self.memory.control.read(EVENT_EPOCH)?;
        self.memory
            .control
            .publish(EVENT_EPOCH, epoch.wrapping_add(1))
    }

    /// Goes on with the other's start-up window: for tables that take the place of smaller ones.
    pub fn inherit_wildcard(&mut self, other: &Self) -> io::Result<()> {
        let until = other.memory.control.read(WILDCARD_UNTIL)?;
        self.set_wildcard_until(until)
    }

    /// Until when (`CLOCK_MONOTONIC` ns) flows without a remote count.
    pub(super) fn set_wildcard_until(&mut self, until: u64) -> io::Result<()> {
        self.memory.control.publish(WILDCARD_UNTIL, until)
    }
}

/// Which policy a bank holds.
pub(super) fn mark(control: &MappedArray<u64>, bank: usize) -> io::Result<PolicyMark> {
    let at = POLICIES + 2 * bank;
    Ok(PolicyMark {
        generation: control.read(at)?,
        digest: control.read(at + 1)?,
    })
}

/// The bindings of a bank, by slot.
fn bindings(assignments: &[Assignment]) -> Vec<Binding> {
    let mut bindings = vec![UNBOUND; INTERFACE_SLOTS];
    for assignment in assignments {
        if let Some(binding) = bindings.get_mut(assignment.slot as usize) {
            *binding = assignment.binding;
        }
    }
    bindings
}

/// The configurations of a bank, and its VLAN tables.
fn configs(
    compiled: &Compiled,
    assignments: &[Assignment],
    matrix_base: u32,
    bank: usize,
) -> Result<(Vec<Config>, Vec<u16>), PushError> {
    let none = Config {
        ifindex: 0,
        matrix_base: 0,
        source_classes: 0,
        service_classes: 0,
        flags: 0,
        vlan_table: 0,
        leaving_base: 0,
        binding: 0,
        reach_bit: 0,
    };
    let mut configs = vec![none; CONFIG_SLOTS];
    let mut vlans = Vec::new();
    let mut next = INTERFACE_SLOTS;
    let config = |assignment: &Assignment, profile: usize| {
        let profile = compiled.profiles[profile];
        Config {
            ifindex: assignment.ifindex,
            matrix_base: matrix_base + profile.matrix_offset,
            source_classes: profile.source_classes,
            service_classes: profile.service_classes,
            flags: profile.flags,
            vlan_table: 0,
            leaving_base: matrix_base + profile.leaving_offset,
            binding: (bank * INTERFACE_SLOTS) as u32 + u32::from(assignment.slot),
            reach_bit: if profile.any_interface {
                REACH_ANY
            } else {
                assignment.reach_bit
            },
        }
    };
    for assignment in assignments {
        let slot = assignment.slot as usize;
        if slot == 0 || slot >= INTERFACE_SLOTS {
            return Err(PushError::Limit(format!(
                "interface slot {slot} does not exist"
            )));
        }
        configs[slot] = match assignment.profile {
            Some(profile) => config(assignment, profile),
            None => Config {
                ifindex: assignment.ifindex,
                flags: flag::UNMANAGED,
                ..none
            },
        };
        if assignment.vlans.is_empty() {
            continue;
        }
        let mut table = vec![0_u16; VLAN_IDS];
        let mut numbers: Vec<(usize, u16)> = Vec::new();
        for &(vlan, profile) in &assignment.vlans {
            let number = match numbers.iter().find(|(known, _)| *known == profile) {
                Some((_, number)) => *number,
                None => {
                    if next == CONFIG_SLOTS {
                        return Err(PushError::Limit(format!(
                            "more than {} combinations of interface and VLAN profile",
                            CONFIG_SLOTS - INTERFACE_SLOTS
                        )));
                    }
                    configs[next] = config(assignment, profile);
                    numbers.push((profile, next as u16));
                    next += 1;
                    (next - 1) as u16
                }
            };
            table[vlan as usize % VLAN_IDS] = number;
        }
        // interfaces with the same VLANs do not share a table: their configurations differ
        if vlans.len() / VLAN_IDS == VLAN_TABLES {
            return Err(PushError::Limit(format!(
                "more than {VLAN_TABLES} interfaces with VLAN profiles"
            )));
        }
        vlans.extend(table);
        configs[slot].vlan_table = (vlans.len() / VLAN_IDS) as u32;
    }
    Ok((configs, vlans))
}
