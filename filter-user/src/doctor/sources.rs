//! Judges the kernel's own settings about sources against the policy's `antispoof`: where they contradict each other, the
//! stricter one drops what the other was set to let in. Owns the advice for each; it makes no system call.

use super::reading::{Read, Reading, Setting, Sysctls};
use super::{Check, Options};
use crate::policy::{AntiSpoof, PrefixSet, ReversePath};

/// Nothing without a policy that speaks of the interface: there is nothing to compare.
pub(super) fn checks(reading: &Reading, options: &Options) -> Vec<Check> {
    let policy = options.policy.as_ref();
    let (Some(interface), Some(antispoof)) = (
        &reading.interface,
        policy.and_then(|needs| needs.antispoof.as_ref()),
    ) else {
        return Vec::new();
    };
    let sysctls = &interface.sysctls;
    [
        reverse_path(sysctls, antispoof),
        accept_local(sysctls, antispoof),
        route_localnet(sysctls, antispoof),
        proxy_arp(sysctls, antispoof),
        proxy_ndp(sysctls, antispoof),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A sysctl as it is read and written.
struct Name<'a> {
    version: &'static str,
    interface: &'a str,
    name: &'static str,
}

impl Name<'_> {
    /// Both values, and where they stand: `net.ipv4.conf.{all,eth0}.rp_filter = 0, 1`.
    fn shown(&self, setting: Setting) -> String {
        format!(
            "net.{}.conf.{{all,{}}}.{} = {}, {}",
            self.version, self.interface, self.name, setting.all, setting.own
        )
    }

    /// The command that sets to 0 whichever is not. With slashes, for names that have dots.
    fn off(&self, setting: Setting) -> String {
        [("all", setting.all), (self.interface, setting.own)]
            .into_iter()
            .filter(|(_, value)| *value != 0)
            .fold("sysctl -w".to_owned(), |command, (whose, _)| {
                format!(
                    "{command} net/{}/conf/{whose}/{}=0",
                    self.version, self.name
                )
            })
    }
}

/// The check of one setting; `None` where the kernel has none for this interface.
fn check(
    id: &'static str,
    name: &Name<'_>,
    setting: &Read<Option<Setting>>,
    judge: impl FnOnce(Setting) -> Check,
) -> Option<Check> {
    match setting {
        Ok(setting) => setting.map(judge),
        Err(error) => Some(Check::warn(
            id,
            format!("not known: {error}"),
            format!(
                "sysctl net/{}/conf/{}/{}",
                name.version, name.interface, name.name
            ),
        )),
    }
}

fn reverse_path(sysctls: &Sysctls, antispoof: &AntiSpoof) -> Option<Check> {
    let id = "rp-filter";
    let name = Name {
        version: "ipv4",
        interface: &sysctls.interface,
        name: "rp_filter",
    };
    check(id, &name, &sysctls.rp_filter, |setting| {
        let policy = match antispoof.reverse_path {
            ReversePath::Off => "off",
            ReversePath::Loose => "loose",
            ReversePath::Strict => "strict",
        };
        let kernel = match setting.larger() {
            0 => "off",
            1 => "strict",
            _ => "loose",
        };
        let seen = format!(
            "{}: the larger counts, {kernel}; the policy says reverse_path = \"{policy}\"",
            name.shown(setting)
        );
        match (antispoof.reverse_path, setting.larger()) {
            (ReversePath::Off | ReversePath::Loose, 1) => Check::warn(
                id,
                format!(
                    "{seen}: the kernel drops IPv4 that the policy lets in, uncounted, and lets such IPv6 in"
                ),
                format!(
                    "to check both versions, and count what is dropped: reverse_path = \"strict\" in the profile's \
                     antispoof\nto check neither: {}",
                    name.off(setting)
                ),
            ),
            (ReversePath::Off, 2..) => Check::ok(
                id,
                format!("{seen}: the kernel drops IPv4 from sources that no route leads to"),
            ),
            // The policy's check comes first. With several routing tables the kernel may still drop what it let in, for it
            // looks only where its rules lead; that takes a look at the rules, not at this setting.
            _ => Check::ok(id, seen),
        }
    })
}

