//! The policy in force and the interfaces it is on. All changes of the dataplane go through here, one after the other.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, bail};
use filter_common::limits::INTERFACE_SLOTS;

use super::Options;
use super::links::Links;
use crate::compile::{Compiled, RuleSlots, compile};
use crate::dataplane::counters;
use crate::dataplane::pod::{InterfaceLabelFields, to_bytes};
use crate::dataplane::{Assignment, Attached, Dataplane, Mode, Pins, PushError, Sizes, conntrack};
use crate::policy::{self, Loaded, Policy};
use crate::report::status::{InterfaceStatus, PolicyStatus, Status};

/// Interface and rule names for readers of events.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) interfaces: HashMap<u32, String>,
    pub(super) rules: HashMap<u16, String>,
}

/// What is known of an interface that the policy names.
#[derive(Clone, Debug)]
struct Managed {
    name: String,
    assignment: Assignment,
    mode: Option<Mode>,
    error: Option<String>,
}

pub(super) struct Engine {
    options: Options,
    dataplane: Dataplane,
    loaded: Loaded,
    slots: RuleSlots,
    links: Links,
    managed: BTreeMap<u32, Managed>,
    names: Arc<RwLock<Names>>,
    started_at: SystemTime,
    loaded_at: SystemTime,
    last_error: Option<String>,
}

impl Engine {
    /// Puts the policy in force and attaches it. On an error nothing that was in force has changed.
    pub(super) fn start(options: &Options, links: Links) -> Result<Self> {
        let loaded = read_policy(&options.policy)?;
        let pins = Pins::prepare(&options.bpffs)?;
        let known = counters::known_rules(&pins)?
            .into_iter()
            .map(|(slot, id, _)| (id, slot));
        let mut slots = RuleSlots::known(known);
        let compiled =
            compile(&loaded.policy, &links.facts, &mut slots).context("the policy does not fit")?;
        let needed = Sizes::needed(&compiled)?;
        let dataplane = Dataplane::load(&pins, needed, options.flows)?;
        let now = SystemTime::now();
        let mut engine = Self {
            options: options.clone(),
            dataplane,
            loaded,
            slots,
            links,
            managed: BTreeMap::new(),
            names: Arc::default(),
            started_at: now,
            loaded_at: now,
            last_error: None,
        };
        engine.refuse_foreign_programs()?;
        engine.assign();
        engine.push(&compiled)?;
        engine.attach_all();
        let failed: Vec<&str> = engine
            .managed
            .values()
            .filter_map(|managed| managed.error.as_deref())
            .collect();
        if !failed.is_empty() {
            bail!("{}", failed.join("; "));
        }
        if engine.managed.is_empty() {
            tracing::warn!(
                "no interface of the policy exists yet; it is put in force when one appears"
            );
        }
        engine.dataplane.retire_others()?;
        Ok(engine)
    }

    /// The ring buffer of sampled drops.
    pub(super) fn events(&mut self) -> Result<aya::maps::RingBuf<aya::maps::MapData>> {
        Ok(self.dataplane.events()?)
    }

    /// Names that events refer to, kept current.
    pub(super) fn names(&self) -> Arc<RwLock<Names>> {
        Arc::clone(&self.names)
    }

    /// Whether somebody took the filter off under us.
    pub(super) fn is_detached(&self) -> bool {
        !self.dataplane.pins().exist()
    }

    pub(super) fn renew_event_budget(&mut self) {
        if let Err(error) = self.dataplane.renew_event_budget() {
            tracing::error!(%error, "cannot renew the budget of sampled drops");
        }
    }

