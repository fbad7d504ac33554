//! Two network namespaces with a veth pair between them: one sends, one receives.
//!
//! Owns the addresses, and which processor receives. Everything goes away when it is dropped.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::description::Description;
use super::link::{Counters, Link};
use super::sender::{Engine, Limits, Sender, Sent};
use super::stream::Stream;
use crate::netns::{
    Namespace, Veth, add_address, default_route, hardware_address, links, wait_until,
};

/// The receiver's address.
pub const RECEIVER_V4: &str = "10.77.1.1";
/// The same, IPv6.
pub const RECEIVER_V6: &str = "fd77:1::1";
/// The sender's address.
pub const SENDER_V4: &str = "10.77.1.2";
/// The same, IPv6.
pub const SENDER_V6: &str = "fd77:1::2";
/// The sender's link.
pub const SENDER_LINK: &str = "eth0";

/// A thread that receives is to take the processor at once, as an interrupt would. An ordinary one was often late, and found
/// its ring full (lazy preemption, we think). The kernel leaves the other threads a twentieth of the time: harder on a
/// filter that is at its limit than softirqs would be.
const FIFO: u32 = 1;

/// The namespaces.
#[derive(Debug)]
pub struct Pair {
    /// Packets come from here.
    pub sender: Namespace,
    /// Packets go here.
    pub receiver: Namespace,
    /// The receiver's link: a name that no other one on this machine has.
    pub link: String,
    far: Link,
    sender_mac: [u8; 6],
    receiver_mac: [u8; 6],
}

impl Pair {
    /// Builds them. The receiver knows a way back to everybody, by the sender, and needs no ARP for it.
    pub fn build(label: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // at most 15 characters
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let link = format!("ef{}n{number}", std::process::id());
        let sender = Namespace::create(&format!("{label}-from"))?;
        let receiver = Namespace::create(&format!("{label}-to"))?;
        let end = |namespace, name| Veth { namespace, name };
        links::veth(end(&receiver, &link), end(&sender, SENDER_LINK), 1500)?;
        for (namespace, name, addresses) in [
            (&sender, SENDER_LINK, [SENDER_V4, SENDER_V6]),
            (&receiver, &link, [RECEIVER_V4, RECEIVER_V6]),
        ] {
            for (address, length) in addresses.into_iter().zip([24, 64]) {
                add_address(namespace, name, &format!("{address}/{length}"))?;
            }
        }
        let pair = Self {
            far: receiver.inside(|| Link::find(&link))??,
            sender_mac: hardware_address(&sender, SENDER_LINK)?,
            receiver_mac: hardware_address(&receiver, &link)?,
            sender,
            receiver,
            link,
        };
        pair.introduce()?;
        // With GRO on, a veth polls its ring (NAPI) and takes XDP frames also where it has no XDP program. What a stack sends goes
        // through that ring, beside a flood, only with segmentation off (`veth_skb_is_eligible_for_gro`); or with XDP.
        for (namespace, name, feature, value) in [
            (&pair.receiver, pair.link.as_str(), "gro", "on"),
            (&pair.sender, SENDER_LINK, "tso", "off"),
        ] {
            namespace.run(&["ethtool", "-K", name, feature, value])?;
        }
        Ok(pair)
    }

    fn introduce(&self) -> Result<()> {
        let known = |namespace: &Namespace, link: &str, address: &str, mac: [u8; 6]| {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            namespace.run(&[
                "ip",
                "neighbour",
                "replace",
                address,
                "lladdr",
                &mac,
                "dev",
                link,
                "nud",
                "permanent",
            ])
        };
        for address in [SENDER_V4, SENDER_V6] {
            known(&self.receiver, &self.link, address, self.sender_mac)?;
            default_route(&self.receiver, address)?;
        }
        for address in [RECEIVER_V4, RECEIVER_V6] {
            known(&self.sender, SENDER_LINK, address, self.receiver_mac)?;
        }
        Ok(())
    }

    /// The streams of a description, from the sender to the receiver.
    pub fn streams(&self, description: &Description) -> Result<Vec<Stream>> {
        description.streams(self.sender_mac, self.receiver_mac)
    }

    /// Gets ready to send streams. The sender is to be used on a thread of the sending namespace.
    pub fn open(&self, streams: Vec<Stream>, rate: Option<f64>, engine: Engine) -> Result<Sender> {
        self.sender
            .inside(|| Sender::open(&Link::find(SENDER_LINK)?, streams, rate, engine))?
    }

    /// Sends, with this thread's processors, and waits for the end.
    pub fn send(&self, sender: &mut Sender, limits: Limits) -> Result<Sent> {
        let stop = std::sync::atomic::AtomicBool::new(false);
        self.sender.inside(|| sender.send(limits, &stop))?
    }

    /// What the receiver's link has counted.
    pub fn received(&self) -> Result<Counters> {
        self.receiver.inside(|| self.far.counters())?
    }

    /// Receives by a thread of the kernel on this processor, or, without one, wherever packets are sent.
    pub fn receive_on(&self, processor: Option<usize>) -> Result<()> {
        // /sys shows the devices of the network namespace that it was mounted in
        let switch = u8::from(processor.is_some());
        let mut command = std::process::Command::new("ip");
        command.args(["netns", "exec", self.receiver.name(), "sh", "-c"]);
        command.arg(format!(
            "echo {switch} > /sys/class/net/{}/threaded",
            self.link
        ));
        crate::netns::finish(command, Duration::from_secs(10))?.require()?;
        let Some(processor) = processor else {
            return Ok(());
        };
        let mut thread = None;
        wait_until(Duration::from_secs(2), || {
            thread = receiving_thread(&self.link);
            thread.is_some()
        });
        let thread = thread.with_context(|| {
            format!(
                "no kernel thread napi/{}-* receives for {}",
                self.link, self.link
            )
        })?;
        let mut one = CpuSet::new();
        one.set(processor)?;
        sched_setaffinity(Pid::from_raw(thread), &one).with_context(|| {
            format!("cannot keep the receiving thread on processor {processor}")
        })?;
        let attributes = SchedulingAttributes {
            size: size_of::<SchedulingAttributes>() as u32,
            policy: FIFO,
            priority: 1,
            ..SchedulingAttributes::default()
        };
        // SAFETY: the attributes are alive through the call, and say how long they are.
        let failed =
            unsafe { libc::syscall(libc::SYS_sched_setattr, thread, &raw const attributes, 0) };
        ensure!(
            failed == 0,
            "cannot raise the receiving thread's priority: {}",
            std::io::Error::last_os_error()
        );
        Ok(())
    }
}

/// `struct sched_attr` (linux/sched/types.h), its first version.
#[derive(Default)]
#[repr(C)]
struct SchedulingAttributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// The id of the kernel's thread that polls `link`.
fn receiving_thread(link: &str) -> Option<i32> {
    let name = format!("napi/{link}-");
    std::fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .find(|pid: &i32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.starts_with(&name))
        })
}
