//! The control socket: HTTP with JSON over a Unix socket in the run directory, for commands of the same host.
//!
//! Owns the protocol, both ends of it. It shows what the daemon hands it and must never hold the daemon up: every
//! queue, request and number of connections has a limit.
//!
//! - `GET /v1/status`: [`Status`]; 503 until the daemon has one.
//! - `GET /v1/events?follow=BOOL&last=N`: sampled drops, one [`EventRecord`] a line: the last `N` of those kept, then,
//!   with `follow`, new ones as they come. A reader that is too slow is told what it missed: `{"lost":N}`.

mod client;
mod connection;
mod server;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::broadcast;

use crate::report::event::EventRecord;
use crate::report::status::Status;

pub use client::{ClientError, Events, events, status};
pub use server::serve;
pub use socket::{bind, path};

/// Sampled drops kept for readers that come later.
pub const RECENT_EVENTS: usize = 256;

/// Sampled drops that may wait for one slow reader.
const QUEUE: usize = 1024;

/// What the daemon shares with those who ask.
#[derive(Debug)]
pub struct Shared {
    status: RwLock<Option<Arc<Status>>>,
    recent: Mutex<VecDeque<Arc<EventRecord>>>,
    events: broadcast::Sender<Arc<EventRecord>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    /// Nothing to show yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            status: RwLock::default(),
            recent: Mutex::default(),
            events: broadcast::Sender::new(QUEUE),
        }
    }

    /// What `status` answers from now on.
    pub fn set_status(&self, status: Status) {
        *self.status.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(status));
    }

    /// Keeps a sampled drop and hands it to all who follow. Never waits for them.
    pub fn publish(&self, event: EventRecord) {
        let event = Arc::new(event);
        let mut recent = self.recent();
        if recent.len() == RECENT_EVENTS {
            recent.pop_front();
        }
        recent.push_back(Arc::clone(&event));
        // an error means that nobody follows; sent under the lock, so that a new follower misses and repeats nothing
        let _ = self.events.send(event);
    }

    /// Who wants sampled drops: those who follow, and the list of recent ones, which always does.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.events.receiver_count() + 1
    }

    fn status(&self) -> Option<Arc<Status>> {
        self.status
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The last events, oldest first, and the ones to come.
    fn subscribe(
        &self,
        last: usize,
    ) -> (
        VecDeque<Arc<EventRecord>>,
        broadcast::Receiver<Arc<EventRecord>>,
    ) {
        let recent = self.recent();
        let skip = recent.len().saturating_sub(last);
        (
            recent.iter().skip(skip).cloned().collect(),
            self.events.subscribe(),
        )
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Arc<EventRecord>>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
