//! The filter as a value: the real programs on maps of their own, one interface (`lo`), a policy.
//! Owns the rule that every packet is counted once and that its XDP action agrees with its reason.
//! Must never know what a verdict ought to be.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail, ensure};
use aya::maps::{MapData, RingBuf};
use filter_common::layout::Block;
use filter_common::reason::Reason;
use filter_user::compile::{Compiled, HostFacts, RuleSlots, compile};
use filter_user::dataplane::entries::EntryTable;
use filter_user::dataplane::scans::{ScanTables, decode};
use filter_user::dataplane::test_run::{Context as RunContext, Ran, TestRun, XdpContext, test_run};
use filter_user::dataplane::{
    self, Assignment, Dataplane, Judged, Pins, PolicyMark, PushError, Sizes, TcProgram, XdpProgram,
    counters as counted,
};
use filter_user::entries::{Entry, schedule};
use filter_user::policy::{self, Policy};
use filter_user::scans::probe::Probe;
use ipnet::IpNet;

use super::assignment;
use super::clock;
use super::counters;
use super::entries;
use super::map::Map;
use super::place::{LOOPBACK, Place};
use crate::netns::Scratch;
use crate::oracle::World;
use crate::oracle::case::INTERFACE;

/// The slot of `lo`'s counters; slot 0 is that of interfaces without a configuration.
pub(super) const SLOT: u16 = 1;

/// Flows remembered: few, so that emptying the table is quick.
const FLOWS: u32 = 16_384;

/// Actions of an XDP program (include/uapi/linux/bpf.h).
pub const XDP_DROP: u32 = 1;
/// See [`XDP_DROP`].
pub const XDP_PASS: u32 = 2;

/// Actions of a TC program: `TCX_NEXT` and `TCX_DROP`, which are `TC_ACT_UNSPEC` and `TC_ACT_SHOT`.
const TC_NEXT: u32 = u32::MAX;
const TC_DROP: u32 = 2;

/// Stands for the secret of the tables of scans.
const SEED: u64 = 0x05ca_11ed_5eed;

/// How long the sources that a world names are blocked.
const FOR_LONG: Duration = Duration::from_hours(24);

/// Which of the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hook {
    /// XDP: what arrives at an outer interface.
    In,
    /// What leaves by an outer interface.
    Out,
    /// What a container sends.
    Send,
    /// What is about to reach a container.
    Deliver,
}

