//! `edgefilter manifest`: what people sign.

use anyhow::Result;
use serde_json::json;

use super::{Manifest, Outcome, Output};
use crate::approval;
use crate::policy;

/// Prints the manifest of a policy without errors.
pub fn manifest(arguments: &Manifest, out: &mut Output<'_>) -> Result<Outcome> {
    let (_, bundle) = policy::gather(&arguments.file)?;
    let manifest = approval::Manifest::new(&bundle, arguments.serial)?;
    let text = manifest.text();
    out.show(
        &json!({ "manifest": text, "serial": arguments.serial, "digest": bundle.digest() }),
        |_| text.clone(),
    )?;
    Ok(Outcome::Done)
}
