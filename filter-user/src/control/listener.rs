//! Accepting connections on the control socket: who it is and whether there is a seat for them.

use std::io;
use std::sync::Arc;

use axum::serve::Listener;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};

use super::Shared;
use super::connection::Connection;
use super::peer::{self, Identity};
use super::seats::{Guest, Seats};

/// A listener that keeps to the limits.
#[derive(Debug)]
pub(super) struct Limited {
    listener: UnixListener,
    shared: Arc<Shared>,
    seats: Seats,
}

impl Limited {
    pub(super) fn new(listener: UnixListener, shared: Arc<Shared>) -> Self {
        Self {
            listener,
            shared,
            seats: Seats::default(),
        }
    }

    fn admit(&self, stream: UnixStream) -> Option<Connection<UnixStream>> {
        let who = match peer::credentials(&stream) {
            Ok(who) => who,
            Err(error) => {
                tracing::warn!(%error, "a control connection was closed: the kernel does not say whose it is");
                return None;
            }
        };
        let directory = self.shared.directory();
        let guest = if directory.is_trusted(who.uid) {
            Guest::Own
        } else if directory.of_process(&who).is_some() {
            Guest::Member(who.uid.to_string())
        } else {
            Guest::Stranger
        };
        let Some(seat) = self.seats.take(guest) else {
            tracing::debug!(uid = who.uid, "one control connection too many was closed");
            return None;
        };
        Some(Connection::new(stream, Identity::Process(who), seat))
    }
}

impl Listener for Limited {
    type Io = Connection<UnixStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = <UnixListener as Listener>::accept(&mut self.listener).await;
            if let Some(connection) = self.admit(stream) {
                return (connection, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
