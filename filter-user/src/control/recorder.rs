//! Writing requests into the record of control actions. A flood of the same refusal is one entry with a count.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Debug;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;

use crate::access::Actor;
use crate::audit::{Event, Log, Outcome};

/// Where events go.
pub trait Record: Debug + Send + Sync {
    /// Whether one could be written now.
    fn ready(&self) -> io::Result<()>;
    /// Writes one; `repeated` times the same beyond the first.
    fn record(&self, event: Event, repeated: u64) -> io::Result<()>;
}

impl Record for Log {
    fn ready(&self) -> io::Result<()> {
        self.check()
    }

    fn record(&self, event: Event, repeated: u64) -> io::Result<()> {
        self.append_repeated(event, repeated).map(drop)
    }
}

/// What a handler knows of a change, and puts into the extensions of its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// To what: a line for people.
    pub subject: String,
    /// What they said it is for.
    pub message: Option<String>,
    /// Digest of the policy in force before.
    pub before: Option<String>,
    /// And after.
    pub after: Option<String>,
    /// Generation of the policy in force after.
    pub generation: Option<u64>,
    /// Principals whose signatures counted.
    pub approvals: Vec<String>,
}

/// Why something was refused, in the extensions of the answer that says so.
#[derive(Clone, Debug)]
pub(super) struct Why(pub(super) String);

/// How long the same refusal of the same actor is one entry.
const REPEAT_TIME: Duration = Duration::from_secs(1);
/// Different refusals that are told apart within that time: those of one actor, and all.
const KINDS: usize = 16;
const REPEATS: usize = 256;

/// What makes two refusals the same. Who is refused too many different things has them counted together, by action; and
/// if there are too many of that kind, all are counted together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Key {
    actor: String,
    action: String,
    subject: String,
    failed: bool,
}

#[derive(Debug)]
struct Refused {
    since: Instant,
    event: Event,
    more: u64,
}

/// Refusals of the last second.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<HashMap<Key, Refused>>);

impl Repeats {
    /// True for the first of its kind, which is to be written at once.
    pub(super) fn is_first(&self, event: &Event, now: Instant) -> bool {
        let exact = Key {
            actor: event.actor.name.clone(),
            action: event.action.clone(),
            subject: event.subject.clone(),
            failed: event.outcome == Outcome::Failed,
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_actor = known.keys().filter(|key| key.actor == exact.actor).count();
        let key = if known.contains_key(&exact) || of_actor < KINDS && known.len() < REPEATS {
            exact
        } else if known.len() < 2 * REPEATS {
            Key {
                subject: String::new(),
                ..exact
            }
        } else {
            Key::default()
        };
        match known.entry(key) {
            Entry::Occupied(mut same) => {
                same.get_mut().more += 1;
                false
            }
            Entry::Vacant(free) => {
                free.insert(Refused {
                    since: now,
                    event: event.clone(),
                    more: 0,
                });
                true
            }
        }
    }

    /// Those whose time is over and that came again, with how many times.
    pub(super) fn over(&self, now: Instant) -> Vec<(Event, u64)> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .extract_if(|_, refused| now.duration_since(refused.since) >= REPEAT_TIME)
            .filter(|(_, refused)| refused.more > 0)
            .map(|(key, refused)| {
                let mut event = refused.event;
                if key.subject.is_empty() {
                    "several".clone_into(&mut event.subject);
                }
                (event, refused.more)
            })
            .collect()
    }
}

/// What happened, from the answer.
pub(super) fn event(
    actor: Actor,
    action: &str,
    subject: String,
    code: StatusCode,
    why: Option<Why>,
    audited: Option<Audited>,
) -> Event {
    let audited = audited.unwrap_or_default();
    let outcome = if code.is_success() {
        Outcome::Done
    } else if code.is_client_error() {
        Outcome::Refused
    } else {
        Outcome::Failed
    };
    let why = (outcome != Outcome::Done).then(|| why.map_or_else(|| code.to_string(), |why| why.0));
    Event {
        actor,
        action: action.to_owned(),
        subject: if audited.subject.is_empty() {
            subject
        } else {
            audited.subject
        },
        message: audited.message,
        before: audited.before,
        after: audited.after,
        generation: audited.generation,
        approvals: audited.approvals,
        outcome,
        why,
    }
}

/// The log, and what is to be said when it cannot be written.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorder {
    log: Option<Arc<dyn Record>>,
    /// Events that are missing in it.
    missing: Arc<AtomicU64>,
}

impl Recorder {
    /// The same with this log.
    pub(super) fn with_log(&self, log: Arc<dyn Record>) -> Self {
        Self {
            log: Some(log),
            missing: Arc::clone(&self.missing),
        }
    }

    /// How many events could not be written.
    pub(super) fn missing(&self) -> u64 {
        self.missing.load(Ordering::Relaxed)
    }

    /// Whether something that has to be recorded may be done.
    pub(super) async fn ready(&self) -> io::Result<()> {
        self.with(|log| log.ready()).await
    }

    /// Writes it; that it could not be written is said, since what it is about was done.
    pub(super) async fn write(&self, event: Event, repeated: u64) {
        if let Err(error) = self.with(move |log| log.record(event, repeated)).await {
            self.missing.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "a control action is missing in the audit record");
        }
    }

    /// The disk may be slow; the runtime has few threads.
    async fn with(
        &self,
        call: impl FnOnce(&dyn Record) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let Some(log) = self.log.clone() else {
            return Ok(());
        };
        tokio::task::spawn_blocking(move || call(&*log))
            .await
            .map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(actor: &str, subject: &str) -> Event {
        event(
            Actor {
                name: actor.to_owned(),
                ..Actor::daemon("start")
            },
            "block.add",
            subject.to_owned(),
            StatusCode::FORBIDDEN,
            None,
            None,
        )
    }

    #[test]
    fn a_flood_of_refusals_is_a_few_entries() {
        let (repeats, begin) = (Repeats::default(), Instant::now());
        let mut written = 0;
        for n in 0..100_000 {
            let event = refused("mallory", &n.to_string());
            written += u32::from(repeats.is_first(&event, begin));
        }
        assert_eq!(written, KINDS as u32 + 1);
        assert!(
            repeats.is_first(&refused("carol", "1"), begin),
            "others are not hidden"
        );
        assert!(!repeats.is_first(&refused("carol", "1"), begin));
        assert!(repeats.over(begin).is_empty(), "its time is not over");
        let later = begin + REPEAT_TIME;
        let mut over: Vec<_> = repeats
            .over(later)
            .into_iter()
            .map(|(event, more)| (event.actor.name, event.subject, more))
            .collect();
        over.sort();
        let expected = [
            ("carol".to_owned(), "1".to_owned(), 1),
            ("mallory".to_owned(), "several".to_owned(), 100_000 - 17),
        ];
        assert_eq!(over, expected);
        assert!(
            repeats.is_first(&refused("carol", "1"), later),
            "and begins anew"
        );

        for n in 0..10_000 {
            repeats.is_first(&refused(&n.to_string(), "x"), later);
        }
        assert!(
            repeats.0.lock().unwrap().len() <= 2 * REPEATS + 1,
            "bounded"
        );
    }
}
