//! The policy in force and the interfaces it is on. All changes of the dataplane go through here, one after the other.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::Flock;
use nix::net::if_::if_indextoname;

use super::Options;
use super::links::Links;
use super::managed::{Managed, Plan, assignments, is_named, is_named_exactly, plan};
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

pub(super) struct Engine {
    options: Options,
    dataplane: Dataplane,
    loaded: Loaded,
    slots: RuleSlots,
    links: Links,
    managed: BTreeMap<u32, Managed>,
    /// What is in the tables, to tell whether they have to be written again.
    pushed: Vec<Assignment>,
    names: Arc<RwLock<Names>>,
    started_at: SystemTime,
    loaded_at: SystemTime,
    last_error: Option<String>,
    /// Keeps other daemons off the pins.
    _lock: Flock<File>,
}

impl Engine {
    /// Puts the policy in force and attaches it. If it cannot, nothing that was in force is taken off, and nothing
    /// that was not is put on.
    pub(super) fn start(options: &Options, links: Links) -> Result<Self> {
        let loaded = read_policy(&options.policy)?;
        let pins = Pins::prepare(&options.bpffs)?;
        let lock = pins.lock()?;
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
            pushed: Vec::new(),
            names: Arc::default(),
            started_at: now,
            loaded_at: now,
            last_error: None,
            _lock: lock,
        };
        engine.refuse_foreign_programs()?;
        let adopted = engine
            .links
            .names
            .keys()
            .any(|ifindex| engine.dataplane.is_attached(*ifindex));
        let plan = engine.plan()?;
        engine.enforce(&compiled, plan)?;
        engine.attach_all();
        engine.judge_start(adopted)?;
        engine.dataplane.retire_others()?;
        Ok(engine)
    }

    /// An interface that the policy names exactly and that cannot be filtered stops a first start: somebody looks on.
    /// A later one goes on with the others, since the filter is in force already.
    fn judge_start(&mut self, adopted: bool) -> Result<()> {
        if self.managed.is_empty() {
            tracing::warn!(
                "no interface of the policy exists yet; it is put in force when one appears"
            );
        }
        let policy = &self.loaded.policy;
        let failed: Vec<&str> = self
            .managed
            .values()
            .filter(|managed| is_named_exactly(policy, &managed.name))
            .filter_map(|managed| managed.error.as_deref())
            .collect();
        if failed.is_empty() || adopted {
            return Ok(());
        }
        let failed = failed.join("; ");
        self.dataplane.forget_links(|_| false)?;
        bail!("{failed}");
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
        );
        let done = self
            .refuse_foreign_programs()
            .and_then(|()| self.plan())
            .and_then(|plan| self.enforce(&compiled, plan));
        if let Err(error) = done {
            (self.loaded, self.slots) = before;
            return Err(error);
        }
        self.loaded_at = SystemTime::now();
        self.attach_all();
        self.release_unmanaged()?;
        Ok(self.dataplane.generation()?)
    }

    /// Takes the program off interfaces that are gone, or that no profile names any more.
    fn release_unmanaged(&mut self) -> Result<()> {
        let (managed, links) = (&self.managed, &self.links);
        let keep = |ifindex: u32| {
            // a dump may miss a link while others come and go: ask for it by itself before its filter goes
            managed.contains_key(&ifindex)
                || (!links.names.contains_key(&ifindex) && if_indextoname(ifindex).is_ok())
        };
        for ifindex in self.dataplane.forget_links(keep)? {
            match self.links.names.get(&ifindex) {
                Some(name) => tracing::warn!(
                    interface = name,
                    "no profile names it any more: not filtered"
                ),
                None => tracing::info!(ifindex, "interface is gone"),
            }
        }
        Ok(())
    }

    /// Brings slots, tables and attachments in line with the links and addresses there are.
    pub(super) fn reconcile(&mut self, links: Links) {
        let same_links =
            links.names == self.links.names && links.not_ethernet == self.links.not_ethernet;
        let same_addresses = links.facts == self.links.facts || !self.asks_for_destinations();
        self.links = links;
        self.drop_dead_links();
        let dead_egress = self.dataplane.forget_dead_egress().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot tell whether the egress program is attached");
            false
        });
        let followed = if same_links && same_addresses {
            let lost = dead_egress
                || self.managed.values().any(|managed| managed.error.is_some())
                || self
                    .managed
                    .keys()
                    .any(|ifindex| !self.dataplane.is_attached(*ifindex));
            if lost {
                self.attach_all();
            }
            Ok(())
        } else {
            self.follow_links(same_addresses)
        };
        if let Err(error) = followed {
            let error = describe(&error);
            tracing::error!(error, "cannot follow a change of links or addresses");
            self.last_error = Some(error);
        }
    }

    /// Forgets pins whose program is not on the interface: detached by somebody, or on a device of another namespace.
    fn drop_dead_links(&mut self) {
        let ours = match self.dataplane.ingress_program_id() {
            Ok(id) => id,
            Err(error) => {
                tracing::error!(%error, "cannot tell whether the program is attached");
                return;
            }
        };
        let dead: Vec<u32> = self
            .managed
            .iter()
            .filter(|(ifindex, managed)| {
                managed.error.is_none() && self.links.programs.get(ifindex) != Some(&ours)
            })
            .map(|(ifindex, _)| *ifindex)
            .filter(|ifindex| {
                self.links.names.contains_key(ifindex) && self.dataplane.is_attached(*ifindex)
            })
            .collect();
        if dead.is_empty() {
            return;
        }
        tracing::error!(interfaces = ?dead, "the program was not on the interface any more; attaching it again");
        if let Err(error) = self
            .dataplane
            .forget_links(|ifindex| !dead.contains(&ifindex))
        {
            tracing::error!(%error, "cannot remove a dead link");
        }
    }

    fn asks_for_destinations(&self) -> bool {
        let profiles = &self.loaded.policy.profiles;
        let mut rules = profiles
            .iter()
            .flat_map(|profile| profile.deny.iter().chain(&profile.allow));
        rules.any(|rule| rule.to != policy::Destination::Any)
    }

    fn follow_links(&mut self, same_addresses: bool) -> Result<()> {
        let plan = self.plan()?;
        if !same_addresses || assignments(&plan.managed) != self.pushed {
            let compiled = compile(&self.loaded.policy, &self.links.facts, &mut self.slots)?;
            self.enforce(&compiled, plan)?;
        } else {
            self.managed = plan.managed;
        }
        self.attach_all();
        self.release_unmanaged()
    }

    fn plan(&self) -> Result<Plan> {
        let slots: HashMap<u32, u16> = counters::interface_slots(self.dataplane.pins())?
            .into_iter()
            .collect();
        Ok(plan(
            &self.loaded.policy,
            &self.links,
            &slots,
            &self.managed,
        ))
    }

    /// Puts tables and plan in force; on an error everything is as it was.
    fn enforce(&mut self, compiled: &Compiled, plan: Plan) -> Result<()> {
        for slot in &plan.fresh {
            counters::zero_interface(self.dataplane.pins(), *slot)?;
        }
        self.push(compiled, assignments(&plan.managed))?;
        for slot in plan.free {
            self.label(slot, &free_label());
        }
        self.managed = plan.managed;
        self.rename();
        Ok(())
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
            // a dead pin does not vouch for what is on the interface
            let program = self.links.programs.get(ifindex);
            if program.is_none()
                || !is_named(&self.loaded.policy, name)
                || self.dataplane.is_attached(*ifindex)
            {
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
    fn push(&mut self, compiled: &Compiled, assignments: Vec<Assignment>) -> Result<()> {
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
                larger.inherit_wildcard(&self.dataplane)?;
                tracing::info!(?needed, "policy in force on larger tables");
                self.dataplane = larger;
            }
            Err(error) => return Err(error.into()),
        }
        self.pushed = assignments;
        Ok(())
    }

    /// Attaches or replaces the program on every managed interface; failures are remembered by interface.
    fn attach_all(&mut self) {
        let mut all = std::mem::take(&mut self.managed);
        let attached = |ifindex: &u32| self.dataplane.is_attached(*ifindex);
        let first = !all.keys().any(attached);
        let fresh = !all.keys().all(attached) || self.dataplane.has_new_flow_table();
        for (ifindex, managed) in &mut all {
            if self.links.not_ethernet.contains(ifindex) || managed.assignment.slot == 0 {
                continue;
            }
            managed.error = None;
            if let Err(error) = self.dataplane.attach_egress(*ifindex, &managed.name) {
                managed.error = Some(describe(&anyhow!(error)));
            }
        }
        if fresh {
            // the egress program notes everything from here on; what was there before is asked from the kernel
            self.note_existing(first);
        }
        for (ifindex, managed) in &mut all {
            if managed.error.is_none() {
                self.attach_one(*ifindex, managed);
            }
        }
        self.managed = all;
        let whole = self.managed.values().all(|managed| managed.error.is_none());
        if whole && let Err(error) = self.dataplane.retire_others() {
            tracing::warn!(%error, "cannot remove tables that nothing uses any more");
        }
    }

    fn attach_one(&mut self, ifindex: u32, managed: &mut Managed) {
        let Some(profile) = managed.profile(&self.loaded.policy) else {
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

    fn note_existing(&mut self, first: bool) {
        let noted = conntrack::established().and_then(|flows| {
            let count = self
                .dataplane
                .note_existing(&flows, &self.links.facts, first)?;
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
            .map(|(ifindex, managed)| InterfaceStatus {
                name: managed.name.clone(),
                ifindex: *ifindex,
                profile: managed.assignment.profile.map(profile).unwrap_or_default(),
                vlans: managed
                    .assignment
                    .vlans
                    .iter()
                    .map(|(vlan, number)| (*vlan, profile(*number)))
                    .collect(),
                enforce: managed
                    .profile(policy)
                    .is_some_and(|profile| profile.enforce),
                mode: managed.mode,
                attached: managed.error.is_none() && self.dataplane.is_attached(*ifindex),
                error: managed.error.clone(),
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
