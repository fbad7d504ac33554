//! From one policy to the next: the tables of the next are filled beside those in force, somebody looks at them, and
//! they are put in force or left.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result};

use super::super::bindings::Former;
use super::super::bindings::cni::CniResults;
use super::super::links::{Links, Peers};
use super::super::managed::{Plan, assignments, plan, programs};
use super::super::view::View;
use super::{Engine, News, attach};
use crate::compile::{Compiled, RuleSlots, compile};
use crate::dataplane::{
    Assignment, Dataplane, Hook, PolicyMark, PushError, Side, Staged, counters,
};
use crate::policy::{Active, Loaded, Policy};

/// Tables that no packet is judged by yet.
pub(super) struct Filled {
    pub(super) staged: Staged,
    /// The set that they are in, if that in use is too small.
    pub(super) larger: Option<Dataplane>,
    assignments: Vec<Assignment>,
}

/// A policy that is compiled and in tables, and not in force.
pub(in crate::daemon) struct Prepared {
    pub(super) loaded: Loaded,
    active: Active,
    /// When other rules count than those of `active`.
    next_change: Option<SystemTime>,
    pub(super) slots: RuleSlots,
    pub(super) links: Links,
    pub(super) view: View,
    results: CniResults,
    compiled: Arc<Compiled>,
    pub(super) plan: Plan,
    mark: PolicyMark,
    pub(super) filled: Filled,
}

impl Prepared {
    /// The policy.
    pub(in crate::daemon) fn policy(&self) -> &Policy {
        &self.loaded.policy
    }
}

impl Engine {
    /// Which policy is in force.
    pub(in crate::daemon) fn mark(&self) -> PolicyMark {
        self.mark
    }

    /// Compiles another policy for the links there are now, and fills the idle tables. Changes nothing that is in force.
    pub(in crate::daemon) fn prepare(
        &mut self,
        loaded: Loaded,
        mark: PolicyMark,
        links: Links,
        peers: &Peers,
    ) -> Result<Prepared> {
        let mut slots = self.slots.clone();
        let results = self.cni.read();
        let former = Former::of(&self.links, &self.view.bindings);
        let view = View::new(&loaded.policy, &links, &results, peers, &former);
        let now = SystemTime::now();
        let active = loaded.policy.active(now);
        let next_change = loaded.policy.next_change(now);
        let compiled = compile(&loaded.policy, &active, &view.facts, &mut slots)
            .context("the policy does not fit")?;
        self.refuse_foreign_programs(&links, &view)?;
        let in_use: HashMap<u32, u16> = counters::interface_slots(self.dataplane.pins())?
            .into_iter()
            .collect();
        let plan = plan(&loaded.policy, &links, &view, &in_use, &self.managed);
        let programs = programs(&loaded.policy);
        let filled = self.fill(&programs, &compiled, assignments(&plan.managed), mark)?;
        Ok(Prepared {
            loaded,
            active,
            next_change,
            slots,
            links,
            view,
            results,
            compiled: Arc::new(compiled),
            plan,
            mark,
            filled,
        })
    }

    /// Leaves what was prepared.
    pub(in crate::daemon) fn discard(&mut self, prepared: Prepared) {
        if prepared.filled.larger.is_some()
            && let Err(error) = self.dataplane.retire_others()
        {
            tracing::warn!(%error, "tables that nothing uses cannot be removed");
        }
    }

    /// Puts what was prepared in force. Nothing else may have been prepared, and nothing looked at, in between.
    pub(in crate::daemon) fn commit(&mut self, prepared: Prepared, peers: &Peers) -> Result<u64> {
        let Prepared {
            loaded,
            active,
            next_change,
            slots,
            links,
            view,
            results,
            compiled,
            plan,
            mark,
            filled,
        } = prepared;
        let before = (
            std::mem::replace(&mut self.loaded, loaded),
            std::mem::replace(&mut self.slots, slots),
            std::mem::replace(&mut self.links, links),
            std::mem::replace(&mut self.view, view),
            std::mem::replace(&mut self.mark, mark),
        );
        if let Err(error) = self.switch(filled, &compiled, plan, News::Policy) {
            (self.loaded, self.slots, self.links, self.view, self.mark) = before;
            return Err(error);
        }
        self.active = active;
        self.next_change = next_change;
        self.loaded_at = SystemTime::now();
        self.results = results;
        self.pace.count_all(peers);
        self.pace.note(&self.links, &self.view.bindings);
        self.attach_all();
        self.release_unmanaged()?;
        Ok(self.dataplane.generation()?)
    }

