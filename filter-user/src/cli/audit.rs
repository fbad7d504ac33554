//! `edgefilter audit`: the record of control actions, shown and checked.

use std::path::Path;

use anyhow::{Context, Result};

use super::output::note;
use super::{Audit, AuditShow, AuditVerify, Globals, Outcome, Output, daemon, exposure, lines};
use crate::audit::{self, Filter};
use crate::control::{self, AuditList, AuditQuery};
use crate::report;
use crate::report::time::rfc3339;

/// Records shown, if nobody says otherwise.
const LAST: usize = 20;

/// Shows the record, or checks it.
pub fn audit(globals: &Globals, action: &Audit, out: &mut Output<'_>) -> Result<Outcome> {
    match action {
        Audit::Show(arguments) => show(globals, arguments, out),
        Audit::Verify(arguments) => verify(globals, arguments, out),
        Audit::Exposure(arguments) => exposure::exposure(globals, arguments, out),
    }
}

fn show(globals: &Globals, arguments: &AuditShow, out: &mut Output<'_>) -> Result<Outcome> {
    let filter = Filter {
        since: arguments.since,
        actor: arguments.actor.clone(),
        action: arguments.action.clone(),
    };
    if let Some(directory) = &arguments.dir {
        let records = audit::matching(directory, &filter, arguments.last.unwrap_or(LAST))
            .with_context(|| unreadable(directory))?;
        return list(&AuditList { records }, out);
    }
    let colour = out.colour;
    daemon::ask(globals, async {
        if arguments.follow {
            let last = arguments.last.unwrap_or(lines::LAST_WITH_FOLLOW);
            let news = control::audit_lines(&globals.daemon()?, last).await?;
            let picks = |record: &audit::Record| filter.picks(record);
            let text = |record: &audit::Record| report::audit::record(record, colour);
            return lines::follow_some(news, picks, text, out).await;
        }
        let query = AuditQuery {
            last: arguments.last.unwrap_or(LAST),
            since: arguments.since.map(rfc3339),
            actor: filter.actor.clone(),
            action: filter.action.clone(),
            follow: false,
        };
        list(&control::audit(&globals.daemon()?, &query).await?, out)
    })
}

fn list(list: &AuditList, out: &mut Output<'_>) -> Result<Outcome> {
    if out.json {
        out.document(list)?;
    } else if list.records.is_empty() {
        note("edgefilter: there is no such record");
    } else {
        for record in &list.records {
            out.text(&(report::audit::record(record, out.colour) + "\n"))?;
        }
    }
    Ok(Outcome::Done)
}

fn verify(globals: &Globals, arguments: &AuditVerify, out: &mut Output<'_>) -> Result<Outcome> {
    let directory = match &arguments.dir {
        Some(directory) => directory.clone(),
        None => globals.state_dir.join(audit::DIRECTORY),
    };
    let verified = audit::verify(&directory, arguments.head.as_ref())
        .with_context(|| unreadable(&directory))?;
    out.show(&verified, |colour| {
        report::audit::verified(&verified, colour)
    })?;
    Ok(if verified.ok {
        Outcome::Done
    } else {
        Outcome::Refused
    })
}

fn unreadable(directory: &Path) -> String {
    format!("cannot read the record in {}", directory.display())
}
