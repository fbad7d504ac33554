//! What the daemon gives up before it begins: capabilities, system calls, files. Everything here happens on the first
//! thread, before there is another one, and cannot be taken back.
//!
//! Owns what the daemon may do. Must never end a start because the kernel cannot confine it: an edge filter that runs
//! unconfined is better than none, so what is missing is a warning in the log and in `edgefilter status`.

mod calls;
mod capabilities;
mod files;
mod outside;

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::report::sandbox::SandboxStatus;

pub(crate) use capabilities::confine_child;
pub(crate) use outside::look;

/// Which files the daemon needs, beside those of the system.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// The policy; its directory may be read, and those of the files it names.
    pub policy: PathBuf,
    /// The daemon's settings, likewise.
    pub settings: Option<PathBuf>,
    /// Further files and directories that may be read.
    pub read: Vec<PathBuf>,
    /// Directories that may be written: made if they are not there.
    pub own: Vec<PathBuf>,
    /// Further directories that may be written.
    pub write: Vec<PathBuf>,
}

/// Confines this process: from here on it can do what the daemon needs and no more, and so can what it starts.
///
/// # Errors
/// When a capability is missing without which there is no filter, or one cannot be given up.
pub fn enter(needs: &Needs) -> Result<SandboxStatus> {
    let held = capabilities::require()?;
    let mut status = SandboxStatus {
        enabled: true,
        warnings: capabilities::warnings(&held),
        ..SandboxStatus::default()
    };
    for directory in &needs.own {
        if let Err(error) = std::fs::create_dir_all(directory) {
            tracing::warn!(path = %directory.display(), %error, "cannot make this directory");
        }
    }
    nix::sys::prctl::set_no_new_privs().context("cannot give up privileges of programs")?;
    // memory may hold the key of a webhook: no other process of this user may read it, and no dump holds it
    nix::sys::prctl::set_dumpable(false).context("cannot forbid dumps of memory")?;
    let calls = match calls::program() {
        Ok(program) => Some(program),
        Err(error) => {
            status.warnings.push(format!("seccomp: {error:#}"));
            None
        }
    };
    let looking = capabilities::looking(&held);
    outside::start(looking.clone(), calls.clone()).context("cannot start a thread")?;
    status.processes = capabilities::names(&looking);

    match files::confine(needs) {
        Ok(abi) => status.landlock = Some(abi),
        Err(error) => status.warnings.push(format!("landlock: {error:#}")),
    }
    status.capabilities = capabilities::names(&capabilities::reduce(&held)?);
    if let Some(program) = calls {
        match calls::apply(&program) {
            Ok(()) => status.seccomp = true,
            Err(error) => status.warnings.push(format!("seccomp: {error:#}")),
        }
    }
    for warning in &status.warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!(
        capabilities = status.capabilities.join(" "),
        seccomp = status.seccomp,
        landlock = status.landlock.unwrap_or_default(),
        "confined"
    );
    Ok(status)
}

/// Fails, naming them all, when capabilities are missing without which there is no filter.
///
/// # Errors
/// As said.
pub fn require() -> Result<()> {
    capabilities::require().map(drop)
}

/// Leaves everything as it is, for whoever looks for an error.
///
/// # Errors
/// When a capability is missing without which there is no filter.
pub fn none() -> Result<SandboxStatus> {
    let held = capabilities::require()?;
    Ok(SandboxStatus {
        capabilities: capabilities::names(&held),
        warnings: vec![
            "started with --no-sandbox: the daemon can do whatever its user may".to_owned(),
        ],
        ..SandboxStatus::default()
    })
}

/// What to look at when something was not permitted; `None` if `error` is about something else.
#[must_use]
pub fn advice(error: &str) -> Option<String> {
    let refused = [
        "(os error 1)",
        "(os error 13)",
        "EPERM",
        "EACCES",
        "permission denied",
    ];
    let lower = error.to_lowercase();
    if !refused
        .iter()
        .any(|word| lower.contains(&word.to_lowercase()))
    {
        return None;
    }
    let mut causes = capabilities::absent();
    if outside::is_confined() {
        causes.push(
            "a file in a directory that was no part of the policy when the daemon started (start it again, or with \
             --allow-read or --allow-write)"
                .to_owned(),
        );
    }
    (!causes.is_empty()).then(|| format!("what can be the cause: {}", causes.join("; ")))
}
