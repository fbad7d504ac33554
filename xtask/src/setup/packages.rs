//! The one list of Debian packages this project needs, each with its reason.
//! It installs nothing.

use super::Purpose;

/// A Debian package and what it is for.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    pub name: &'static str,
    pub purpose: Purpose,
    pub why: &'static str,
}

const fn package(name: &'static str, purpose: Purpose, why: &'static str) -> Package {
    Package { name, purpose, why }
}

/// Needed whatever compiles the BPF program. The packages of the BPF compiler
/// and of bpf-linker are in `toolchain.rs`, beside the code that looks for
/// what they bring.
// One line a package, to be read as a table.
#[rustfmt::skip]
pub const PACKAGES: &[Package] = &[
    package("gcc", Purpose::Build, "links the host programs"),
    package("libc6-dev", Purpose::Build, "links the host programs"),
    package("bind9-dnsutils", Purpose::Run, "dig: DNS questions through the filter"),
    package("bpftool", Purpose::Run, "shows programs, maps and BTF as the kernel has them"),
    package("busybox-static", Purpose::Run, "the root file system of a container"),
    package("conntrack", Purpose::Run, "shows the connections of masqueraded clients"),
    package("containernetworking-plugins", Purpose::Run, "the CNI bridge that containers are put on"),
    package("curl", Purpose::Run, "HTTP through the filter"),
    package("dnsmasq-base", Purpose::Run, "a DNS resolver and a DHCP server to talk to"),
    package("ethtool", Purpose::Run, "sets link features for tests of `doctor`"),
    package("hping3", Purpose::Run, "probes with odd TCP flags and fragments"),
    package("iperf3", Purpose::Run, "bulk traffic while programs are swapped"),
    package("iproute2", Purpose::Run, "ip, tc, ss: namespaces and links"),
    package("iptables", Purpose::Run, "a filter to compare with"),
    package("iputils-ping", Purpose::Run, "ICMP echo through the filter"),
    package("isc-dhcp-client", Purpose::Run, "a DHCP client behind the filter"),
    package("nftables", Purpose::Run, "masquerading for the container-like client"),
    package("nginx-light", Purpose::Run, "an HTTP server behind the filter"),
    package("nmap", Purpose::Run, "port scans: what a stranger sees"),
    package("openssh-client", Purpose::Run, "an admin who pushes a policy by ssh; ssh-keygen signs one"),
    package("openssh-server", Purpose::Run, "sshd: the connection that a policy must not cut"),
    package("procps", Purpose::Run, "sysctl: forwarding inside test namespaces"),
    package("python3", Purpose::Run, "a small HTTP server; runs scapy"),
    package("python3-scapy", Purpose::Run, "odd packets, made apart from our own builders"),
    package("runc", Purpose::Run, "a real container"),
    package("rust-web-clippy", Purpose::Run, "lints of the BPF crate, with the compiler that builds it"),
    package("systemd", Purpose::Run, "rates the unit: systemd-analyze security"),
    package("tcpdump", Purpose::Run, "what arrives behind the filter"),
    package("tshark", Purpose::Run, "what a packet is, by other eyes"),
    package("util-linux", Purpose::Run, "nsenter, setpriv, unshare"),
    package("xdp-tools", Purpose::Run, "xdp-filter to compare with, and a foreign XDP program"),
    package("busybox-static", Purpose::Vm, "the userland of the Linux 6.1 machine"),
    package("qemu-system-x86", Purpose::Vm, "emulates the Linux 6.1 machine"),
];

/// Services that some of the packages above enable. The tests start their own
/// in namespaces; on the machine itself none of these has a job to do.
pub const SERVICES: &[&str] = &["nginx.service", "iperf3.service", "ssh.service"];