impl Hook {
    const fn program(self) -> dataplane::Hook {
        match self {
            Self::In => dataplane::Hook::Xdp(XdpProgram::In),
            Self::Out => dataplane::Hook::Tc(TcProgram::Out),
            Self::Send => dataplane::Hook::Tc(TcProgram::Send),
            Self::Deliver => dataplane::Hook::Tc(TcProgram::Deliver),
        }
    }
}

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
    slots: RuleSlots,
    pushed: Option<(String, HostFacts, Option<World>)>,
    /// Whether `lo` stands for a container link under the policy in force.
    container: bool,
    /// Whether the shadow is asked about every frame before the program is.
    asks_shadow: bool,
    pins: Pins,
    maps: Maps,
    scans: ScanTables,
    entries: EntryTable,
    /// Blocked since the world in force says so.
    blocked: Vec<IpNet>,
    probes: Option<RingBuf<MapData>>,
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
        let dataplane = load(&pins, nothing)?;
        let maps = Maps {
            interfaces: Map::state(&bpffs, "INTERFACE_COUNTERS")?,
            rules: Map::state(&bpffs, "RULE_COUNTERS")?,
            flows: Map::state(&bpffs, "FLOWS")?,
            fragments: Map::state(&bpffs, "FRAGMENTS")?,
            rates: Map::state(&bpffs, "RATES")?,
            source_rates: Map::state(&bpffs, "SOURCE_RATES")?,
        };
        // the seed comes first: with a known one each run is the same
        let watch = Map::state(&bpffs, "WATCH")?;
        let mut words = vec![0; watch.words()];
        words[0] = SEED;
        watch.write(&[0; 4], &words)?;
        let scans = ScanTables::open(&pins)?;
        let mut filter = Self {
            place,
            dataplane,
            scans,
            entries: EntryTable::open(&pins)?,
            blocked: Vec::new(),
            probes: None,
            slots: RuleSlots::default(),
            pushed: None,
            container: false,
            asks_shadow: false,
            pins,
            maps,
            before: Readings::default(),
            scratch,
        };
        filter.read_all()?;
        Ok(filter)
    }

    /// Puts a policy in force on a host. Does nothing if it is in force already.
    ///
    /// # Errors
    /// When the policy is refused; the text says where and why.
    pub fn push(&mut self, text: &str, world: &World) -> Result<()> {
        self.put(text, &assignment::facts(world), Some(world))
    }

    /// The same with facts of one's own, and an interface that is bound to nothing.
    ///
    /// # Errors
    /// See [`Filter::push`].
    pub fn push_with_facts(&mut self, text: &str, host: &HostFacts) -> Result<()> {
        self.put(text, host, None)
    }

    fn put(&mut self, text: &str, host: &HostFacts, world: Option<&World>) -> Result<()> {
        let wanted = (text.to_owned(), host.clone(), world.cloned());
        if self.pushed.as_ref() == Some(&wanted) {
            return Ok(());
        }
        self.pushed = None;
        let (policy, compiled) = self.compile_with_facts(text, host)?;
        let world = world.cloned().unwrap_or_default();
        let assignments = assignment::assignments(&policy, text, &world);
        self.push_compiled(&compiled, &assignments)?;
        let judges = assignments
            .iter()
            .filter_map(|assignment| assignment.profile);
        self.container = judges
            .filter_map(|index| policy.profiles.get(index))
            .any(|profile| profile.containers.is_some());
        self.prepare()?;
        // what ends by itself begins now: nothing that takes time comes after
        self.block_as_in(&world)?;
        self.list_entries(&entries::of(&world))?;
        self.pushed = Some(wanted);
        self.read_all()
    }

    /// Checks and compiles a policy; rules keep the slots they have.
    ///
    /// # Errors
    /// When the policy is refused.
    pub fn compile(&mut self, text: &str, world: &World) -> Result<(Policy, Compiled)> {
        self.compile_with_facts(text, &assignment::facts(world))
    }

    fn compile_with_facts(&mut self, text: &str, host: &HostFacts) -> Result<(Policy, Compiled)> {
        let path = self.scratch.file("policy.toml", text)?;
        let loaded =
            policy::load(&path).map_err(|errors| anyhow!("the policy is refused:\n{errors}"))?;
        let active = loaded.policy.active(SystemTime::now());
        let compiled = compile(&loaded.policy, &active, host, &mut self.slots)?;
        Ok((loaded.policy, compiled))
    }

    /// Lifts the blocks of the world before, and puts those of this one in force.
    fn block_as_in(&mut self, world: &World) -> Result<()> {
        for source in std::mem::take(&mut self.blocked) {
            self.unblock(source)?;
        }
        for cidr in &world.blocked {
            self.block(cidr.0, FOR_LONG)?;
            self.blocked.push(cidr.0);
        }
        Ok(())
    }

    /// Puts just these run-time entries in force.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn list_entries(&mut self, entries: &[Entry]) -> Result<()> {
        let now = clock::moment()?;
        Ok(self.entries.replace(&schedule(entries, now))?)
    }

    /// The tables of run-time entries.
    pub fn entries(&mut self) -> &mut EntryTable {
        &mut self.entries
    }

    /// Opens the tables of run-time entries again, as a daemon does that starts anew.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn reopen_entries(&mut self) -> Result<()> {
        self.entries = EntryTable::open(&self.pins)?;
        Ok(())
    }

    /// Loads what judges on this side, which takes longer than some tests let anything last.
    fn prepare(&mut self) -> Result<()> {
        let hooks = if self.container {
            [Hook::Send, Hook::Deliver]
        } else {
            [Hook::In, Hook::Out]
        };
        self.dataplane.prepare(&hooks.map(Hook::program))?;
        Ok(())
    }

    fn push_compiled(&mut self, compiled: &Compiled, assignments: &[Assignment]) -> Result<()> {
        match self
            .dataplane
            .push(compiled, assignments, PolicyMark::default())
        {
            Err(PushError::TooLarge(needed)) => {
                self.dataplane = load(&self.pins, needed)?;
                self.dataplane.retire_others()?;
                self.dataplane
                    .push(compiled, assignments, PolicyMark::default())?;
            }
            other => {
                other?;
            }
        }
        Ok(())
    }

    /// Runs the program for what arrives on a frame that comes by `lo`: to this host, or to the container behind it.
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
        if interface == INTERFACE && self.container {
            return self.judged(Hook::Deliver, run, frame.len());
        }
        if interface != INTERFACE {
            run.context = Some(RunContext::Xdp(XdpContext {
                data_end: frame.len() as u32,
                ingress_ifindex: self.place.unmanaged,
                ..XdpContext::default()
            }));
        }
        self.judged(Hook::In, run, frame.len())
    }

    /// Runs the ingress program and looks at its output as well: it must be the frame as it came.
    ///
    /// # Errors
    /// See [`Filter::ingress`], and when the frame was changed.
    pub fn ingress_unchanged(&mut self, frame: &[u8]) -> Result<Verdict> {
        let mut output = Vec::new();
        let mut run = TestRun::once(frame);
        run.output = Some(&mut output);
        let hook = if self.container {
            Hook::Deliver
        } else {
            Hook::In
        };
        let verdict = self.judged(hook, run, frame.len())?;
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
            context: Some(RunContext::Xdp(context)),
            ..TestRun::once(frame)
        };
        self.judged(Hook::In, run, frame.len())
    }

    /// The same. `None`: the kernel refuses to run a program on an skb that is too short for what it carries.
    ///
    /// # Errors
    /// See [`Filter::ingress`].
    pub fn arriving(&mut self, interface: &str, frame: &[u8]) -> Result<Option<Verdict>> {
        if interface == INTERFACE && self.container {
            return self.skb(Hook::Deliver, frame);
        }
        self.ingress_on(interface, frame).map(Some)
    }

    /// Runs the program for what leaves on a frame that goes by `lo`: from this host, or from the container behind it.
    ///
    /// # Errors
    /// See [`Filter::arriving`].
    pub fn leaving(&mut self, frame: &[u8]) -> Result<Option<Verdict>> {
        let hook = if self.container {
            Hook::Send
        } else {
            Hook::Out
        };
        self.skb(hook, frame)
    }

    fn skb(&mut self, hook: Hook, frame: &[u8]) -> Result<Option<Verdict>> {
        let told = self.shadow_says(hook, LOOPBACK, frame);
        let program = self.dataplane.program(hook.program())?;
        match test_run(program, TestRun::once(frame)) {
            Ok(ran) => self.counted(hook, ran, frame.len(), told?).map(Some),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && frame.len() < 14 + 40 => {
                Ok(None)
            }
            Err(error) => Err(error).context("the kernel does not run the program"),
        }
    }

    /// The same for frames that must go on; false: the kernel refuses to run the program.
    ///
    /// # Errors
    /// See [`Filter::leaving`], and when the program holds the frame back.
    pub fn egress(&mut self, frame: &[u8]) -> Result<bool> {
        let verdict = self.leaving(frame)?;
        if let Some(verdict) = verdict.as_ref().filter(|verdict| !verdict.pass) {
            bail!("held back: {}", verdict.reason.name());
        }
        Ok(verdict.is_some())
    }

    fn judged(&mut self, hook: Hook, run: TestRun<'_>, length: usize) -> Result<Verdict> {
        let told = match run.context {
            None => self.shadow_says(hook, LOOPBACK, run.frame)?,
            Some(RunContext::Xdp(context)) if context.data_end as usize == length => {
                self.shadow_says(hook, context.ingress_ifindex, run.frame)?
            }
            Some(_) => None,
        };
        let ran = test_run(self.dataplane.program(hook.program())?, run)
            .with_context(|| format!("the kernel does not run the program on {length} bytes"))?;
        self.counted(hook, ran, length, told)
    }

    /// What the shadow says of a frame, if it is to be asked. It must move no counter: `counted` would find it.
    fn shadow_says(&mut self, hook: Hook, ifindex: u32, frame: &[u8]) -> Result<Option<Judged>> {
        if !self.asks_shadow {
            return Ok(None);
        }
        let hook = hook.program();
        let place = dataplane::Place { ifindex, hook };
        Ok(Some(self.dataplane.shadow()?.judge_now(place, frame)?))
    }

    /// From now on asks the shadow about every frame first: what it says is part of what must agree.
    pub fn ask_shadow(&mut self) {
        self.asks_shadow = true;
    }

    /// What the program did, by its counters; its return value must agree, and what the shadow said before.
    fn counted(
        &mut self,
        hook: Hook,
        ran: Ran,
        length: usize,
        told: Option<Judged>,
    ) -> Result<Verdict> {
        let verdict = self.done(hook, ran, length)?;
        if let Some(told) = told {
            // what is counted for no rule is not looked up by `done`
            let rule = verdict.rule.as_ref().and(self.name_of(told.rule));
            let said = Verdict {
                reason: told.reason,
                would_drop: told.monitored,
                pass: told.passes,
                rule,
            };
            ensure!(
                said == verdict,
                "the shadow said {said:?} before {verdict:?}"
            );
        }
        Ok(verdict)
    }

    fn name_of(&self, slot: u16) -> Option<String> {
        let known = self.slots.iter().find(|(_, known)| *known == slot);
        known.map(|(id, _)| id.to_owned())
    }

    fn done(&mut self, hook: Hook, ran: Ran, length: usize) -> Result<Verdict> {
        let Some(managed) = self.interface_counted()? else {
            // What leaves an interface, or a VLAN, that no profile judges is not counted.
            ensure!(
                hook != Hook::In && ran.value == TC_NEXT,
                "no reason was counted"
            );
            return Ok(Verdict {
                reason: Reason::PassUnmanaged,
                would_drop: false,
                pass: true,
                rule: None,
            });
        };
        let managed = usize::from(managed);
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
            Reason::PassRule
            | Reason::DropDenied
            | Reason::DropRate
            // the rows that refuse a source have slots like rules
            | Reason::DropMartian
            | Reason::DropOwnAddress
            | Reason::DropReversePath
            | Reason::DropBinding => self.rule_counted(length)?,
            // a rule's counter that moved all the same shows in the next reading
            _ => None,
        };
        let pass = reason.passes() || would_drop;
        let action = match (hook, pass) {
            (Hook::In, true) => XDP_PASS,
            (Hook::In, false) => XDP_DROP,
            (_, true) => TC_NEXT,
            (_, false) => TC_DROP,
        };
        ensure!(
            ran.value == action,
            "{hook:?} returned {} for {}",
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

    /// Reads the counters that moved into `next`: those of `lo` (true) or of unmanaged interfaces; `None` if none did.
    fn interface_counted(&mut self) -> Result<Option<bool>> {
        for slot in [SLOT, 0] {
            self.maps
                .interfaces
                .read(slot.into(), &mut self.before.next)?;
            if self.before.next != self.before.interfaces[usize::from(slot)] {
                return Ok(Some(slot == SLOT));
            }
        }
        Ok(None)
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
        let slot = (moved.counter * 2 / words) as u16;
        let name = self.name_of(slot);
        Ok(Some(
            name.unwrap_or_else(|| format!("slot {slot}, of no rule")),
        ))
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

    /// Blocks a source from now on.
    ///
    /// # Errors
    /// What the kernel says, and when the table is full.
    pub fn block(&mut self, source: IpNet, lasting: Duration) -> Result<()> {
        let now = clock::now()?;
        let block = Block {
            since: now,
            until: now + lasting.as_nanos() as u64,
            strikes: 1,
            origin: 0,
        };
        Ok(self.scans.block(source, block)?)
    }

    /// Takes a block off; whether there was one.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn unblock(&mut self, source: IpNet) -> Result<bool> {
        Ok(self.scans.unblock(source)?)
    }

    /// The tables of scans and blocks.
    pub fn scans(&mut self) -> &mut ScanTables {
        &mut self.scans
    }

    /// Opens the tables of scans and blocks again, as a daemon does that starts anew.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn reopen_scans(&mut self) -> Result<()> {
        self.scans = ScanTables::open(&self.pins)?;
        Ok(())
    }

    /// Takes the probes that were reported since the last call.
    ///
    /// # Errors
    /// When a record is none.
    pub fn probes(&mut self) -> Result<Vec<Probe>> {
        if self.probes.is_none() {
            self.probes = Some(self.dataplane.probes()?);
        }
        let mut found = Vec::new();
        while let Some(record) = self.probes.as_mut().and_then(RingBuf::next) {
            let (probe, slot) = decode(&record).context("a record that is no probe")?;
            ensure!(u16::from(slot) == SLOT, "a probe by slot {slot}");
            found.push(probe);
        }
        Ok(found)
    }

    /// Probes by pattern since the load, and how many of them were shed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn patterns(&self) -> Result<(BTreeMap<&'static str, u64>, u64)> {
        let counters = counted::read(&self.pins)?;
        Ok((counters.patterns, counters.probes_shed))
    }

    /// The ingress program, for runs of one's own. What they count must be `forgiven` afterwards.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn ingress_program(&mut self) -> Result<BorrowedFd<'_>> {
        Ok(self.dataplane.program(Hook::In.program())?)
    }

    /// Takes the counters as they are now for the state before the next packet.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn forgive(&mut self) -> Result<()> {
        self.read_all()
    }

    /// Whether `lo` stands for a container link under the policy in force.
    #[must_use]
    pub fn guards_container(&self) -> bool {
        self.container
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

/// What the daemon would say about an interface `lo` of which nothing is known; nothing where no profile names it.
#[must_use]
pub fn assignments(policy: &Policy) -> Vec<Assignment> {
    assignment::assignments(policy, "", &World::default())
}
