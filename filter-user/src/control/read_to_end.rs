//! A stream that is read to its end although writing to it broke off.
//!
//! The daemon answers a request that is too long without reading all of it, and closes. hyper gives up at the first
//! write that fails; the reason would be lost with an answer that has already arrived.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Once a write has failed, no write ends any more; reading tells what became of the request.
#[derive(Debug)]
pub(super) struct ReadToEnd<S> {
    stream: S,
    broken: bool,
}

impl<S> ReadToEnd<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self {
            stream,
            broken: false,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadToEnd<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> ReadToEnd<S> {
    /// What a write comes to.
    fn unless_broken<T>(
        &mut self,
        write: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if !self.broken {
            match write(Pin::new(&mut self.stream)) {
                Poll::Ready(Err(_)) => self.broken = true,
                other => return other,
            }
        }
        // the reader wakes whoever waits: there is an answer or an end to be read
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadToEnd<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .unless_broken(|stream| stream.poll_write(context, buffer))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut()
            .unless_broken(|stream| stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.broken {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .unless_broken(|stream| stream.poll_write_vectored(context, buffers))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
