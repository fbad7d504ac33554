//! `edgefilter audit exposure` and `edgefilter learn`: what this host offers, and a first policy from that.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, timeout_at};

use super::output::note;
use super::{AuditExposure, Globals, Learn, Outcome, Output, daemon};
use crate::control::{self, ClientError};
use crate::exposure::learn::{self, Evidence, Order};
use crate::exposure::{self, Exposure, Kind, Listener};
use crate::report::event::EventRecord;
use crate::report::time::rfc3339;

/// Between two words about how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

/// Shows what listens and to whom it is open.
pub(super) fn exposure(
    globals: &Globals,
    arguments: &AuditExposure,
    out: &mut Output<'_>,
) -> Result<Outcome> {
    daemon::ask(globals, async {
        let exposure = ask(globals).await?;
        out.show(&exposure, |colour| exposure.render(colour))?;
        let failed = |kind: &Kind| {
            exposure
                .findings
                .iter()
                .any(|finding| finding.kind == *kind)
        };
        Ok(match arguments.fail_on.iter().find(|kind| failed(kind)) {
            Some(kind) => {
                note(&format!("edgefilter: there is something {}", kind.name()));
                Outcome::Refused
            }
            None => Outcome::Done,
        })
    })
}

/// The daemon's answer, with the names of processes that we may look at and it may not.
async fn ask(globals: &Globals) -> Result<Exposure> {
    let mut exposure = control::exposure(globals.daemon()?).await?;
    if globals.remote.is_some() {
        return Ok(exposure);
    }
    let found = exposure
        .findings
        .iter_mut()
        .filter_map(|finding| finding.listener.as_mut());
    let mut all: Vec<&mut Listener> = found.chain(&mut exposure.loopback).collect();
    exposure::name_processes(&mut all);
    Ok(exposure)
}

/// Writes a first policy.
pub fn learn(globals: &Globals, arguments: &Learn, out: &mut Output<'_>) -> Result<Outcome> {
    if globals.remote.is_some() {
        bail!(
            "a policy is learned from this host's own sockets: run this on the host that it is for"
        );
    }
    let interface = match &arguments.iface {
        Some(name) => name.clone(),
        None => outer()?,
    };
    daemon::ask(globals, async {
        let mut evidence = Evidence::default();
        let watched = match watch(globals, arguments, &interface, &mut evidence).await {
            Ok(()) => Some(arguments.duration),
            Err(error)
                if error
                    .downcast_ref()
                    .is_some_and(ClientError::is_unreachable) =>
            {
                note(
                    "edgefilter: no daemon runs, so traffic is not looked at: run one in monitor mode to see who comes",
                );
                None
            }
            Err(error) => return Err(error),
        };
        let known = match watched {
            Some(_) => ask(globals).await?,
            None => Exposure::default(),
        };
        let (mut listeners, _) = exposure::listeners()?;
        exposure::name_processes(&mut listeners.iter_mut().collect::<Vec<_>>());
        let order = Order {
            interface: &interface,
            enforce: arguments.enforce,
            now: &rfc3339(SystemTime::now()),
            watched,
        };
        let said = |listener: &Listener| said(&known, listener);
        let text = learn::write(&order, &listeners, said, &evidence);
        match &arguments.output {
            Some(path) => save(path, &text, out)?,
            None => out.text(&text)?,
        }
        Ok(Outcome::Done)
    })
}

/// What the policy in force says of a listener.
fn said(known: &Exposure, listener: &Listener) -> Option<(Kind, String)> {
    let same = |other: &Listener| {
        (other.port, other.address) == (listener.port, listener.address)
            && other.protocol == listener.protocol
    };
    let finding = known
        .findings
        .iter()
        .find(|finding| finding.listener.as_ref().is_some_and(same))?;
    Some((finding.kind, finding.rules.join(", ")))
}

/// Follows sampled drops for a while.
async fn watch(
    globals: &Globals,
    arguments: &Learn,
    interface: &str,
    evidence: &mut Evidence,
) -> Result<()> {
    let mut lines = control::events(globals.daemon()?, true, control::RECENT_EVENTS).await?;
    let begin = Instant::now();
    let end = begin + arguments.duration;
    let mut word = begin + PROGRESS;
    loop {
        match timeout_at(end.min(word), lines.next()).await {
            Ok(Ok(Some(line))) => {
                // a line that says what was lost is no event
                if let Ok(event) = serde_json::from_str::<EventRecord>(&line) {
                    evidence.note(&event, interface);
                }
            }
            Ok(Ok(None)) => bail!("the daemon ended while its traffic was looked at"),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) if Instant::now() >= end => return Ok(()),
            Err(_) => {
                let passed = begin.elapsed().as_secs();
                note(&format!(
                    "edgefilter: {passed} of {} seconds, {} samples",
                    arguments.duration.as_secs(),
                    evidence.samples
                ));
                word += PROGRESS;
            }
        }
        if Instant::now() >= end {
            return Ok(());
        }
    }
}

fn save(path: &Path, text: &str, out: &mut Output<'_>) -> Result<()> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .with_context(|| {
            format!(
                "cannot make {}: what is there is not written over",
                path.display()
            )
        })?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    let path = path.display().to_string();
    out.show(&serde_json::json!({ "written": path }), |_| {
        format!("{path} is written; read it, then: edgefilter check {path}\n")
    })
}

/// The interface that the default route leads out of.
fn outer() -> Result<String> {
    let table = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let default = table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?;
        (fields.next()? == "00000000").then(|| name.to_owned())
    });
    default
        .context("no IPv4 default route says which interface faces outside: name it with --iface")
}
