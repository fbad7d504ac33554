//! Which policy is in force, and how another one takes its place: pushed, read from the policy file, gone back to, or
//! undone because nobody confirmed it. Every change is kept on disk before the kernel gets it, so that whatever ends
//! this process, the next one knows what the kernel holds.

mod choose;
mod file;
mod foresee;
mod undo;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::engine::{Engine, Prepared, figures};
use super::hits::Hits;
use super::links::{Peers, Watch};
use super::settings::Keeper;
use super::snapshot;
use crate::access::{Actor, Via};
use crate::approval::{self, Accepted, AllowedSigners, Approval};
use crate::audit::{Event, Outcome};
use crate::control::policy::{
    Applied, GenerationFiles, Generations, Order, PendingConfirm, Push, Rollback, Terms,
};
use crate::control::{Record, Refusal};
use crate::dataplane::PolicyMark;
use crate::generations::{
    self, Clocks, Deadline, Generation, Intent, Origin, Pending, Store, StoreError,
};
use crate::guard::Pusher;
use crate::plan::{self, CutFlows, Difference, Quiet};
use crate::policy::{self, Bundle, Loaded};
use crate::report::status::PolicyStatus;
use crate::report::time::rfc3339;
use crate::settings::Settings;

/// Where policies come from, and what was in force.
pub(super) struct Policies {
    file: file::PolicyFile,
    settings: Settings,
    /// Why nobody knows what they are: nothing new is put in force then.
    settings_error: Option<String>,
    /// `None`: the state directory cannot be used. The policy file is put in force all the same.
    store: Option<Store>,
    recorder: Arc<dyn Record>,
    /// What is known of the policy in force; `None`: it could not be kept.
    current: Option<Generation>,
    /// Why the policy file, as it is now, is not in force.
    file_error: Option<String>,
    /// What was not confirmed could not be undone, and not before this is it tried again.
    undo_again: Option<Instant>,
    hits: Hits,
}

/// A policy that is about to be put in force.
struct Candidate {
    loaded: Loaded,
    bundle: Bundle,
    approval: Option<Approval>,
    approved: Approvals,
    actor: Actor,
    origin: Origin,
    message: Option<String>,
}

/// What signatures say of a policy.
#[derive(Clone, Debug, Default)]
struct Approvals {
    serial: Option<u64>,
    signers: Vec<String>,
}

impl Candidate {
    fn record(&self, digest: String) -> Generation {
        let (rules, prefixes) = figures(&self.loaded.policy);
        Generation {
            number: 0,
            digest,
            file: self.bundle.main.clone(),
            actor: self.actor.clone(),
            made_at: rfc3339(SystemTime::now()),
            message: self.message.clone(),
            origin: self.origin,
            approvals: self.approved.signers.clone(),
            serial: self.approved.serial,
            rules,
            prefixes,
        }
    }
}

