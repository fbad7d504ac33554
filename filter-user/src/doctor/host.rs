//! Judges the kernel and the host: features, BPF file system, privileges, memory. Owns the advice
//! for each; it sees the reading only and makes no system call.

use super::kernel::version;
use super::reading::{Feature, Host, Reading};
use super::{Check, Options};

// include/uapi/linux/capability.h
const CAP_NET_ADMIN: u64 = 12;
const CAP_SYS_ADMIN: u64 = 21;
const CAP_PERFMON: u64 = 38;
const CAP_BPF: u64 = 39;

/// Map memory of the filter with a small policy; a big one gives its own figure.
const SMALL_POLICY: u64 = 64 << 20;
/// Locked memory that a kernel before 5.11 must allow.
const MEMLOCK: u64 = 512 << 20;

/// The features the filter uses with the release that brought each, for kernels without BTF.
const FEATURES: [(Feature, &str, (u32, u32)); 4] = [
    (Feature::RingBuffer, "ring buffer", (5, 8)),
    (Feature::XdpLink, "bpf_link for XDP", (5, 9)),
    (Feature::XdpFrags, "xdp.frags", (5, 18)),
    (Feature::Tcx, "TCX", (6, 6)),
];

pub(super) fn checks(reading: &Reading, options: &Options) -> Vec<Check> {
    let host = &reading.host;
    let mut checks = vec![
        kernel(host),
        btf(host),
        jit(host),
        bpffs(host, options),
        privileges(host),
        sandbox(host),
    ];
    checks.extend(memlock(host));
    checks.push(memory(host, options));
    checks.extend(managers(host));
    checks
}

fn has(host: &Host, feature: Feature, since: (u32, u32)) -> bool {
    match &host.features {
        Ok(found) => found.contains(&feature),
        Err(_) => version(&host.release).is_some_and(|running| running >= since),
    }
}

fn kernel(host: &Host) -> Check {
    let id = "kernel";
    let (present, missing): (Vec<_>, Vec<_>) = FEATURES
        .iter()
        .partition(|(feature, _, since)| has(host, *feature, *since));
    let present: Vec<&str> = present.iter().map(|(_, name, _)| *name).collect();
    let seen = format!("Linux {} with {}", host.release, present.join(", "));
    let lacking = |feature| missing.iter().any(|(other, ..)| *other == feature);
    for (feature, why) in [
        (Feature::RingBuffer, "events and drop samples need"),
        (
            Feature::XdpLink,
            "keeping the filter in force without the daemon needs",
        ),
        (
            Feature::XdpFrags,
            "the filter is an xdp.frags program and needs",
        ),
    ] {
        if lacking(feature) {
            let (major, minor) = FEATURES
                .iter()
                .find(|(other, ..)| *other == feature)
                .map_or((0, 0), |f| f.2);
            return Check::fail(id, seen, format!("{why} Linux {major}.{minor} or newer"));
        }
    }
    if lacking(Feature::Tcx) {
        return Check::ok(id, format!("{seen}; clsact in place of TCX (Linux 6.6)"));
    }
    Check::ok(id, seen)
}

fn btf(host: &Host) -> Check {
    match &host.features {
        Ok(_) => Check::ok("btf", "the kernel carries its type information"),
        Err(error) => Check::fail(
            "btf",
            error.clone(),
            "use a kernel built with CONFIG_DEBUG_INFO_BTF=y (all current distributions' are), and \
             mount sysfs: mount -t sysfs sysfs /sys",
        ),
    }
}

