//! Which policy a daemon that starts puts in force.

use anyhow::{Result, bail};

use super::{Candidate, Policies, digest_word};
use crate::access::Actor;
use crate::control::Refusal;
use crate::control::policy::Terms;
use crate::dataplane::PolicyMark;
use crate::generations::{Generation, Origin};
use crate::policy::{self, Loaded};

/// The policy to start with.
pub(in crate::daemon) struct Choice {
    pub(in crate::daemon) loaded: Loaded,
    pub(in crate::daemon) mark: PolicyMark,
    /// What is kept once it is in force.
    pub(in crate::daemon) then: Then,
}

/// What is known of the policy to start with.
pub(in crate::daemon) enum Then {
    /// It was in force before.
    Kept(Generation),
    /// It is a new generation.
    New(Generation, Option<String>),
    /// It cannot be kept.
    Unkept,
}

impl Policies {
    /// Chooses. `kernel`: the policy that the kernel holds, if it holds one.
    ///
    /// The policy file counts if it says something else than when it was last read; otherwise whatever was put in force
    /// since. Without a sound policy file the last policy in force counts.
    pub(in crate::daemon) fn choose(&mut self, kernel: Option<PolicyMark>) -> Result<Choice> {
        self.recover(kernel);
        if let Some(left) = self.confirm_in() {
            if left.is_zero() {
                return self.start_undone();
            }
            if let Some(choice) = self.start_kept() {
                return Ok(choice);
            }
        }
        match self.read_file() {
            Ok((candidate, digest)) => {
                if !self.is_news(&digest)
                    && let Some(choice) = self.start_kept()
                {
                    return Ok(choice);
                }
                Ok(self.start_new(candidate, digest))
            }
            Err(error) => {
                let Some(choice) = self.start_kept() else {
                    bail!("{error}");
                };
                let path = self.file.path().display();
                tracing::error!(%path, %error, "the policy file is not in force; the last good policy is");
                self.file_error = Some(error.to_string());
                Ok(choice)
            }
        }
    }

    /// What was under way when the daemon before us ended: the kernel says whether it is in force.
    fn recover(&mut self, kernel: Option<PolicyMark>) {
        let Some(store) = &mut self.store else { return };
        let Some(intent) = store.state().intent.clone() else {
            return;
        };
        let record = store.record(intent.generation).ok();
        let expected = record.as_ref().map(|record| PolicyMark {
            generation: record.number,
            digest: digest_word(&record.digest),
        });
        let (generation, held) = (intent.generation, kernel.is_some() && kernel == expected);
        if held {
            tracing::warn!(
                generation,
                "the daemon before ended just after this generation was in force; it stays"
            );
        } else {
            tracing::warn!(
                generation,
                "the daemon before ended just before this generation was in force; it is dropped"
            );
        }
        let before = self.current.as_ref().map(|record| record.digest.clone());
        store.settle(|state| {
            state.intent = None;
            if held {
                state.current = intent.generation;
                state.pending = intent.pending;
            }
        });
        if !held && let Err(error) = store.remove(generation) {
            tracing::warn!(%error, "a generation that was never in force cannot be removed");
        }
        let done = match &record {
            Some(record) if held => Ok(record),
            _ => Err("the daemon ended before it was in force".to_owned()),
        };
        self.tell(
            Actor::daemon("start"),
            "policy.recover",
            format!("generation {generation}"),
            before,
            done,
        );
        if held {
            self.current = record;
        }
    }

    fn note_start(&self, action: &str, before: Option<String>, record: &Generation) {
        let subject = format!("generation {}", record.number);
        self.tell(Actor::daemon("start"), action, subject, before, Ok(record));
    }

    /// The policy file, checked.
    pub(super) fn read_file(&mut self) -> Result<(Candidate, String), Refusal> {
        let read = self.file.read()?;
        for warning in &read.loaded.warnings {
            tracing::warn!("{warning}");
        }
        let approved = self.approvals(&read.bundle, read.approval.as_ref(), true)?;
        let digest = read.bundle.digest();
        let candidate = Candidate {
            loaded: read.loaded,
            bundle: read.bundle,
            approval: read.approval,
            approved,
            actor: Actor::daemon("start"),
            origin: Origin::File,
            message: None,
        };
        Ok((candidate, digest))
    }

    fn is_news(&self, digest: &str) -> bool {
        let source = self
            .store
            .as_ref()
            .and_then(|store| store.state().source.as_ref());
        source.is_none_or(|source| source.path != self.file.path() || source.digest != digest)
    }

    /// The generation in force, if it can still be loaded.
    fn start_kept(&mut self) -> Option<Choice> {
        let store = self.store.as_ref()?;
        let current = store.state().current;
        if current == 0 {
            return None;
        }
        let loaded = || -> Result<(Loaded, Generation)> {
            let bundle = store.bundle(current)?;
            let approval = store.approval(current)?;
            self.approvals(&bundle, approval.as_ref(), false)?;
            Ok((policy::load_bundle(&bundle)?, store.record(current)?))
        };
        match loaded() {
            Ok((loaded, record)) => Some(Choice {
                loaded,
                mark: mark(&record),
                then: Then::Kept(record),
            }),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(
                    generation = current,
                    error,
                    "cannot go on with the policy that was in force"
                );
                None
            }
        }
    }

    /// What waited to be confirmed was not, while no daemon ran.
    fn start_undone(&mut self) -> Result<Choice> {
        let Some((current, to)) = self.store.as_ref().and_then(|store| {
            let state = store.state();
            Some((state.current, state.pending.as_ref()?.undo_to))
        }) else {
            bail!("nothing waits to be confirmed");
        };
        let message = Some(format!("generation {current} was not confirmed in time"));
        let candidate = self.again(to, Actor::daemon("timer"), Origin::Undo(current), message)?;
        let digest = candidate.bundle.digest();
        tracing::warn!(
            undone = current,
            "not confirmed in time: back to generation {to}"
        );
        Ok(self.start_new(candidate, digest))
    }

    /// A policy that was not in force before; it is kept if that is possible.
    fn start_new(&mut self, candidate: Candidate, digest: String) -> Choice {
        let before = self.current.as_ref().map(|record| record.digest.clone());
        let record = candidate.record(digest);
        let Candidate {
            loaded,
            bundle,
            approval,
            ..
        } = candidate;
        match self.keep(
            record.clone(),
            &bundle,
            approval.as_ref(),
            &Terms::default(),
        ) {
            Ok((record, _)) => Choice {
                loaded,
                mark: mark(&record),
                then: Then::New(record, before),
            },
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                tracing::error!(
                    error,
                    "the policy is put in force, but cannot be kept to go back to"
                );
                Choice {
                    loaded,
                    mark: PolicyMark {
                        generation: 0,
                        ..mark(&record)
                    },
                    then: Then::Unkept,
                }
            }
        }
    }

    /// What was chosen is in force.
    pub(in crate::daemon) fn started(&mut self, then: Then) {
        match then {
            Then::Kept(record) => {
                self.note_start("daemon.start", Some(record.digest.clone()), &record);
                self.current = Some(record);
                self.note_file();
            }
            Then::New(record, before) => {
                let action = match record.origin {
                    Origin::Undo(_) => "policy.undo",
                    _ => "policy.load",
                };
                self.note_start(action, before, &record);
                self.settle(&record, None);
                self.note_file();
            }
            Then::Unkept => {}
        }
    }
}

/// What the kernel keeps beside the tables of a generation.
pub(super) fn mark(record: &Generation) -> PolicyMark {
    PolicyMark {
        generation: record.number,
        digest: digest_word(&record.digest),
    }
}
