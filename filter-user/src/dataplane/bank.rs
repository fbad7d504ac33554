//! Pushing a policy: fill the idle bank, read it back, flip the generation word, wait out a grace period.

use std::io;
use std::mem::offset_of;

use filter_common::layout::{Bank, Binding, Config, Control, REACH_ANY, binding, flag};
use filter_common::limits::{
    BOUND_ADDRESSES, BOUND_MACS, CONFIG_SLOTS, IFINDEX_SLOTS, INTERFACE_SLOTS, RULE_SLOTS,
    VLAN_IDS, VLAN_TABLES, slot_places,
};

use super::grace;
use super::load::{Dataplane, Sizes};
use super::memory::{MappedArray, bytes_of};
use super::watch;
use crate::compile::prefix::{BuildError, Built4, Built6, Range};
use crate::compile::{AddressTables, Compiled};

/// Words of `Control`.
pub(super) const CONTROL_WORDS: usize = size_of::<Control>() / size_of::<u64>();
pub(super) const GENERATION: usize = 0;
/// Of the bank 0; that of the other bank follows.
const POLICIES: usize = 1;

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
        let slots = slots(assignments)?;
        let bindings = bindings(assignments);
        let parts = parts(compiled, &prefixes, &configs, &slots);

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
        for part in &parts {
            memory.banks.write(part.place(bank), part.bytes)?;
        }
        memory.matrix.write(matrix_base, &compiled.matrix)?;
        memory.limits.write(bank * RULE_SLOTS, &compiled.limits)?;
        memory.bindings.write(bank * INTERFACE_SLOTS, &bindings)?;
        memory
            .vlans
            .fill(bank * VLAN_TABLES * VLAN_IDS, VLAN_TABLES * VLAN_IDS, 0)?;
        memory.vlans.write(bank * VLAN_TABLES * VLAN_IDS, &vlans)?;
        memory
            .control
            .write(POLICIES + 2 * bank, &[mark.generation, mark.digest])?;
        self.read_back(bank, compiled, &prefixes, &parts, &bindings)?;
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

    fn read_back(
        &self,
        bank: usize,
        compiled: &Compiled,
        prefixes: &Prefixes,
        parts: &[Part<'_>],
        bindings: &[Binding],
    ) -> Result<(), PushError> {
        let memory = &self.memory;
        let (mut at4, mut at6) = (bank * self.sizes.cells4, bank * self.sizes.cells6);
        let mut same = vec![
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
                "BINDINGS",
                memory.bindings.holds(bank * INTERFACE_SLOTS, bindings)?,
            ),
        ];
        for part in parts {
            let holds = memory.banks.holds(part.place(bank), part.bytes)?;
            same.push((part.name, holds));
        }
        for side in 0..2 {
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
        let epoch = self.watch.read(watch::EVENT_EPOCH)?;
        self.watch
            .publish(watch::EVENT_EPOCH, epoch.wrapping_add(1))
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

/// What a policy has in one field of [`Bank`].
struct Part<'a> {
    name: &'static str,
    offset: usize,
    bytes: &'a [u8],
}

impl Part<'_> {
    /// Where it stands in the map.
    fn place(&self, bank: usize) -> usize {
        bank * size_of::<Bank>() + self.offset
    }
}

/// All of a bank.
fn parts<'a>(
    compiled: &'a Compiled,
    prefixes: &'a Prefixes,
    configs: &'a [Config],
    slots: &'a [u16],
) -> [Part<'a>; 8] {
    let [sources4, destinations4] = &prefixes.roots4;
    let [sources6, destinations6] = &prefixes.roots6;
    let part = |name, offset, bytes| Part {
        name,
        offset,
        bytes,
    };
    [
        part("reach", offset_of!(Bank, reach), bytes_of(&compiled.reach)),
        part("roots4", offset_of!(Bank, roots4), bytes_of(sources4)),
        part(
            "roots4",
            offset_of!(Bank, roots4) + size_of_val(sources4.as_slice()),
            bytes_of(destinations4),
        ),
        part("roots6", offset_of!(Bank, roots6), bytes_of(sources6)),
        part(
            "roots6",
            offset_of!(Bank, roots6) + size_of_val(sources6.as_slice()),
            bytes_of(destinations6),
        ),
        part("configs", offset_of!(Bank, configs), bytes_of(configs)),
        part("slots", offset_of!(Bank, slots), bytes_of(slots)),
        part(
            "services",
            offset_of!(Bank, services),
            bytes_of(&compiled.services),
        ),
    ]
}

/// Where the interfaces' slots stand.
fn slots(assignments: &[Assignment]) -> Result<Vec<u16>, PushError> {
    let mut slots = vec![0; IFINDEX_SLOTS];
    for assignment in assignments {
        let mut places = slot_places(assignment.ifindex).into_iter();
        match places.find(|place| slots[*place] == 0) {
            Some(place) => slots[place] = assignment.slot,
            None => {
                return Err(PushError::Limit(format!(
                    "interface index {} collides with those of two other interfaces",
                    assignment.ifindex
                )));
            }
        }
    }
    Ok(slots)
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
