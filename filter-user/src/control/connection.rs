//! One client's connection and its limits: time to ask, size of the question, number of connections.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Connections at one time; more are closed at once.
pub(super) const CONNECTIONS: usize = 32;
/// Bytes a client may send.
pub(super) const REQUEST_BYTES: usize = 16 << 10;
/// Time until its request must have arrived.
pub(super) const REQUEST_TIME: Duration = Duration::from_secs(5);

/// A listener that keeps to the limits.
#[derive(Debug)]
pub(super) struct Limited {
    listener: UnixListener,
    permits: Arc<Semaphore>,
}

impl Limited {
    pub(super) fn new(listener: UnixListener) -> Self {
        Self {
            listener,
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
        }
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let (stream, address) = <UnixListener as Listener>::accept(&mut self.listener).await;
            match Arc::clone(&self.permits).try_acquire_owned() {
                Ok(permit) => return (Connection::new(stream, permit), address),
                Err(_) => {
                    tracing::debug!("a control connection more than {CONNECTIONS} was closed");
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A stream that ends with an error when its client asks too slowly or too much.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    deadline: Pin<Box<Sleep>>,
    received: usize,
    answered: bool,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: UnixStream, permit: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            deadline: Box::pin(sleep(REQUEST_TIME)),
            received: 0,
            answered: false,
            _permit: permit,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            this.received += buffer.filled().len() - before;
            if this.received > REQUEST_BYTES {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the request is too long",
                )));
            }
            return Poll::Ready(result);
        }
        if !this.answered {
            ready!(this.deadline.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.answered = true;
        Pin::new(&mut this.stream).poll_write(context, buffer)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.answered = true;
        Pin::new(&mut this.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
