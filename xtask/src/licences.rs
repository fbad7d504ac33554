//! Which dependencies may be linked: reads deny.toml, the policy file of
//! cargo-deny, and judges what cargo resolved. It needs no network and does
//! not judge security advisories.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand, Package};
use serde::Deserialize;
use spdx::{Expression, LicenseReq, Licensee, ParseMode};

use crate::{object, setup, step::Done, workspace};

/// What may be linked into the BPF object: compatible with version 2 of the
/// GPL, which the kernel asks of programs that use its GPL-only helpers.
/// Apache-2.0 alone is not.
const GPL2_COMPATIBLE: &[&str] = &[
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "GPL-2.0-only",
    "ISC",
    "MIT",
    "Zlib",
];

/// The part of deny.toml that is read here.
#[derive(Debug, Deserialize)]
struct Policy {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    #[serde(default)]
    deny: Vec<Ban>,
}

#[derive(Debug, Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    #[serde(default)]
    allow_git: Vec<String>,
}

/// The step of `cargo xtask test`.
pub fn check() -> Result<Done> {
    let path = workspace::root().join("deny.toml");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let policy: Policy = toml::from_str(&text).context("deny.toml")?;
    let allowed = licensees(&policy.licenses.allow)?;
    let gpl_compatible = licensees(GPL2_COMPATIBLE)?;

    let metadata = resolve()?;
    let mut complaints = Vec::new();
    for package in &metadata.packages {
        let mut complain =
            |why: String| complaints.push(format!("{} {}: {why}", package.name, package.version));
        // Our own crates are under the licences beside this policy.
        if package.source.is_some() {
            let judged = match &package.license {
                Some(text) => judge(text, &allowed),
                None => Err("states no licence".to_owned()),
            };
            if let Err(why) = judged {
                complain(format!("{why}, by [licenses] of deny.toml"));
            }
            if let Some(why) = judge_source(package, &policy.sources) {
                complain(why);
            }
        }
        if let Some(ban) = policy.bans.deny.iter().find(|ban| package.name == ban.name) {
            complain(format!(
                "banned ({})",
                ban.reason.as_deref().unwrap_or("no reason given")
            ));
        }
    }
    let bpf = bpf_packages()?;
    for (package, licence) in &bpf {
        if let Err(why) = judge(licence, &gpl_compatible) {
            complaints.push(format!(
                "{package}: {why} in the BPF object, which must be GPL-compatible"
            ));
        }
    }
    if !complaints.is_empty() {
        bail!("{}", complaints.join("\n"));
    }
    println!(
        "{} packages, {} of them in the BPF object",
        metadata.packages.len(),
        bpf.len()
    );
    Ok(Done::Passed)
}

/// What cargo would build here. Other platforms' packages would have to be
/// downloaded to be judged.
fn resolve() -> Result<Metadata> {
    let mut options = vec!["--locked".to_owned()];
    let version = workspace::output(workspace::cargo_command("version").arg("--verbose"))?;
    if let Some(host) = version.lines().find_map(|line| line.strip_prefix("host: ")) {
        options.extend(["--filter-platform".to_owned(), host.to_owned()]);
    }
    MetadataCommand::new()
        .cargo_path(workspace::cargo())
        .manifest_path(workspace::root().join("Cargo.toml"))
        .other_options(options)
        .exec()
        .context("cargo metadata")
}

/// What the BPF object links: name and version, and licence. Asked of cargo
/// with the features that object is built with; the resolution above is for
/// the whole workspace at once.
fn bpf_packages() -> Result<Vec<(String, String)>> {
    let listing = workspace::output(workspace::cargo_command("tree").args([
        "--locked",
        "--package",
        object::PACKAGE,
        "--features",
        "log",
        "--target",
        setup::target(),
        // Procedural macros and build scripts run, and are not linked.
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--no-dedupe",
        "--format",
        "{p}|{l}",
    ]))?;
    let packages: BTreeSet<(String, String)> = listing
        .lines()
        .filter_map(|line| line.split_once('|'))
        .map(|(package, licence)| (package.to_owned(), licence.to_owned()))
        .collect();
    if packages.len() < 2 {
        bail!(
            "cargo tree names no dependency of {}: {listing}",
            object::PACKAGE
        );
    }
    Ok(packages.into_iter().collect())
}

fn licensees(names: &[impl AsRef<str>]) -> Result<Vec<Licensee>> {
    names
        .iter()
        .map(|name| {
            Licensee::parse(name.as_ref())
                .with_context(|| format!("{} is no SPDX licence", name.as_ref()))
        })
        .collect()
}

fn judge(text: &str, allowed: &[Licensee]) -> Result<(), String> {
    // Old crates write `MIT/Apache-2.0`.
    let expression = Expression::parse_mode(text, ParseMode::LAX)
        .map_err(|error| format!("licence `{text}`: {}", error.reason))?;
    let may = |wanted: &LicenseReq| allowed.iter().any(|licensee| licensee.satisfies(wanted));
    if expression.evaluate(may) {
        Ok(())
    } else {
        Err(format!("licence `{text}` is not allowed"))
    }
}

fn judge_source(package: &Package, sources: &Sources) -> Option<String> {
    let source = package.source.as_ref()?;
    let git = source.repr.strip_prefix("git+").is_some_and(|url| {
        sources
            .allow_git
            .iter()
            .any(|allowed| url.starts_with(allowed.as_str()))
    });
    (!source.is_crates_io() && !git)
        .then(|| format!("comes from {source}, which [sources] of deny.toml does not allow"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_needs_one_allowed_licence_and_a_sum_needs_all() {
        let allowed = licensees(&["MIT"]).unwrap();
        for (expression, accepted) in [
            ("MIT", true),
            ("MIT OR GPL-3.0-only", true),
            ("MIT/Apache-2.0", true),
            ("MIT AND Apache-2.0", false),
            ("Apache-2.0", false),
        ] {
            assert_eq!(
                judge(expression, &allowed).is_ok(),
                accepted,
                "{expression}"
            );
        }
    }

    #[test]
    fn the_bpf_list_is_made_of_known_licences() {
        licensees(GPL2_COMPATIBLE).unwrap();
    }
}
