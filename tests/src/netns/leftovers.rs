//! Removes what a killed run left behind.
//!
//! Owns the rule for what may be removed: a name of ours whose pid is dead. Must never remove
//! anything of a live run, and ends processes only by the pids the kernel lists inside a namespace
//! of ours.

use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::time::Duration;

use anyhow::Result;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::namespace::DIRECTORY;
use super::process::finish;
use super::{NAME_PREFIX, wait_until};

const LIMIT: Duration = Duration::from_secs(10);

/// Where control groups are: hierarchies of version 1 are directories of it.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// Removes namespaces, directories and control groups of dead runs; returns their names.
pub fn sweep() -> Vec<String> {
    let mut removed = Vec::new();
    for name in dead_names(Path::new(DIRECTORY)) {
        match remove_namespace(&name) {
            Ok(()) => removed.push(name),
            Err(error) => eprintln!("cannot remove the old namespace {name}: {error:#}"),
        }
    }
    let temporary = std::env::temp_dir();
    for name in dead_names(&temporary) {
        remove_directory(&temporary.join(&name));
        removed.push(name);
    }
    remove_control_groups();
    removed
}

/// Those of containers whose namespace went above, and their processes with it.
fn remove_control_groups() {
    let root = Path::new(CONTROL_GROUPS);
    let hierarchies = std::fs::read_dir(root).into_iter().flatten();
    let hierarchies = hierarchies.filter_map(|entry| Some(entry.ok()?.path()));
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        for name in dead_names(&hierarchy) {
            // A group that is still in use, or that is gone by now, is left as it is.
            let _ = std::fs::remove_dir(hierarchy.join(name));
        }
    }
}

/// `sweep`, the first time it is asked for in this process.
pub(super) fn sweep_once() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for name in sweep() {
            eprintln!("removed {name}, left by a run that was killed");
        }
    });
}

/// Ends the processes inside, then removes the name.
pub(super) fn remove_namespace(name: &str) -> Result<()> {
    for pid in processes_inside(name)? {
        // ESRCH: it ended by itself meanwhile.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = wait_until(Duration::from_secs(2), || {
        processes_inside(name).is_ok_and(|pids| pids.is_empty())
    });
    ip(&["netns", "del", name]).map(drop)
}

/// Unmounts the bpffs of a scratch directory, which frees every pin in it, and removes the rest.
pub(super) fn remove_directory(directory: &Path) {
    let bpffs = directory.join(super::scratch::BPFFS);
    // EINVAL: nothing was mounted there.
    let _ = umount2(&bpffs, MntFlags::MNT_DETACH);
    if let Err(error) = std::fs::remove_dir_all(directory)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("cannot remove {}: {error}", directory.display());
    }
}

fn processes_inside(name: &str) -> Result<Vec<i32>> {
    let own = i32::try_from(std::process::id())?;
    let listed = ip(&["netns", "pids", name])?;
    // A thread of ours may be inside for a moment: then the kernel lists this process too.
    Ok(listed
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .filter(|pid| *pid != own)
        .collect())
}

fn ip(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("ip");
    command.args(arguments);
    Ok(finish(command, LIMIT)?.require()?.stdout)
}

fn dead_names(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| owner(name).is_some_and(is_dead))
        .collect()
}

/// No such process, or one that ended and that nobody has waited for yet.
fn is_dead(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    // The state follows the name, which is in parentheses and may hold any character: proc(5).
    let state = stat.rsplit(") ").next().unwrap_or_default();
    state.starts_with(['Z', 'X'])
}

/// The pid in `ef-<pid>-<n>-<label>`.
fn owner(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix(NAME_PREFIX)?.splitn(3, '-');
    let pid = parts.next()?.parse().ok()?;
    parts.next()?.parse::<u32>().ok()?;
    parts.next().map(|_| pid)
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn only_our_own_names_have_an_owner() {
        assert_eq!(owner("ef-123-0-host"), Some(123));
        assert_eq!(owner("ef-123-0-with-dash"), Some(123));
        for foreign in [
            "ef-",
            "ef-123",
            "ef-123-host",
            "ef-x-0-host",
            "other",
            "xef-1-0-a",
        ] {
            assert_eq!(owner(foreign), None, "{foreign}");
        }
    }
}
