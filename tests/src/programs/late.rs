//! Servers whose answers come late: when nobody waits for them any more.
//!
//! Owns the answers: held until the test lets them go. Must never answer by itself.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::netns::{Namespace, wait_until};

/// Ports that such answers come from: DNS, NTP, QUIC.
pub const PORTS: [u16; 3] = [53, 123, 443];

/// UDP servers on `PORTS`, IPv4.
#[derive(Debug)]
pub struct LateServers {
    sockets: Vec<UdpSocket>,
    held: Vec<(usize, SocketAddr, Vec<u8>)>,
}

impl LateServers {
    /// Starts to listen.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        let sockets = namespace.inside(|| {
            PORTS
                .iter()
                .map(|port| {
                    let socket = UdpSocket::bind(("0.0.0.0", *port))?;
                    socket.set_nonblocking(true)?;
                    Ok(socket)
                })
                .collect::<std::io::Result<Vec<_>>>()
        })??;
        Ok(Self {
            sockets,
            held: Vec::new(),
        })
    }

    /// Has `client` ask `count` questions, by turns of each server, each from a port of its own, and waits until all of them
    /// are here. Nobody waits for the answers: the client's sockets are closed. Returns the ports they had.
    pub fn ask(&mut self, client: &Namespace, address: &str, count: usize) -> Result<Vec<u16>> {
        let address: IpAddr = address
            .parse()
            .with_context(|| format!("{address:?} is not an address"))?;
        let before = self.held.len();
        // All are open at once, so that no two have the same port.
        let asking = client.inside(|| {
            (0..count)
                .map(|number| {
                    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
                    let port = PORTS[number % PORTS.len()];
                    socket.send_to(&(number as u32).to_be_bytes(), (address, port))?;
                    Ok(socket)
                })
                .collect::<std::io::Result<Vec<_>>>()
        })??;
        wait_until(Duration::from_secs(5), || {
            self.take_in();
            self.held.len() == before + count
        })
        .with_context(|| {
            let came = self.held.len() - before;
            format!("{came} of {count} questions came")
        })?;
        let ports = asking
            .iter()
            .map(|socket| Ok(socket.local_addr()?.port()))
            .collect::<std::io::Result<Vec<u16>>>()?;
        Ok(ports)
    }

    /// Sends all answers, one every half millisecond; returns how many there were.
    pub fn release(&mut self) -> Result<usize> {
        let count = self.held.len();
        for (index, to, answer) in self.held.drain(..) {
            let socket = self.sockets.get(index).context("no such server")?;
            let sent = socket.send_to(&answer, to)?;
            ensure!(sent == answer.len(), "an answer was cut short");
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(count)
    }

    fn take_in(&mut self) {
        let mut buffer = [0; 64];
        for (index, socket) in self.sockets.iter().enumerate() {
            while let Ok((read, from)) = socket.recv_from(&mut buffer) {
                self.held.push((index, from, buffer[..read].to_vec()));
            }
        }
    }
}
