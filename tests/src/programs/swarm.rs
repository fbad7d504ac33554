//! BitTorrent-like peers: many hosts that exchange UDP datagrams with one, whether it takes part any more or not.
//!
//! Owns one socket for each peer. Must never send from any other address.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::netns::Namespace;

/// Where each peer listens.
pub const PORT: u16 = 6881;
/// A query of the distributed hash table (BEP 5), and an answer.
const QUERY: &[u8] = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
const ANSWER: &[u8] = b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re";
const PATIENCE: Duration = Duration::from_secs(3);

/// The peers; they answer whoever asks. End when dropped.
#[derive(Debug)]
pub struct Swarm {
    addresses: Vec<Ipv4Addr>,
    sockets: Arc<Vec<UdpSocket>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Swarm {
    /// A peer for each of `addresses`, which the namespace must have.
    pub fn start(namespace: &Namespace, addresses: Vec<Ipv4Addr>) -> Result<Self> {
        let sockets = namespace.inside(|| {
            addresses
                .iter()
                .map(|address| {
                    let socket = UdpSocket::bind((*address, PORT))?;
                    socket.set_nonblocking(true)?;
                    Ok(socket)
                })
                .collect::<std::io::Result<Vec<_>>>()
        })??;
        let (sockets, stop) = (Arc::new(sockets), Arc::new(AtomicBool::new(false)));
        let (answering, stopped) = (Arc::clone(&sockets), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 256];
            while !stopped.load(Ordering::Relaxed) {
                for socket in answering.iter() {
                    while let Ok((read, from)) = socket.recv_from(&mut buffer) {
                        if buffer[..read] == *QUERY {
                            // An answer that cannot be sent is a loss, which the other end counts.
                            let _ = socket.send_to(ANSWER, from);
                        }
                    }
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Ok(Self {
            addresses,
            sockets,
            stop,
            thread: Some(thread),
        })
    }

    /// Each peer asks `host`, which it remembers from earlier, `rounds` times.
    pub fn contact(&self, host: SocketAddr, rounds: u32) -> Result<u64> {
        let mut sent = 0;
        for _ in 0..rounds {
            for socket in self.sockets.iter() {
                socket.send_to(QUERY, host)?;
                sent += 1;
                if sent % 16 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
        Ok(sent)
    }

    /// Has a program on the host ask each peer from `port`; returns how many answered.
    pub fn ask_from(&self, host: &Namespace, port: u16) -> Result<usize> {
        let socket = host.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))??;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut answered = std::collections::BTreeSet::new();
        let mut buffer = [0; 256];
        for chunk in self.addresses.chunks(16) {
            for address in chunk {
                socket
                    .send_to(QUERY, (*address, PORT))
                    .with_context(|| format!("cannot ask {address}"))?;
            }
            let begin = Instant::now();
            while !chunk.iter().all(|peer| answered.contains(peer)) && begin.elapsed() < PATIENCE {
                if let Ok((read, SocketAddr::V4(from))) = socket.recv_from(&mut buffer)
                    && buffer[..read] == *ANSWER
                {
                    answered.insert(*from.ip());
                }
            }
        }
        Ok(answered.len())
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
