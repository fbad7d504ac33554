//! Many clients of one service, each with an address of its own: short HTTP connections, and knocks at ports that may be shut.
//!
//! Owns the connections. Must never retry: a request that is not answered is a loss.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::echo::Outcome;
use super::http::BODY;
use crate::netns::Namespace;

/// How long a connection may take, and then its answer: more than TCP's first two retransmissions.
const PATIENCE: i64 = 4;
/// Connections at the same time.
const THREADS: usize = 4;
/// So many losses end it.
const ENOUGH: usize = 10;

/// Fetches `/` of an HTTP server `count` times, each on a connection of its own, from each of `sources` by turns.
pub fn fetch(
    namespace: &Namespace,
    sources: &[Ipv4Addr],
    target: SocketAddrV4,
    count: u32,
) -> Result<Outcome> {
    let next = AtomicU32::new(0);
    let outcome = Mutex::new(Outcome::default());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let source = sources
                .get(number as usize % sources.len().max(1))
                .copied()
                .unwrap_or(Ipv4Addr::UNSPECIFIED);
            if number >= count || locked(&outcome).lost.len() >= ENOUGH {
                return;
            }
            let done = request(source, target);
            let mut outcome = locked(&outcome);
            match done {
                Ok(()) => outcome.answered += 1,
                Err(error) => outcome
                    .lost
                    .push(format!("request {number} from {source}: {error}")),
            }
        }
    };
    namespace.inside(|| {
        // A thread's children are in its namespace.
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(work);
            }
        });
    })?;
    Ok(outcome.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn locked(outcome: &Mutex<Outcome>) -> std::sync::MutexGuard<'_, Outcome> {
    outcome.lock().unwrap_or_else(PoisonError::into_inner)
}

fn request(source: Ipv4Addr, target: SocketAddrV4) -> io::Result<()> {
    let socket = tcp(source, SockFlag::empty())?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(target))?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(b"GET / HTTP/1.0\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") && answer.ends_with(BODY) {
        return Ok(());
    }
    Err(io::Error::other(format!("another answer: {answer:?}")))
}

/// Tries `ports` of `target` at the same time from `source` (0.0.0.0: any), and gives up after `patience`. Returns how many
/// of them accepted.
pub fn knock(
    namespace: &Namespace,
    source: Ipv4Addr,
    target: Ipv4Addr,
    ports: &[u16],
    patience: Duration,
) -> Result<usize> {
    namespace.inside(|| knock_here(source, target, ports, patience))?
}

fn knock_here(
    source: Ipv4Addr,
    target: Ipv4Addr,
    ports: &[u16],
    patience: Duration,
) -> Result<usize> {
    let mut sockets = Vec::new();
    for port in ports {
        let socket = tcp(source, SockFlag::SOCK_NONBLOCK)?;
        let to = SockaddrIn::from(SocketAddrV4::new(target, *port));
        match connect(socket.as_raw_fd(), &to) {
            Ok(()) | Err(Errno::EINPROGRESS) => sockets.push(TcpStream::from(socket)),
            Err(error) => return Err(error).with_context(|| format!("{source} to {target}")),
        }
    }
    std::thread::sleep(patience);
    let accepted = sockets.iter().filter(|socket| socket.peer_addr().is_ok());
    Ok(accepted.count())
}

fn tcp(source: Ipv4Addr, flags: SockFlag) -> nix::Result<OwnedFd> {
    let flags = flags | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    let patience = TimeVal::seconds(PATIENCE);
    setsockopt(&fd, sockopt::SendTimeout, &patience)?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &patience)?;
    if !source.is_unspecified() {
        let from = SockaddrIn::from(SocketAddrV4::new(source, 0));
        bind(fd.as_raw_fd(), &from)?;
    }
    Ok(fd)
}

/// Knocks at ports of a host again and again, as monitoring does.
#[derive(Debug)]
pub struct HealthChecks {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Result<u32>>>,
}

impl HealthChecks {
    /// Begins at once, then once each `period`.
    pub fn start(
        namespace: &Namespace,
        target: Ipv4Addr,
        ports: Vec<u16>,
        period: Duration,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = namespace.thread(move || {
            let mut rounds = 0;
            while !stopped.load(Ordering::Relaxed) {
                let begin = Instant::now();
                knock_here(Ipv4Addr::UNSPECIFIED, target, &ports, period / 4)?;
                rounds += 1;
                std::thread::sleep(period.saturating_sub(begin.elapsed()));
            }
            Ok(rounds)
        });
        Self { stop, thread }
    }

    /// Ends; returns how many rounds were made.
    pub fn finish(self) -> Result<u32> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?
    }
}
