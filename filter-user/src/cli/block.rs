//! `edgefilter block`: blocks as the daemon keeps them, and those that a person asks for.

use anyhow::Result;

use super::output::note;
use super::{Block, Globals, Outcome, Output, daemon};
use crate::control;
use crate::report::scans;

/// Shows blocks, adds one or takes one off.
pub fn block(globals: &Globals, action: &Block, out: &mut Output<'_>) -> Result<Outcome> {
    let server = &globals.daemon()?;
    daemon::ask(globals, async {
        match action {
            Block::List => {
                let list = control::blocks(server).await?;
                if !out.json && list.blocks.is_empty() {
                    note("edgefilter: no source is blocked");
                } else {
                    out.show(&list, |_| scans::blocks(&list.blocks))?;
                }
            }
            Block::Add(add) => {
                let block =
                    control::block(server, add.source, add.ttl, add.comment.clone()).await?;
                out.show(&block, |_| scans::block(&block))?;
            }
            Block::Remove(remove) => {
                let block = control::unblock(server, remove.source).await?;
                out.show(&block, |_| {
                    format!("{} is not blocked any more\n", scans::source(block.source))
                })?;
            }
        }
        Ok(Outcome::Done)
    })
}
