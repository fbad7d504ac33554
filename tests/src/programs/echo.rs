//! TCP and UDP echo services and the live conversations held with them.
//!
//! Owns threads that joined a namespace before they made their sockets. Must never retry: an answer
//! that does not come in time is a loss.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::netns::Namespace;

/// How long an answer may take before it counts as lost. More than TCP's first retransmissions, so
/// one dropped segment is not a lost connection, but a filtered one is.
const PATIENCE: Duration = Duration::from_secs(3);
/// So many losses end a set of conversations: the verdict is clear, and each one cost its patience.
const ENOUGH: usize = 10;
const PAUSE: Duration = Duration::from_millis(20);
const TICK: Duration = Duration::from_millis(100);

/// A service on a thread; ends when dropped.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Echo {
    /// Sends back what it gets on each TCP connection, IPv4 and IPv6.
    pub fn tcp(namespace: &Namespace, port: u16) -> Result<Self> {
        let listener = namespace.inside(|| TcpListener::bind(("::", port)))??;
        listener.set_nonblocking(true)?;
        Ok(Self::run(namespace, move |stop| {
            let mut connections = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let stop = Arc::clone(&stop);
                        connections.push(std::thread::spawn(move || echo_stream(stream, &stop)));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
            for connection in connections {
                // A connection that ended with an error is seen, and counted, by the other end.
                let _ = connection.join();
            }
        }))
    }

    /// Sends back each datagram; the first byte is how many tenths of a second to wait before.
    pub fn udp(namespace: &Namespace, port: u16) -> Result<Self> {
        let socket = namespace.inside(|| UdpSocket::bind(("::", port)))??;
        socket.set_read_timeout(Some(Duration::from_millis(5)))?;
        Ok(Self::run(namespace, move |stop| {
            let mut late: Vec<(Instant, Vec<u8>, SocketAddr)> = Vec::new();
            let mut buffer = [0_u8; 2048];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((read, from)) = socket.recv_from(&mut buffer) {
                    let delay = TICK * u32::from(buffer[0]);
                    late.push((Instant::now() + delay, buffer[..read].to_vec(), from));
                }
                let now = Instant::now();
                late.retain(|(due, data, to)| {
                    if *due > now {
                        return true;
                    }
                    // An answer that cannot be sent is a loss, which the other end counts.
                    let _ = socket.send_to(data, to);
                    false
                });
            }
        }))
    }

    fn run(namespace: &Namespace, work: impl FnOnce(Arc<AtomicBool>) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        Self {
            stop,
            thread: Some(namespace.thread(move || work(stopped))),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a set of live conversations came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Answers that came.
    pub answered: u64,
    /// One line for each answer that did not.
    pub lost: Vec<String>,
}

/// Many conversations kept going by one thread: ask on all, then wait for all answers, again and
/// again.
#[derive(Debug)]
pub struct Conversations {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<Outcome>>>,
}

impl Conversations {
    /// Opens `count` TCP connections to an `Echo::tcp`.
    pub fn tcp(namespace: &Namespace, address: &str, port: u16, count: usize) -> Result<Self> {
        let target = target(address, port)?;
        let streams = namespace.inside(|| {
            (0..count)
                .map(|_| connect(target))
                .collect::<io::Result<Vec<_>>>()
        })?;
        let mut streams =
            streams.with_context(|| format!("cannot open {count} connections to {target}"))?;
        Ok(Self::run(namespace, move |index, round, outcome| {
            let Some(stream) = streams.get_mut(index) else {
                return false;
            };
            let asked = round.to_be_bytes();
            let mut answer = [0_u8; 8];
            let done = stream
                .write_all(&asked)
                .and_then(|()| stream.read_exact(&mut answer));
            record(outcome, done.map(|()| answer == asked), || {
                format!("tcp {target} #{index} round {round}")
            });
            true
        }))
    }

    /// Opens `count` UDP sockets to an `Echo::udp`, each answer delayed by `tenths` of a second.
    pub fn udp(
        namespace: &Namespace,
        address: &str,
        port: u16,
        count: usize,
        tenths: u8,
    ) -> Result<Self> {
        let target = target(address, port)?;
        let sockets = namespace.inside(|| {
            (0..count)
                .map(|_| bind(target))
                .collect::<io::Result<Vec<_>>>()
        })??;
        Ok(Self::run_in_step(
            namespace,
            sockets,
            move |socket, round| {
                let mut asked = [0_u8; 9];
                asked[0] = tenths;
                asked[1..].copy_from_slice(&round.to_be_bytes());
                socket.send(&asked).map(drop)
            },
            target,
            TICK * u32::from(tenths),
        ))
    }

    /// Rounds done so far.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Ends after the round at work.
    pub fn finish(mut self) -> Result<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("already finished")?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// One conversation after the other; `step` answers false past the last.
    fn run(
        namespace: &Namespace,
        mut step: impl FnMut(usize, u64, &mut Outcome) -> bool + Send + 'static,
    ) -> Self {
        Self::spawn(namespace, move |round, outcome| {
            let mut index = 0;
            while outcome.lost.len() < ENOUGH && step(index, round, outcome) {
                index += 1;
            }
        })
    }

    /// All ask first, so that every answer of a round is outstanding at the same time.
    fn run_in_step(
        namespace: &Namespace,
        sockets: Vec<UdpSocket>,
        ask: impl Fn(&UdpSocket, u64) -> io::Result<()> + Send + 'static,
        target: SocketAddr,
        delay: Duration,
    ) -> Self {
        Self::spawn(namespace, move |round, outcome| {
            let asked: Vec<io::Result<()>> =
                sockets.iter().map(|socket| ask(socket, round)).collect();
            let deadline = Instant::now() + delay + PATIENCE;
            for (index, (socket, asked)) in sockets.iter().zip(asked).enumerate() {
                let done = asked.and_then(|()| wait_for(socket, round, deadline));
                record(outcome, done, || {
                    format!("udp {target} #{index} round {round}")
                });
            }
        })
    }

    fn spawn(
        namespace: &Namespace,
        mut round: impl FnMut(u64, &mut Outcome) + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicU64::new(0));
        let (stopped, done) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = namespace.thread(move || {
            let mut outcome = Outcome::default();
            while !stopped.load(Ordering::Relaxed) {
                round(done.load(Ordering::Relaxed), &mut outcome);
                done.fetch_add(1, Ordering::Relaxed);
                if outcome.lost.len() >= ENOUGH {
                    break;
                }
                std::thread::sleep(PAUSE);
            }
            outcome
        });
        Self {
            stop,
            rounds,
            thread: Some(thread),
        }
    }
}

