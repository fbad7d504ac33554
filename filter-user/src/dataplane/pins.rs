//! Where things are pinned, and which pin a program may adopt.
//!
//! `<bpffs>/edgefilter/state/NAME-<hash>`: flows, counters, events; the hash is that of the map's own layout, so an
//! upgrade that changes one map goes on with all the others. `policy-<hash>-<n>/NAME`: look-up tables, created and
//! retired together; a larger policy gets a new set. `links/HOOK-<ifindex>`: attachments, see attach.rs.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use filter_common::entry;
use filter_common::layout::{
    Address, Block, COUNTERS_LAYOUT, CPU_LAYOUT, Counter, EVENTS_LAYOUT, EntryKey, EntrySpans,
    FlowKey, FlowState, FragmentKey, Layout, POLICY_LAYOUT, PROBES_LAYOUT, RateLimits, ScanCell,
    Watch, hash_mix, hash_text,
};
use filter_common::limits::{FLOW_PORT_WORDS, RULE_SLOTS, SCAN_CELLS, VERIFIED};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// The directory under the bpffs.
const DIRECTORY: &str = "edgefilter";

/// Maps that hold a policy.
pub(super) const POLICY_MAPS: [&str; 8] = [
    "CONTROL", "BANKS", "VLANS", "CELLS4", "CELLS6", "MATRIX", "LIMITS", "BINDINGS",
];

/// The flow table and what is known of it: a table is never adopted without its ports.
const FLOWS_LAYOUT: u64 = hash_mix(
    hash_mix(FlowKey::HASH, FlowState::HASH),
    FLOW_PORT_WORDS as u64,
);

/// The maps of labels, which are read as memory.
const LABELS_LAYOUT: u64 = hash_text(RULE_SLOTS as u64, "64 bytes of id, 64 of profile");

/// Maps that hold state, and the hash of each one's layout.
pub(super) const STATE_MAPS: [(&str, u64); 17] = [
    ("FLOWS", FLOWS_LAYOUT),
    ("FLOW_ROOM", FLOWS_LAYOUT),
    ("FLOW_PORTS", FLOWS_LAYOUT),
    ("FRAGMENTS", FragmentKey::HASH),
    ("RATES", hash_mix(RateLimits::HASH, RULE_SLOTS as u64)),
    (
        "SOURCE_RATES",
        hash_mix(RateLimits::HASH, filter_common::limits::RATE_BUCKETS as u64),
    ),
    ("INTERFACE_COUNTERS", COUNTERS_LAYOUT),
    ("RULE_COUNTERS", hash_mix(Counter::HASH, RULE_SLOTS as u64)),
    ("EVENTS", EVENTS_LAYOUT),
    ("CPU", CPU_LAYOUT),
    ("WATCH", Watch::HASH),
    ("SCAN_HEADS", SCAN_CELLS as u64),
    ("SCAN_CELLS", hash_mix(ScanCell::HASH, SCAN_CELLS as u64)),
    ("PROBES", PROBES_LAYOUT),
    ("BLOCKS", hash_mix(Address::HASH, Block::HASH)),
    ("VERIFIED", hash_mix(Address::HASH, VERIFIED as u64)),
    (
        "ENTRIES",
        hash_text(hash_mix(EntryKey::HASH, EntrySpans::HASH), entry::ENCODING),
    ),
];

