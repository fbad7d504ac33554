//! The filter as a value: the real programs on maps of their own, one interface (`lo`), a policy.
//! Owns the rule that every packet is counted once and that its XDP action agrees with its reason.
//! Must never know what a verdict ought to be.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use filter_common::reason::Reason;
use filter_user::compile::{Compiled, HostFacts, RuleSlots, compile};
use filter_user::dataplane::{Assignment, Dataplane, Pins, PushError, Sizes};
use filter_user::policy::{self, Policy};

use super::clock;
use super::counters;
use super::map::Map;
use super::place::{LOOPBACK, Place};
use super::syscall::{Ran, TestRun, XdpContext, test_run};
use crate::netns::Scratch;
use crate::oracle::World;
use crate::oracle::case::INTERFACE;

/// The slot of `lo`'s counters; slot 0 is that of interfaces without a configuration.
const SLOT: u16 = 1;

/// Flows remembered: few, so that emptying the table is quick.
const FLOWS: u32 = 16_384;

/// Actions of an XDP program (include/uapi/linux/bpf.h).
pub const XDP_DROP: u32 = 1;
/// See [`XDP_DROP`].
pub const XDP_PASS: u32 = 2;

/// What the filter did with a packet, by its return value and its counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The reason counted.
    pub reason: Reason,
    /// Counted as `would_drop`.
    pub would_drop: bool,
    /// Whether the packet goes on.
    pub pass: bool,
    /// The rule whose counter moved.
    pub rule: Option<String>,
}

/// The programs, loaded on maps of their own.
pub struct Filter {
    place: Place,
    dataplane: Dataplane,
    programs: [OwnedFd; 2],
    slots: RuleSlots,
    pushed: Option<(String, World)>,
    pins: Pins,
    maps: Maps,
    before: Readings,
    // last, so that the bpffs is unmounted after all else is closed
    scratch: Scratch,
}

struct Maps {
    interfaces: Map,
    rules: Map,
    flows: Map,
    fragments: Map,
    rates: Map,
    source_rates: Map,
}

