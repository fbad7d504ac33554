//! `edgefilter run`: the runtime around the daemon, its log and its signals.

use std::future::Future;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::{Color, Globals, Outcome, Run, logging};
use crate::daemon;

/// Threads that do the daemon's work; what may take long is started on others.
const WORKERS: usize = 2;

/// Runs the daemon until SIGTERM or SIGINT.
pub fn run(globals: &Globals, arguments: &Run) -> Result<Outcome> {
    let colour = match globals.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    logging::start(&arguments.log, globals.json, colour)?;
    let options = daemon::Options {
        policy: arguments.policy.clone(),
        settings: arguments.settings.clone(),
        state_dir: globals.state_dir.clone(),
        run_dir: globals.run_dir.clone(),
        bpffs: globals.bpffs.clone(),
        flows: arguments.flows,
        cni_cache: arguments.cni_cache.clone(),
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
        daemon::run(options, shutdown).await
    });
    // a thread that hangs in the kernel must not keep the process
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended.map(|()| Outcome::Done)
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
