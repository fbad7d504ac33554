//! Asking the daemon: the runtime it takes, and how a command ends when nobody answers.

use std::future::Future;
use std::path::PathBuf;

use anyhow::{Context, Result};
use tokio::runtime::Builder;

use super::{Globals, Outcome, report_error};
use crate::control::{ClientError, Remote, Target};

impl Globals {
    /// The daemon to ask: the one on this host, or the one that `--remote` names.
    pub fn daemon(&self) -> Result<Target> {
        let Some(address) = &self.remote else {
            return Ok(Target::from(&self.run_dir));
        };
        let file = |file: &Option<PathBuf>, option| {
            file.clone()
                .with_context(|| format!("--remote takes {option}, too"))
        };
        let remote = Remote::new(
            address,
            &file(&self.tls_ca, "--tls-ca")?,
            &file(&self.tls_cert, "--tls-cert")?,
            &file(&self.tls_key, "--tls-key")?,
        )?;
        Ok(Target::Remote(remote))
    }
}

/// Waits for the answer. A daemon that cannot be reached is an outcome, and was said.
pub(super) fn ask(
    globals: &Globals,
    question: impl Future<Output = Result<Outcome>>,
) -> Result<Outcome> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    match runtime.block_on(question) {
        Err(error)
            if error
                .downcast_ref()
                .is_some_and(ClientError::is_unreachable) =>
        {
            report_error(&error, globals);
            Ok(Outcome::Unreachable)
        }
        answered => answered,
    }
}
