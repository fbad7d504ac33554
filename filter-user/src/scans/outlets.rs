//! Where scans, blocks and alerts are told: a file, the system log, an HTTP receiver, the host's firewall.
//!
//! Owns a bounded queue and a worker for each. Must never make the caller wait, whatever a disk, a receiver or `nft` does,
//! and never grow beyond the queues' limits: the oldest report is shed then, and counted.

mod file;
pub mod nft;
mod queue;
mod stream;
mod syslog;
mod webhook;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::queue::Queue;
use super::record::Report;
use crate::policy::Reporting;

pub use self::stream::FileStream;
pub use self::webhook::{Pace, SIGNATURE_HEADER, TIMESTAMP_HEADER, signature};

/// Reports that may wait for the file and for the system log. The webhook's limit is the policy's.
pub const QUEUE: usize = 4096;

/// How one outlet does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutletState {
    /// `file`, `syslog`, `webhook`
    pub name: String,
    /// What was last tried worked.
    pub ok: bool,
    /// Why it did not.
    pub error: Option<String>,
    /// Reports handed over since the daemon started.
    pub sent: u64,
    /// Reports lost since the daemon started: the queue was full, or the receiver refused them for good.
    pub shed: u64,
    /// Reports that wait.
    pub waiting: u64,
}

/// What tests set otherwise.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the system log listens.
    pub syslog: PathBuf,
    /// How soon a webhook is tried again.
    pub pace: Pace,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            syslog: PathBuf::from("/dev/log"),
            pace: Pace::default(),
        }
    }
}

/// The outlets of a policy but nftables, which is told of blocks and not of reports: see [`nft`].
#[derive(Debug)]
pub struct Outlets {
    options: Options,
    running: Vec<Outlet>,
}

/// What makes a queue worth keeping: reports that wait for one target are nothing for another.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    File(PathBuf),
    Syslog(PathBuf),
    Webhook(String),
}

impl Target {
    fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Syslog(_) => "syslog",
            Self::Webhook(_) => "webhook",
        }
    }
}

#[derive(Debug)]
struct Outlet {
    target: Target,
    queue: Arc<Queue<Report>>,
}

impl Outlets {
    /// Starts what the policy asks for. Within a Tokio runtime.
    #[must_use]
    pub fn start(reporting: &Reporting) -> Self {
        Self::start_with(reporting, Options::default())
    }

    /// The same with other options.
    #[must_use]
    pub fn start_with(reporting: &Reporting, options: Options) -> Self {
        let mut outlets = Self {
            options,
            running: Vec::new(),
        };
        outlets.replace(reporting);
        outlets
    }

    /// Goes on as another policy asks: the webhook's key is read again, and what waits for a target that stays is kept.
    /// Within a Tokio runtime.
    pub fn replace(&mut self, reporting: &Reporting) {
        let mut former = std::mem::take(&mut self.running);
        let mut begin = |target: Target, limit: usize| {
            let same = former.iter().position(|outlet| outlet.target == target);
            let queue = match same {
                Some(index) => former.swap_remove(index).queue,
                None => Arc::new(Queue::new(target.name())),
            };
            let turn = queue.begin(limit);
            self.running.push(Outlet {
                target,
                queue: Arc::clone(&queue),
            });
            (queue, turn)
        };
        if let Some(file) = &reporting.file {
            let (queue, turn) = begin(Target::File(file.path.clone()), QUEUE);
            file::start(file.clone(), queue, turn);
        }
        if reporting.syslog {
            let path = self.options.syslog.clone();
            let (queue, turn) = begin(Target::Syslog(path.clone()), QUEUE);
            syslog::start(path, queue, turn);
        }
        if let Some(webhook) = &reporting.webhook {
            let limit = usize::try_from(webhook.queue).unwrap_or(QUEUE);
            let (queue, turn) = begin(Target::Webhook(webhook.url.clone()), limit);
            webhook::start(webhook.clone(), self.options.pace, queue, turn);
        }
        for outlet in former {
            outlet.queue.close();
        }
    }

    /// Hands a report to every outlet. Never waits.
    pub fn send(&self, report: &Arc<Report>) {
        for outlet in &self.running {
            outlet.queue.push(Arc::clone(report));
        }
    }

    /// How each does.
    #[must_use]
    pub fn state(&self) -> Vec<OutletState> {
        let running = self.running.iter();
        running.map(|outlet| outlet.queue.state()).collect()
    }

    /// Ends all: what waits is still sent, as far as `limit` allows. Returns how many reports were left.
    pub async fn finish(self, limit: Duration) -> u64 {
        let end = Instant::now() + limit;
        for outlet in &self.running {
            outlet.queue.close();
        }
        loop {
            let left: u64 = self.running.iter().map(|outlet| outlet.queue.left()).sum();
            if left == 0 || Instant::now() >= end {
                for outlet in &self.running {
                    outlet.queue.abandon();
                }
                return left;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A dropped value ends its workers once they have sent what waits, or failed to.
impl Drop for Outlets {
    fn drop(&mut self) {
        for outlet in &self.running {
            outlet.queue.close();
        }
    }
}

#[cfg(test)]
#[path = "outlets/tests.rs"]
mod tests;
