//! What the control socket asks of the task that keeps scans and blocks, and how it waits for the answer: neither the
//! number of questions nor the time is unlimited.

use std::sync::PoisonError;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Shared;
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

impl Shared {
    /// From now on the caller is asked about scans and blocks. Whoever was asked before gets no more questions.
    #[must_use]
    pub fn requests(&self) -> mpsc::Receiver<Request> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        *self
            .requests
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Asks, and waits a moment for the answer.
    pub(super) async fn ask<T>(
        &self,
        request: impl FnOnce(Answer<T>) -> Request,
    ) -> Result<T, Refusal> {
        let not_now = |why: &str| Refusal::NotNow(why.to_owned());
        let sender = self
            .requests
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or_else(|| not_now("scans are not followed yet: the daemon is starting"))?;
        let (answer, answered) = oneshot::channel();
        sender
            .try_send(request(answer))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => {
                    not_now("too many questions about scans and blocks wait")
                }
                mpsc::error::TrySendError::Closed(_) => not_now("scans are not followed any more"),
            })?;
        match timeout(ANSWER_TIME, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(not_now("scans are not followed any more")),
            Err(_) => Err(not_now("the answer took too long")),
        }
    }
}