fn accept_local(sysctls: &Sysctls, antispoof: &AntiSpoof) -> Option<Check> {
    if !antispoof.own_addresses {
        return None;
    }
    let id = "accept-local";
    let name = Name {
        version: "ipv4",
        interface: &sysctls.interface,
        name: "accept_local",
    };
    check(id, &name, &sysctls.accept_local, |setting| {
        let seen = name.shown(setting);
        if !setting.either() {
            return Check::ok(id, format!("{seen}, as own_addresses = true in the policy"));
        }
        Check::warn(
            id,
            format!(
                "{seen}: the kernel would take packets from this host's own addresses, but the policy says \
                 own_addresses = true and drops them before"
            ),
            format!(
                "if they are wanted, as between two ports of this host: own_addresses = false in the profile's \
                 antispoof\nif not: {}",
                name.off(setting)
            ),
        )
    })
}

fn route_localnet(sysctls: &Sysctls, antispoof: &AntiSpoof) -> Option<Check> {
    if !antispoof.martians {
        return None;
    }
    let id = "route-localnet";
    let name = Name {
        version: "ipv4",
        interface: &sysctls.interface,
        name: "route_localnet",
    };
    check(id, &name, &sysctls.route_localnet, |setting| {
        let seen = name.shown(setting);
        if !setting.either() {
            return Check::ok(id, format!("{seen}, as martians = true in the policy"));
        }
        if antispoof.legitimate.as_deref().is_some_and(holds_loopback) {
            return Check::ok(id, format!("{seen}, and `legitimate` holds 127.0.0.0/8"));
        }
        Check::warn(
            id,
            format!(
                "{seen}: the kernel would take packets from 127.0.0.0/8 off the wire, but the policy says \
                 martians = true and drops them before"
            ),
            format!(
                "kube-proxy sets this and needs no such packets: nothing to do then\nif they are wanted: \
                 legitimate = [\"127.0.0.0/8\"] in the profile's antispoof\nif nothing needs it: {}",
                name.off(setting)
            ),
        )
    })
}

fn holds_loopback(set: &PrefixSet) -> bool {
    set.v4
        .iter()
        .any(|net| net.prefix_len() <= 8 && net.contains(&std::net::Ipv4Addr::LOCALHOST))
}

fn proxy_arp(sysctls: &Sysctls, antispoof: &AntiSpoof) -> Option<Check> {
    let name = Name {
        version: "ipv4",
        interface: &sysctls.interface,
        name: "proxy_arp",
    };
    let listed = antispoof
        .egress_sources
        .as_deref()
        .is_some_and(|set| !set.v4.is_empty());
    proxy(
        "proxy-arp",
        &name,
        &sysctls.proxy_arp,
        antispoof,
        listed,
        "the kernel answers ARP for addresses of others, and those answers and what these hosts send are dropped on \
         their way out",
    )
}

fn proxy_ndp(sysctls: &Sysctls, antispoof: &AntiSpoof) -> Option<Check> {
    let name = Name {
        version: "ipv6",
        interface: &sysctls.interface,
        name: "proxy_ndp",
    };
    let listed = antispoof
        .egress_sources
        .as_deref()
        .is_some_and(|set| !set.v6.is_empty());
    proxy(
        "proxy-ndp",
        &name,
        &sysctls.proxy_ndp,
        antispoof,
        listed,
        // the answers themselves come from an address of this host (ndisc_send_na, net/ipv6/ndisc.c)
        "the kernel answers neighbour solicitations for addresses of others (those of `ip -6 neigh show proxy`), but \
         what these hosts send is dropped on its way out",
    )
}

fn proxy(
    id: &'static str,
    name: &Name<'_>,
    setting: &Read<Option<Setting>>,
    antispoof: &AntiSpoof,
    listed: bool,
    consequence: &str,
) -> Option<Check> {
    if !antispoof.egress {
        return None;
    }
    check(id, name, setting, |setting| {
        let seen = name.shown(setting);
        if !setting.either() {
            return Check::ok(id, format!("{seen}, as egress = true in the policy"));
        }
        if listed {
            return Check::ok(
                id,
                format!(
                    "{seen}: it works for the addresses that `egress_sources` holds, no others"
                ),
            );
        }
        Check::warn(
            id,
            format!("{seen}, but the policy says egress = true: {consequence}"),
            format!(
                "list these addresses in egress_sources in the profile's antispoof, or: {}",
                name.off(setting)
            ),
        )
    })
}
