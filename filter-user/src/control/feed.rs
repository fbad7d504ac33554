//! News for those who follow, and the latest of it for those who come later. Never waits for a reader.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

/// News kept for readers that come later.
pub(super) const RECENT: usize = 256;

/// News that may wait for one slow reader.
const QUEUE: usize = 1024;

/// One kind of news.
#[derive(Debug)]
pub(super) struct Feed<T> {
    recent: Mutex<VecDeque<Arc<T>>>,
    sender: broadcast::Sender<Arc<T>>,
}

impl<T> Default for Feed<T> {
    fn default() -> Self {
        Self {
            recent: Mutex::new(VecDeque::new()),
            sender: broadcast::Sender::new(QUEUE),
        }
    }
}

impl<T> Feed<T> {
    /// Keeps it and hands it to all who follow.
    pub(super) fn publish(&self, item: Arc<T>) {
        let mut recent = self.recent();
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(Arc::clone(&item));
        // an error means that nobody follows; sent under the lock, so that a new follower misses and repeats nothing
        let _ = self.sender.send(item);
    }

    /// The last ones, oldest first, and those to come.
    pub(super) fn subscribe(&self, last: usize) -> (VecDeque<Arc<T>>, broadcast::Receiver<Arc<T>>) {
        let recent = self.recent();
        let skip = recent.len().saturating_sub(last);
        (
            recent.iter().skip(skip).cloned().collect(),
            self.sender.subscribe(),
        )
    }

    /// How many follow.
    pub(super) fn followers(&self) -> usize {
        self.sender.receiver_count()
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Arc<T>>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
