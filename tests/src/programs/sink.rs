//! Counts marked packets where they turn up: on a link behind the filter, or in a raw socket of the stack.
//!
//! Owns what the packets wait in until somebody asks: room for some 200,000 of them. Says how many it lost itself, so that a
//! loss of its own is never taken for a verdict of the filter. Has no thread: whoever sends as fast as the packets arrive
//! asks after each few, and nobody has to be woken up. Must never judge.

use std::fmt;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::marker::{self, KINDS};
use crate::netns::Namespace;
use crate::netns::ring::Ring;

/// Of each sink, the sequence numbers of so many packets are kept.
const REMEMBERED: usize = 200_000;
/// Receive buffer of a raw socket, in bytes.
static BUFFER: libc::c_int = 512 << 20;
/// Datagrams of one call.
const BATCH: usize = 64;
const DATAGRAM: usize = 192;

/// What a packet is counted as: its kind and its sequence number, or `None` for a packet that is none of ours.
pub type Classify = dyn FnMut(&[u8]) -> Option<(u32, u32)> + Send;

/// What arrived so far.
pub struct Sink(Mutex<Inner>);

struct Inner {
    source: Source,
    counts: Vec<u64>,
    remembered: Vec<(u32, u32)>,
}

enum Source {
    Link(Ring, Box<Classify>),
    Stack([OwnedFd; 2], Buffers),
}

impl fmt::Debug for Sink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sink").finish_non_exhaustive()
    }
}

impl Sink {
    /// Counts marked frames that come in on `link`. XDP has judged them by then; TC has not.
    pub fn on_link(namespace: &Namespace, link: &str) -> Result<Self> {
        Self::on_link_by(namespace, link, Box::new(marker::find))
    }

    /// Counts the frames that come in on `link` as `classify` says.
    pub fn on_link_by(namespace: &Namespace, link: &str, classify: Box<Classify>) -> Result<Self> {
        let ring = Ring::open(namespace, link)?;
        Ok(Self::new(Source::Link(ring, classify)))
    }

    /// Counts marked UDP datagrams that raw sockets get, IPv4 and IPv6: what routing let in, whatever port it is for.
    pub fn in_stack(namespace: &Namespace) -> Result<Self> {
        let sockets = namespace
            .inside(|| Ok::<_, io::Error>([raw(libc::AF_INET)?, raw(libc::AF_INET6)?]))?
            .with_context(|| format!("cannot open raw sockets in {}", namespace.name()))?;
        Ok(Self::new(Source::Stack(sockets, Buffers::new())))
    }

    fn new(source: Source) -> Self {
        Self(Mutex::new(Inner {
            source,
            counts: vec![0; KINDS as usize],
            remembered: Vec::new(),
        }))
    }

    /// Packets of one kind so far.
    pub fn count(&self, kind: u32) -> Result<u64> {
        let inner = self.read()?;
        Ok(inner.counts.get(kind as usize).copied().unwrap_or(0))
    }

    /// All kinds seen so far, with their packets.
    pub fn counts(&self) -> Result<Vec<(u32, u64)>> {
        let inner = self.read()?;
        let counts = (0..).zip(inner.counts.iter().copied());
        Ok(counts.filter(|(_, count)| *count > 0).collect())
    }

    /// Kind and sequence number of each packet so far, in the order of arrival.
    pub fn packets(&self) -> Result<Vec<(u32, u32)>> {
        Ok(self.read()?.remembered.clone())
    }

    /// An error when the sink lost packets itself: then its counts prove nothing.
    pub fn sound(&self) -> Result<()> {
        let lost = match &mut self.read()?.source {
            Source::Link(ring, _) => ring.statistics()?.lost,
            Source::Stack([v4, v6], _) => dropped(v4)? + dropped(v6)?,
        };
        if lost > 0 {
            bail!("a sink lost {lost} packets itself: its counts prove nothing");
        }
        Ok(())
    }

    /// Waits until nothing new came for a tenth of a second, at most two seconds.
    pub fn settle(&self) -> Result<()> {
        let total = || -> Result<u64> { Ok(self.counts()?.iter().map(|(_, count)| count).sum()) };
        let begin = Instant::now();
        let mut before = total()?;
        while begin.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(100));
            let now = total()?;
            if now == before {
                break;
            }
            before = now;
        }
        self.sound()
    }

    /// Takes in what arrived since the last time.
    fn read(&self) -> Result<MutexGuard<'_, Inner>> {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        let mut add = |(kind, sequence)| {
            if let Some(count) = inner.counts.get_mut(kind as usize) {
                *count += 1;
            }
            if inner.remembered.len() < REMEMBERED {
                inner.remembered.push((kind, sequence));
            }
        };
        match &mut inner.source {
            Source::Link(ring, classify) => {
                ring.drain(|frame| classify(frame).into_iter().for_each(&mut add));
            }
            Source::Stack(sockets, buffers) => {
                for socket in sockets {
                    let mut each = |packet: &[u8]| {
                        marker::find(packet).into_iter().for_each(&mut add);
                    };
                    while buffers.receive(socket, &mut each)? {}
                }
            }
        }
        Ok(guard)
    }
}

/// Room for the datagrams of one call.
struct Buffers(Vec<[u8; DATAGRAM]>);

impl Buffers {
    fn new() -> Self {
        Self(vec![[0; DATAGRAM]; BATCH])
    }

    /// Takes what is there, without waiting; false when there is no more.
    fn receive(&mut self, socket: &OwnedFd, mut each: impl FnMut(&[u8])) -> Result<bool> {
        let mut parts: Vec<libc::iovec> = self
            .0
            .iter_mut()
            .map(|buffer| libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: DATAGRAM,
            })
            .collect();
        // SAFETY: mmsghdr is plain data, for which all zeroes is a value.
        let mut messages: Vec<libc::mmsghdr> = vec![unsafe { zeroed() }; BATCH];
        for (message, part) in messages.iter_mut().zip(&mut parts) {
            message.msg_hdr.msg_iov = std::ptr::from_mut(part);
            message.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: BATCH messages, each with one part that points to a buffer of its own, all alive here.
        let read = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let Ok(read) = usize::try_from(read) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(false),
                _ => Err(error).context("cannot read from a raw socket"),
            };
        };
        for (message, buffer) in messages.iter().zip(&self.0).take(read) {
            let length = (message.msg_len as usize).min(DATAGRAM);
            each(&buffer[..length]);
        }
        Ok(read == BATCH)
    }
}

fn raw(family: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: plain system call; the descriptor is checked before it is owned.
    let fd = unsafe {
        libc::socket(
            family,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::IPPROTO_UDP,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just made and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the pointer and the length describe BUFFER, which lives for ever.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const BUFFER).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// Datagrams for which the socket had no room.
fn dropped(socket: &OwnedFd) -> Result<u64> {
    // linux/sock_diag.h: SK_MEMINFO_VARS and SK_MEMINFO_DROPS.
    let mut counted = [0_u32; 9];
    let mut length = size_of::<[u32; 9]>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `counted`, alive through the call.
    let read = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            counted.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if read < 0 {
        return Err(io::Error::last_os_error()).context("cannot read what a raw socket dropped");
    }
    Ok(u64::from(counted[8]))
}
