//! What another policy would change: nothing that is in force is touched.

use std::time::SystemTime;

use super::super::engine::Engine;
use super::super::links::Watch;
use super::{Policies, prepare, pusher};
use crate::access::Actor;
use crate::control::Refusal;
use crate::control::policy::Push;
use crate::dataplane::PolicyMark;
use crate::plan::{self, PlanReport, Quiet};
use crate::policy::{Loaded, Policy};
use crate::replay::Replayed;

impl Policies {
    pub(super) async fn plan(
        &mut self,
        push: Push,
        loaded: Loaded,
        actor: Actor,
        engine: &mut Engine,
        watch: &mut Watch,
    ) -> Result<PlanReport, Refusal> {
        let difference = plan::difference(engine.policy(), &loaded.policy);
        let (mut prepared, _) = prepare(loaded, PolicyMark::default(), engine, watch).await?;
        let objections = engine.objections(&mut prepared, &pusher(&actor, &push.terms));
        let cut_flows = engine.cut_flows(&mut prepared);
        let quiet = self.quiet(engine, prepared.policy());
        engine.discard(prepared);
        Ok(PlanReport {
            quiet,
            cut_flows,
            objections: objections.iter().map(ToString::to_string).collect(),
            difference,
        })
    }

    pub(super) async fn replay(
        &self,
        capture: &[u8],
        interface: Option<&str>,
        loaded: Loaded,
        engine: &mut Engine,
        watch: &mut Watch,
    ) -> Result<Replayed, Refusal> {
        let (mut prepared, _) = prepare(loaded, PolicyMark::default(), engine, watch).await?;
        let replayed = engine.replay(capture, interface, &mut prepared);
        engine.discard(prepared);
        replayed
    }

    /// Looks at what hits the rules in force.
    pub(in crate::daemon) fn look_at_hits(&mut self, engine: &Engine) {
        self.hits.look(engine);
    }

    pub(super) fn quiet(&mut self, engine: &Engine, next: &Policy) -> Quiet {
        self.hits.look(engine);
        self.hits.quiet(engine.policy(), next, SystemTime::now())
    }
}
