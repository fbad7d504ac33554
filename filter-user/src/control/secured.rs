//! Control over the network: TLS with client certificates. Whoever has no sound certificate gets as far as the handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::serve::Listener;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connection::Connection;
use super::peer::Identity;
use super::seats::{Guest, Seats};
use super::{Shared, certificates};
use crate::settings;

/// Handshakes at one time; more connections are closed at once.
const HANDSHAKES: usize = 32;
/// Longest handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// The certificates in force. Connections that are open keep those they began with.
#[derive(Clone, Debug)]
pub struct Certificates(Arc<RwLock<Arc<ServerConfig>>>);

impl Certificates {
    /// Reads the files.
    pub fn read(files: &settings::Remote) -> Result<Self> {
        Ok(Self(Arc::new(RwLock::new(certificates::server(files)?))))
    }

    /// Reads them again; if that fails, those in force stay.
    pub fn reread(&self, files: &settings::Remote) -> Result<()> {
        let fresh = certificates::server(files)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    fn acceptor(&self) -> TlsAcceptor {
        let config = self.0.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&config))
    }
}

/// Connections whose other end is known.
#[derive(Debug)]
pub struct Secured {
    known: mpsc::Receiver<(Connection<TlsStream<TcpStream>>, SocketAddr)>,
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Secured {
    /// Listens, and answers nobody yet.
    pub async fn bind(
        address: SocketAddr,
        certificates: Certificates,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} for control"))?;
        let address = listener.local_addr().context("no local address")?;
        let (sender, known) = mpsc::channel(HANDSHAKES);
        let accepting = tokio::spawn(accept(listener, certificates, shared, sender));
        Ok(Self {
            known,
            address,
            accepting,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Listener for Secured {
    type Io = Connection<TlsStream<TcpStream>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.known.recv().await {
            Some(connection) => connection,
            // the task that accepts never ends by itself
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn accept(
    mut listener: TcpListener,
    certificates: Certificates,
    shared: Arc<Shared>,
    known: mpsc::Sender<(Connection<TlsStream<TcpStream>>, SocketAddr)>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let seats = Seats::default();
    loop {
        let (stream, address) = <TcpListener as Listener>::accept(&mut listener).await;
        let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
            tracing::debug!(%address, "one handshake too many was closed");
            continue;
        };
        let acceptor = certificates.acceptor();
        let (shared, seats, known) = (Arc::clone(&shared), seats.clone(), known.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let stream = match timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::info!(%address, %error, "control over the network was refused");
                    return;
                }
                Err(_) => {
                    tracing::debug!(%address, "a handshake took too long");
                    return;
                }
            };
            if let Some(connection) = admit(stream, address, &shared, &seats) {
                // an error means that nobody answers any more
                let _ = known.send((connection, address)).await;
            }
        });
    }
}

fn admit(
    stream: TlsStream<TcpStream>,
    address: SocketAddr,
    shared: &Shared,
    seats: &Seats,
) -> Option<Connection<TlsStream<TcpStream>>> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let names = certificates::names(certificate);
    let guest = match shared
        .directory()
        .of_certificate(names.iter().map(String::as_str))
    {
        Some(_) => Guest::Member(names.first().cloned().unwrap_or_default()),
        None => Guest::Stranger,
    };
    let seat = seats.take(guest)?;
    Some(Connection::new(
        stream,
        Identity::Certificate { names, address },
        seat,
    ))
}
