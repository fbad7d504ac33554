//! `edgefilter plan`, `apply`, `confirm`, `rollback` and `generations`: policies go to the daemon with all their files.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::output::{note, show_diagnostics};
use super::{Apply, GenerationsOf, Globals, Outcome, Output, Plan, RollbackTo, TermsOf, daemon};
use crate::approval;
use crate::control::policy::{
    self as control, Applied, Push, Rollback, Terms, confirm_policy, generation, generations,
};
use crate::guard;
use crate::policy;
use crate::report::policy as report;

/// Shows what a policy would change.
pub fn plan(globals: &Globals, arguments: &Plan, out: &mut Output<'_>) -> Result<Outcome> {
    let Some(push) = gather(globals, &arguments.file, Terms::default(), out)? else {
        return Ok(Outcome::Refused);
    };
    let server = &globals.daemon()?;
    daemon::ask(globals, async {
        let plan = push.plan(server).await?;
        let refused = !plan.objections.is_empty();
        out.show(&plan, |colour| report::plan(&plan, colour))?;
        Ok(if refused {
            Outcome::Refused
        } else {
            Outcome::Done
        })
    })
}

/// Puts a policy in force.
pub fn apply(globals: &Globals, arguments: &Apply, out: &mut Output<'_>) -> Result<Outcome> {
    let terms = terms(&arguments.terms);
    let Some(push) = gather(globals, &arguments.file, terms, out)? else {
        return Ok(Outcome::Refused);
    };
    let server = &globals.daemon()?;
    daemon::ask(globals, async {
        let applied = push.apply(server).await?;
        show(&applied, out)
    })
}

/// Keeps what is in force.
pub fn confirm(globals: &Globals, out: &mut Output<'_>) -> Result<Outcome> {
    let server = &globals.daemon()?;
    daemon::ask(globals, async {
        let kept = confirm_policy(server).await?;
        out.show(&kept, |_| {
            format!("generation {} stays in force\n", kept.number)
        })?;
        Ok(Outcome::Done)
    })
}

/// Goes back to an earlier policy.
pub fn rollback(
    globals: &Globals,
    arguments: &RollbackTo,
    out: &mut Output<'_>,
) -> Result<Outcome> {
    let rollback = Rollback {
        to: arguments.generation,
        terms: terms(&arguments.terms),
    };
    let server = &globals.daemon()?;
    daemon::ask(globals, async {
        let applied = rollback.apply(server).await?;
        show(&applied, out)
    })
}

/// Shows the policies that were put in force.
pub fn show_generations(
    globals: &Globals,
    arguments: &GenerationsOf,
    out: &mut Output<'_>,
) -> Result<Outcome> {
    let server = &globals.daemon()?;
    daemon::ask(globals, async {
        match arguments.number {
            Some(number) => {
                let one = generation(server, number).await?;
                out.show(&one, |_| report::files(&one))?;
            }
            None => {
                let all = generations(server).await?;
                out.show(&all, |colour| report::generations(&all, colour))?;
            }
        }
        Ok(Outcome::Done)
    })
}

fn show(applied: &Applied, out: &mut Output<'_>) -> Result<Outcome> {
    out.show(applied, |colour| report::applied(applied, colour))?;
    if let Some(seconds) = applied.confirm_seconds {
        note(&format!(
            "edgefilter: undone in {} unless `edgefilter confirm` keeps it",
            humantime::format_duration(Duration::from_secs(seconds))
        ));
    }
    Ok(Outcome::Done)
}

/// The policy and all its files, checked; `None` if it has errors, which were shown.
pub(super) fn gather(
    globals: &Globals,
    file: &Path,
    terms: Terms,
    out: &mut Output<'_>,
) -> Result<Option<Push>> {
    match policy::gather(file) {
        Ok((loaded, bundle)) => {
            if !out.json {
                show_diagnostics(&loaded.warnings, globals.color);
            }
            let approval = approval::read(file)
                .with_context(|| format!("cannot read the signatures of {}", file.display()))?;
            Ok(Some(Push {
                bundle,
                approval,
                terms,
            }))
        }
        Err(diagnostics) => {
            if out.json {
                let mut document = diagnostics.to_json();
                document["ok"] = false.into();
                out.document(&document)?;
            } else {
                show_diagnostics(&diagnostics, globals.color);
            }
            Ok(None)
        }
    }
}

fn terms(arguments: &TermsOf) -> Terms {
    Terms {
        message: arguments.message.clone(),
        confirm_seconds: arguments.confirm.map(|time| time.as_secs()),
        if_generation: arguments.if_generation,
        force: arguments.force,
        ssh_connection: guard::own_ssh_connection(),
    }
}

/// A time to confirm in.
pub(super) fn confirm_time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text)
        .map_err(|_| "not a time such as 30s, 5m or 1h".to_owned())?;
    if time.subsec_nanos() == 0
        && (Duration::from_secs(1)..=control::LONGEST_CONFIRM).contains(&time)
    {
        Ok(time)
    } else {
        Err("not whole seconds from 1s to 24h".to_owned())
    }
}
