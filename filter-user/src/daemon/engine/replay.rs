//! The packets of a capture under the policy in force and under one that is staged: each has a shadow of its own.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use filter_common::parse;
use filter_common::verdict::Way;

use super::super::links::{Link, Mac};
use super::super::managed::Hooks;
use super::Engine;
use super::explain::{hook, verdict};
use super::swap::Prepared;
use crate::compile::RuleSlots;
use crate::control::Refusal;
use crate::dataplane::scans::ip;
use crate::dataplane::{Capture, JudgeError, Place};
use crate::guard::Under;
use crate::replay::{Frames, Judge, ReplayError, Replayed, Told, replay};

/// Longest it may take: nothing else is done meanwhile.
const TIME: Duration = Duration::from_secs(6);

impl Engine {
    /// What the prepared policy would make of a capture's packets.
    pub(in crate::daemon) fn replay(
        &mut self,
        capture: &[u8],
        interface: Option<&str>,
        prepared: &mut Prepared,
    ) -> Result<Replayed, Refusal> {
        let until = Instant::now() + TIME;
        let frames = Frames::new(capture).map_err(|error| Refusal::Wrong(error.to_string()))?;
        let (ifindex, name, hooks) = self.captured_on(interface)?;
        let failed =
            |error: JudgeError| Refusal::Failed(format!("{:#}", anyhow::Error::new(error)));
        let staged_in = prepared.filled.larger.as_ref().unwrap_or(&self.dataplane);
        let generation = prepared.filled.staged.generation();
        let link = self.links.details.get(&ifindex);
        let mut wire = Wire {
            ifindex,
            hooks,
            mac: link.and_then(|link| link.mac),
            addresses: link
                .map(|link: &Link| link.addresses.clone())
                .unwrap_or_default(),
            in_force: self.dataplane.shadow_of_a_capture(None).map_err(failed)?,
            staged: staged_in
                .shadow_of_a_capture(Some(generation))
                .map_err(failed)?,
            slots: &prepared.slots,
        };
        let replayed = replay(frames, until, &mut wire).map_err(|error| match error {
            ReplayError::Capture(error) => Refusal::Wrong(error.to_string()),
            ReplayError::Judge(error) => failed(error),
        })?;
        Ok(Replayed {
            interface: name,
            ..replayed
        })
    }

    /// The interface of this name; without one, the only outer interface.
    fn captured_on(&self, interface: Option<&str>) -> Result<(u32, String, Hooks), Refusal> {
        let mut managed = self.managed.iter();
        let of = |(ifindex, managed): (&u32, &super::Managed)| {
            (*ifindex, managed.name.clone(), managed.hooks)
        };
        if let Some(name) = interface {
            let found = managed.find(|(_, managed)| managed.name == name);
            return found
                .map(of)
                .ok_or_else(|| Refusal::Unknown(format!("no interface {name} is filtered")));
        }
        let mut outer = managed.filter(|(_, managed)| managed.hooks == Hooks::Outer);
        match (outer.next(), outer.next()) {
            (Some(only), None) => Ok(of(only)),
            (None, _) => Err(Refusal::Unknown(
                "no outer interface is filtered".to_owned(),
            )),
            (Some(one), Some(other)) => Err(Refusal::Wrong(format!(
                "several interfaces are filtered ({}, {} ...): say which one the packets were captured on",
                one.1.name, other.1.name
            ))),
        }
    }
}

/// The interface that the packets were captured on.
struct Wire<'a> {
    ifindex: u32,
    hooks: Hooks,
    mac: Option<Mac>,
    addresses: Vec<IpAddr>,
    in_force: Capture,
    staged: Capture,
    slots: &'a RuleSlots,
}

impl Judge for Wire<'_> {
    /// What comes from the interface's own MAC; where neither MAC is its own, what comes from one of its addresses.
    fn leaves(&self, frame: &[u8]) -> bool {
        let is_own = |at: usize| {
            self.mac
                .is_some_and(|mac| frame.get(at..at + 6) == Some(&mac))
        };
        if is_own(0) || is_own(6) {
            return is_own(6);
        }
        let source = parse::source(frame, &parse::link(frame));
        source.is_some_and(|(_, source)| self.addresses.contains(&ip(&source)))
    }

    fn way(&self, out: bool) -> Way {
        hook(self.hooks, out).way()
    }

    fn judge(&mut self, under: Under, out: bool, frame: &[u8]) -> Result<Option<Told>, JudgeError> {
        let place = Place {
            ifindex: self.ifindex,
            hook: hook(self.hooks, out),
        };
        let shadow = match under {
            Under::InForce => &mut self.in_force,
            Under::Staged => &mut self.staged,
        };
        match shadow.judge(place, frame) {
            Ok(judged) => Ok(Some(Told {
                verdict: verdict(&judged),
                reason: judged.reason.name(),
                rule: judged.rule,
            })),
            Err(JudgeError::Run { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn rule(&self, slot: u16) -> Option<String> {
        let mut slots = self.slots.iter();
        slots
            .find(|(_, known)| *known == slot)
            .map(|(id, _)| id.to_owned())
    }
}
