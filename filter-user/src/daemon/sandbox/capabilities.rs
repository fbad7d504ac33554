//! Which capabilities the daemon needs, what for, and what goes without them. The one list of them: the start, errors,
//! `status` and the documentation take them from here.

use anyhow::{Context, Result};
use caps::{CapSet, Capability, CapsHashSet};

use crate::daemon::Unsupported;

/// A capability that the daemon keeps while it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    pub(crate) capability: Capability,
    /// Completes "it is needed to ...".
    pub(crate) purpose: &'static str,
    /// What is so without it; `None`: there is no filter without it.
    pub(crate) otherwise: Option<&'static str>,
}

/// All of them. CAP_SYS_ADMIN is none: it mounts a bpffs at the start where there is none, and is given up then.
pub(crate) const NEEDS: [Need; 6] = [
    Need {
        capability: Capability::CAP_BPF,
        purpose: "load the programs and make their tables",
        otherwise: None,
    },
    Need {
        capability: Capability::CAP_PERFMON,
        purpose: "load programs that the verifier has to follow by value",
        otherwise: None,
    },
    Need {
        capability: Capability::CAP_NET_ADMIN,
        purpose: "attach the programs, read connections, and keep the nftables table",
        otherwise: None,
    },
    Need {
        capability: Capability::CAP_NET_BROADCAST,
        purpose: "hear of containers' addresses at once",
        otherwise: Some("they are looked for every second"),
    },
    Need {
        capability: Capability::CAP_DAC_READ_SEARCH,
        purpose: "read files that belong to others",
        otherwise: Some(
            "the policy, the files it names and CNI results have to be readable for the daemon's user",
        ),
    },
    Need {
        capability: Capability::CAP_SYS_PTRACE,
        purpose: "tell which process has a socket",
        otherwise: Some(
            "`audit exposure` names processes only when root runs it, and of whoever pushes a policy only the \
             connection is known that SSH_CONNECTION names",
        ),
    },
];

/// Capabilities from here on were split off CAP_SYS_ADMIN, which still stands for them.
const FIRST_SPLIT: u8 = 38;

/// What this thread may do; fails, naming everything that is missing, if that is too little.
pub(crate) fn require() -> Result<CapsHashSet> {
    let held =
        caps::read(None, CapSet::Effective).context("cannot read this process's capabilities")?;
    let missing: Vec<String> = NEEDS
        .iter()
        .filter(|need| need.otherwise.is_none() && !stands(&held, need.capability))
        .map(|need| format!("{} (to {})", need.capability, need.purpose))
        .collect();
    if missing.is_empty() {
        return Ok(held);
    }
    Err(Unsupported(format!(
        "{} missing: run as root, or give the service these capabilities",
        missing.join(", ")
    ))
    .into())
}

fn stands(held: &CapsHashSet, capability: Capability) -> bool {
    held.contains(&capability)
        || capability.index() >= FIRST_SPLIT && held.contains(&Capability::CAP_SYS_ADMIN)
}

/// A sentence for each that is missing and that the daemon can go without.
pub(super) fn warnings(held: &CapsHashSet) -> Vec<String> {
    NEEDS
        .iter()
        .filter(|need| !stands(held, need.capability))
        .filter_map(|need| {
            let otherwise = need.otherwise?;
            Some(format!(
                "{} is missing, which is needed to {}: {otherwise}",
                need.capability, need.purpose
            ))
        })
        .collect()
}

/// What the thread keeps that looks at other processes.
pub(super) fn looking(held: &CapsHashSet) -> CapsHashSet {
    let wanted = [Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];
    wanted
        .into_iter()
        .filter(|one| held.contains(one))
        .collect()
}

/// Gives up everything but `kept`, on this thread and those that it starts.
pub(super) fn keep(kept: &CapsHashSet) -> Result<()> {
    // effective first: it is never more than permitted
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, kept).context("cannot give up capabilities")?;
    }
    Ok(())
}

/// Gives up what the daemon does not need; returns what is left. What it starts can have CAP_NET_ADMIN at most.
pub(super) fn reduce(held: &CapsHashSet) -> Result<CapsHashSet> {
    let kept: CapsHashSet = NEEDS
        .iter()
        .map(|need| need.capability)
        // other processes are looked at by a thread of its own
        .filter(|capability| *capability != Capability::CAP_SYS_PTRACE)
        .filter(|capability| held.contains(capability))
        // where it stands for those that were split off it
        .chain(
            NEEDS
                .iter()
                .any(|need| !held.contains(&need.capability) && stands(held, need.capability))
                .then_some(Capability::CAP_SYS_ADMIN),
        )
        .collect();
    let child = for_children();
    if held.contains(&Capability::CAP_SETPCAP) {
        let bounding =
            caps::read(None, CapSet::Bounding).context("cannot read the bounding set")?;
        for capability in bounding.difference(&child) {
            caps::drop(None, CapSet::Bounding, *capability)
                .with_context(|| format!("cannot take {capability} from programs it starts"))?;
        }
    }
    for set in [CapSet::Inheritable, CapSet::Ambient] {
        caps::set(None, set, &child).context("cannot reduce what programs it starts inherit")?;
    }
    keep(&kept)?;
    Ok(kept)
}

/// What a program gets that the daemon starts (`nft`).
fn for_children() -> CapsHashSet {
    CapsHashSet::from([Capability::CAP_NET_ADMIN])
}

/// Has a program that is about to be started run with CAP_NET_ADMIN and nothing else. Between fork and exec, root would
/// get its whole bounding set back; under `no_new_privs` it gets no more than it has then.
pub(crate) fn confine_child(command: &mut tokio::process::Command) {
    let kept = for_children();
    // SAFETY: the closure calls capget(2) and capset(2) with values made before the fork, and nothing that takes a lock.
    unsafe {
        command.pre_exec(move || {
            for set in [CapSet::Effective, CapSet::Permitted] {
                if caps::set(None, set, &kept).is_err() {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}

/// Capabilities that this thread does not have, each with what it is for.
pub(super) fn absent() -> Vec<String> {
    let held = caps::read(None, CapSet::Effective).unwrap_or_default();
    NEEDS
        .iter()
        .filter(|need| !stands(&held, need.capability))
        .map(|need| {
            format!(
                "{} is missing, which is needed to {}",
                need.capability, need.purpose
            )
        })
        .collect()
}

/// In the kernel's order.
pub(super) fn names(set: &CapsHashSet) -> Vec<String> {
    let mut list: Vec<&Capability> = set.iter().collect();
    list.sort_by_key(|capability| capability.index());
    list.into_iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_what() {
        let admin = CapsHashSet::from([Capability::CAP_SYS_ADMIN]);
        assert!(stands(&admin, Capability::CAP_BPF));
        assert!(stands(&admin, Capability::CAP_PERFMON));
        assert!(!stands(&admin, Capability::CAP_NET_ADMIN));
        assert_eq!(warnings(&admin).len(), 3);
        assert!(warnings(&caps::all()).is_empty());
    }

    #[test]
    fn names_in_the_kernels_order() {
        let set = CapsHashSet::from([Capability::CAP_BPF, Capability::CAP_NET_ADMIN]);
        assert_eq!(names(&set), ["CAP_NET_ADMIN", "CAP_BPF"]);
    }
}
