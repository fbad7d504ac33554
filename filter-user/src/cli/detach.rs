//! `edgefilter detach`: the only command that takes the filter off.

use anyhow::{Context, Result};
use serde_json::json;
use tokio::runtime::Builder;

use super::output::note;
use super::{Globals, Outcome, Output, privilege};
use crate::control;
use crate::dataplane::{self, Pins, interface_name};
use crate::report::printable;
use crate::scans::outlets::nft::{self, Removal};

/// Detaches and says from what.
pub fn detach(globals: &Globals, out: &mut Output<'_>) -> Result<Outcome> {
    privilege::require_readable(&globals.bpffs)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let pid = runtime
        .block_on(control::status(&globals.run_dir))
        .ok()
        .and_then(|status| status.pid);
    let there = Pins::at(&globals.bpffs).exist();
    let links: Vec<Link> = dataplane::detach(&globals.bpffs)?
        .into_iter()
        .map(Link::new)
        .collect();
    let document: Vec<_> =
        links.iter().map(|link| json!({ "link": link.name, "interface": link.interface, "ifindex": link.ifindex })).collect();
    out.show(
        &json!({ "detached": document, "was_in_force": there }),
        |_| {
            if !there {
                return "not attached: there is nothing to take off\n".to_owned();
            }
            let mut text: String = links.iter().map(Link::text).collect();
            text.push_str("the filter is off; its tables and counters are removed\n");
            text
        },
    )?;
    match nft::remove_blocking() {
        Ok(Removal::Gone | Removal::NoProgram) => {}
        Err(error) => note(&format!(
            "edgefilter: the table `inet edgefilter` may still be there ({error}); remove it with `nft delete table inet \
             edgefilter`"
        )),
    }
    if let Some(pid) = pid {
        note(&format!("edgefilter: the daemon (pid {pid}) ends too"));
    }
    Ok(Outcome::Done)
}

/// What was detached: `xdp-3`, `tcx-3`, `clsact-3`.
struct Link {
    name: String,
    ifindex: Option<u32>,
    interface: Option<String>,
}

impl Link {
    fn new(name: String) -> Self {
        let ifindex = name
            .rsplit_once('-')
            .and_then(|(_, index)| index.parse().ok());
        let interface = ifindex.and_then(interface_name);
        Self {
            name,
            ifindex,
            interface,
        }
    }

    fn text(&self) -> String {
        let side = match self.name.split('-').next() {
            Some("xdp" | "send") => "ingress",
            Some("tcx" | "deliver") => "egress",
            _ => "ingress and egress",
        };
        match (&self.interface, self.ifindex) {
            (Some(interface), _) => format!("detached from {} ({side})\n", printable(interface)),
            (None, Some(ifindex)) => {
                format!("detached from interface {ifindex}, which is gone ({side})\n")
            }
            (None, None) => format!("removed {}\n", self.name),
        }
    }
}