impl Policies {
    /// Those of a state directory.
    pub(super) fn open(state_dir: &Path, file: PathBuf, recorder: Arc<dyn Record>) -> Self {
        let store = match Store::open(state_dir) {
            Ok(store) => Some(store),
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                tracing::error!(
                    error,
                    "no policy can be kept to go back to, so none can be pushed"
                );
                None
            }
        };
        let current = store
            .as_ref()
            .and_then(|store| match store.state().current {
                0 => None,
                number => store.record(number).ok(),
            });
        Self {
            file: file::PolicyFile::new(file),
            settings: Settings::default(),
            settings_error: None,
            store,
            recorder,
            current,
            file_error: None,
            undo_again: None,
            hits: Hits::open(state_dir),
        }
    }

    /// From now on the daemon's settings are these.
    pub(super) fn follow(&mut self, keeper: &Keeper) {
        match keeper.settings() {
            Ok(settings) => {
                self.settings = settings.clone();
                self.settings_error = None;
                if let Some(store) = &mut self.store {
                    store.keep(settings.generations.keep);
                }
            }
            Err(error) => self.settings_error = Some(error.to_owned()),
        }
    }

    /// Does what somebody asked for on the control socket.
    pub(super) async fn obey(&mut self, order: Order, engine: &mut Engine, watch: &mut Watch) {
        // whoever asked may be gone: then nobody wants the answer
        match order {
            Order::Apply {
                push,
                loaded,
                actor,
                answer,
            } => {
                let done = self.push(*push, *loaded, actor, engine, watch).await;
                let _ = answer.send(done);
            }
            Order::Plan {
                push,
                loaded,
                actor,
                answer,
            } => {
                let done = self.plan(*push, *loaded, actor, engine, watch).await;
                let _ = answer.send(done);
            }
            Order::Replay {
                capture,
                interface,
                loaded,
                answer,
            } => {
                let interface = interface.as_deref();
                let done = self
                    .replay(&capture, interface, *loaded, engine, watch)
                    .await;
                let _ = answer.send(done);
            }
            Order::Rollback {
                rollback,
                actor,
                answer,
            } => {
                let done = self.rollback(rollback, actor, engine, watch).await;
                let _ = answer.send(done);
            }
            Order::Confirm(answer) => {
                let _ = answer.send(self.confirm());
            }
            Order::List(answer) => {
                let _ = answer.send(self.list());
            }
            Order::Show(number, answer) => {
                let _ = answer.send(self.show(number));
            }
        }
    }

    async fn push(
        &mut self,
        push: Push,
        loaded: Loaded,
        actor: Actor,
        engine: &mut Engine,
        watch: &mut Watch,
    ) -> Result<Applied, Refusal> {
        self.expect(&push.terms)?;
        self.recordable()?;
        let approved = self.approvals(&push.bundle, push.approval.as_ref(), true)?;
        let candidate = Candidate {
            loaded,
            bundle: push.bundle,
            approval: push.approval,
            approved,
            actor,
            origin: Origin::Apply,
            message: push.terms.message.clone(),
        };
        self.put_in_force(candidate, &push.terms, engine, watch)
            .await
    }

    async fn rollback(
        &mut self,
        rollback: Rollback,
        actor: Actor,
        engine: &mut Engine,
        watch: &mut Watch,
    ) -> Result<Applied, Refusal> {
        let store = self.kept()?;
        let state = store.state();
        let to = match (rollback.to, &state.pending) {
            (Some(to), None) => to,
            (None, Some(pending)) => pending.undo_to,
            (Some(to), Some(pending)) if to == pending.undo_to => to,
            (Some(_), Some(pending)) => {
                return Err(Refusal::Conflict(format!(
                    "generation {} waits to be confirmed: confirm it, or go back to generation {} first",
                    state.current, pending.undo_to
                )));
            }
            (None, None) => {
                let list = store.list().map_err(failed)?;
                generations::before(&list, state.current).ok_or_else(|| {
                    Refusal::Unknown("no earlier policy is kept that differs".to_owned())
                })?
            }
        };
        self.expect_generation(rollback.terms.if_generation)?;
        let message = rollback.terms.message.clone();
        let candidate = self.again(to, actor, Origin::Rollback(to), message)?;
        self.put_in_force(candidate, &rollback.terms, engine, watch)
            .await
    }

    /// Reads the policy file again. A bad one changes nothing and is remembered. `cause`: `reload` or `watch`.
    pub(super) async fn reload(&mut self, cause: &str, engine: &mut Engine, watch: &mut Watch) {
        let before = self.digest();
        let done = self.reread(cause, engine, watch).await;
        match &done {
            Ok(applied) => {
                self.file_error = None;
                let generation = applied.generation.number;
                tracing::info!(generation, "policy reloaded");
            }
            Err(error) => {
                let error = error.to_string();
                tracing::error!(error, "the policy was not reloaded; the one in force stays");
                self.file_error = Some(error);
            }
        }
        self.tell(
            Actor::daemon(cause),
            "policy.reload",
            self.file.path().display().to_string(),
            before,
            done.as_ref()
                .map(|applied| &applied.generation)
                .map_err(ToString::to_string),
        );
    }

    async fn reread(
        &mut self,
        cause: &str,
        engine: &mut Engine,
        watch: &mut Watch,
    ) -> Result<Applied, Refusal> {
        self.expect(&Terms::default())?;
        let (mut candidate, digest) = self.read_file()?;
        candidate.actor = Actor::daemon(cause);
        let applied = match self.current.clone() {
            Some(record) if record.digest == digest => {
                let mark = engine.mark();
                self.renew(candidate.loaded, record, mark, engine, watch)
                    .await?
            }
            _ => {
                self.put_in_force(candidate, &Terms::default(), engine, watch)
                    .await?
            }
        };
        self.note_file();
        Ok(applied)
    }

    /// Puts a policy in force that is kept already; mostly it is in force, and its tables are written again.
    async fn renew(
        &mut self,
        loaded: Loaded,
        record: Generation,
        mark: PolicyMark,
        engine: &mut Engine,
        watch: &mut Watch,
    ) -> Result<Applied, Refusal> {
        let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
        let (prepared, peers) = prepare(loaded, mark, engine, watch).await?;
        engine
            .commit(prepared, &peers)
            .map_err(|error| Refusal::Failed(format!("{error:#}")))?;
        Ok(Applied {
            before: self.digest(),
            generation: record,
            confirm_seconds: None,
            warnings,
            overruled: Vec::new(),
            difference: Difference::default(),
            cut_flows: CutFlows::default(),
            quiet: Quiet::default(),
        })
    }

    /// Whether the policy file has to be read again. Asked once a second.
    pub(super) fn file_changed(&mut self) -> bool {
        self.file.changed()
    }

    /// Keeps what the policy file said.
    fn note_file(&mut self) {
        let (Some(store), Some(source)) = (&mut self.store, self.file.source()) else {
            return;
        };
        if store.state().source.as_ref() != Some(&source) {
            store.settle(|state| state.source = Some(source));
        }
    }

    fn confirm(&mut self) -> Result<Generation, Refusal> {
        let store = self.kept_mut()?;
        if store.state().pending.is_none() {
            return Err(Refusal::Conflict(
                "nothing waits to be confirmed".to_owned(),
            ));
        }
        store.update(|state| state.pending = None).map_err(failed)?;
        let current = store.state().current;
        store.record(current).map_err(failed)
    }

    /// A generation once more, as a new one.
    fn again(
        &self,
        to: u64,
        actor: Actor,
        origin: Origin,
        message: Option<String>,
    ) -> Result<Candidate, Refusal> {
        let store = self.kept()?;
        let bundle = store.bundle(to).map_err(failed)?;
        let approval = store.approval(to).map_err(failed)?;
        let approved = self.approvals(&bundle, approval.as_ref(), false)?;
        let loaded = policy::load_bundle(&bundle)
            .map_err(|diagnostics| Refusal::Unsound(diagnostics.to_string()))?;
        Ok(Candidate {
            loaded,
            bundle,
            approval,
            approved,
            actor,
            origin,
            message,
        })
    }

    /// Compiles the policy, looks at what it would do, and puts it in force: all of it or nothing.
    async fn put_in_force(
        &mut self,
        candidate: Candidate,
        terms: &Terms,
        engine: &mut Engine,
        watch: &mut Watch,
    ) -> Result<Applied, Refusal> {
        let digest = candidate.bundle.digest();
        let before = self.digest();
        let record = candidate.record(digest.clone());
        let mark = PolicyMark {
            generation: self.kept()?.state().last + 1,
            digest: digest_word(&digest),
        };
        let Candidate {
            loaded,
            bundle,
            approval,
            origin,
            actor,
            ..
        } = candidate;
        let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
        let (mut prepared, peers) = prepare(loaded, mark, engine, watch).await?;
        let difference = plan::difference(engine.policy(), prepared.policy());
        let objections = engine.objections(&mut prepared, &pusher(&actor, terms));
        let overruled: Vec<String> = objections.iter().map(ToString::to_string).collect();
        if !overruled.is_empty() && !terms.force {
            engine.discard(prepared);
            return Err(Refusal::Conflict(overruled.join("\n")));
        }
        // what the daemon does by itself nobody waits to read about, and it must not be late
        let cut_flows = match actor.via {
            Via::Daemon { .. } => CutFlows::default(),
            _ => engine.cut_flows(&mut prepared),
        };
        let kept = self.keep(record, &bundle, approval.as_ref(), terms);
        drop(bundle);
        let quiet = self.quiet(engine, prepared.policy());
        let (record, pending) = match kept {
            Ok(kept) => kept,
            Err(error) => {
                engine.discard(prepared);
                return Err(failed(error));
            }
        };
        if let Err(error) = engine.commit(prepared, &peers) {
            self.forget(record.number);
            return Err(Refusal::Failed(format!("{error:#}")));
        }
        self.settle(&record, pending.clone());
        if !matches!(origin, Origin::File) {
            self.file_error = None;
        }
        Ok(Applied {
            generation: record,
            before,
            confirm_seconds: pending.and(terms.confirm_seconds),
            warnings,
            overruled,
            difference,
            cut_flows,
            quiet,
        })
    }

    /// Keeps the generation and says that it is about to be in force.
    fn keep(
        &mut self,
        record: Generation,
        bundle: &Bundle,
        approval: Option<&Approval>,
        terms: &Terms,
    ) -> Result<(Generation, Option<Pending>), StoreError> {
        let store = self.store.as_mut().ok_or(StoreError::Missing)?;
        let undo_to = store.state().current;
        let pending = match terms.confirm_seconds {
            Some(seconds) if undo_to != 0 => {
                let now = Clocks::now().map_err(StoreError::Clock)?;
                Some(Pending {
                    undo_to,
                    deadline: Deadline::after(Duration::from_secs(seconds), &now),
                })
            }
            _ => None,
        };
        let record = store.add(record, bundle, approval)?;
        let intent = Intent {
            generation: record.number,
            pending: pending.clone(),
        };
        store.update(|state| state.intent = Some(intent))?;
        Ok((record, pending))
    }

    /// The kernel has it.
    fn settle(&mut self, record: &Generation, pending: Option<Pending>) {
        self.current = Some(record.clone());
        let Some(store) = &mut self.store else { return };
        store.settle(|state| {
            state.current = record.number;
            state.intent = None;
            state.pending = pending;
            if let Some(serial) = record.serial
                && state
                    .accepted
                    .as_ref()
                    .is_none_or(|accepted| accepted.serial <= serial)
            {
                state.accepted = Some(Accepted {
                    serial,
                    digest: record.digest.clone(),
                });
            }
        });
        if let Err(error) = store.prune() {
            tracing::warn!(%error, "old generations cannot be removed");
        }
    }

    /// The kernel does not have it, and will not.
    fn forget(&mut self, number: u64) {
        let Some(store) = &mut self.store else { return };
        store.settle(|state| state.intent = None);
        if let Err(error) = store.remove(number) {
            tracing::warn!(%error, "a generation that was never in force cannot be removed");
        }
    }

    /// Nothing is changed that cannot be recorded.
    fn recordable(&self) -> Result<(), Refusal> {
        self.recorder.ready().map_err(|error| {
            Refusal::Failed(format!("the audit record cannot be written: {error}"))
        })
    }

    fn expect(&self, terms: &Terms) -> Result<(), Refusal> {
        let state = self.kept()?.state();
        if let Some(pending) = &state.pending {
            return Err(Refusal::Conflict(format!(
                "generation {} waits to be confirmed: `edgefilter confirm` keeps it, `edgefilter rollback` goes back to \
                 generation {}",
                state.current, pending.undo_to
            )));
        }
        self.expect_generation(terms.if_generation)
    }

    fn expect_generation(&self, expected: Option<u64>) -> Result<(), Refusal> {
        let current = self.kept()?.state().current;
        match expected {
            Some(expected) if expected != current => Err(Refusal::Conflict(format!(
                "generation {current} is in force, not {expected}: look at what was changed (`edgefilter generations`), \
                 and push again"
            ))),
            _ => Ok(()),
        }
    }

    /// Whether enough people signed it. `fresh`: a manifest that is older than the last one accepted does not count.
    fn approvals(
        &self,
        bundle: &Bundle,
        approval: Option<&Approval>,
        fresh: bool,
    ) -> Result<Approvals, Refusal> {
        if let Some(error) = self.settings_error.as_ref().filter(|_| fresh) {
            return Err(Refusal::NotApproved(format!(
                "nobody knows how many signatures a policy needs: {error}"
            )));
        }
        let required = self.settings.require_signatures;
        if required == 0 {
            return Ok(Approvals::default());
        }
        let Some(path) = &self.settings.allowed_signers else {
            return Err(Refusal::NotApproved(
                "the daemon's settings ask for signatures and name no `allowed_signers`".to_owned(),
            ));
        };
        let accepted = self
            .store
            .as_ref()
            .and_then(|store| store.state().accepted.as_ref())
            .filter(|_| fresh);
        let approved = AllowedSigners::read(path)
            .map_err(|error| Refusal::NotApproved(error.to_string()))
            .and_then(|signers| {
                let now = SystemTime::now();
                approval::verify(bundle, approval, &signers, required, accepted, now)
                    .map_err(|error| Refusal::NotApproved(error.to_string()))
            })?;
        Ok(Approvals {
            serial: Some(approved.serial),
            signers: approved.signers,
        })
    }

    fn list(&self) -> Result<Generations, Refusal> {
        let store = self.kept()?;
        let state = store.state();
        Ok(Generations {
            current: state.current,
            pending: self.pending(),
            generations: store.list().map_err(failed)?,
        })
    }

    fn show(&self, number: u64) -> Result<GenerationFiles, Refusal> {
        let store = self.kept()?;
        Ok(GenerationFiles {
            generation: store.record(number).map_err(failed)?,
            bundle: store.bundle(number).map_err(failed)?,
        })
    }

    fn pending(&self) -> Option<PendingConfirm> {
        let left = self.confirm_in()?;
        let pending = self.store.as_ref()?.state().pending.as_ref()?;
        Some(PendingConfirm {
            undo_to: pending.undo_to,
            seconds_left: left.as_secs() + u64::from(left.subsec_nanos() > 0),
        })
    }

    /// Adds to the status what is known here.
    pub(super) fn describe(&self, status: &mut PolicyStatus) {
        status.path = self.file.path().display().to_string();
        status.pending = self.pending();
        if let Some(record) = &self.current {
            status.generation = record.number;
            status.record = Some(record.clone());
        }
        if self.file_error.is_some() {
            status.last_error.clone_from(&self.file_error);
        }
    }

    /// Digest of the policy in force.
    fn digest(&self) -> Option<String> {
        self.current.as_ref().map(|record| record.digest.clone())
    }

    fn kept(&self) -> Result<&Store, Refusal> {
        self.store.as_ref().ok_or_else(no_store)
    }

    fn kept_mut(&mut self) -> Result<&mut Store, Refusal> {
        self.store.as_mut().ok_or_else(no_store)
    }

    /// Records what the daemon did by itself.
    pub(super) fn tell(
        &self,
        actor: Actor,
        action: &str,
        subject: String,
        before: Option<String>,
        done: Result<&Generation, String>,
    ) {
        let (after, generation, approvals, outcome, why) = match done {
            Ok(record) => {
                let (digest, number) = (record.digest.clone(), record.number);
                let approvals = record.approvals.clone();
                (Some(digest), Some(number), approvals, Outcome::Done, None)
            }
            Err(why) => (before.clone(), None, Vec::new(), Outcome::Failed, Some(why)),
        };
        let event = Event {
            actor,
            action: action.to_owned(),
            subject,
            message: None,
            before,
            after,
            generation,
            approvals,
            outcome,
            why,
        };
        if let Err(error) = self.recorder.record(event, 0) {
            tracing::error!(%error, "this could not be recorded");
        }
    }
}

