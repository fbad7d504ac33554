//! The policy in force and the interfaces it is on. All changes of the dataplane go through here, one after the other.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::{Arc, RwLock};
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, bail};
use nix::fcntl::Flock;
use tokio::sync::watch;

use super::Options;
use super::bindings::Former;
use super::bindings::cni::{CniCache, CniResults};
use super::bits;
use super::entries::{Entries, Listed};
use super::links::{Links, Peers};
use super::managed::{Managed, Plan, assignments, is_named_exactly, plan, programs};
use super::pace::Pace;
use super::sandbox;
use super::scans::{Told, Watcher};
use super::view::{self, View};
use crate::compile::{Compiled, RuleSlots, compile};
use crate::control::Shared;
use crate::dataplane::{
    Assignment, Dataplane, Pins, PolicyMark, Sizes, counters, in_force, interface_name,
};
use crate::policy::{self, Active, Loaded, Policy};

mod attach;
mod cut;
mod describe;
mod explain;
mod preflight;
mod replay;
mod swap;

pub(super) use describe::{Names, figures};
pub(super) use swap::Prepared;

/// Why tables are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// A policy is put in force.
    Policy,
    /// Links, addresses, routes or CNI results changed.
    Host,
    /// Nothing changed but what is in containers' network namespaces.
    Containers,
}

pub(super) struct Engine {
    options: Options,
    dataplane: Dataplane,
    loaded: Loaded,
    /// The rules that count at this time of the week.
    active: Active,
    /// When they are others; `None`: never.
    next_change: Option<SystemTime>,
    slots: RuleSlots,
    /// The tables in force: links that come and go change nothing in them.
    compiled: Arc<Compiled>,
    links: Links,
    /// What the policy makes of the links.
    view: View,
    cni: CniCache,
    /// As last read.
    results: CniResults,
    pace: Pace,
    managed: BTreeMap<u32, Managed>,
    /// What is in the tables, to tell whether they have to be written again.
    pushed: Vec<Assignment>,
    names: Arc<RwLock<Names>>,
    started_at: SystemTime,
    loaded_at: SystemTime,
    last_error: Option<String>,
    /// Which policy that is.
    mark: PolicyMark,
    /// The tables do not say what the links and addresses are: the last attempt failed.
    behind: bool,
    /// Keeps other daemons off the pins.
    _lock: Flock<File>,
}

