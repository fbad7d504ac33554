//! `edgefilter completions` and `edgefilter man`, made from the definition of the command line, and `edgefilter schema`,
//! made from the keys of policies.

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_mangen::Man as Page;

use super::{Cli, Completions, Man, Outcome, Output};
use crate::policy;

/// Writes the completions of a shell.
pub fn completions(arguments: &Completions, out: &mut Output<'_>) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Cli::command(),
        "edgefilter",
        &mut script,
    );
    out.text(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}

/// Writes the JSON Schema of policy files.
pub fn schema(out: &mut Output<'_>) -> Result<Outcome> {
    out.document(&policy::schema())?;
    Ok(Outcome::Done)
}

/// Writes the manual page, or all of them into a directory.
pub fn man(arguments: &Man, out: &mut Output<'_>) -> Result<Outcome> {
    if let Some(directory) = &arguments.dir {
        clap_mangen::generate_to(Cli::command(), directory)
            .with_context(|| format!("cannot write manual pages to {}", directory.display()))?;
    } else {
        let mut page = Vec::new();
        Page::new(Cli::command())
            .render(&mut page)
            .context("cannot make the manual page")?;
        out.text(&String::from_utf8_lossy(&page))?;
    }
    Ok(Outcome::Done)
}
