//! A receive ring of AF_PACKET: every frame that arrives on a link, and how many were lost on the way.
//!
//! Owns the socket and the memory it shares with the kernel (TPACKET_V2, Documentation/networking/packet_mmap.rst). Room for
//! a quarter of a million frames, so that a reader that is late loses none. Must never be opened outside a namespace of ours.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use anyhow::{Context, Result};

use super::namespace::Namespace;

/// Bytes of a slot, the kernel's header included: some 180 bytes of each frame are kept.
const SLOT: u32 = 256;
const BLOCK: u32 = 1 << 20;
const BLOCKS: u32 = 64;
const SLOTS: usize = (BLOCK / SLOT * BLOCKS) as usize;

// linux/if_packet.h; not all of them are in libc.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const TP_STATUS_USER: u32 = 1;

/// `struct tpacket2_hdr`.
#[repr(C)]
struct SlotHeader {
    status: AtomicU32,
    length: u32,
    kept: u32,
    mac: u16,
    network: u16,
    seconds: u32,
    nanoseconds: u32,
    vlan: u16,
    vlan_type: u16,
    padding: [u8; 4],
}

/// The kernel's own count of what this socket got and what it lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames that arrived, the lost ones included.
    pub arrived: u64,
    /// Frames for which there was no room.
    pub lost: u64,
}

/// An open ring. What this namespace sends by the link itself is not in it.
#[derive(Debug)]
pub struct Ring {
    socket: OwnedFd,
    memory: NonNull<u8>,
    next: usize,
    statistics: Statistics,
}

// SAFETY: the memory belongs to this value alone, and is only touched through `&mut self`.
unsafe impl Send for Ring {}

impl Ring {
    /// Opens a ring on `link`, for all ethertypes.
    pub fn open(namespace: &Namespace, link: &str) -> Result<Self> {
        namespace
            .inside(|| Self::open_here(link))?
            .with_context(|| format!("cannot open a ring on {link} of {}", namespace.name()))
    }

    fn open_here(link: &str) -> io::Result<Self> {
        // Without a protocol nothing arrives before the socket is bound to its link.
        // SAFETY: plain system call; the descriptor is checked before it is owned.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        check(fd)?;
        // SAFETY: `fd` was just made and belongs to nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let version = 1; // TPACKET_V2
        set_packet_option(&socket, libc::PACKET_VERSION, &version)?;
        let incoming_only = 1;
        set_packet_option(&socket, PACKET_IGNORE_OUTGOING, &incoming_only)?;
        let request: [u32; 4] = [BLOCK, BLOCKS, SLOT, SLOTS as u32];
        set_packet_option(&socket, libc::PACKET_RX_RING, &request)?;
        // SAFETY: a new shared mapping of the length that was just asked for; the result is checked.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                (BLOCK * BLOCKS) as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let ring = Self {
            socket,
            memory,
            next: 0,
            statistics: Statistics::default(),
        };
        ring.bind(link)?;
        Ok(ring)
    }

    fn bind(&self, link: &str) -> io::Result<()> {
        let name = std::ffi::CString::new(link).map_err(io::Error::other)?;
        // SAFETY: `name` is a C string that lives through the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: sockaddr_ll is plain data, for which all zeroes is a value.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index.cast_signed();
        // SAFETY: the pointer and the length describe `address`, alive through the call.
        check(unsafe {
            libc::bind(
                self.socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        })
    }

    /// Hands all frames that are there to `each`, without waiting. Returns how many there were.
    pub fn drain(&mut self, mut each: impl FnMut(&[u8])) -> usize {
        let mut taken = 0;
        loop {
            // SAFETY: `next` is below SLOTS, so the slot lies inside the mapping; its header is aligned to 16 bytes.
            let slot = unsafe { self.memory.add(self.next * SLOT as usize) };
            // SAFETY: as above; the kernel writes the other fields before it sets the status, and not after.
            let header = unsafe { slot.cast::<SlotHeader>().as_ref() };
            if header.status.load(Ordering::Acquire) & TP_STATUS_USER == 0 {
                return taken;
            }
            let (start, length) = (usize::from(header.mac), header.kept as usize);
            let length = length.min((SLOT as usize).saturating_sub(start));
            // SAFETY: bounded by the slot, which is ours until its status is given back below.
            each(unsafe { std::slice::from_raw_parts(slot.as_ptr().add(start), length) });
            fence(Ordering::SeqCst);
            header.status.store(0, Ordering::Release);
            self.next = (self.next + 1) % SLOTS;
            taken += 1;
        }
    }

    /// What the kernel counted since the ring was opened.
    pub fn statistics(&mut self) -> Result<Statistics> {
        let mut counted = [0_u32; 2];
        let mut length = size_of::<[u32; 2]>() as libc::socklen_t;
        // SAFETY: the pointer and the length describe `counted`, alive through the call.
        check(unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                counted.as_mut_ptr().cast(),
                &raw mut length,
            )
        })
        .context("cannot read the statistics of a packet socket")?;
        // Reading sets the kernel's counters back to 0.
        self.statistics.arrived += u64::from(counted[0]);
        self.statistics.lost += u64::from(counted[1]);
        Ok(self.statistics)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: mapped in `open_here` with this length, and no slice of it is alive.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), (BLOCK * BLOCKS) as usize) };
    }
}

fn set_packet_option<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, alive through the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
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
