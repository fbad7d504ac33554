//! Where test runs happen: a network namespace with `lo` and one other interface, a mount namespace,
//! one CPU, all of the calling thread. Nothing outside is touched, and all of it ends with the thread.

use std::cell::OnceCell;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::unistd::Pid;

/// `lo` is the first interface of every network namespace.
pub const LOOPBACK: u32 = 1;

/// The interface that no policy names.
const UNMANAGED: &str = "unmanaged0";

/// What a thread got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The CPU it is pinned to.
    pub cpu: usize,
    /// Index of an interface that is not `lo`.
    pub unmanaged: u32,
}

thread_local! {
    static PLACE: OnceCell<Place> = const { OnceCell::new() };
}

impl Place {
    /// Moves the calling thread there, for good; a second call finds it there.
    ///
    /// # Errors
    /// Without the privilege to make namespaces, or without `ip`.
    pub fn enter() -> Result<Self> {
        if let Some(place) = PLACE.with(|place| place.get().copied()) {
            return Ok(place);
        }
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .context("cannot make namespaces: run as root")?;
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .context("cannot make mounts private")?;
        // a child takes over the namespaces of the thread that starts it
        let words = [
            "link",
            "add",
            UNMANAGED,
            "type",
            "veth",
            "peer",
            "name",
            "unmanaged1",
        ];
        let status = Command::new("ip")
            .args(words)
            .status()
            .context("cannot run ip (package iproute2)")?;
        if !status.success() {
            bail!("ip {} failed: {status}", words.join(" "));
        }
        let place = Self {
            cpu: pin()?,
            unmanaged: if_nametoindex(UNMANAGED)?,
        };
        Ok(PLACE.with(|cell| *cell.get_or_init(|| place)))
    }
}

/// Pins the thread to a CPU, another one than the last thread got: what a run counts is then found
/// in one CPU's part of a map.
fn pin() -> Result<usize> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let cpus: Vec<usize> = (0..CpuSet::count())
        .filter(|cpu| allowed.is_set(*cpu).unwrap_or(false))
        .collect();
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let cpu = *cpus
        .get(next % cpus.len().max(1))
        .context("no CPU is allowed")?;
    let mut one = CpuSet::new();
    one.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &one).context("cannot pin to a CPU")?;
    Ok(cpu)
}

/// Whether test runs are possible here; prints why not. With CI=true that is a failure.
#[must_use]
pub fn can_run() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    let reason = "it loads BPF programs: run as root";
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "skipped, which CI does not allow: {reason}"
    );
    eprintln!("SKIPPED: {reason}");
    false
}