/// The last readings of the counters, and room for the next ones.
#[derive(Default)]
struct Readings {
    interfaces: [Vec<u64>; 2],
    rules: Vec<u64>,
    next: Vec<u64>,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Filter {
    /// Loads the programs; moves the calling thread to a [`Place`] of its own.
    ///
    /// # Errors
    /// Without the privilege, or when the kernel refuses the programs.
    pub fn load() -> Result<Self> {
        let place = Place::enter()?;
        let scratch = Scratch::create("filter")?;
        let bpffs = scratch.mount_bpffs()?;
        let pins = Pins::prepare(&bpffs)?;
        let nothing = Sizes {
            cells4: 0,
            cells6: 0,
            matrix: 0,
        };
        let mut dataplane = load(&pins, nothing)?;
        let maps = Maps {
            interfaces: Map::state(&bpffs, "INTERFACE_COUNTERS")?,
            rules: Map::state(&bpffs, "RULE_COUNTERS")?,
            flows: Map::state(&bpffs, "FLOWS")?,
            fragments: Map::state(&bpffs, "FRAGMENTS")?,
            rates: Map::state(&bpffs, "RATES")?,
            source_rates: Map::state(&bpffs, "SOURCE_RATES")?,
        };
        let mut filter = Self {
            place,
            programs: programs(&mut dataplane)?,
            dataplane,
            slots: RuleSlots::default(),
            pushed: None,
            pins,
            maps,
            before: Readings::default(),
            scratch,
        };
        filter.read_all()?;
        Ok(filter)
    }

    /// Puts a policy in force. Does nothing if it is in force already.
    ///
    /// # Errors
    /// When the policy is refused; the text says where and why.
    pub fn push(&mut self, text: &str, world: &World) -> Result<()> {
        let wanted = (text.to_owned(), world.clone());
        if self.pushed.as_ref() == Some(&wanted) {
            return Ok(());
        }
        self.pushed = None;
        let (policy, compiled) = self.compile(text, world)?;
        let assignments = assignments(&policy);
        self.push_compiled(&compiled, &assignments)?;
        self.pushed = Some(wanted);
        self.read_all()
    }

    /// Checks and compiles a policy; rules keep the slots they have.
    ///
    /// # Errors
    /// When the policy is refused.
    pub fn compile(&mut self, text: &str, world: &World) -> Result<(Policy, Compiled)> {
        let path = self.scratch.file("policy.toml", text)?;
        let loaded =
            policy::load(&path).map_err(|errors| anyhow!("the policy is refused:\n{errors}"))?;
        let facts = HostFacts {
            own_v4: world.own_v4.clone(),
            own_v6: world.own_v6.clone(),
            broadcast: Vec::new(),
        };
        let compiled = compile(&loaded.policy, &facts, &mut self.slots)?;
        Ok((loaded.policy, compiled))
    }

    fn push_compiled(&mut self, compiled: &Compiled, assignments: &[Assignment]) -> Result<()> {
        match self.dataplane.push(compiled, assignments) {
            Err(PushError::TooLarge(needed)) => {
                self.dataplane = load(&self.pins, needed)?;
                self.programs = programs(&mut self.dataplane)?;
                self.dataplane.retire_others()?;
                self.dataplane.push(compiled, assignments)?;
            }
            other => {
                other?;
            }
        }
        Ok(())
    }

    /// Runs the ingress program on a frame received on `lo`.
    ///
    /// # Errors
    /// When the packet was not counted exactly once, or its action contradicts its reason.
    pub fn ingress(&mut self, frame: &[u8]) -> Result<Verdict> {
        self.ingress_on(INTERFACE, frame)
    }

    /// The same on any interface: all names but `lo` stand for one that no policy names.
    ///
    /// # Errors
    /// See [`Filter::ingress`].
    pub fn ingress_on(&mut self, interface: &str, frame: &[u8]) -> Result<Verdict> {
        let mut run = TestRun::once(frame);
        if interface != INTERFACE {
            run.context = Some(XdpContext {
                data_end: frame.len() as u32,
                ingress_ifindex: self.place.unmanaged,
                ..XdpContext::default()
            });
        }
        self.judged(run, frame.len())
    }

    /// Runs the ingress program and looks at its output as well: it must be the frame as it came.
    ///
    /// # Errors
    /// See [`Filter::ingress`], and when the frame was changed.
    pub fn ingress_unchanged(&mut self, frame: &[u8]) -> Result<Verdict> {
        let mut output = Vec::new();
        let mut run = TestRun::once(frame);
        run.output = Some(&mut output);
        let verdict = self.judged(run, frame.len())?;
        ensure!(output == frame, "the frame was changed");
        Ok(verdict)
    }

    /// Runs the ingress program on a frame whose directly readable part ends after `linear` bytes.
    ///
    /// # Errors
    /// See [`Filter::ingress`]; EINVAL from kernels that cannot do it.
    pub fn ingress_split(&mut self, frame: &[u8], linear: usize) -> Result<Verdict> {
        let context = XdpContext {
            data_end: linear as u32,
            ingress_ifindex: LOOPBACK,
            ..XdpContext::default()
        };
        let run = TestRun {
            context: Some(context),
            ..TestRun::once(frame)
        };
        self.judged(run, frame.len())
    }

    fn judged(&mut self, run: TestRun<'_>, length: usize) -> Result<Verdict> {
        let ran = test_run(self.programs[0].as_fd(), run)
            .with_context(|| format!("the kernel does not run the program on {length} bytes"))?;
        let managed = usize::from(self.interface_counted()?);
        let before = &mut self.before;
        let counted = counters::reason(
            &before.interfaces[managed],
            &before.next,
            self.place.cpu,
            length,
        );
        std::mem::swap(&mut before.interfaces[managed], &mut before.next);
        let (reason, would_drop) = counted.map_err(|text| anyhow!(text))?;
        let rule = match reason {
            Reason::PassRule | Reason::DropDenied | Reason::DropRate => {
                self.rule_counted(length)?
            }
            // a rule's counter that moved all the same shows in the next reading
            _ => None,
        };
        let pass = reason.passes() || would_drop;
        let action = if pass { XDP_PASS } else { XDP_DROP };
        ensure!(
            ran.value == action,
            "XDP action {} for {}",
            ran.value,
            reason.name()
        );
        ensure!(
            !(would_drop && reason.passes()),
            "{} as would_drop",
            reason.name()
        );
        ensure!(
            managed == 1 || reason == Reason::PassUnmanaged,
            "{} without a profile",
            reason.name()
        );
        Ok(Verdict {
            reason,
            would_drop,
            pass,
            rule,
        })
    }

    /// Reads the counters that moved into `next`: those of `lo` (true) or of unmanaged interfaces.
    fn interface_counted(&mut self) -> Result<bool> {
        for slot in [SLOT, 0] {
            self.maps
                .interfaces
                .read(slot.into(), &mut self.before.next)?;
            if self.before.next != self.before.interfaces[usize::from(slot)] {
                return Ok(slot == SLOT);
            }
        }
        bail!("no reason was counted")
    }

    /// The rule whose counter moved.
    fn rule_counted(&mut self, length: usize) -> Result<Option<String>> {
        let before = &mut self.before;
        self.maps.rules.read_first(
            before.rules.len() / self.maps.rules.words(),
            &mut before.next,
        )?;
        let moved = counters::moved(&before.rules, &before.next);
        std::mem::swap(&mut before.rules, &mut before.next);
        let Some(moved) = moved.map_err(|text| anyhow!("rules: {text}"))? else {
            return Ok(None);
        };
        ensure!(
            (moved.packets, moved.bytes) == (1, length as u64),
            "a rule counted {} packets and {} bytes for one of {length} bytes",
            moved.packets,
            moved.bytes
        );
        let words = self.maps.rules.words();
        let slot = moved.counter * 2 / words;
        let name = self
            .slots
            .iter()
            .find(|(_, known)| usize::from(*known) == slot);
        Ok(Some(name.map_or_else(
            || format!("slot {slot}, of no rule"),
            |(id, _)| id.to_owned(),
        )))
    }

    /// Checks that nothing was counted since the last packet.
    ///
    /// # Errors
    /// When a counter moved.
    pub fn settle(&mut self) -> Result<()> {
        let interfaces = self.before.interfaces.clone();
        let rules = self.before.rules.clone();
        self.read_all()?;
        ensure!(
            interfaces == self.before.interfaces,
            "a reason was counted without a packet"
        );
        ensure!(
            rules == self.before.rules,
            "a rule was counted without a packet of its own"
        );
        Ok(())
    }

    fn read_all(&mut self) -> Result<()> {
        for slot in [0, SLOT] {
            self.maps
                .interfaces
                .read(slot.into(), &mut self.before.interfaces[usize::from(slot)])?;
        }
        let highest = self.slots.iter().map(|(_, slot)| slot).max().unwrap_or(0);
        self.maps
            .rules
            .read_first(usize::from(highest) + 1, &mut self.before.rules)?;
        Ok(())
    }

    /// Runs the egress program on a frame sent on `lo`; false: the kernel refuses to run it on a
    /// frame that is too short for what it carries.
    ///
    /// # Errors
    /// When the program holds the frame back.
    pub fn egress(&mut self, frame: &[u8]) -> Result<bool> {
        // TCX_NEXT, include/uapi/linux/bpf.h
        const NEXT: u32 = u32::MAX;
        match test_run(self.programs[1].as_fd(), TestRun::once(frame)) {
            Ok(Ran { value: NEXT, .. }) => Ok(true),
            Ok(ran) => bail!("the egress program returned {}", ran.value),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && frame.len() < 14 + 40 => {
                Ok(false)
            }
            Err(error) => Err(error).context("the kernel does not run the egress program"),
        }
    }

    /// Forgets all flows.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn clear_flows(&mut self) -> Result<()> {
        Ok(self.maps.flows.clear()?)
    }

