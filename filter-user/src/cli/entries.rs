//! `edgefilter allow` and `edgefilter deny`: run-time entries.

use anyhow::{Result, bail};

use super::output::note;
use super::{EntryAction, EntryAdd, Globals, Outcome, Output, daemon, origin};
use crate::control;
use crate::entries::Kind;
use crate::entries::record::EntryOrder;
use crate::report::entries;

/// Shows entries of a kind, makes one or takes some away.
pub fn entries(
    globals: &Globals,
    kind: Kind,
    action: &EntryAction,
    out: &mut Output<'_>,
) -> Result<Outcome> {
    let server = &globals.daemon()?;
    if let EntryAction::Add(add) = action {
        spare_who_asks(kind, add)?;
    }
    daemon::ask(globals, async {
        match action {
            EntryAction::List => {
                let list = control::list_entries(server, kind).await?;
                if !out.json && list.entries.is_empty() {
                    note(&format!("edgefilter: there is no {kind} entry"));
                } else {
                    out.show(&list, |_| entries::entries(&list.entries))?;
                }
            }
            EntryAction::Add(add) => {
                let entry = control::add_entry(server, &order(kind, add)).await?;
                out.show(&entry, |_| entries::entry(&entry))?;
            }
            EntryAction::Remove(remove) => {
                let (source, ports) = (remove.source, &remove.ports);
                let removal = control::remove_entry(server, kind, source, ports).await?;
                out.show(&removal, |_| {
                    let lines = removal.removed.iter().map(entries::entry);
                    lines.fold(String::new(), |text, line| text + "removed: " + &line)
                })?;
            }
        }
        Ok(Outcome::Done)
    })
}

fn order(kind: Kind, add: &EntryAdd) -> EntryOrder {
    EntryOrder {
        kind,
        source: add.source.to_string(),
        ports: add.ports.clone(),
        comment: add.comment.clone(),
        ttl_seconds: add.ttl.map(|ttl| ttl.as_secs()),
        from: add.from.clone(),
        until: add.until.clone(),
        force: add.force,
    }
}

/// Refuses what would cut off the connection that the command is typed over.
fn spare_who_asks(kind: Kind, add: &EntryAdd) -> Result<()> {
    if kind == Kind::Deny
        && !add.force
        && let Some(client) = origin::ssh_client()
        && add.source.contains(&client)
    {
        bail!(
            "{} would keep out {client}, from where this command is typed over SSH; --force does it all the same",
            add.source
        );
    }
    Ok(())
}
