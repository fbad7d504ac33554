//! `edgefilter status`: asks the daemon, and the pins when it does not answer.

use std::path::Path;

use anyhow::{Context, Result};
use tokio::runtime::Builder;

use super::output::note;
use super::{Globals, Outcome, Output, privilege};
use crate::control;
use crate::dataplane::{Pins, counters, in_force};
use crate::doctor;
use crate::report::pinned::PinnedStatus;

/// Shows what is known.
pub fn status(globals: &Globals, out: &mut Output<'_>) -> Result<Outcome> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    match runtime.block_on(control::status(globals.daemon()?)) {
        Ok(status) => {
            out.show(&status, |colour| status.render(colour))?;
            Ok(Outcome::Done)
        }
        Err(error) if error.is_unreachable() && globals.remote.is_none() => {
            let reason = format!("{:#}", anyhow::Error::new(error));
            let status = pinned(&globals.bpffs, reason.clone())?;
            out.show(&status, |colour| status.render(colour))?;
            if !out.json {
                note(&format!("edgefilter: {reason}"));
            }
            Ok(Outcome::Unreachable)
        }
        Err(error) => Err(error.into()),
    }
}

fn pinned(bpffs: &Path, reason: String) -> Result<PinnedStatus> {
    privilege::require_readable(bpffs)?;
    let pins = Pins::at(bpffs);
    let counters = if pins.exist() {
        counters::read(&pins)
            .map_err(|error| {
                let error = anyhow::Error::new(error).context("cannot read the pins");
                note(&format!("edgefilter: {error:#}"));
            })
            .ok()
    } else {
        None
    };
    let own = doctor::Options::default().own_program_names;
    let attached = |name: &str| {
        doctor::xdp_program(name)
            .is_some_and(|program| own.iter().any(|own| program.starts_with(own.as_str())))
    };
    let kernel = in_force::policy(&pins).unwrap_or_else(|error| {
        let error = anyhow::Error::new(error).context("cannot tell which policy is in force");
        note(&format!("edgefilter: {error:#}"));
        None
    });
    Ok(PinnedStatus::new(
        counters.as_ref(),
        kernel,
        reason,
        attached,
    ))
}
