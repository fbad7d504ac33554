//! `edgefilter replay`: what a policy would make of a capture's packets.

use std::fs::File;
use std::io::Read as _;

use anyhow::{Context, Result, ensure};

use super::policy::gather;
use super::{Globals, Outcome, Output, Replay, daemon};
use crate::control::policy::Terms;
use crate::replay::{Frames, LONGEST, ReplayRequest};
use crate::report;

/// Asks the daemon.
pub fn replay(globals: &Globals, arguments: &Replay, out: &mut Output<'_>) -> Result<Outcome> {
    let capture = read(arguments)?;
    let Some(push) = gather(globals, &arguments.policy, Terms::default(), out)? else {
        return Ok(Outcome::Refused);
    };
    let server = &globals.daemon()?;
    let request = ReplayRequest {
        bundle: push.bundle,
        interface: arguments.iface.clone(),
        ..ReplayRequest::default()
    }
    .with_capture(&capture)?;
    drop(capture);
    daemon::ask(globals, async {
        let replayed = request.ask(server).await?;
        out.show(&replayed, |colour| {
            report::replay::replayed(&replayed, colour)
        })?;
        Ok(Outcome::Done)
    })
}

/// The capture, if it is one: what is none need not be sent.
fn read(arguments: &Replay) -> Result<Vec<u8>> {
    let shown = arguments.file.display();
    let file = File::open(&arguments.file).with_context(|| format!("cannot open {shown}"))?;
    let mut capture = Vec::new();
    file.take(LONGEST as u64 + 1)
        .read_to_end(&mut capture)
        .with_context(|| format!("cannot read {shown}"))?;
    ensure!(
        capture.len() <= LONGEST,
        "{shown} is longer than {} MiB: cut it (editcap -c), or capture headers only (tcpdump -s 128)",
        LONGEST >> 20
    );
    Frames::new(&capture).with_context(|| format!("cannot replay {shown}"))?;
    Ok(capture)
}