    /// Reads the policy file again. A bad one changes nothing and is remembered.
    pub(super) fn reload(&mut self) {
        match self.try_reload() {
            Ok(generation) => {
                self.last_error = None;
                tracing::info!(generation, "policy reloaded");
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "the policy was not reloaded; the one in force stays");
                self.last_error = Some(error);
            }
        }
    }

    fn try_reload(&mut self) -> Result<u64> {
        let loaded = read_policy(&self.options.policy)?;
        let mut slots = self.slots.clone();
        let compiled = compile(&loaded.policy, &self.links.facts, &mut slots)
            .context("the policy does not fit")?;
        let before = (
            std::mem::replace(&mut self.loaded, loaded),
            std::mem::replace(&mut self.slots, slots),
            self.managed.clone(),
        );
        self.assign();
        if let Err(error) = self
            .refuse_foreign_programs()
            .and_then(|()| self.push(&compiled))
        {
            (self.loaded, self.slots, self.managed) = before;
            return Err(error);
        }
        self.loaded_at = SystemTime::now();
        self.attach_all();
        self.release_unmanaged()?;
        Ok(self.dataplane.generation()?)
    }

    /// Takes the program off interfaces that no profile names any more: the policy says that they are not filtered.
    fn release_unmanaged(&mut self) -> Result<()> {
        let managed = &self.managed;
        for ifindex in self
            .dataplane
            .forget_links(|ifindex| managed.contains_key(&ifindex))?
        {
            tracing::info!(ifindex, "interface released");
        }
        Ok(())
    }

    /// Brings slots, tables and attachments in line with the links and addresses there are.
    pub(super) fn reconcile(&mut self, links: Links) {
        let retry = self.managed.values().any(|managed| managed.error.is_some());
        if links == self.links && !retry {
            return;
        }
        self.links = links;
        if let Err(error) = self.follow_links() {
            let error = format!("{error:#}");
            tracing::error!(error, "cannot follow a change of links or addresses");
            self.last_error = Some(error);
        }
    }

    fn follow_links(&mut self) -> Result<()> {
        let before: Vec<u32> = self.managed.keys().copied().collect();
        self.assign();
        let compiled = compile(&self.loaded.policy, &self.links.facts, &mut self.slots)?;
        self.push(&compiled)?;
        self.attach_all();
        for gone in before
            .iter()
            .filter(|ifindex| !self.managed.contains_key(ifindex))
        {
            tracing::info!(ifindex = gone, "interface is gone");
        }
        self.release_unmanaged()
    }

    /// Decides which profile judges which interface, and in which slot it is counted.
    fn assign(&mut self) {
        let in_use = self.dataplane.slots_in_use().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read the slots in use; counters of interfaces start anew");
            Vec::new()
        });
        let mut slot_of: HashMap<u32, u16> = in_use.into_iter().collect();
        slot_of.extend(
            self.managed
                .iter()
                .map(|(ifindex, managed)| (*ifindex, managed.assignment.slot)),
        );
        let mut managed = BTreeMap::new();
        let mut fresh = Vec::new();
        for (ifindex, name) in &self.links.names {
            let profiles = self.loaded.policy.profile_for(name);
            if profiles.is_empty() || (name == "lo" && !names_loopback(&self.loaded.policy)) {
                continue;
            }
            let mut assignment = Assignment {
                ifindex: *ifindex,
                slot: 0,
                profile: None,
                vlans: Vec::new(),
            };
            for (number, profile) in profiles {
                if profile.vlans.is_empty() {
                    assignment.profile = Some(number);
                }
                for vlan in &profile.vlans {
                    // the first profile that claims an id keeps it
                    if assignment.vlans.iter().all(|(known, _)| known != vlan) {
                        assignment.vlans.push((*vlan, number));
                    }
                }
            }
            match slot_of.get(ifindex) {
                Some(slot) => assignment.slot = *slot,
                None => fresh.push(*ifindex),
            }
            let known = self.managed.get(ifindex);
            managed.insert(
                *ifindex,
                Managed {
                    name: name.clone(),
                    assignment,
                    mode: known.and_then(|known| known.mode),
                    error: None,
                },
            );
        }
        let mut taken = vec![false; INTERFACE_SLOTS];
        taken[0] = true;
        for managed in managed.values() {
            taken[managed.assignment.slot as usize] = true;
        }
        for ifindex in fresh {
            let Some(entry) = managed.get_mut(&ifindex) else {
                continue;
            };
            match taken.iter().position(|taken| !taken) {
                Some(slot) => {
                    taken[slot] = true;
                    entry.assignment.slot = slot as u16;
                    if let Err(error) = counters::zero_interface(self.dataplane.pins(), slot as u16)
                    {
                        tracing::error!(%error, "cannot reset an interface's counters");
                    }
                }
                None => {
                    let name = entry.name.clone();
                    tracing::error!(
                        interface = name,
                        "more than {} interfaces: not filtered",
                        INTERFACE_SLOTS - 1
                    );
                    managed.remove(&ifindex);
                }
            }
        }
        for slot in (1..INTERFACE_SLOTS).filter(|slot| !taken[*slot]) {
            if slot_of.values().any(|used| *used as usize == slot) {
                self.label(slot as u16, &free_label());
            }
        }
        self.managed = managed;
        self.rename();
    }

    fn rename(&self) {
        let names = Names {
            interfaces: self
                .links
                .names
                .iter()
                .map(|(ifindex, name)| (*ifindex, name.clone()))
                .collect(),
            rules: self
                .slots
                .iter()
                .map(|(id, slot)| (slot, id.to_owned()))
                .collect(),
        };
        match self.names.write() {
            Ok(mut current) => *current = names,
            Err(poisoned) => *poisoned.into_inner() = names,
        }
    }

    /// A foreign program on any interface stops us before anything is changed.
    fn refuse_foreign_programs(&self) -> Result<()> {
        for (ifindex, name) in &self.links.names {
            let named = !self.loaded.policy.profile_for(name).is_empty()
                && (name != "lo" || names_loopback(&self.loaded.policy));
            if !named || self.dataplane.is_attached(*ifindex) {
                continue;
            }
            if let Some(program) = crate::doctor::xdp_program(name) {
                return Err(crate::dataplane::AttachError::Foreign {
                    interface: name.clone(),
                    program,
                }
                .into());
            }
        }
        Ok(())
    }

    /// Puts a compiled policy in force, on a larger set of tables if it needs one.
    fn push(&mut self, compiled: &Compiled) -> Result<()> {
        let profile_of: HashMap<&str, &str> = self
            .loaded
            .policy
            .profiles
            .iter()
            .flat_map(|profile| {
                profile
                    .deny
                    .iter()
                    .chain(&profile.allow)
                    .map(|rule| (rule.id.as_str(), profile.name.as_str()))
            })
            .collect();
        let fresh = self.slots.take_fresh();
        let pins = self.dataplane.pins().clone();
        counters::zero_rules(&pins, &fresh)?;
        counters::label_rules(
            &pins,
            self.slots
                .iter()
                .map(|(id, slot)| (slot, id, profile_of.get(id).copied().unwrap_or_default())),
        )?;
        let assignments: Vec<Assignment> = self
            .managed
            .values()
            .map(|managed| managed.assignment.clone())
            .collect();
        match self.dataplane.push(compiled, &assignments) {
            Ok(generation) => {
                tracing::info!(
                    generation,
                    interfaces = assignments.len(),
                    "policy in force"
                );
            }
            Err(PushError::TooLarge(needed)) => {
                // a larger set beside the old one; links are switched over one by one in `attach_all`
                let mut larger = Dataplane::load(&pins, needed, self.options.flows)?;
                larger.push(compiled, &assignments)?;
                tracing::info!(?needed, "policy in force on larger tables");
                self.dataplane = larger;
            }
            Err(error) => return Err(error.into()),
        }
        self.rename();
        Ok(())
    }

    /// Attaches or replaces the program on every managed interface; failures are remembered by interface.
    fn attach_all(&mut self) {
        let fresh = self
            .managed
            .keys()
            .any(|ifindex| !self.dataplane.is_attached(*ifindex));
        let mut all = std::mem::take(&mut self.managed);
        for (ifindex, managed) in &mut all {
            if let Err(error) = self.dataplane.attach_egress(*ifindex, &managed.name) {
                managed.error = Some(describe(&anyhow!(error)));
            }
        }
        if fresh {
            // the egress program notes everything from here on; what was there before is asked from the kernel
            self.note_existing();
        }
        for (ifindex, managed) in all
            .iter_mut()
            .filter(|(_, managed)| managed.error.is_none())
        {
            self.attach_one(*ifindex, managed);
        }
        self.managed = all;
    }

    fn attach_one(&mut self, ifindex: u32, managed: &mut Managed) {
        let profile = managed.assignment.profile.or(managed
            .assignment
            .vlans
            .first()
            .map(|vlan| vlan.1));
        let Some(profile) = profile.and_then(|number| self.loaded.policy.profiles.get(number))
        else {
            return;
        };
        match self
            .dataplane
            .attach_ingress(ifindex, &managed.name, profile.generic_xdp)
        {
            Ok(Attached::Fresh(mode)) => {
                tracing::info!(
                    interface = managed.name,
                    ?mode,
                    profile = profile.name,
                    enforce = profile.enforce,
                    "attached"
                );
                managed.mode = Some(mode);
            }
            Ok(Attached::Replaced) => {
                if managed.mode.is_none() {
                    managed.mode =
                        counters::interface_label(self.dataplane.pins(), managed.assignment.slot)
                            .ok()
                            .and_then(|label| Mode::from_number(label.mode));
                }
            }
            Err(error) => {
                let error = describe(&anyhow!(error));
                tracing::error!(interface = managed.name, error, "not filtered");
                managed.error = Some(error);
            }
        }
        let label = InterfaceLabelFields {
            name: to_bytes(&managed.name),
            profile: to_bytes(&profile.name),
            ifindex,
            mode: managed.mode.map_or(0, Mode::number),
        };
        self.label(managed.assignment.slot, &label);
    }

    fn label(&self, slot: u16, label: &InterfaceLabelFields) {
        if let Err(error) = counters::label_interface(self.dataplane.pins(), slot, label) {
            tracing::error!(%error, "cannot name an interface's counters");
        }
    }

    fn note_existing(&mut self) {
        let noted = conntrack::established().and_then(|flows| {
            let count = self.dataplane.note_existing(&flows)?;
            self.dataplane.flows_are_complete(count)?;
            Ok(count)
        });
        match noted {
            Ok(count) => tracing::info!(count, "noted the flows that were there before"),
            // the host's own TCP connections are found by socket look-ups all the same
            Err(error) => tracing::error!(
                error = describe(&error),
                "flows of containers and UDP exchanges from before may be cut"
            ),
        }
    }

    /// What `edgefilter status` shows.
    pub(super) fn status(&self) -> Status {
        let policy = &self.loaded.policy;
        let profile = |number: usize| {
            policy
                .profiles
                .get(number)
                .map(|profile| profile.name.clone())
                .unwrap_or_default()
        };
        let interfaces = self
            .managed
            .iter()
            .map(|(ifindex, managed)| {
                let judged = managed.assignment.profile.or(managed
                    .assignment
                    .vlans
                    .first()
                    .map(|vlan| vlan.1));
                InterfaceStatus {
                    name: managed.name.clone(),
                    ifindex: *ifindex,
                    profile: managed.assignment.profile.map(profile).unwrap_or_default(),
                    vlans: managed
                        .assignment
                        .vlans
                        .iter()
                        .map(|(vlan, number)| (*vlan, profile(*number)))
                        .collect(),
                    enforce: judged
                        .and_then(|number| policy.profiles.get(number))
                        .is_some_and(|profile| profile.enforce),
                    mode: managed.mode,
                    attached: managed.error.is_none() && self.dataplane.is_attached(*ifindex),
                    error: managed.error.clone(),
                }
            })
            .collect();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: Some(std::process::id()),
            daemon: "running".to_owned(),
            started_at: Some(crate::report::time::rfc3339(self.started_at)),
            generation: self.dataplane.generation().unwrap_or_default(),
            policy: Some(PolicyStatus {
                path: self.options.policy.display().to_string(),
                fingerprint: self.loaded.fingerprint.clone(),
                loaded_at: crate::report::time::rfc3339(self.loaded_at),
                rules: policy
                    .profiles
                    .iter()
                    .map(|profile| profile.allow.len() + profile.deny.len())
                    .sum(),
                prefixes: prefixes(policy),
                last_error: self.last_error.clone(),
            }),
            interfaces,
            warnings: self
                .loaded
                .warnings
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }
}

fn read_policy(path: &Path) -> Result<Loaded> {
    let loaded = policy::load(path)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(loaded)
}

/// Loopback is filtered only when a profile names it: no glob means it.
fn names_loopback(policy: &Policy) -> bool {
    policy
        .profiles
        .iter()
        .any(|profile| profile.interfaces.iter().any(|pattern| pattern == "lo"))
}

fn free_label() -> InterfaceLabelFields {
    InterfaceLabelFields {
        name: [0; 16],
        profile: [0; 64],
        ifindex: 0,
        mode: 0,
    }
}

/// The whole chain in one line.
fn describe(error: &anyhow::Error) -> String {
    format!("{error:#}")
}

fn prefixes(policy: &Policy) -> usize {
    let mut sets = HashMap::new();
    for rule in policy
        .profiles
        .iter()
        .flat_map(|profile| profile.deny.iter().chain(&profile.allow))
    {
        if let policy::AddressSet::Prefixes(set) = &rule.from {
            sets.insert(Arc::as_ptr(set), set.v4.len() + set.v6.len());
        }
    }
    sets.values().sum()
}