impl Engine {
    /// Puts the policy in force and attaches it. If it cannot, nothing that was in force is taken off, and nothing
    /// that was not is put on.
    pub(super) fn start(
        options: &Options,
        loaded: Loaded,
        mark: PolicyMark,
        links: Links,
        peers: &Peers,
    ) -> Result<Self> {
        let pins = Pins::prepare(&options.bpffs)?;
        let lock = pins.lock()?;
        let known = counters::known_rules(&pins)?
            .into_iter()
            .map(|(slot, id, _)| (id, slot));
        let mut slots = RuleSlots::known(known);
        let mut cni = CniCache::new(&options.cni_cache);
        let former =
            in_force::bindings(&pins).context("cannot tell which bindings are in force")?;
        let former: Former = former
            .into_iter()
            .filter_map(|known| Some((known.ifindex, known.name, bits::read(&known.binding)?)))
            .collect();
        let results = cni.read();
        let view = View::new(&loaded.policy, &links, &results, peers, &former);
        let mut pace = Pace::default();
        pace.count_all(peers);
        pace.note(&links, &view.bindings);
        let now = SystemTime::now();
        let active = loaded.policy.active(now);
        let compiled = compile(&loaded.policy, &active, &view.facts, &mut slots)
            .context("the policy does not fit")?;
        let compiled = Arc::new(compiled);
        let needed = Sizes::needed(&compiled)?;
        let mut dataplane = Dataplane::load(&pins, needed, options.flows)?;
        dataplane.prepare(&programs(&loaded.policy))?;
        let mut engine = Self {
            options: options.clone(),
            dataplane,
            next_change: loaded.policy.next_change(now),
            loaded,
            active,
            slots,
            compiled: Arc::clone(&compiled),
            links,
            view,
            cni,
            results,
            pace,
            managed: BTreeMap::new(),
            pushed: Vec::new(),
            names: Arc::default(),
            started_at: now,
            loaded_at: now,
            last_error: None,
            mark,
            behind: false,
            _lock: lock,
        };
        engine.refuse_foreign_programs(&engine.links, &engine.view)?;
        let adopted = engine
            .links
            .names
            .keys()
            .any(|ifindex| engine.is_attached(*ifindex));
        let plan = engine.plan()?;
        engine.enforce(&compiled, plan, News::Policy)?;
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
    pub(super) fn events(&self) -> Result<aya::maps::RingBuf<aya::maps::MapData>> {
        Ok(self.dataplane.events()?)
    }

    /// The task that keeps scans and blocks.
    pub(super) fn watcher(
        &self,
        shared: Arc<Shared>,
        told: watch::Receiver<Arc<Told>>,
        listed: watch::Receiver<Listed>,
    ) -> Result<Watcher> {
        let ring = self.dataplane.probes()?;
        let (pins, names) = (self.dataplane.pins(), self.names());
        Watcher::new(ring, pins, names, shared, told, listed)
    }

    /// The task that keeps run-time entries.
    pub(super) fn entries(
        &self,
        shared: Arc<Shared>,
        told: watch::Receiver<Arc<Told>>,
    ) -> Result<(Entries, watch::Receiver<Listed>)> {
        Entries::new(self.dataplane.pins(), &self.options.state_dir, shared, told)
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

    /// The policy in force.
    pub(super) fn policy(&self) -> &Policy {
        &self.loaded.policy
    }

    /// Takes the program off interfaces that are gone, or that no profile names any more.
    fn release_unmanaged(&mut self) -> Result<()> {
        let (managed, links) = (&self.managed, &self.links);
        let keep = |ifindex: u32| {
            // a dump may miss a link while others come and go: ask for it by itself before its filter goes
            managed.contains_key(&ifindex)
                || (!links.names.contains_key(&ifindex) && interface_name(ifindex).is_some())
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

    /// When to look again: changes wait that containers made, or a rule begins or ceases to count.
    pub(super) fn due(&self) -> Option<Instant> {
        // what was missed is found by the look that comes every second
        let turn = self.next_change.and_then(|at| {
            let left = at.duration_since(SystemTime::now()).ok()?;
            Instant::now().checked_add(left)
        });
        [self.pace.due(), turn].into_iter().flatten().min()
    }

    /// Brings slots, tables and attachments in line with the links and addresses there are.
    pub(super) fn reconcile(&mut self, links: Links, peers: Peers) {
        let peers = self.pace.count(Instant::now(), &links, peers);
        let results = self.cni.read();
        let former = Former::of(&self.links, &self.view.bindings);
        let view = View::new(&self.loaded.policy, &links, &results, &peers, &former);
        self.pace.note(&links, &view.bindings);
        let news = if !self.behind && links == self.links && results == self.results {
            News::Containers
        } else {
            News::Host
        };
        let same_links = links.names == self.links.names
            && links.not_ethernet == self.links.not_ethernet
            && view.sides == self.view.sides
            && view.bound().eq(self.view.bound());
        let same_remarks = view.bindings == self.view.bindings;
        let now = SystemTime::now();
        let active = self.loaded.policy.active(now);
        let same_facts = !self.behind
            && active == self.active
            && (view.facts == self.view.facts || !self.asks_for_facts());
        self.follow_schedule(active, now);
        self.links = links;
        self.results = results;
        self.view = view;
        if same_links && !same_remarks {
            self.rename();
        }
        self.drop_dead_links();
        let dead_tcx = self.dataplane.forget_dead_tcx().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot tell whether the programs on TCX are attached");
            false
        });
        let followed = if same_links && same_facts && self.same_macs() {
            let lost = dead_tcx
                || self.managed.values().any(|managed| managed.error.is_some())
                || self
                    .managed
                    .keys()
                    .any(|ifindex| !self.is_attached(*ifindex));
            if lost {
                self.attach_all();
            }
            Ok(())
        } else {
            self.follow_links(same_facts, news)
        };
        match followed {
            Ok(()) if self.behind => {
                self.behind = false;
                self.last_error = None;
            }
            Ok(()) => {}
            Err(error) => {
                let error = describe(&error);
                tracing::error!(error, "cannot follow a change of links or addresses");
                self.behind = true;
                self.last_error = Some(error);
            }
        }
    }

    /// Whether what each interface may send from is as it was pushed.
    fn same_macs(&self) -> bool {
        self.managed.iter().all(|(ifindex, managed)| {
            view::profile(&self.loaded.policy, &self.links, *ifindex).is_none_or(|profile| {
                self.view.bits(&self.links, *ifindex, profile) == managed.assignment.binding
            })
        })
    }

    /// Packets that the rules of the policy in force have counted.
    pub(super) fn rule_packets(&self) -> Result<Vec<(String, u64)>> {
        let rules = self.loaded.policy.rules();
        let ids: Vec<&str> = rules.map(|rule| rule.id.as_str()).collect();
        let slots = ids.iter().map(|id| self.slots.slot(id));
        let packets = counters::rule_packets(self.dataplane.pins(), slots)?;
        Ok(ids.into_iter().map(str::to_owned).zip(packets).collect())
    }

    fn is_attached(&self, ifindex: u32) -> bool {
        self.dataplane.is_attached(ifindex, self.view.side(ifindex))
    }

    /// Forgets pins whose program is not on the interface: detached by somebody, or on a device of another namespace.
    fn drop_dead_links(&mut self) {
        let mut dead = Vec::new();
        for (ifindex, managed) in &self.managed {
            let Some(which) = managed.hooks.xdp() else {
                continue;
            };
            match self.dataplane.xdp_id(which) {
                Ok(ours) if self.links.programs.get(ifindex) != Some(&ours) => dead.push(*ifindex),
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot tell whether the program is attached");
                    return;
                }
            }
        }
        dead.retain(|ifindex| {
            self.links.names.contains_key(ifindex)
                && self
                    .managed
                    .get(ifindex)
                    .is_some_and(|managed| managed.error.is_none())
                && self.is_attached(*ifindex)
        });
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

    /// Says which rules begin and cease to count.
    fn follow_schedule(&mut self, active: Active, now: SystemTime) {
        if active == self.active {
            return;
        }
        let resting: Vec<&str> = active.resting().collect();
        tracing::info!(?resting, "the rules that count at this time are others now");
        self.active = active;
        self.next_change = self.loaded.policy.next_change(now);
    }

    /// Whether the tables depend on anything but the policy.
    fn asks_for_facts(&self) -> bool {
        self.loaded.policy.profiles.iter().any(|profile| {
            let antispoof = &profile.antispoof;
            antispoof.martians
                || antispoof.own_addresses
                || antispoof.egress
                || antispoof.reverse_path != policy::ReversePath::Off
                || profile
                    .rules()
                    .any(|rule| rule.to != policy::Destination::Any)
        })
    }

    fn follow_links(&mut self, same_facts: bool, news: News) -> Result<()> {
        let plan = self.plan()?;
        if !same_facts || assignments(&plan.managed) != self.pushed {
            let compiled = if same_facts {
                Arc::clone(&self.compiled)
            } else {
                Arc::new(compile(
                    &self.loaded.policy,
                    &self.active,
                    &self.view.facts,
                    &mut self.slots,
                )?)
            };
            self.enforce(&compiled, plan, news)?;
        } else {
            self.managed = plan.managed;
            self.rename();
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
            &self.view,
            &slots,
            &self.managed,
        ))
    }
}

/// The whole chain in one line, and what to look at when something was not permitted.
fn describe(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    match sandbox::advice(&text) {
        Some(advice) => format!("{text} ({advice})"),
        None => text,
    }
}
