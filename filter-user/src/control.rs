//! The control socket: HTTP with JSON over a Unix socket in the run directory, for commands of the same host.
//!
//! Owns the protocol, both ends of it. It shows what the daemon hands it, asks it what it is asked, and must never hold
//! it up: every queue, request and number of connections has a limit.
//!
//! [`operations`] is the table of what may be asked, [`guard`] what stands before each row; docs/api.md tells it to
//! people and docs/openapi.json, which is made from the table, to programs.
//!
//! Whatever is refused is answered by `{"error": TEXT}`: 400 for what makes no sense, 403 for want of a role, 404 for what
//! is not there, 409 for what must not be done or for which there is no room, 413 for what is too long, 503 for what
//! cannot be answered now.

mod audit;
mod certificates;
mod client;
mod connection;
mod entries;
mod explain;
mod exposure;
mod feed;
mod guard;
mod lines;
mod listener;
mod metrics;
mod observe;
mod openapi;
mod operations;
mod peer;
pub mod policy;
mod read_to_end;
mod recorder;
mod remote;
mod replay;
mod request;
mod scans;
mod seats;
mod secured;
mod server;
mod socket;
mod target;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::mpsc::Receiver;

use crate::access::Directory;
use crate::audit::Log;
use crate::dataplane::Pins;
use crate::report::entries::EntryStatus;
use crate::report::event::EventRecord;
use crate::report::scans::ScanStatus;
use crate::report::status::{SettingsStatus, Status};
use crate::scans::record::Report;
use feed::Feed;
use peer::Names;
use recorder::Recorder;

pub use audit::{AuditList, AuditQuery, audit, audit_lines};
pub use client::{
    ClientError, Lines, block, blocks, events, reports, scan, scans, status, unblock,
};
pub use entries::{EntryRemoval, EntryRequest, add_entry, list_entries, remove_entry};
pub use explain::Asked;
pub use exposure::{Exposed, exposure};
pub use metrics::read as metrics;
pub use openapi::document as openapi;
pub use recorder::{Audited, Record};
pub use remote::Remote;
use request::Mailbox;
pub use request::{Answer, Ask, Refusal, Request};
pub use scans::{BlockList, BlockOrder, ScanList, blockable};
pub use secured::{Certificates, Secured};
pub use server::{serve, serve_remote};
pub use socket::{bind, open_to, path};
pub use target::Target;

/// Sampled drops, and reports, kept for readers that come later.
pub const RECENT_EVENTS: usize = feed::RECENT;

/// What the daemon shares with those who ask.
#[derive(Debug, Default)]
pub struct Shared {
    status: RwLock<Option<Arc<Status>>>,
    scans: RwLock<Option<ScanStatus>>,
    entry_counts: RwLock<Option<EntryStatus>>,
    events: Feed<EventRecord>,
    reports: Feed<Report>,
    requests: Mailbox<Request>,
    entries: Mailbox<EntryRequest>,
    orders: Mailbox<policy::Order>,
    questions: Mailbox<Asked>,
    directory: RwLock<Arc<Directory>>,
    names: Names,
    recorder: RwLock<Recorder>,
    audit: RwLock<Option<Arc<Log>>>,
    exposed: RwLock<Option<Arc<Exposed>>>,
    settings: RwLock<(Option<SettingsStatus>, Vec<String>)>,
    pins: RwLock<Option<Pins>>,
}

impl Shared {
    /// Nothing to show yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What `status` answers from now on. Its parts about scans and entries are those of [`Self::set_scans`] and
    /// [`Self::set_entries`].
    pub fn set_status(&self, status: Status) {
        *self.status.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(status));
    }

    /// What `status` says of scans from now on.
    pub fn set_scans(&self, scans: ScanStatus) {
        *self.scans.write().unwrap_or_else(PoisonError::into_inner) = Some(scans);
    }

    /// What `status` says of run-time entries from now on.
    pub fn set_entries(&self, entries: EntryStatus) {
        *self
            .entry_counts
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(entries);
    }

    /// Who has which role from now on, on connections that are open as well.
    pub fn set_directory(&self, directory: Directory) {
        *self
            .directory
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(directory);
        self.names.clear();
    }

    /// What `status` says of the daemon's own settings from now on, and what somebody should look at in them.
    pub fn set_settings(&self, settings: SettingsStatus, warnings: Vec<String>) {
        *self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = (Some(settings), warnings);
    }

    /// Where the kernel's counters are.
    pub fn set_pins(&self, pins: Pins) {
        *self.pins.write().unwrap_or_else(PoisonError::into_inner) = Some(pins);
    }

    /// Where control actions are recorded from now on. Until then they are not.
    pub fn record_with(&self, log: Arc<dyn Record>) {
        let mut recorder = self
            .recorder
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *recorder = recorder.with_log(log);
    }

    /// The same, with the record that is shown to who asks.
    pub fn set_audit(&self, log: Arc<Log>) {
        self.record_with(Arc::<Log>::clone(&log));
        *self.audit.write().unwrap_or_else(PoisonError::into_inner) = Some(log);
    }

    /// What `/v1/exposure` compares with from now on, worked out anew if this is another policy.
    pub fn expose(&self, fingerprint: &str, facts: impl FnOnce() -> Exposed) {
        let mut exposed = self.exposed.write().unwrap_or_else(PoisonError::into_inner);
        if exposed
            .as_ref()
            .is_none_or(|known| known.fingerprint != fingerprint)
        {
            *exposed = Some(Arc::new(facts()));
        }
    }

    fn exposed(&self) -> Option<Arc<Exposed>> {
        self.exposed
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Keeps a sampled drop and hands it to all who follow. Never waits for them.
    pub fn publish(&self, event: impl Into<Arc<EventRecord>>) {
        self.events.publish(event.into());
    }

    /// Keeps a report of a scan, a block or an alert and hands it to all who follow. Never waits for them.
    pub fn report(&self, report: Arc<Report>) {
        self.reports.publish(report);
    }

    /// From now on the caller is asked about scans and blocks.
    #[must_use]
    pub fn requests(&self) -> Receiver<Request> {
        self.requests.open()
    }

    /// From now on the caller is asked about run-time entries.
    #[must_use]
    pub fn entry_requests(&self) -> Receiver<EntryRequest> {
        self.entries.open()
    }

    /// Asks about scans and blocks.
    async fn ask<T>(&self, question: impl FnOnce(Answer<T>) -> Request) -> Result<T, Refusal> {
        self.requests.ask(question).await
    }

    /// Who wants sampled drops: those who follow, and the list of recent ones, which always does.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.events.followers() + 1
    }

    fn directory(&self) -> Arc<Directory> {
        Arc::clone(
            &self
                .directory
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn pins(&self) -> Option<Pins> {
        self.pins
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn unrecorded(&self) -> u64 {
        self.recorder().missing()
    }

    fn names(&self) -> &Names {
        &self.names
    }

    fn recorder(&self) -> Recorder {
        self.recorder
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn audit(&self) -> Option<Arc<Log>> {
        self.audit
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
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
        let entries = self
            .entry_counts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let (settings, warnings) = self
            .settings
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut status = Arc::unwrap_or_clone(status);
        status.warnings.extend(warnings);
        Some(Status {
            scans,
            entries,
            settings,
            ..status
        })
    }
}