    /// Puts tables and plan in force; on an error everything is as it was.
    pub(super) fn enforce(
        &mut self,
        compiled: &Arc<Compiled>,
        plan: Plan,
        news: News,
    ) -> Result<()> {
        let programs = programs(&self.loaded.policy);
        let filled = self.fill(&programs, compiled, assignments(&plan.managed), self.mark)?;
        self.switch(filled, compiled, plan, news)
    }

    /// Fills tables beside those in force, in a larger set if they need one.
    fn fill(
        &mut self,
        programs: &[Hook],
        compiled: &Compiled,
        assignments: Vec<Assignment>,
        mark: PolicyMark,
    ) -> Result<Filled> {
        let (staged, larger) = match self.dataplane.stage(compiled, &assignments, mark) {
            Ok(staged) => {
                self.dataplane.prepare(programs)?;
                (staged, None)
            }
            Err(PushError::TooLarge(needed)) => {
                // beside the old one; links are switched over one by one in `attach_all`
                let pins = self.dataplane.pins().clone();
                let mut larger = Dataplane::load(&pins, needed, self.options.flows)?;
                larger.prepare(programs)?;
                let staged = larger.stage(compiled, &assignments, mark)?;
                (staged, Some(larger))
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Filled {
            staged,
            larger,
            assignments,
        })
    }

    /// Puts filled tables in force. The policy that they were made of is `self.loaded`.
    fn switch(
        &mut self,
        filled: Filled,
        compiled: &Arc<Compiled>,
        plan: Plan,
        news: News,
    ) -> Result<()> {
        let Filled {
            staged,
            larger,
            assignments,
        } = filled;
        let pins = self.dataplane.pins().clone();
        for slot in &plan.fresh {
            counters::zero_interface(&pins, *slot)?;
        }
        self.label_rules()?;
        let generation = match larger {
            None => self.dataplane.flip(staged)?,
            Some(mut larger) => {
                let generation = larger.flip(staged)?;
                tracing::info!("on larger tables");
                self.dataplane = larger;
                generation
            }
        };
        let interfaces = assignments.len();
        match news {
            News::Policy | News::Host => {
                tracing::info!(generation, interfaces, "policy in force");
            }
            // as often as a container likes
            News::Containers => tracing::debug!(generation, interfaces, "bindings in force"),
        }
        self.pushed = assignments;
        for slot in plan.free {
            self.label(slot, &attach::free_label());
        }
        self.compiled = Arc::clone(compiled);
        self.managed = plan.managed;
        self.rename();
        Ok(())
    }

    /// Names the counters of rules, and begins those of new ones at zero.
    fn label_rules(&mut self) -> Result<()> {
        let policy = &self.loaded.policy;
        let of_profiles = policy.profiles.iter().flat_map(|profile| {
            let rules = profile.rules();
            rules.map(|rule| (rule.id.as_str(), profile.name.as_str()))
        });
        let failsafe = policy.failsafe.rules().iter();
        let profile_of: HashMap<&str, &str> = failsafe
            .map(|rule| (rule.id.as_str(), "failsafe"))
            .chain(of_profiles)
            .collect();
        let pins = self.dataplane.pins();
        counters::zero_rules(pins, &self.slots.take_fresh())?;
        let labels = self
            .slots
            .iter()
            .map(|(id, slot)| (slot, id, profile_of.get(id).copied().unwrap_or_default()));
        counters::label_rules(pins, labels)?;
        Ok(())
    }

    /// A foreign program on any interface stops us before anything is changed.
    pub(super) fn refuse_foreign_programs(&self, links: &Links, view: &View) -> Result<()> {
        for (ifindex, name) in &links.names {
            if view.sides.get(ifindex) != Some(&Side::Outer) {
                continue;
            }
            // a dead pin does not vouch for what is on the interface
            let program = links.programs.get(ifindex);
            if program.is_none() || self.dataplane.is_attached(*ifindex, view.side(*ifindex)) {
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
}
