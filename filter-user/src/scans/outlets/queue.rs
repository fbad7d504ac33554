//! Reports that wait for one outlet, and what became of those before.
//!
//! Owns the limit. Must never block whoever pushes: the lock is held for a few moves of pointers only.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::OutletState;

/// Reports of one outlet. A worker takes some, and says what became of them; until then they count as waiting.
#[derive(Debug)]
pub(super) struct Queue<T> {
    name: &'static str,
    inner: Mutex<Inner<T>>,
    thread: Condvar,
    task: Notify,
}

/// A worker's right to the queue, until the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn(u64);

#[derive(Debug)]
struct Inner<T> {
    waiting: VecDeque<Arc<T>>,
    /// In the worker's hands.
    taken: Vec<Arc<T>>,
    limit: usize,
    turn: u64,
    closed: bool,
    sent: u64,
    shed: u64,
    error: Option<String>,
}

impl<T> Default for Inner<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            taken: Vec::new(),
            limit: 0,
            turn: 0,
            closed: false,
            sent: 0,
            shed: 0,
            error: None,
        }
    }
}

impl<T> Inner<T> {
    /// The oldest go first; those in the worker's hands cannot be called back.
    fn keep_limit(&mut self) {
        let room = self.limit.saturating_sub(self.taken.len());
        while self.waiting.len() > room {
            self.waiting.pop_front();
            self.shed += 1;
        }
    }

    fn give_back(&mut self) {
        for report in std::mem::take(&mut self.taken).into_iter().rev() {
            self.waiting.push_front(report);
        }
        self.keep_limit();
    }

    fn holds(&self, turn: Turn) -> bool {
        self.turn == turn.0
    }

    /// At most half of what may wait, so that what comes meanwhile sheds older reports and not itself.
    fn take(&mut self, most: usize) -> Vec<Arc<T>> {
        let half = (self.limit / 2).max(1);
        let most = most.min(half).min(self.waiting.len());
        self.taken = self.waiting.drain(..most).collect();
        self.taken.clone()
    }
}

impl<T> Queue<T> {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            inner: Mutex::default(),
            thread: Condvar::new(),
            task: Notify::new(),
        }
    }

    /// A new worker begins: whoever had the queue before loses it, and what that one had in hand waits again.
    pub fn begin(&self, limit: usize) -> Turn {
        let mut inner = self.lock();
        inner.turn += 1;
        inner.limit = limit.max(1);
        inner.error = None;
        inner.closed = false;
        inner.give_back();
        let turn = Turn(inner.turn);
        drop(inner);
        self.wake();
        turn
    }

    pub fn push(&self, report: Arc<T>) {
        let mut inner = self.lock();
        inner.waiting.push_back(report);
        inner.keep_limit();
        drop(inner);
        self.wake();
    }

    /// Waits for reports; `None`: it is over.
    pub fn take(&self, turn: Turn, most: usize) -> Option<Vec<Arc<T>>> {
        let mut inner = self.lock();
        while inner.holds(turn) && inner.waiting.is_empty() && !inner.closed {
            inner = self
                .thread
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        }
        (inner.holds(turn) && !inner.waiting.is_empty()).then(|| inner.take(most))
    }

    /// The same for a task.
    pub async fn take_async(&self, turn: Turn, most: usize) -> Option<Vec<Arc<T>>> {
        loop {
            let woken = self.task.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            {
                let mut inner = self.lock();
                if !inner.holds(turn) {
                    return None;
                }
                if !inner.waiting.is_empty() {
                    return Some(inner.take(most));
                }
                if inner.closed {
                    return None;
                }
            }
            woken.await;
        }
    }

    /// What was taken is where it should be.
    pub fn done(&self, turn: Turn) {
        let mut inner = self.lock();
        if !inner.holds(turn) {
            return;
        }
        inner.sent += inner.taken.len() as u64;
        inner.taken.clear();
        if inner.error.take().is_some() {
            tracing::info!(outlet = self.name, "reports get through again");
        }
    }

    /// What was taken waits again, but for the `sent` first ones.
    pub fn failed(&self, turn: Turn, sent: usize, error: String) {
        let mut inner = self.lock();
        if !inner.holds(turn) {
            return;
        }
        inner.sent += sent as u64;
        inner.taken.drain(..sent);
        inner.give_back();
        self.complain(&mut inner, error);
    }

    /// What was taken will never be accepted.
    pub fn refused(&self, turn: Turn, error: String) {
        let mut inner = self.lock();
        if !inner.holds(turn) {
            return;
        }
        inner.shed += inner.taken.len() as u64;
        inner.taken.clear();
        self.complain(&mut inner, error);
    }

    /// Waits before another try. False: it is over, or the queue is closed and nobody should wait for another try.
    pub fn pause(&self, turn: Turn, time: Duration) -> bool {
        let inner = self.lock();
        let (inner, _) = self
            .thread
            .wait_timeout_while(inner, time, |inner| inner.holds(turn) && !inner.closed)
            .unwrap_or_else(PoisonError::into_inner);
        inner.holds(turn) && !inner.closed
    }

    /// The same for a task.
    pub async fn pause_async(&self, turn: Turn, time: Duration) -> bool {
        let over = async {
            loop {
                let woken = self.task.notified();
                tokio::pin!(woken);
                woken.as_mut().enable();
                if !self.goes_on(turn) {
                    return;
                }
                woken.await;
            }
        };
        // either way: asked below
        let _ = tokio::time::timeout(time, over).await;
        self.goes_on(turn)
    }

    /// Nothing more comes; the worker ends once it has sent what waits, or failed to.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake();
    }

    /// The worker ends now.
    pub fn abandon(&self) {
        self.lock().turn += 1;
        self.wake();
    }

    pub fn left(&self) -> u64 {
        let inner = self.lock();
        (inner.waiting.len() + inner.taken.len()) as u64
    }

    pub fn state(&self) -> OutletState {
        let inner = self.lock();
        OutletState {
            name: self.name.to_owned(),
            ok: inner.error.is_none(),
            error: inner.error.clone(),
            sent: inner.sent,
            shed: inner.shed,
            waiting: (inner.waiting.len() + inner.taken.len()) as u64,
        }
    }

    fn goes_on(&self, turn: Turn) -> bool {
        let inner = self.lock();
        inner.holds(turn) && !inner.closed
    }

    fn complain(&self, inner: &mut Inner<T>, error: String) {
        if inner.error.as_ref() != Some(&error) {
            tracing::warn!(outlet = self.name, %error, "reports do not get through");
        }
        inner.error = Some(error);
    }

    fn wake(&self) {
        self.thread.notify_all();
        self.task.notify_waiters();
    }

    /// Nothing panics with the lock held, and what it guards is sound at every step.
    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
