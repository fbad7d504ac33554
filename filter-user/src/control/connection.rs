//! One client's connection and its limits: time to ask, size of the question, time to read the answer.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::peer::{Identity, Peer};
use super::seats::Seat;

/// Bytes a client may send before it is known who asks for what: the head of a request, and what comes with it.
const HEAD_BYTES: usize = 32 << 10;
/// Time until the head must have arrived.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(5);
/// Longest a client may take no byte of its answer.
#[cfg(not(test))]
const STALL_TIME: Duration = Duration::from_mins(1);
#[cfg(test)]
const STALL_TIME: Duration = Duration::from_secs(2);

/// What a connection may send, and until when. Whoever answers opens it further once the request is allowed.
#[derive(Debug)]
pub(super) struct Gate {
    opened: Instant,
    bytes: AtomicUsize,
    /// Milliseconds from `opened`.
    until: AtomicU64,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            bytes: AtomicUsize::new(HEAD_BYTES),
            until: AtomicU64::new(HEAD_TIME.as_millis() as u64),
        })
    }

    /// Lets so many bytes more in, for so long from now.
    pub(super) fn admit(&self, bytes: usize, time: Duration) {
        let until = (self.opened.elapsed() + time).as_millis() as u64;
        self.until.store(until, Ordering::Relaxed);
        self.bytes
            .store(HEAD_BYTES.saturating_add(bytes), Ordering::Relaxed);
    }

    fn deadline(&self) -> Instant {
        self.opened + Duration::from_millis(self.until.load(Ordering::Relaxed))
    }
}

/// A stream that ends with an error when its client asks too slowly or too much, or does not read.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    identity: Arc<Identity>,
    gate: Arc<Gate>,
    deadline: Pin<Box<Sleep>>,
    /// Runs while a write waits.
    stall: Option<Pin<Box<Sleep>>>,
    received: usize,
    answered: bool,
    _seat: Seat,
}

impl<S> Connection<S> {
    pub(super) fn new(stream: S, identity: Identity, seat: Seat) -> Self {
        let gate = Gate::new();
        Self {
            stream,
            identity: Arc::new(identity),
            deadline: Box::pin(sleep_until(gate.deadline())),
            gate,
            stall: None,
            received: 0,
            answered: false,
            _seat: seat,
        }
    }

    pub(super) fn peer(&self) -> Peer {
        Peer {
            identity: Arc::clone(&self.identity),
            gate: Arc::clone(&self.gate),
        }
    }

    /// What a write came to; one that waits too long is an error.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stall = None;
            return outcome;
        }
        let stall = self
            .stall
            .get_or_insert_with(|| Box::pin(sleep(STALL_TIME)));
        ready!(stall.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            this.received += buffer.filled().len() - before;
            if this.received > this.gate.bytes.load(Ordering::Relaxed) {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the request is too long",
                )));
            }
            return Poll::Ready(result);
        }
        if !this.answered {
            let deadline = this.gate.deadline();
            if this.deadline.deadline() != deadline {
                this.deadline.as_mut().reset(deadline);
            }
            ready!(this.deadline.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.answered = true;
        let outcome = Pin::new(&mut this.stream).poll_write(context, buffer);
        this.written(context, outcome)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_flush(context);
        this.written(context, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_shutdown(context);
        this.written(context, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.answered = true;
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(context, buffers);
        this.written(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