/// Compiles a policy for the links there are, into the idle tables, where nothing is judged by it.
async fn prepare(
    loaded: Loaded,
    mark: PolicyMark,
    engine: &mut Engine,
    watch: &mut Watch,
) -> Result<(Prepared, Peers), Refusal> {
    let (links, peers) = snapshot(watch, &loaded.policy)
        .await
        .map_err(|error| Refusal::Failed(error.to_string()))?;
    let prepared = engine
        .prepare(loaded, mark, links, &peers)
        .map_err(|error| Refusal::Unsound(format!("{error:#}")))?;
    Ok((prepared, peers))
}

/// Whose connections have to live on.
fn pusher(actor: &Actor, terms: &Terms) -> Pusher {
    match &actor.via {
        Via::Socket { pid, .. } => Pusher {
            pid: Some(*pid),
            remote: None,
            ssh_connection: terms.ssh_connection.clone(),
        },
        Via::Remote { address } => Pusher {
            remote: Some(*address),
            ..Pusher::default()
        },
        Via::Daemon { .. } => Pusher::default(),
    }
}

/// The first 64 bits of a digest in hex.
fn digest_word(digest: &str) -> u64 {
    digest
        .get(..16)
        .and_then(|text| u64::from_str_radix(text, 16).ok())
        .unwrap_or_default()
}

fn failed(error: StoreError) -> Refusal {
    match error {
        StoreError::Unknown { .. } => Refusal::Unknown(error.to_string()),
        other => Refusal::Failed(format!("{:#}", anyhow::Error::new(other))),
    }
}

fn no_store() -> Refusal {
    Refusal::Failed(
        "the state directory cannot be used, so nothing can be kept to go back to; the log says why"
            .to_owned(),
    )
}
