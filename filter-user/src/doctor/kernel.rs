//! What the running kernel and this process can do, read from /proc, /sys and system calls.
//! Owns the parsing of these files; judges nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::reading::{Feature, Host, Read};

/// Reads everything about the host. Nothing here fails as a whole: each field says for itself.
pub(super) fn read(bpffs: &Path) -> Host {
    Host {
        release: text("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        features: fs::read("/sys/kernel/btf/vmlinux")
            .map_err(|error| format!("/sys/kernel/btf/vmlinux: {error}"))
            .and_then(|btf| features(&btf)),
        jit: text("/proc/sys/net/core/bpf_jit_enable").and_then(|value| {
            value
                .trim()
                .parse()
                .map_err(|_| format!("unexpected value {:?}", value.trim()))
        }),
        bpffs: match statfs(bpffs) {
            Ok(found) => Ok(found.filesystem_type() == BPF_FS_MAGIC),
            Err(nix::errno::Errno::ENOENT) => Ok(false),
            Err(error) => Err(format!("{}: {error}", bpffs.display())),
        },
        capabilities: text("/proc/self/status").and_then(|status| capabilities(&status)),
        landlock: landlock(),
        seccomp: Path::new("/proc/sys/kernel/seccomp").exists(),
        memlock: getrlimit(Resource::RLIMIT_MEMLOCK)
            .map(|(soft, _)| soft)
            .map_err(|error| error.to_string()),
        memory: available_memory(),
        initial_namespace: initial_namespace(),
        managers: [
            ("/run/systemd/netif/state", "systemd-networkd"),
            ("/run/NetworkManager", "NetworkManager"),
        ]
        .into_iter()
        .filter_map(|(path, name)| Path::new(path).exists().then_some(name))
        .collect(),
    }
}

/// landlock_create_ruleset(2), asked for the version only.
fn landlock() -> Read<u32> {
    const CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag the kernel reads no memory of ours; the rules are a null pointer of length 0.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).map_err(|_| std::io::Error::last_os_error().to_string())
}

fn text(path: &str) -> Read<String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

/// (major, minor) of a release like "6.1.0-32-cloud-amd64".
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Looks for the names that came with each feature among the strings of the kernel's BTF. Better
/// than the version: enterprise kernels have features of much later releases.
pub(super) fn features(btf: &[u8]) -> Read<BTreeSet<Feature>> {
    // struct btf_header, include/uapi/linux/btf.h
    let word = |offset: usize| -> Option<usize> {
        let bytes = btf.get(offset..offset + 4)?.try_into().ok()?;
        usize::try_from(u32::from_ne_bytes(bytes)).ok()
    };
    let strings = (|| {
        if btf.get(..2)? != 0xeb9f_u16.to_ne_bytes() {
            return None;
        }
        let start = word(4)?.checked_add(word(16)?)?;
        btf.get(start..start.checked_add(word(20)?)?)
    })()
    .ok_or_else(|| "the kernel's BTF is not in the format expected".to_owned())?;

    const MARKS: [(&[u8], Feature); 4] = [
        (b"bpf_xdp_link", Feature::XdpLink),
        (b"xdp_has_frags", Feature::XdpFrags),
        (b"BPF_MAP_TYPE_RINGBUF", Feature::RingBuffer),
        (b"BPF_TCX_EGRESS", Feature::Tcx),
    ];
    let mut found = BTreeSet::new();
    for string in strings.split(|byte| *byte == 0) {
        if let Some((_, feature)) = MARKS.iter().find(|(mark, _)| *mark == string) {
            found.insert(*feature);
        }
    }
    Ok(found)
}

/// The effective set (`CapEff`) of a /proc/PID/status text.
pub(super) fn capabilities(status: &str) -> Read<u64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or_else(|| "no CapEff in /proc/self/status".to_owned())
}

/// `MemAvailable` of a /proc/meminfo text, in bytes.
pub(super) fn mem_available(meminfo: &str) -> Read<u64> {
    meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|value| value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map(|kib| kib.saturating_mul(1024))
        .ok_or_else(|| "no MemAvailable in /proc/meminfo".to_owned())
}

/// BPF maps count against the creator's memory cgroup (Linux 5.11), so its limit counts as well.
fn available_memory() -> Read<u64> {
    let host = text("/proc/meminfo").and_then(|meminfo| mem_available(&meminfo))?;
    let cgroup = text("/proc/self/cgroup").unwrap_or_default();
    let path = cgroup
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or("/");
    let mut directory = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    let mut available = host;
    // Limits of all ancestors hold; the root has none.
    while directory.starts_with("/sys/fs/cgroup") {
        let number = |file: &str| -> Option<u64> {
            fs::read_to_string(directory.join(file))
                .ok()?
                .trim()
                .parse()
                .ok()
        };
        if let (Some(limit), Some(used)) = (number("memory.max"), number("memory.current")) {
            available = available.min(limit.saturating_sub(used));
        }
        if !directory.pop() {
            break;
        }
    }
    Ok(available)
}

fn initial_namespace() -> bool {
    // Process 1 lives in the first namespace, or in the container's, which is as good here.
    let own = fs::read_link("/proc/thread-self/ns/net");
    let first = fs::read_link("/proc/1/ns/net");
    matches!((own, first), (Ok(own), Ok(first)) if own == first)
}
