//! `edgefilter metrics`: what the daemon tells Prometheus.

use anyhow::Result;
use serde_json::json;

use super::{Globals, Outcome, Output, daemon};
use crate::control;

/// Prints the text as it is.
pub fn metrics(globals: &Globals, out: &mut Output<'_>) -> Result<Outcome> {
    daemon::ask(globals, async {
        let text = control::metrics(globals.daemon()?).await?;
        if out.json {
            out.document(&json!({ "openmetrics": text }))?;
        } else {
            out.text(&text)?;
        }
        Ok(Outcome::Done)
    })
}