fn jit(host: &Host) -> Check {
    let id = "jit";
    match &host.jit {
        Ok(0) => Check::warn(
            id,
            "off: programs are interpreted, several times slower",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        Ok(2) => Check::warn(
            id,
            "on, with the debug output of every program in the kernel log",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        Ok(_) => Check::ok(id, "on"),
        // The setting is shown in the first network namespace only and counts everywhere.
        Err(_) if !host.initial_namespace => Check::ok(
            id,
            "not visible in this network namespace; it is the host's setting",
        ),
        Err(error) => Check::warn(
            id,
            format!("not known: {error}"),
            "sysctl net.core.bpf_jit_enable",
        ),
    }
}

fn bpffs(host: &Host, options: &Options) -> Check {
    let id = "bpffs";
    let path = options.bpffs.display();
    let mount = format!("mount -t bpf bpf {path}");
    match &host.bpffs {
        Ok(true) => Check::ok(id, format!("mounted at {path}")),
        Ok(false) if holds(host, CAP_SYS_ADMIN) => Check::ok(
            id,
            format!("not mounted at {path}; `edgefilter run` mounts it"),
        )
        .with_advice(format!(
            "to have it at every start, in /etc/fstab: bpf {path} bpf defaults 0 0"
        )),
        Ok(false) => Check::fail(
            id,
            format!("not mounted at {path}"),
            format!("as root: {mount}"),
        ),
        Err(error) => Check::warn(id, format!("not known: {error}"), mount),
    }
}

fn holds(host: &Host, capability: u64) -> bool {
    host.capabilities
        .as_ref()
        .is_ok_and(|mask| mask & (1 << capability) != 0)
}

fn privileges(host: &Host) -> Check {
    let id = "privileges";
    if let Err(error) = &host.capabilities {
        return Check::warn(id, format!("not known: {error}"), "run as root");
    }
    // CAP_SYS_ADMIN contains CAP_BPF and CAP_PERFMON, which came with Linux 5.8.
    let admin = holds(host, CAP_SYS_ADMIN);
    let wanted = [
        ("CAP_NET_ADMIN", holds(host, CAP_NET_ADMIN)),
        ("CAP_BPF", admin || holds(host, CAP_BPF)),
        ("CAP_PERFMON", admin || holds(host, CAP_PERFMON)),
    ];
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(_, held)| !held)
        .map(|(name, _)| *name)
        .collect();
    if !missing.is_empty() {
        return Check::fail(
            id,
            format!("missing: {}", missing.join(", ")),
            "run as root: sudo edgefilter ..., or in the unit file: \
             CapabilityBoundingSet=CAP_NET_ADMIN CAP_BPF CAP_PERFMON CAP_NET_BROADCAST",
        );
    }
    if admin {
        Check::ok(id, "CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN")
    } else {
        Check::warn(
            id,
            "CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON, but not CAP_SYS_ADMIN",
            "without it other programs cannot be named and bpffs cannot be mounted",
        )
    }
}

/// What the daemon confines itself with. It runs without, too.
fn sandbox(host: &Host) -> Check {
    let id = "sandbox";
    let seccomp = if host.seccomp {
        "seccomp"
    } else {
        "no seccomp"
    };
    match &host.landlock {
        Ok(version) if host.seccomp => Check::ok(id, format!("seccomp, Landlock {version}")),
        Ok(version) => Check::warn(
            id,
            format!("no seccomp, Landlock {version}"),
            "the daemon can make any system call: use a kernel with CONFIG_SECCOMP_FILTER",
        ),
        Err(error) => Check::warn(
            id,
            format!("{seccomp}, no Landlock: {error}"),
            "the daemon can touch any file of its user: use a kernel with CONFIG_SECURITY_LANDLOCK and put landlock \
             into its boot parameter lsm=",
        ),
    }
}

/// Since Linux 5.11 BPF memory is accounted by cgroup and the limit does not matter.
fn memlock(host: &Host) -> Option<Check> {
    if version(&host.release).is_none_or(|running| running >= (5, 11)) {
        return None;
    }
    let id = "memlock";
    Some(match &host.memlock {
        Ok(limit) if *limit >= MEMLOCK => Check::ok(id, format!("limit {}", size(*limit))),
        Ok(limit) => Check::fail(
            id,
            format!(
                "limit {}, too little for maps on Linux {}",
                size(*limit),
                host.release
            ),
            "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit file",
        ),
        Err(error) => Check::warn(id, format!("not known: {error}"), "ulimit -l"),
    })
}

fn memory(host: &Host, options: &Options) -> Check {
    let id = "memory";
    let policy = options.policy.as_ref().and_then(|needs| needs.memory);
    let needed = policy.unwrap_or(SMALL_POLICY);
    let what = if policy.is_some() {
        "this policy takes"
    } else {
        "a small policy takes up to"
    };
    match &host.memory {
        Ok(available) => {
            let seen = format!("{} available; {what} {}", size(*available), size(needed));
            if *available < needed {
                Check::fail(
                    id,
                    seen,
                    "free memory or raise the cgroup's limit (MemoryMax= in the unit file), or use \
                     fewer prefixes",
                )
            } else if *available < needed.saturating_mul(2) {
                // Both policies exist for a moment while one replaces the other.
                Check::warn(
                    id,
                    seen,
                    "reloading a policy takes the same again for a moment",
                )
            } else {
                Check::ok(id, seen)
            }
        }
        Err(error) => Check::warn(id, format!("not known: {error}"), "free -m"),
    }
}

/// For information: these may set up or rename links at any time.
fn managers(host: &Host) -> Option<Check> {
    if host.managers.is_empty() || !host.initial_namespace {
        return None;
    }
    Some(Check::ok(
        "network-manager",
        format!(
            "{}: links it sets up again are attached again by the daemon",
            host.managers.join(", ")
        ),
    ))
}

fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes == u64::MAX {
        "unlimited".to_owned()
    } else if bytes >= 10 << 30 {
        format!("{} GiB", bytes >> 30)
    } else if bytes >= MIB {
        format!("{} MiB", bytes / MIB)
    } else {
        format!("{} KiB", bytes >> 10)
    }
}
