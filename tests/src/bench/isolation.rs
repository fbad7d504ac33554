//! Namespaces of our own for what is measured by test runs, and one processor to stay on. Never touches the machine's.

use std::thread;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::unistd::Pid;

use super::{filter, peer};

/// Does `work` on a thread that has a network and a mount namespace of its own, with a bpffs in the usual place, and
/// stays on one processor. Everything that it loads, pins and mounts is gone when it ends.
pub fn isolated<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            isolate()?;
            work()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn isolate() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .context("cannot make namespaces: the benchmark needs root")?;
    let nothing = None::<&str>;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )
    .context("cannot make mounts private")?;
    for (kind, place) in [
        // `ip` and xdp-filter look for their network namespace's devices here
        ("sysfs", "/sys"),
        ("bpf", filter::BPFFS),
        // xdp-filter's lock: another one may be at work on this machine
        ("tmpfs", "/run"),
    ] {
        mount(Some(kind), place, Some(kind), MsFlags::empty(), nothing)
            .with_context(|| format!("cannot mount {place}"))?;
    }
    peer::command("ip", &["link", "set", "lo", "up"])?;

    pin(processors()?.last().copied().unwrap_or(0))
}

/// Those this process may use.
pub fn processors() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count())
        .filter(|cpu| allowed.is_set(*cpu).unwrap_or(false))
        .collect())
}

/// Keeps this thread, and those it starts, on one processor.
pub fn pin(processor: usize) -> Result<()> {
    let mut one = CpuSet::new();
    one.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &one).context("cannot stay on one processor")
}
