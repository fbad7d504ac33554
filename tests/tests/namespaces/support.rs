//! What every test here needs: when to skip, policies, and the verdict over a list of checks.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use anyhow::{Result, bail};
use edgefilter_tests::programs::{self, Check, Edgefilter, Expected, Seen, daemon};

/// Patience with what should work, and with what should be silent.
pub const WORKS: Duration = Duration::from_secs(6);
pub const SILENCE: Duration = Duration::from_secs(1);

/// No rule lets anything in: what still works, works without being asked for.
pub const STRICT: &str = "version = 1\n[profiles.edge]\ninterfaces = [\"eth0\"]\n";

static MACHINE: RwLock<()> = RwLock::new(());

/// A turn beside others. The second of two tests that use much CPU makes the first one late, so
/// those that measure time take `alone` instead.
pub fn beside() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// A turn with no other test of this binary running.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the test can run here; prints why not. With CI=true that is a failure.
pub fn can_run(extra: &[&str]) -> bool {
    let mut needed = vec!["ip", "nsenter", "nft", "ping"];
    needed.extend(extra);
    let reason = if !is_root() {
        Some("it makes network namespaces: run as root".to_owned())
    } else if let Some(missing) = programs::missing(&needed) {
        Some(missing)
    } else if daemon::without_filter() {
        None
    } else {
        daemon::locate().err().map(|error| format!("{error:#}"))
    };
    let Some(reason) = reason else { return true };
    skip(&reason);
    false
}

/// Says why a test does not run here; with CI=true that is a failure.
pub fn skip(reason: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "skipped, which CI does not allow: {reason}"
    );
    eprintln!("SKIPPED: {reason}");
}

fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A policy that lets `protocol` in on `ports` of eth0, from anywhere, and nothing else.
pub fn allow(protocol: &str, ports: &[u16]) -> String {
    format!(
        "{STRICT}[[profiles.edge.allow]]\nid = \"open\"\nprotocol = \"{protocol}\"\nports = {ports:?}\n"
    )
}

/// Turns the outcome of a probe into a check.
pub fn works(name: &str, outcome: Result<(Seen, String)>) -> Result<Check> {
    outcome.map(|(seen, detail)| Check::new(name, Expected::Works, seen, detail))
}

pub fn refused(name: &str, outcome: Result<(Seen, String)>) -> Result<Check> {
    outcome.map(|(seen, detail)| Check::new(name, Expected::Refused, seen, detail))
}

/// `outcomes`; and since all that the checks send comes from true sources, none of it may count as forged.
pub fn judge(daemon: &Edgefilter, checks: Vec<Result<Check>>) -> Result<()> {
    outcomes(daemon, checks)?;
    nothing_forged(daemon)
}

/// Fails with every check that came out otherwise, and with what the filter counted. By itself where addresses are new:
/// what the kernel sends from one at once, before the daemon has heard of it, is not known to be the host's.
pub fn outcomes(daemon: &Edgefilter, checks: Vec<Result<Check>>) -> Result<()> {
    let checks = checks.into_iter().collect::<Result<Vec<_>>>()?;
    let wrong: Vec<String> = checks
        .iter()
        .filter(|check| !check.agrees(daemon.filtering()))
        .map(ToString::to_string)
        .collect();
    if wrong.is_empty() && !checks.is_empty() {
        return Ok(());
    }
    let counted = daemon
        .counters()
        .map(|counters| format!("{:?}", counters.by_reason()));
    bail!(
        "{} of {} otherwise than expected (filter: {}):\n{}\ncounted: {}",
        wrong.len(),
        checks.len(),
        daemon.filtering(),
        wrong.join("\n"),
        counted.unwrap_or_else(|error| format!("{error:#}")),
    )
}

/// Nothing true was taken for forged so far.
pub fn nothing_forged(daemon: &Edgefilter) -> Result<()> {
    let counters = daemon.counters()?;
    for reason in [
        "drop_martian",
        "drop_own_address",
        "drop_reverse_path",
        "drop_binding",
    ] {
        let packets = counters.packets(reason);
        let events = || {
            let rows = counters.rules.iter().filter(|(_, count)| count.packets > 0);
            rows.map(|(id, count)| format!("{id}: {}", count.packets))
                .collect::<Vec<_>>()
                .join(", ")
        };
        if packets > 0 {
            bail!(
                "{packets} packets of true sources were dropped as {reason}; by row: {}",
                events()
            );
        }
    }
    Ok(())
}

/// With a filter, `reasons` must each have counted at least that many packets.
pub fn counted(daemon: &Edgefilter, reasons: &[(&str, u64)]) -> Result<()> {
    if !daemon.filtering() {
        return Ok(());
    }
    let counters = daemon.counters()?;
    for (reason, least) in reasons {
        let packets = counters.packets(reason);
        if packets < *least {
            bail!(
                "{reason} counted {packets}, at least {least} expected: {:?}",
                counters.by_reason()
            );
        }
    }
    Ok(())
}
