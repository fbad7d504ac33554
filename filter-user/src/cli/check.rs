//! `edgefilter check`: says all that is wrong with a policy, and what it takes when nothing is.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Result;
use filter_common::layout::Bank;
use filter_common::limits::BANKS;
use filter_common::matrix::Entry;
use filter_common::prefix::{Cell4, Cell6};
use serde_json::json;

use super::output::{note, show_diagnostics};
use super::{Check, Color, Globals, Outcome, Output};
use crate::access::Directory;
use crate::compile::{HostFacts, RuleSlots, compile};
use crate::dataplane::Sizes;
use crate::policy::{self, Active, AddressSet, Destination, Policy, PrefixSet};
use crate::report::time::rfc3339;
use crate::settings;

/// Checks the file. Diagnostics go to standard error, or into the document.
pub fn check(globals: &Globals, arguments: &Check, out: &mut Output<'_>) -> Result<Outcome> {
    let file = &arguments.file;
    if arguments.settings {
        return check_settings(globals, file, out);
    }
    let loaded = match policy::load(file) {
        Ok(loaded) => loaded,
        Err(diagnostics) => return refuse(globals, file, &diagnostics, out),
    };
    let policy = &loaded.policy;
    let mut document = loaded.warnings.to_json();
    document["file"] = file.to_string_lossy().into();
    let memory = match memory(policy) {
        Ok(memory) => memory,
        Err(message) => {
            if out.json {
                document["ok"] = false.into();
                document["errors"] = json!([too_large(file, &message)]);
                out.document(&document)?;
            } else {
                show_warnings(&loaded.warnings, globals.color);
                note(&format!(
                    "{}: error: the policy does not fit: {message}",
                    file.display()
                ));
            }
            return Ok(Outcome::Refused);
        }
    };
    let (rules, prefixes) = figures(policy);
    let now = SystemTime::now();
    let active = policy.active(now);
    if out.json {
        document["ok"] = true.into();
        document["profiles"] = policy.profiles.len().into();
        document["rules"] = rules.into();
        document["prefixes"] = prefixes.into();
        document["memory"] = memory.into();
        document["fingerprint"] = loaded.fingerprint.into();
        document["resting"] = active.resting().collect();
        document["next_change"] = policy.next_change(now).map(rfc3339).into();
        out.document(&document)?;
    } else {
        show_warnings(&loaded.warnings, globals.color);
        let profiles = counted(policy.profiles.len(), "profile");
        let warnings = match loaded.warnings.len() + loaded.warnings.omitted() {
            0 => String::new(),
            count => format!("; {}", counted(count, "warning")),
        };
        let resting = match active.resting().count() {
            0 => String::new(),
            count => format!(" ({count} of them not at this time)"),
        };
        out.text(&format!(
            "{}: ok: {profiles}, {}{resting}, {}, {:.1} MiB of tables{warnings}\n",
            file.display(),
            counted(rules, "rule"),
            if prefixes == 1 {
                "1 prefix".to_owned()
            } else {
                format!("{prefixes} prefixes")
            },
            memory as f64 / f64::from(1 << 20),
        ))?;
    }
    Ok(Outcome::Done)
}

fn refuse(
    globals: &Globals,
    file: &Path,
    diagnostics: &policy::Diagnostics,
    out: &mut Output<'_>,
) -> Result<Outcome> {
    if out.json {
        let mut document = diagnostics.to_json();
        document["ok"] = false.into();
        document["file"] = file.to_string_lossy().into();
        out.document(&document)?;
    } else {
        show_diagnostics(diagnostics, globals.color);
        note(&format!("{}: {}", file.display(), summary(diagnostics)));
    }
    Ok(Outcome::Refused)
}

fn check_settings(globals: &Globals, file: &Path, out: &mut Output<'_>) -> Result<Outcome> {
    match settings::read(file) {
        Ok(settings) => {
            let unknown = Directory::new(&settings.roles).unknown().to_vec();
            if out.json {
                let warnings: Vec<_> = unknown
                    .iter()
                    .map(|text| json!({ "message": text }))
                    .collect();
                out.document(&json!({
                    "ok": true,
                    "file": file.to_string_lossy(),
                    "warnings": warnings,
                }))?;
            } else {
                for warning in &unknown {
                    note(&format!("{}: warning: {warning}", file.display()));
                }
                out.text(&format!("{}: ok\n", file.display()))?;
            }
            Ok(Outcome::Done)
        }
        Err(diagnostics) => refuse(globals, file, &diagnostics, out),
    }
}

/// Bytes of the kernel's tables for this policy, both banks; or why there is no room for it.
pub(super) fn memory(policy: &Policy) -> Result<u64, String> {
    let compiled = compile(
        policy,
        &Active::default(),
        &HostFacts::default(),
        &mut RuleSlots::default(),
    )
    .map_err(|error| error.to_string())?;
    let needed = Sizes::needed(&compiled).map_err(|error| error.to_string())?;
    let sizes = Sizes::with_room(needed);
    let bank = size_of::<Bank>()
        + sizes.cells4 * size_of::<Cell4>()
        + sizes.cells6 * size_of::<Cell6>()
        + sizes.matrix * size_of::<Entry>();
    Ok((BANKS * bank) as u64)
}

fn show_warnings(warnings: &policy::Diagnostics, color: Color) {
    if !warnings.is_empty() {
        show_diagnostics(warnings, color);
    }
}

fn too_large(file: &Path, message: &str) -> serde_json::Value {
    json!({
        "severity": "error",
        "code": "too-large",
        "file": file.to_string_lossy(),
        "text": file.to_string_lossy(),
        "message": format!("the policy does not fit: {message}"),
        "cure": "use fewer different address and port lists, or fewer prefixes",
    })
}

/// Rules, and prefixes in the lists that rules, source checks and `scans` use.
fn figures(policy: &Policy) -> (usize, usize) {
    let mut sets: HashMap<*const PrefixSet, usize> = HashMap::new();
    let mut add = |set: &Arc<PrefixSet>| {
        sets.insert(Arc::as_ptr(set), set.v4.len() + set.v6.len());
    };
    for profile in &policy.profiles {
        let antispoof = &profile.antispoof;
        let lists = [&antispoof.legitimate, &antispoof.egress_sources];
        lists.into_iter().flatten().for_each(&mut add);
    }
    let spared = [&policy.scans.exempt, &policy.scans.never_block];
    spared.into_iter().flatten().for_each(&mut add);
    let mut rules = 0;
    for rule in policy.rules() {
        rules += 1;
        if let AddressSet::Prefixes(set) = &rule.from {
            add(set);
        }
        if let Destination::Prefixes(set) = &rule.to {
            add(set);
        }
    }
    (rules, sets.values().sum())
}

fn summary(diagnostics: &policy::Diagnostics) -> String {
    let errors = counted(diagnostics.errors().count(), "error");
    let mut text = match diagnostics.warnings().count() {
        0 => errors,
        count => format!("{errors}, {}", counted(count, "warning")),
    };
    if diagnostics.omitted() > 0 {
        // Writing into a String cannot fail.
        let _ = write!(text, ", {} more not shown", diagnostics.omitted());
    }
    text
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}