    /// Forgets all first fragments.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn clear_fragments(&mut self) -> Result<()> {
        Ok(self.maps.fragments.clear()?)
    }

    /// Forgets how much of every rate limit is used.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn clear_rates(&mut self) -> Result<()> {
        self.maps.rates.change_words(|_| 0)?;
        Ok(self.maps.source_rates.change_words(|_| 0)?)
    }

    /// Lets time pass: everything remembered gets older by it.
    ///
    /// # Errors
    /// When the machine has not been up for that long.
    pub fn advance(&mut self, milliseconds: u64) -> Result<()> {
        let by = milliseconds * 1_000_000;
        clock::age_hash(&self.maps.flows, by)?;
        clock::age_hash(&self.maps.fragments, by)?;
        clock::age_array(&self.maps.rates, by)?;
        clock::age_array(&self.maps.source_rates, by)
    }

    /// How many flows are remembered.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn flows(&self) -> Result<usize> {
        Ok(self.maps.flows.all()?.len())
    }

    /// The sum of a reason's packets since the load, enforced and `would_drop`, by name.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn reasons(&self) -> Result<HashMap<&'static str, u64>> {
        let mut value = Vec::new();
        self.maps.interfaces.read(SLOT.into(), &mut value)?;
        let of = |reason: &Reason| {
            let index = *reason as usize;
            value
                .chunks(128)
                .map(|cpu| cpu[index * 2] + cpu[64 + index * 2])
                .sum()
        };
        Ok(Reason::ALL
            .iter()
            .map(|reason| (reason.name(), of(reason)))
            .collect())
    }

    /// Packets of a rule since the load.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn rule_packets(&self, id: &str) -> Result<u64> {
        let mut value = Vec::new();
        self.maps
            .rules
            .read(self.slots.slot(id).into(), &mut value)?;
        Ok(value.chunks(2).map(|cpu| cpu[0]).sum())
    }

    /// The ingress program, for runs of one's own. What they count must be `forgiven` afterwards.
    #[must_use]
    pub fn ingress_program(&self) -> BorrowedFd<'_> {
        self.programs[0].as_fd()
    }

    /// Takes the counters as they are now for the state before the next packet.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn forgive(&mut self) -> Result<()> {
        self.read_all()
    }

    /// The loaded programs and their tables.
    pub fn dataplane(&mut self) -> &mut Dataplane {
        &mut self.dataplane
    }

    /// Which slot each rule has.
    #[must_use]
    pub fn slots(&self) -> &RuleSlots {
        &self.slots
    }

    /// Where the maps are pinned.
    #[must_use]
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The bpffs of this filter.
    #[must_use]
    pub fn bpffs(&self) -> PathBuf {
        self.scratch.path().join("bpffs")
    }

    /// A directory for files of this filter.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }
}

