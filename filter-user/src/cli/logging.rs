//! The daemon's log: to the journal when the service manager connects standard error to it, else to standard error.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use nix::sys::stat::fstat;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// Checks what `--log` was given.
pub(super) fn directives(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

/// Starts logging. `json`: a JSON document a line on standard error.
pub(super) fn start(directives: &str, json: bool, colour: bool) -> Result<()> {
    let filter = EnvFilter::try_new(directives)
        .with_context(|| format!("cannot read the log level {directives:?}"))?;
    let registry = tracing_subscriber::registry().with(filter);
    let stderr = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false);
    let started = if journal()
        && let Ok(journal) = tracing_journald::layer()
    {
        registry.with(journal).try_init()
    } else if json {
        registry.with(stderr.json()).try_init()
    } else {
        registry.with(stderr).try_init()
    };
    started.context("logging is started already")
}

/// Whether standard error is the journal's stream: `JOURNAL_STREAM` holds its device and inode, systemd.exec(5). A
/// child whose standard error goes elsewhere inherits the variable all the same.
fn journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    fstat(std::io::stderr().as_fd())
        .is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}