impl Drop for Conversations {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn record(outcome: &mut Outcome, done: io::Result<bool>, what: impl Fn() -> String) {
    match done {
        Ok(true) => outcome.answered += 1,
        Ok(false) => outcome
            .lost
            .push(format!("{}: another answer than asked for", what())),
        Err(error) => outcome.lost.push(format!("{}: {error}", what())),
    }
}

/// Reads answers until the one of `round`: an older one, given up before, is no answer.
fn wait_for(socket: &UdpSocket, round: u64, deadline: Instant) -> io::Result<bool> {
    let mut answer = [0_u8; 64];
    loop {
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        socket.set_read_timeout(Some(left))?;
        let read = socket.recv(&mut answer)?;
        if answer[..read].get(1..) == Some(round.to_be_bytes().as_slice()) {
            return Ok(true);
        }
    }
}

fn echo_stream(mut stream: TcpStream, stop: &AtomicBool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut buffer = [0_u8; 4096];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => stream.write_all(&buffer[..read])?,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn bind(target: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if target.is_ipv6() {
        ([0_u16; 8], 0).into()
    } else {
        ([0_u8; 4], 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(target)?;
    Ok(socket)
}

fn target(address: &str, port: u16) -> Result<SocketAddr> {
    let address: IpAddr = address
        .parse()
        .with_context(|| format!("{address:?} is not an address"))?;
    Ok(SocketAddr::new(address, port))
}