fn load(pins: &Pins, needed: Sizes) -> Result<Dataplane> {
    Dataplane::load(pins, needed, FLOWS).context("cannot load the programs")
}

fn programs(dataplane: &mut Dataplane) -> Result<[OwnedFd; 2]> {
    let ingress = dataplane.ingress()?.fd()?.as_fd().try_clone_to_owned()?;
    let egress = dataplane.egress()?.fd()?.as_fd().try_clone_to_owned()?;
    Ok([ingress, egress])
}

/// What the daemon would say about an interface `lo`; nothing where no profile names it.
#[must_use]
pub fn assignments(policy: &Policy) -> Vec<Assignment> {
    let winners = policy.profile_for(INTERFACE);
    let profile = winners
        .iter()
        .find(|(_, profile)| profile.vlans.is_empty())
        .map(|(index, _)| *index);
    let mut vlans: Vec<(u16, usize)> = Vec::new();
    for (index, profile) in &winners {
        for id in &profile.vlans {
            if vlans.iter().all(|(known, _)| known != id) {
                vlans.push((*id, *index));
            }
        }
    }
    if winners.is_empty() {
        return Vec::new();
    }
    vec![Assignment {
        ifindex: LOOPBACK,
        slot: SLOT,
        profile,
        vlans,
    }]
}
