//! What only packets on their way out can show: they are let go whatever they are, and packets yet
//! to be segmented note their flow although no length field can say how long they are.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use edgefilter_tests::packets::{Ipv4, Ipv6, Tcp, Udp, link};
use edgefilter_tests::test_run::can_run;
use edgefilter_tests::test_run::place::LOOPBACK;
use filter_user::dataplane::TcProgram;

use crate::{CLOSED, OWN, OWN6, REMOTE, REMOTE6, filter};

#[test]
fn a_packet_longer_than_its_length_field_notes_its_flow() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(CLOSED)?;
    let segment = Tcp::ack(50_000, 443).payload(&[0x55; 1400]);
    let mut v4 = link().ipv4(&Ipv4::new(OWN, REMOTE).with(&segment));
    // BIG TCP: total length 0 (IPv4, Linux 6.3), payload length 0 (IPv6)
    v4[16..18].fill(0);
    let mut v6 = link().ipv6(&Ipv6::new(OWN6, REMOTE6).with(&segment));
    v6[18..20].fill(0);
    let reply = Tcp::ack(443, 50_000);
    let back = [
        link().ipv4(&Ipv4::new(REMOTE, OWN).with(&reply)),
        link().ipv6(&Ipv6::new(REMOTE6, OWN6).with(&reply)),
    ];
    for (sent, answer) in [v4, v6].iter().zip(back) {
        ensure!(!filter.ingress(&answer)?.pass, "an answer to nothing");
        ensure!(filter.egress(sent)?, "the kernel refuses the frame");
        let verdict = filter.ingress(&answer)?;
        ensure!(verdict.reason.name() == "pass_reply", "{verdict:?}");
    }
    Ok(())
}

#[test]
fn nothing_is_held_back() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(CLOSED)?;
    // every return value but "go on" is an error of `egress`
    for seed in 0..20 {
        for step in edgefilter_tests::random::case(seed, 200).steps {
            filter.egress(&step.frame).or_else(|error| {
                // the kernel asks for one byte behind the Ethernet header
                if step.frame.len() < 15 {
                    Ok(false)
                } else {
                    Err(error)
                }
            })?;
        }
    }
    filter.settle()
}

#[test]
fn headers_behind_the_linear_part_are_read() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(CLOSED)?;
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()?;
    ensure!(up.success(), "ip link set lo up: {up}");
    filter
        .dataplane()
        .attach_tc(TcProgram::Out, LOOPBACK, "lo")?;
    // shorter and longer than the headers that the program asks for
    for (port, payload) in [(50_001, 0), (50_002, 100), (50_003, 1000)] {
        let datagram = Udp::new(port, 53).payload(&vec![0x55; payload]);
        let answer = link().ipv4(&Ipv4::new(REMOTE, OWN).with(&Udp::new(53, port)));
        ensure!(!filter.ingress(&answer)?.pass, "an answer to nothing");
        let frame = link().ipv4(&Ipv4::new(OWN, REMOTE).with(&datagram));
        paged::send(LOOPBACK, &frame).context("cannot send from a packet ring")?;
        // it was counted on its way out
        filter.forgive()?;
        let verdict = filter.ingress(&answer)?;
        ensure!(
            verdict.reason.name() == "pass_reply",
            "{} bytes: {verdict:?}",
            frame.len()
        );
    }
    Ok(())
}

/// Frames with nothing but their Ethernet header in the linear part: the kernel makes such of what
/// it takes out of a packet socket's ring (packet(7), `PACKET_TX_RING`).
mod paged {
    use std::io;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::ptr::{self, NonNull};

    const BLOCK: usize = 4096;
    /// `TPACKET_HDRLEN - sizeof(struct sockaddr_ll)`: where the kernel looks for the frame (version 1).
    const DATA: usize = 32;
    /// `offsetof(struct tpacket_hdr, tp_len)`, behind the status, a `long`.
    const LENGTH: usize = 8;

    fn check(result: libc::c_int) -> io::Result<libc::c_int> {
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(result)
    }

    pub(super) fn send(ifindex: u32, frame: &[u8]) -> io::Result<()> {
        // SAFETY: takes numbers only.
        let socket = check(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) })?;
        // SAFETY: just opened, and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let ring = libc::tpacket_req {
            tp_block_size: BLOCK as u32,
            tp_block_nr: 1,
            tp_frame_size: BLOCK as u32,
            tp_frame_nr: 1,
        };
        // SAFETY: the option's value is a whole `tpacket_req`.
        check(unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_TX_RING,
                (&raw const ring).cast(),
                size_of_val(&ring) as libc::socklen_t,
            )
        })?;
        // SAFETY: a new mapping of the ring's one block.
        let block = unsafe {
            libc::mmap(
                ptr::null_mut(),
                BLOCK,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if block == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let block = NonNull::new(block.cast::<u8>())
            .ok_or_else(|| io::Error::other("mapped at address 0"))?;
        let sent = send_from(&socket, block, ifindex, frame);
        // SAFETY: mapped above, not used any more.
        unsafe { libc::munmap(block.as_ptr().cast(), BLOCK) };
        sent
    }

    fn send_from(
        socket: &OwnedFd,
        block: NonNull<u8>,
        ifindex: u32,
        frame: &[u8],
    ) -> io::Result<()> {
        if DATA + frame.len() > BLOCK {
            return Err(io::Error::other("the frame does not fit into the ring"));
        }
        // SAFETY: inside the block, compared above; aligned, as the block is a page. The kernel does not look at the
        // block before the status says so, and `send` below does not return before it is done.
        unsafe {
            ptr::copy_nonoverlapping(frame.as_ptr(), block.as_ptr().add(DATA), frame.len());
            block
                .as_ptr()
                .add(LENGTH)
                .cast::<u32>()
                .write_volatile(frame.len() as u32);
            block
                .as_ptr()
                .cast::<libc::c_ulong>()
                .write_volatile(libc::TP_STATUS_SEND_REQUEST.into());
        }
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0x0800_u16.to_be(),
            sll_ifindex: ifindex as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: [0; 8],
        };
        // SAFETY: the address is a whole `sockaddr_ll`; without a buffer the kernel sends what the ring holds.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                ptr::null(),
                0,
                0,
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        if sent as usize != frame.len() {
            return Err(io::Error::other(format!(
                "{sent} of {} bytes sent",
                frame.len()
            )));
        }
        Ok(())
    }
}
