//! What nobody confirmed in time is undone, whatever else goes wrong: whoever pushed it may be locked out by it.

use std::time::{Duration, Instant};

use super::choose::mark;
use super::{Policies, failed};
use crate::access::Actor;
use crate::control::Refusal;
use crate::control::policy::{Applied, Terms};
use crate::daemon::engine::Engine;
use crate::daemon::links::Watch;
use crate::generations::{Clocks, Origin};
use crate::policy;

/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

impl Policies {
    /// How long until what is in force has to be confirmed.
    pub(in crate::daemon) fn confirm_in(&self) -> Option<Duration> {
        let pending = self.store.as_ref()?.state().pending.as_ref()?;
        let left = match Clocks::now() {
            Ok(now) => pending.deadline.left(&now),
            Err(error) => {
                tracing::error!(%error, "cannot read the clocks; what waits to be confirmed is undone now");
                Duration::ZERO
            }
        };
        let pause = self
            .undo_again
            .map(|at| at.saturating_duration_since(Instant::now()));
        Some(left.max(pause.unwrap_or_default()))
    }

    /// Goes back, because the time to confirm is over.
    pub(in crate::daemon) async fn undo(&mut self, engine: &mut Engine, watch: &mut Watch) {
        let Some(store) = &self.store else { return };
        let state = store.state();
        let Some(to) = state.pending.as_ref().map(|pending| pending.undo_to) else {
            return;
        };
        let (current, actor) = (state.current, Actor::daemon("timer"));
        let message = Some(format!("generation {current} was not confirmed in time"));
        let terms = Terms {
            force: true,
            ..Terms::default()
        };
        let before = self.digest();
        let mut done = match self.again(to, actor.clone(), Origin::Undo(current), message) {
            Ok(candidate) => self.put_in_force(candidate, &terms, engine, watch).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &done {
            tracing::error!(%error, "going back cannot be a new generation; the one before is put in force as it was");
            done = self.put_back(to, engine, watch).await;
        }
        match &done {
            Ok(applied) => {
                tracing::warn!(
                    generation = applied.generation.number,
                    undone = current,
                    "not confirmed in time: the policy before is in force again"
                );
            }
            Err(error) => {
                tracing::error!(%error, "cannot undo what was not confirmed; tried again");
                self.undo_again = Some(Instant::now() + PAUSE);
            }
        }
        self.tell(
            actor,
            "policy.undo",
            format!("generation {current}"),
            before,
            done.as_ref()
                .map(|applied| &applied.generation)
                .map_err(ToString::to_string),
        );
    }

    /// Puts a generation in force under its own number. It was in force, so nothing is asked that could refuse it, and
    /// nothing is written that has to succeed: a full disk must not lock anybody out.
    async fn put_back(
        &mut self,
        to: u64,
        engine: &mut Engine,
        watch: &mut Watch,
    ) -> Result<Applied, Refusal> {
        let store = self.kept()?;
        let (bundle, record) = (
            store.bundle(to).map_err(failed)?,
            store.record(to).map_err(failed)?,
        );
        let loaded = policy::load_bundle(&bundle)
            .map_err(|diagnostics| Refusal::Unsound(diagnostics.to_string()))?;
        let mark = mark(&record);
        let applied = self
            .renew(loaded, record.clone(), mark, engine, watch)
            .await?;
        self.settle(&record, None);
        Ok(applied)
    }
}
