//! A daemon over the network as a command sees it: its address, and how to tell that it is the right one.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificates;

/// A daemon over the network.
#[derive(Clone)]
pub struct Remote {
    address: String,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
}

impl Remote {
    /// `address` is `HOST:PORT`, `[ADDRESS]:PORT` for IPv6. The daemon has to show a certificate for HOST that `ca` signed;
    /// it is shown `certificate`.
    pub fn new(address: &str, ca: &Path, certificate: &Path, key: &Path) -> Result<Self> {
        let (host, port) = address
            .rsplit_once(':')
            .with_context(|| format!("{address:?} is not HOST:PORT"))?;
        port.parse::<u16>()
            .with_context(|| format!("{port:?} is no port"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .with_context(|| format!("{host:?} is neither a name nor an address"))?;
        Ok(Self {
            address: address.to_owned(),
            name,
            config: certificates::client(ca, certificate, key)?,
        })
    }

    pub(super) async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(&self.address).await?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        connector.connect(self.name.clone(), stream).await
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// Without the key.
impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&self.address).finish()
    }
}