/// The tree of pins under one bpffs.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// The pins under `bpffs`, which may not exist yet.
    pub fn at(bpffs: &Path) -> Self {
        Self {
            root: bpffs.join(DIRECTORY),
        }
    }

    /// Mounts the bpffs if nothing is mounted there, which needs CAP_SYS_ADMIN.
    pub fn mount(bpffs: &Path) -> Result<()> {
        mount_if_needed(bpffs)
    }

    /// Makes the directories, in a bpffs that may have to be mounted first.
    pub fn prepare(bpffs: &Path) -> Result<Self> {
        Self::mount(bpffs)?;
        let pins = Self::at(bpffs);
        for directory in [pins.state_directory(), pins.links()] {
            fs::create_dir_all(&directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        pins.claim()?;
        Ok(pins)
    }

    /// Interface indexes mean something in one network namespace only, so the pins belong to one.
    fn claim(&self) -> Result<()> {
        let ours = format!("netns-{}", network_namespace()?);
        for path in read_directory(&self.root)? {
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            if name.starts_with("netns-") && name != ours {
                bail!(
                    "the pins under {} belong to another network namespace ({name}, this is {ours}); give this one \
                     another --bpffs, or take that filter off with `edgefilter detach`",
                    self.root.display()
                );
            }
        }
        let mark = self.root.join(ours);
        fs::create_dir_all(&mark).with_context(|| format!("cannot make {}", mark.display()))
    }

    /// One daemon at a time works on the pins, whatever its run directory. Released when the value is dropped.
    pub fn lock(&self) -> Result<Flock<File>> {
        let root = File::open(&self.root)
            .with_context(|| format!("cannot open {}", self.root.display()))?;
        Flock::lock(root, FlockArg::LockExclusiveNonblock).map_err(|_| {
            anyhow::anyhow!(
                "another edgefilter daemon works on the pins under {}",
                self.root.display()
            )
        })
    }

    /// Whether anything is pinned.
    pub fn exist(&self) -> bool {
        self.root.is_dir()
    }

    fn state_directory(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Where links are pinned.
    pub(super) fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// The pin of a state map.
    pub(super) fn state(&self, name: &str, hash: u64) -> PathBuf {
        self.state_directory().join(format!("{name}-{hash:016x}"))
    }

    /// The pin of a state map by its name.
    pub(super) fn state_map(&self, name: &str) -> PathBuf {
        let hash = STATE_MAPS
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(0, |(_, hash)| *hash);
        self.state(name, hash)
    }

    /// The label maps, which only user space reads.
    pub(super) fn label_map(&self, name: &str) -> PathBuf {
        self.state(name, LABELS_LAYOUT)
    }

    /// Policy sets of this program's layout, newest last: (number, directory).
    pub(super) fn policy_sets(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let prefix = policy_prefix();
        let mut sets: Vec<_> = read_directory(&self.root)?
            .into_iter()
            .filter_map(|path| {
                let number = path
                    .file_name()?
                    .to_str()?
                    .strip_prefix(&prefix)?
                    .parse()
                    .ok()?;
                Some((number, path))
            })
            .collect();
        sets.sort();
        Ok(sets)
    }

    /// A directory for one more policy set.
    pub(super) fn new_policy_set(&self) -> io::Result<PathBuf> {
        let number = self
            .policy_sets()?
            .last()
            .map_or(1, |(number, _)| number + 1);
        let directory = self.root.join(format!("{}{number}", policy_prefix()));
        fs::create_dir(&directory)?;
        Ok(directory)
    }

    /// Removes every policy set but `keep`, and state of other layouts: no program refers to them any more.
    pub(super) fn retire(&self, keep: &Path) -> io::Result<()> {
        for path in read_directory(&self.root)? {
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            if name.starts_with("policy-") && path != keep {
                fs::remove_dir_all(&path)?;
            }
        }
        let known: Vec<PathBuf> = STATE_MAPS
            .iter()
            .map(|(name, hash)| self.state(name, *hash))
            .chain(
                super::counters::LABEL_MAPS
                    .iter()
                    .map(|name| self.label_map(name)),
            )
            .collect();
        for path in read_directory(&self.state_directory())? {
            if !known.contains(&path) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

fn policy_prefix() -> String {
    format!("policy-{POLICY_LAYOUT:016x}-")
}

/// Paths in a directory; none if it is not there.
pub(super) fn read_directory(path: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(path) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn mount_if_needed(bpffs: &Path) -> Result<()> {
    fs::create_dir_all(bpffs).with_context(|| format!("cannot make {}", bpffs.display()))?;
    let is_bpffs = || -> Result<bool> {
        let found = statfs(bpffs).with_context(|| format!("cannot look at {}", bpffs.display()))?;
        Ok(found.filesystem_type() == BPF_FS_MAGIC)
    };
    if is_bpffs()? {
        return Ok(());
    }
    if mount_namespace_is_private() {
        bail!(
            "no bpffs is mounted at {0}, and one mounted here would vanish with this process and take the filter with \
             it, because this mount namespace is private (`ip netns exec` makes one); run `mount -t bpf bpf {0}` on \
             the host first, or enter a network namespace with `nsenter --net=...`",
            bpffs.display()
        );
    }
    tracing::info!(path = %bpffs.display(), "mounting a bpffs");
    mount(
        Some("bpf"),
        bpffs,
        Some("bpf"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("mode=0700"),
    )
    .with_context(|| {
        format!(
            "no bpffs is mounted at {0} and mounting one failed; run: mount -t bpf bpf {0}",
            bpffs.display()
        )
    })?;
    if !is_bpffs()? {
        bail!(
            "{} is no bpffs although mounting one succeeded",
            bpffs.display()
        );
    }
    Ok(())
}

/// Whether what we mount ends with us: an ancestor lives in another mount namespace. Those that we may not look at
/// (process 1 in some sandboxes) say nothing.
fn mount_namespace_is_private() -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let parent = |process: &str| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        Some(line.trim().to_owned())
    };
    let ours = namespace("self");
    let mut process = "self".to_owned();
    while let Some(next) = parent(&process).filter(|next| next != "0") {
        if namespace(&next).is_some_and(|theirs| Some(theirs) != ours) {
            return true;
        }
        process = next;
    }
    false
}

/// The inode number of this thread's network namespace, which is its identity as long as anything uses it.
fn network_namespace() -> Result<u64> {
    let path = "/proc/thread-self/ns/net";
    let found = fs::metadata(path).with_context(|| format!("cannot look at {path}"))?;
    Ok(found.ino())
}

/// Takes the filter off: links first, so that nothing runs on half a set of maps. Returns what was detached.
pub fn detach(bpffs: &Path) -> Result<Vec<String>> {
    let pins = Pins::at(bpffs);
    let mut gone = super::attach::detach_classic(&pins)?;
    for link in read_directory(&pins.links())? {
        fs::remove_file(&link)
            .with_context(|| format!("cannot remove the link {}", link.display()))?;
        gone.push(
            link.file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
        );
    }
    if pins.exist() {
        fs::remove_dir_all(&pins.root)
            .with_context(|| format!("cannot remove {}", pins.root.display()))?;
    }
    Ok(gone)
}
