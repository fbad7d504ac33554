//! AF_PACKET sockets: frames sent as they are, and a capture of what got past the filter.
//!
//! Owns the sockets and the capturing thread. XDP runs before AF_PACKET sees a frame, in native and
//! in generic mode, so what is captured on the filter's own interface is what the filter let in.
//! `open` goes to namespaces of ours only; who uses `open_here` knows where it is.

use std::ffi::CString;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use super::namespace::Namespace;

/// Bytes kept of each captured frame, and frames kept in all.
const SNAP: usize = 256;
const FRAMES: usize = 200_000;
/// Receive buffer in bytes: a burst of some 10,000 small frames fits.
const BUFFER: libc::c_int = 16 << 20;

/// A raw socket bound to one link.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens a socket on `link`, for all ethertypes.
    pub fn open(namespace: &Namespace, link: &str) -> Result<Self> {
        namespace
            .inside(|| Self::open_here(link))?
            .with_context(|| {
                format!(
                    "cannot open a packet socket on {link} of {}",
                    namespace.name()
                )
            })
    }

    /// Opens a socket on `link` of the network namespace that this thread is in.
    pub fn open_here(link: &str) -> io::Result<Self> {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: plain system call; the descriptor is checked before it is owned.
        let fd = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                i32::from(protocol),
            )
        };
        check(fd)?;
        // SAFETY: `fd` was just made and belongs to nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let name = CString::new(link).map_err(io::Error::other)?;
        // SAFETY: `name` is a C string that lives through the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: sockaddr_ll is plain data, for which all zeroes is a value.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index.cast_signed();
        // SAFETY: the pointer and the length describe `address`, alive through the call.
        check(unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        })?;
        set_option(&socket, libc::SO_RCVBUFFORCE, &BUFFER)?;
        let patience = libc::timeval {
            tv_sec: 0,
            tv_usec: 50_000,
        };
        set_option(&socket, libc::SO_RCVTIMEO, &patience)?;
        Ok(Self(socket))
    }

    /// The socket itself, for calls that send many frames.
    pub fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    /// Sends one frame as it is, at least 14 bytes.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        self.try_send(frame)
            .with_context(|| format!("a frame of {} bytes was not sent", frame.len()))
    }

    /// The same; ENOBUFS is a link that has no room for it now.
    pub fn try_send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and the length describe `frame`.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        match usize::try_from(sent) {
            Ok(sent) if sent == frame.len() => Ok(()),
            Ok(_) => Err(io::ErrorKind::WriteZero.into()),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    /// The next frame that came in (not one that this namespace sent), cut to what `buffer` holds;
    /// `None` when none came for 50 ms.
    fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        // SAFETY: sockaddr_ll is plain data, for which all zeroes is a value.
        let mut from: libc::sockaddr_ll = unsafe { zeroed() };
        let mut from_length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: each pointer goes with the length of what it points to, all alive here.
        let read = unsafe {
            libc::recvfrom(
                self.0.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
                (&raw mut from).cast(),
                &raw mut from_length,
            )
        };
        let read = usize::try_from(read).ok()?;
        Some(if from.sll_pkttype == libc::PACKET_OUTGOING {
            0
        } else {
            read
        })
    }
}

/// Frames seen coming in on a link, from `start` on.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Captures on `link` until `finish`, or until dropped.
    pub fn start(namespace: &Namespace, link: &str) -> Result<Self> {
        let socket = PacketSocket::open(namespace, link)?;
        let stop = Arc::new(AtomicBool::new(false));
        let frames: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let (stopped, kept) = (Arc::clone(&stop), Arc::clone(&frames));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0_u8; SNAP];
            loop {
                match socket.receive(&mut buffer) {
                    Some(0) => {}
                    Some(read) => {
                        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                        if kept.len() < FRAMES {
                            kept.push(buffer[..read].to_vec());
                        }
                    }
                    // Only an empty queue ends it, so that nothing already received is lost.
                    None if stopped.load(Ordering::Relaxed) => break,
                    None => {}
                }
            }
        });
        Ok(Self {
            stop,
            frames,
            thread: Some(thread),
        })
    }

    /// How many frames so far fulfil a condition.
    pub fn count(&self, condition: impl Fn(&[u8]) -> bool) -> usize {
        let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        frames.iter().filter(|frame| condition(frame)).count()
    }

    /// Lets the queue run empty, then returns all frames, each cut to 256 bytes.
    pub fn finish(mut self) -> Vec<Vec<u8>> {
        // Time for frames still on their way through the peer's queue.
        std::thread::sleep(Duration::from_millis(100));
        self.end();
        std::mem::take(&mut self.frames.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

fn set_option<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, alive through the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    })
}

fn check(code: libc::c_int) -> io::Result<()> {
    if code < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
