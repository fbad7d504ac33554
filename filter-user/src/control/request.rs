//! What the control socket asks of the task that keeps scans and blocks, and how it waits for the answer of any task:
//! neither the number of questions nor the time is unlimited.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::scans::record::{BlockRecord, ScanRecord};

/// Questions that may wait.
const QUEUE: usize = 32;

/// Longest an answer may take; shorter than a command waits for the daemon.
#[cfg(not(test))]
const ANSWER_TIME: Duration = Duration::from_secs(3);
#[cfg(test)]
const ANSWER_TIME: Duration = Duration::from_millis(300);

/// Where an answer goes. Whoever asked may be gone: an error from `send` is of no interest.
pub type Answer<T> = oneshot::Sender<T>;

/// One question.
#[derive(Debug)]
pub enum Request {
    /// Open scans and closed ones that are remembered, oldest first.
    Scans(Answer<Vec<ScanRecord>>),
    /// One scan, by its id.
    Scan(String, Answer<Option<ScanRecord>>),
    /// What is blocked.
    Blocks(Answer<Vec<BlockRecord>>),
    /// Block a source.
    Block {
        /// An IPv4 address, an IPv6 address or an IPv6 prefix.
        source: IpNet,
        /// For how long; `None`: as long as the first block of a scan's source.
        ttl: Option<Duration>,
        /// The block as it is in force.
        answer: Answer<Result<BlockRecord, Refusal>>,
    },
    /// Take a block off.
    Unblock {
        /// The source as the block names it.
        source: IpNet,
        /// The block as it was.
        answer: Answer<Result<BlockRecord, Refusal>>,
    },
}

/// Why something asked for is not done. The text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be done with this source or for this time.
    #[error("{0}")]
    Wrong(String),
    /// There is no such scan or block.
    #[error("{0}")]
    Unknown(String),
    /// The source must never be blocked.
    #[error("{0}")]
    Protected(String),
    /// There is no room.
    #[error("{0}")]
    Full(String),
    /// Not now; later, perhaps.
    #[error("{0}")]
    NotNow(String),
    /// What was sent has errors.
    #[error("{0}")]
    Unsound(String),
    /// Not enough people approved it.
    #[error("{0}")]
    NotApproved(String),
    /// It does not go with what is in force.
    #[error("{0}")]
    Conflict(String),
    /// It was allowed, and went wrong.
    #[error("{0}")]
    Failed(String),
}

/// A kind of question, and who answers it.
pub trait Ask: Sized {
    /// What it is about, as in "scans are not followed yet".
    const ABOUT: &'static str;
    /// How many may wait.
    const QUEUE: usize = QUEUE;
    /// Longest an answer may take.
    const TIME: Duration = ANSWER_TIME;
}

impl Ask for Request {
    const ABOUT: &'static str = "scans";
}

/// Where questions of one kind go.
#[derive(Debug)]
pub struct Mailbox<Q> {
    sender: RwLock<Option<mpsc::Sender<Q>>>,
}

impl<Q> Default for Mailbox<Q> {
    fn default() -> Self {
        Self {
            sender: RwLock::default(),
        }
    }
}

impl<Q: Ask> Mailbox<Q> {
    /// From now on the caller is asked. Whoever was asked before gets no more questions.
    #[must_use]
    pub fn open(&self) -> mpsc::Receiver<Q> {
        let (sender, receiver) = mpsc::channel(Q::QUEUE);
        *self.sender.write().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Asks, and waits a moment for the answer.
    pub(super) async fn ask<T>(&self, question: impl FnOnce(Answer<T>) -> Q) -> Result<T, Refusal> {
        let not_now = |why: String| Refusal::NotNow(why);
        let about = Q::ABOUT;
        let gone = || not_now(format!("{about} are not followed any more"));
        let sender = self
            .sender
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or_else(|| {
                not_now(format!(
                    "{about} are not followed yet: the daemon is starting"
                ))
            })?;
        let (answer, answered) = oneshot::channel();
        sender
            .try_send(question(answer))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => {
                    not_now(format!("too many questions about {about} wait"))
                }
                mpsc::error::TrySendError::Closed(_) => gone(),
            })?;
        match timeout(Q::TIME, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(not_now("the answer took too long".to_owned())),
        }
    }
}
