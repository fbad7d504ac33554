//! Programs and labels of the managed interfaces.

use std::collections::HashMap;
use std::net::IpAddr;

use anyhow::anyhow;

use super::super::links::Links;
use super::super::managed::{Hooks, Managed};
use super::super::view;
use super::{Engine, describe};
use crate::dataplane::conntrack::{self, ExistingFlow};
use crate::dataplane::pod::{InterfaceLabelFields, to_bytes};
use crate::dataplane::{AttachError, Attached, Dataplane, Mode, TcProgram, XdpProgram, counters};

impl Engine {
    /// Attaches or replaces the programs on every managed interface; failures are remembered by interface.
    pub(super) fn attach_all(&mut self) {
        let mut all = std::mem::take(&mut self.managed);
        let attached = |ifindex: &u32| self.is_attached(*ifindex);
        let first = !all.keys().any(attached);
        // what could not be attached the last time is tried again each time, and is no reason to ask for all flows
        let missing = |(ifindex, managed): (&u32, &Managed)| {
            managed.error.is_none() && !self.is_attached(*ifindex)
        };
        let fresh = self.dataplane.has_new_flow_table() || all.iter().any(missing);
        let mut failed = HashMap::new();
        for (ifindex, managed) in &mut all {
            if self.links.not_ethernet.contains(ifindex) {
                continue;
            }
            if managed.assignment.slot == 0 {
                // no slot for it: a container link is closed all the same, by programs that know nothing of it
                if managed.hooks != Hooks::Outer {
                    self.attach_closed(*ifindex, managed);
                }
                continue;
            }
            failed.extend(managed.error.take().map(|error| (*ifindex, error)));
            if let Err(error) = self.attach_notes(*ifindex, managed) {
                managed.error = Some(describe(&anyhow!(error)));
            }
        }
        if fresh {
            // everything is noted from here on; what was there before is asked from the kernel
            self.note_existing(first);
        }
        for (ifindex, managed) in &mut all {
            if managed.error.is_none() {
                self.attach_one(*ifindex, managed);
            }
            if let Some(error) = &managed.error
                && managed.assignment.slot != 0
                && failed.get(ifindex) != Some(error)
            {
                tracing::error!(interface = managed.name, error, "not filtered");
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
        let (name, enforce) = (profile.name.clone(), profile.enforce);
        match self.attach_judge(ifindex, managed, profile.generic_xdp) {
            Ok(Attached::Fresh(mode)) => {
                tracing::info!(
                    interface = managed.name,
                    ?mode,
                    profile = name,
                    enforce,
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
                managed.error = Some(describe(&anyhow!(error)));
            }
        }
        let label = InterfaceLabelFields {
            name: to_bytes(&managed.name),
            profile: to_bytes(&name),
            ifindex,
            mode: managed.mode.map_or(0, Mode::number),
        };
        self.label(managed.assignment.slot, &label);
    }

    /// The program that notes flows: before the one that asks for them, so that no answer is missed.
    fn attach_notes(&mut self, ifindex: u32, managed: &Managed) -> Result<(), AttachError> {
        let (name, dataplane) = (&managed.name, &mut self.dataplane);
        match managed.hooks {
            Hooks::Outer => dataplane.attach_tc(TcProgram::Out, ifindex, name),
            Hooks::Container => dataplane.attach_tc(TcProgram::Send, ifindex, name),
            Hooks::ContainerXdp => dataplane
                .attach_xdp(XdpProgram::Send, ifindex, name, false)
                .map(drop),
        }
    }

    /// Closes container links that were not there before, until the tables know them: before anything else is asked
    /// about them, since they may carry traffic already.
    pub(in crate::daemon) fn guard(&mut self, links: &Links) {
        for (ifindex, name) in &links.names {
            if self.links.names.get(ifindex) == Some(name) {
                continue;
            }
            let Some(profile) = view::profile(&self.loaded.policy, links, *ifindex) else {
                continue;
            };
            let hooks = Hooks::of(profile);
            if hooks != Hooks::Outer {
                let managed = Managed::new(name.clone(), hooks);
                self.attach_closed(*ifindex, &managed);
            }
        }
    }

    /// Both programs of a container link; what fails is tried again with all the others.
    fn attach_closed(&mut self, ifindex: u32, managed: &Managed) {
        let done = self.attach_notes(ifindex, managed).and_then(|()| {
            self.dataplane
                .attach_tc(TcProgram::Deliver, ifindex, &managed.name)
        });
        if let Err(error) = done {
            let error = describe(&anyhow!(error));
            tracing::debug!(interface = managed.name, error, "cannot be closed yet");
        }
    }

    /// The program that judges what arrives.
    fn attach_judge(
        &mut self,
        ifindex: u32,
        managed: &Managed,
        generic: bool,
    ) -> Result<Attached, AttachError> {
        let (name, dataplane) = (&managed.name, &mut self.dataplane);
        let container = |dataplane: &mut Dataplane, mode| {
            dataplane.attach_tc(TcProgram::Deliver, ifindex, name)?;
            Ok::<_, AttachError>(if managed.mode.is_none() {
                Attached::Fresh(mode)
            } else {
                Attached::Replaced
            })
        };
        let (attached, xdp, tc) = match managed.hooks {
            Hooks::Outer => {
                let attached = dataplane.attach_xdp(XdpProgram::In, ifindex, name, generic)?;
                (attached, true, &[TcProgram::Out][..])
            }
            Hooks::Container => {
                let tc = &[TcProgram::Send, TcProgram::Deliver][..];
                (container(dataplane, Mode::Tc)?, false, tc)
            }
            Hooks::ContainerXdp => {
                let tc = &[TcProgram::Deliver][..];
                (container(dataplane, Mode::Native)?, true, tc)
            }
        };
        // the policy may have moved it here from the other side
        dataplane.keep_only(ifindex, name, xdp, tc)?;
        Ok(attached)
    }

    pub(super) fn label(&self, slot: u16, label: &InterfaceLabelFields) {
        if let Err(error) = counters::label_interface(self.dataplane.pins(), slot, label) {
            tracing::error!(%error, "cannot name an interface's counters");
        }
    }

    /// Flows that the kernel knows of, those of addresses inside as their links see them too.
    pub(super) fn established(&self) -> anyhow::Result<Vec<ExistingFlow>> {
        let facts = &self.view.facts;
        let inside = |address| match address {
            IpAddr::V4(address) => facts.inside_v4.iter().any(|net| net.contains(&address)),
            IpAddr::V6(address) => facts.inside_v6.iter().any(|net| net.contains(&address)),
        };
        conntrack::established(inside)
    }

    fn note_existing(&mut self, first: bool) {
        let noted = self.established().and_then(|flows| {
            let facts = &self.view.facts;
            let count = self.dataplane.note_existing(&flows, facts, first)?;
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
}

pub(super) fn free_label() -> InterfaceLabelFields {
    InterfaceLabelFields {
        name: [0; 16],
        profile: [0; 64],
        ifindex: 0,
        mode: 0,
    }
}
