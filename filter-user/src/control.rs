//! The control socket: HTTP with JSON over a Unix socket in the run directory, for commands of the same host.
//!
//! Owns the protocol, both ends of it. It shows what the daemon hands it, asks it what it is asked, and must never hold
//! it up: every queue, request and number of connections has a limit.
//!
//! - `GET /v1/status`: [`Status`]; 503 until the daemon has one.
//! - `GET /v1/events?follow=BOOL&last=N`: sampled drops, one [`EventRecord`] a line: the last `N` of those kept, then,
//!   with `follow`, new ones as they come. A reader that is too slow is told what it missed: `{"lost":N}`.
//! - `GET /v1/scans?closed=N`: [`ScanList`]: open scans, and the last `N` of those closed.
//! - `GET /v1/scans?follow=true&last=N`: one [`Report`] a line, as with events.
//! - `GET /v1/scans/ID`: one [`ScanRecord`](crate::scans::record::ScanRecord).
//! - `GET /v1/blocks`: [`BlockList`].
//! - `POST /v1/blocks` with [`BlockOrder`], `DELETE /v1/blocks/SOURCE`: the
//!   [`BlockRecord`](crate::scans::record::BlockRecord) that is in force, or that was.
//!
//! - `POST /v1/plan`, `POST /v1/policy` with [`policy::Push`], `POST /v1/policy/rollback` with [`policy::Rollback`],
//!   `POST /v1/policy/confirm`: [`policy::Applied`] and the like.
//! - `GET /v1/generations`, `GET /v1/generations/NUMBER`: policies that were put in force.
//!
//! Whatever is refused is answered by `{"error": TEXT}`: 400 for what makes no sense, 404 for what is not there, 409 for a
//! source that must not be blocked, or for which there is no room, 503 for what cannot be answered now.

mod client;
mod connection;
mod feed;
mod lines;
pub mod policy;
mod request;
mod scans;
mod server;
mod socket;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::mpsc;

use crate::report::event::EventRecord;
use crate::report::scans::ScanStatus;
use crate::report::status::Status;
use crate::scans::record::Report;
use feed::Feed;

pub use client::{
    ClientError, Lines, block, blocks, events, reports, scan, scans, status, unblock,
};
pub use request::{Answer, Refusal, Request};
pub use scans::{BlockList, BlockOrder, ScanList, blockable};
pub use server::serve;
pub use socket::{bind, path};

/// Sampled drops, and reports, kept for readers that come later.
pub const RECENT_EVENTS: usize = feed::RECENT;

/// What the daemon shares with those who ask.
#[derive(Debug, Default)]
pub struct Shared {
    status: RwLock<Option<Arc<Status>>>,
    scans: RwLock<Option<ScanStatus>>,
    events: Feed<EventRecord>,
    reports: Feed<Report>,
    requests: RwLock<Option<mpsc::Sender<Request>>>,
    orders: RwLock<Option<mpsc::Sender<policy::Order>>>,
}

impl Shared {
    /// Nothing to show yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What `status` answers from now on. Its part about scans is that of [`Self::set_scans`].
    pub fn set_status(&self, status: Status) {
        *self.status.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(status));
    }

    /// What `status` says of scans from now on.
    pub fn set_scans(&self, scans: ScanStatus) {
        *self.scans.write().unwrap_or_else(PoisonError::into_inner) = Some(scans);
    }

    /// Keeps a sampled drop and hands it to all who follow. Never waits for them.
    pub fn publish(&self, event: EventRecord) {
        self.events.publish(Arc::new(event));
    }

    /// Keeps a report of a scan, a block or an alert and hands it to all who follow. Never waits for them.
    pub fn report(&self, report: Arc<Report>) {
        self.reports.publish(report);
    }

    /// Who wants sampled drops: those who follow, and the list of recent ones, which always does.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.events.followers() + 1
    }

    fn status(&self) -> Option<Status> {
        let status = self
            .status
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()?;
        let scans = self
            .scans
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Some(Status {
            scans,
            ..Arc::unwrap_or_clone(status)
        })
    }
}
