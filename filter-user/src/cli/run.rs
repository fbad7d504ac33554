//! `edgefilter run`: the runtime around the daemon, its log and its signals.

use std::future::Future;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::{Color, Globals, Outcome, Run, logging};
use crate::daemon::{self, sandbox};
use crate::dataplane::Pins;
use crate::report::sandbox::SandboxStatus;

/// Threads that do the daemon's work; what may take long is started on others.
const WORKERS: usize = 2;

/// Runs the daemon until SIGTERM or SIGINT.
pub fn run(globals: &Globals, arguments: &Run) -> Result<Outcome> {
    let colour = match globals.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    give_memory_back();
    logging::start(&arguments.log, globals.json, colour)?;
    let sandbox = confine(globals, arguments)?;
    let options = daemon::Options {
        policy: arguments.policy.clone(),
        settings: arguments.settings.clone(),
        state_dir: globals.state_dir.clone(),
        run_dir: globals.run_dir.clone(),
        bpffs: globals.bpffs.clone(),
        flows: arguments.flows,
        cni_cache: arguments.cni_cache.clone(),
        sandbox,
        watch: arguments.watch,
    };
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("edgefilter")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(async {
        let shutdown = shutdown()?;
        Box::pin(daemon::run(options, shutdown)).await
    });
    // a thread that hangs in the kernel must not keep the process
    runtime.shutdown_timeout(Duration::from_secs(1));
    if let Err(error) = &ended
        && let Some(advice) = sandbox::advice(&format!("{error:#}"))
    {
        tracing::error!("{advice}");
    }
    ended.map(|()| Outcome::Done)
}

/// Gives up what the daemon does not need. Before the runtime: it holds for threads that are started later.
fn confine(globals: &Globals, arguments: &Run) -> Result<SandboxStatus> {
    if arguments.no_sandbox {
        return sandbox::none();
    }
    sandbox::require()?;
    // the last thing that only a full root can do
    Pins::mount(&globals.bpffs)?;
    let own = [&globals.state_dir, &globals.run_dir, &globals.bpffs];
    sandbox::enter(&sandbox::Needs {
        policy: arguments.policy.clone(),
        settings: arguments.settings.clone(),
        read: [
            vec![arguments.cni_cache.clone()],
            arguments.allow_read.clone(),
        ]
        .concat(),
        own: own.map(Clone::clone).to_vec(),
        write: arguments.allow_write.clone(),
    })
}

/// A policy of a million prefixes passes through memory in a few large pieces, one after the other. Each is to go back to
/// the system when it is freed: by default glibc keeps them, in the hope of more of the kind. Long answers are made by
/// whichever thread is free: with a heap for each, every one of them would keep room for the longest (mallopt(3)).
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    {
        const LARGE: libc::c_int = 1 << 20;
        // SAFETY: called before there are other threads, with parameters that mallopt(3) knows.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE);
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

/// Ends on SIGTERM or SIGINT. The signals are caught from the call on, not from the first poll.
fn shutdown() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping");
    })
}
