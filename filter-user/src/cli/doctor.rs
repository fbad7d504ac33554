//! `edgefilter doctor`: examines an interface, and what a policy needs of it.

use std::path::Path;

use anyhow::{Result, anyhow};

use super::output::{note, show_diagnostics};
use super::{Doctor, Globals, Outcome, Output, check};
use crate::doctor::{self, Options, PolicyNeeds, Status};
use crate::policy;

/// Shows the findings.
pub fn doctor(globals: &Globals, arguments: &Doctor, out: &mut Output<'_>) -> Result<Outcome> {
    let needs = match &arguments.policy {
        Some(file) => Some(needs(globals, file, &arguments.interface)?),
        None => None,
    };
    let options = Options {
        bpffs: globals.bpffs.clone(),
        policy: needs,
        ..Options::default()
    };
    let report = doctor::examine(&arguments.interface, &options)?;
    out.show(&report, |colour| doctor::render_text(&report, colour))?;
    Ok(if report.worst() == Status::Fail {
        Outcome::Refused
    } else {
        Outcome::Done
    })
}

fn needs(globals: &Globals, file: &Path, interface: &str) -> Result<PolicyNeeds> {
    let loaded = policy::load(file)?;
    if !loaded.warnings.is_empty() {
        show_diagnostics(&loaded.warnings, globals.color);
    }
    let profiles = loaded.policy.profile_for(interface, None);
    if profiles.is_empty() {
        note(&format!(
            "edgefilter: no profile of {} names {interface}: it would not be filtered",
            file.display()
        ));
    }
    let memory = check::memory(&loaded.policy)
        .map_err(|message| anyhow!("{}: the policy does not fit: {message}", file.display()))?;
    Ok(PolicyNeeds {
        vlans: profiles
            .iter()
            .any(|(_, profile)| !profile.vlans.is_empty()),
        // as the daemon does: the first profile decides about the mode
        generic_xdp: profiles
            .first()
            .is_some_and(|(_, profile)| profile.generic_xdp),
        memory: Some(memory),
        antispoof: profiles
            .iter()
            .map(|(_, profile)| profile)
            .find(|profile| profile.vlans.is_empty() && profile.containers.is_none())
            .map(|profile| profile.antispoof.clone()),
    })
}
