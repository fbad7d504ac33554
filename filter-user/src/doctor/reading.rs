//! What was read from the system, as plain data. Owns no judgement and makes no system call; the
//! judges depend on nothing else, so a test can describe any machine.
//!
//! `Err(String)` in a field holds why it could not be read, in words that go into the report.

use std::collections::BTreeSet;

/// A value, or the reason why it could not be had.
pub(super) type Read<T> = Result<T, String>;

/// Everything the checks look at.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// Names of all interfaces in this network namespace.
    pub interfaces: Vec<String>,
    /// The interface asked for; `None` when it does not exist.
    pub interface: Option<Interface>,
    /// The kernel and the host.
    pub host: Host,
}

/// One network interface.
#[derive(Clone, Debug)]
pub(super) struct Interface {
    pub name: String,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// Operational state as `ip link` shows it, e.g. "up", "down", "lowerlayerdown".
    pub operstate: String,
    pub mtu: u32,
    /// Link kind of a virtual device: "veth", "vlan", "bridge"; `None` for hardware.
    pub kind: Option<String>,
    /// `IFF_LOOPBACK`.
    pub loopback: bool,
    /// Name of the device below a VLAN or a similar stacked device.
    pub lower: Option<String>,
    /// Name of the bond, bridge or team it is a port of.
    pub controller: Option<String>,
    /// Programs at the XDP hooks.
    pub xdp: Vec<Xdp>,
    pub driver: Read<Driver>,
    /// `netdev` generic netlink XDP feature bits; `Ok(None)` before Linux 6.3.
    pub xdp_features: Read<Option<u64>>,
    pub channels: Read<Channels>,
    pub offloads: Read<Offloads>,
    /// Programs at egress in the order in which they run, TCX before clsact.
    pub egress: Read<Vec<Egress>>,
    /// Of the device at which its packets reach IP: the controller of a port, else itself.
    pub sysctls: Sysctls,
}

/// Settings under net.ipv4.conf and net.ipv6.conf; `Ok(None)` where the device has no such version of IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sysctls {
    /// The device they are of.
    pub interface: String,
    pub rp_filter: Read<Option<Setting>>,
    pub accept_local: Read<Option<Setting>>,
    pub route_localnet: Read<Option<Setting>>,
    pub proxy_arp: Read<Option<Setting>>,
    pub proxy_ndp: Read<Option<Setting>>,
}

/// A setting of `all` and of one device. Which counts is a matter of the setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Setting {
    pub all: u32,
    pub own: u32,
}

impl Setting {
    /// `IN_DEV_MAXCONF`
    pub(super) fn larger(self) -> u32 {
        self.all.max(self.own)
    }

    /// `IN_DEV_ORCONF`
    pub(super) fn either(self) -> bool {
        self.all != 0 || self.own != 0
    }
}

/// `ETHTOOL_GDRVINFO`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Driver {
    pub name: String,
    /// The kernel's release for drivers that come with the kernel, their own otherwise.
    pub version: String,
}

/// `ETHTOOL_GCHANNELS`: queue counts, in use and at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Channels {
    pub rx: u32,
    pub tx: u32,
    pub combined: u32,
    pub max_rx: u32,
    pub max_tx: u32,
    pub max_combined: u32,
}

/// One `ethtool -k` feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offload {
    pub on: bool,
    /// The driver does not allow changing it.
    pub fixed: bool,
}

/// The offloads that matter to XDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offloads {
    /// `rx-lro`
    pub lro: Offload,
    /// `rx-vlan-hw-parse`, shown by ethtool as `rx-vlan-offload`
    pub rx_vlan: Offload,
    /// `rx-gro-hw`
    pub gro_hw: Offload,
}

/// Where an XDP program sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Native,
    Generic,
    Offloaded,
}

impl Mode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Mode::Native => "native",
            Mode::Generic => "generic",
            Mode::Offloaded => "offloaded",
        }
    }

    /// The keyword of `ip link set dev X <keyword> off`.
    pub(super) fn ip_keyword(self) -> &'static str {
        match self {
            Mode::Native => "xdpdrv",
            Mode::Generic => "xdpgeneric",
            Mode::Offloaded => "xdpoffload",
        }
    }
}

/// A loaded BPF program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Program {
    pub id: u32,
    /// Kernel name, at most 15 characters; empty when it could not be read.
    pub name: String,
    /// Processes that hold it or a link to it, as "name (pid)".
    pub holders: Vec<String>,
    /// A bpf_link holds it in place, so that `ip link` cannot take it off; the link's id.
    pub link: Option<u32>,
}

/// A program at an XDP hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Xdp {
    pub mode: Mode,
    pub program: Program,
}

/// A program or filter at egress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Egress {
    /// "tcx" or "clsact"
    pub hook: &'static str,
    /// Name and id; a filter that is not BPF has id 0 and its kind as the name.
    pub program: Program,
    /// clsact only.
    pub priority: Option<u16>,
}

/// A feature of the running kernel that the filter uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Feature {
    /// `bpf_link` for XDP, Linux 5.9 (aa8d3a716b59)
    XdpLink,
    /// `xdp.frags`, Linux 5.18 (c2f2cdbeffda)
    XdpFrags,
    /// Ring buffer, Linux 5.8 (457f44363a88)
    RingBuffer,
    /// TCX, Linux 6.6 (e420bed02507)
    Tcx,
}

/// The kernel and the host.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// As `uname -r` shows it.
    pub release: String,
    /// Features found in the kernel's own type information; `Err` when there is none (no BTF).
    pub features: Read<BTreeSet<Feature>>,
    /// `net.core.bpf_jit_enable`; it exists in the first network namespace only.
    pub jit: Read<u32>,
    /// Whether a BPF file system is mounted at the directory given.
    pub bpffs: Read<bool>,
    /// Effective capabilities as a bit mask.
    pub capabilities: Read<u64>,
    /// Version of Landlock.
    pub landlock: Read<u32>,
    /// Whether the kernel filters system calls.
    pub seccomp: bool,
    /// `RLIMIT_MEMLOCK` soft limit in bytes.
    pub memlock: Read<u64>,
    /// Bytes that can be taken without swapping, the smaller of the host's and the cgroup's.
    pub memory: Read<u64>,
    /// Whether this is the host's first network namespace.
    pub initial_namespace: bool,
    /// Names of network managers that run here.
    pub managers: Vec<&'static str>,
}
