//! `edgefilter doctor`: says whether this interface and this host can carry the filter.
//!
//! Owns the report and its rendering. It only looks: it never attaches, mounts or changes a
//! setting, so it is safe to run on a live host and beside a running daemon.
//!
//! Three steps, each in its own file: [`probe`] reads the system into a plain [`reading::Reading`],
//! [`interface`], [`sources`] and [`host`] judge that reading, and this file prints the outcome. The judges see
//! nothing but the reading, so tests feed them machines that are not at hand.

mod attached;
mod driver;
mod ethtool;
mod host;
mod interface;
mod kernel;
mod netlink;
mod offloads;
#[cfg(test)]
mod parsing_tests;
mod probe;
mod reading;
mod sources;
#[cfg(test)]
mod sources_tests;
mod sysctl;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod veth_tests;

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use crate::policy::AntiSpoof;

/// Outcome of one check. The order is by severity, so `max` of several is the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing to do.
    Ok,
    /// The filter works, but slower, later or with less than it could; see the advice.
    Warn,
    /// The filter will not work on this interface until the advice has been followed.
    Fail,
}

impl Status {
    /// The word used in both output formats.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "fail",
        }
    }

    /// SGR parameter of the terminal colour (ECMA-48): green, yellow, red.
    fn colour(self) -> u8 {
        match self {
            Status::Ok => 32,
            Status::Warn => 33,
            Status::Fail => 31,
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable name, for scripts: lower case words joined by `-`.
    pub id: &'static str,
    /// How bad it is.
    pub status: Status,
    /// What was found, in one line.
    pub seen: String,
    /// What to do, with the exact command where there is one. `None` when there is nothing to do.
    pub advice: Option<String>,
}

impl Check {
    pub(crate) fn ok(id: &'static str, seen: impl Into<String>) -> Self {
        Check {
            id,
            status: Status::Ok,
            seen: seen.into(),
            advice: None,
        }
    }

    pub(crate) fn warn(
        id: &'static str,
        seen: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Check {
            id,
            status: Status::Warn,
            seen: seen.into(),
            advice: Some(advice.into()),
        }
    }

    pub(crate) fn fail(
        id: &'static str,
        seen: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Check {
            id,
            status: Status::Fail,
            seen: seen.into(),
            advice: Some(advice.into()),
        }
    }

    pub(crate) fn with_advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// All findings about one interface, in the order in which they matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The name that was asked for.
    pub interface: String,
    /// The findings; never empty.
    pub checks: Vec<Check>,
}

impl Report {
    /// The most severe status among the checks; the caller derives the exit code from it.
    #[must_use]
    pub fn worst(&self) -> Status {
        self.checks
            .iter()
            .map(|check| check.status)
            .max()
            .unwrap_or(Status::Ok)
    }
}

/// What a policy asks of the interface, as far as the checks depend on it.
#[derive(Clone, Debug, Default)]
pub struct PolicyNeeds {
    /// Some profile for this interface has `vlans`, so tags must reach XDP.
    pub vlans: bool,
    /// The interface's profile has `generic_xdp = true`.
    pub generic_xdp: bool,
    /// Bytes of map memory the compiled policy takes, both banks.
    pub memory: Option<u64>,
    /// What the interface's profile says of sources; `None` if none judges its untagged frames, or it is one of
    /// container links, where bindings decide.
    pub antispoof: Option<AntiSpoof>,
}

/// How to recognise the filter's own programs, and what the policy needs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the BPF file system is, or will be, mounted.
    pub bpffs: PathBuf,
    /// The needs of the policy given with `--policy`; `None` without one.
    pub policy: Option<PolicyNeeds>,
    /// Kernel ids of programs that are known to be the filter's (from its pins), if any.
    pub own_program_ids: Vec<u32>,
    /// A program whose kernel name (at most 15 characters) starts with one of these is the filter's.
    pub own_program_names: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            bpffs: PathBuf::from("/sys/fs/bpf"),
            policy: None,
            own_program_ids: Vec::new(),
            own_program_names: vec!["edgefilter".to_owned()],
        }
    }
}

impl Options {
    fn is_own(&self, program: &reading::Program) -> bool {
        self.own_program_ids.contains(&program.id)
            || self
                .own_program_names
                .iter()
                .any(|own| program.name.starts_with(own.as_str()))
    }
}

/// Looks at the interface in the current network namespace, and at the host.
///
/// An unknown interface is a finding (`interface`: fail), not an error, so that the checks of the
/// host are still shown.
///
/// # Errors
/// When not even the list of interfaces can be had from the kernel.
pub fn examine(interface: &str, options: &Options) -> anyhow::Result<Report> {
    let reading = probe::read(interface, options)?;
    Ok(judge(interface, &reading, options))
}

/// The XDP program on an interface as `NAME (id N)`, if there is one. The kernel tells names only to who has CAP_SYS_ADMIN,
/// which the daemon gives up.
#[must_use]
pub fn xdp_program(interface: &str) -> Option<String> {
    let reading = probe::read(interface, &Options::default()).ok()?;
    let program = &reading.interface.as_ref()?.xdp.first()?.program;
    let id = program.id;
    Some(match program.name.as_str() {
        "" => format!("id {id}; `bpftool prog show id {id}` tells its name"),
        name => format!("{name} (id {id})"),
    })
}

fn judge(name: &str, reading: &reading::Reading, options: &Options) -> Report {
    let mut checks = interface::checks(name, reading, options);
    checks.extend(sources::checks(reading, options));
    checks.extend(host::checks(reading, options));
    Report {
        interface: name.to_owned(),
        checks,
    }
}

/// The report for people: a line a check, the advice indented under it, and a closing line.
#[must_use]
pub fn render_text(report: &Report, color: bool) -> String {
    let width = report
        .checks
        .iter()
        .map(|check| check.id.len())
        .max()
        .unwrap_or(0);
    let paint = |status: Status| {
        if color {
            format!("\x1b[{}m{:<4}\x1b[0m", status.colour(), status.name())
        } else {
            format!("{:<4}", status.name())
        }
    };
    let mut text = String::new();
    // Writing into a String cannot fail, hence the ignored results.
    for check in &report.checks {
        let _ = writeln!(
            text,
            "{}  {:width$}  {}",
            paint(check.status),
            check.id,
            check.seen
        );
        for line in check.advice.iter().flat_map(|advice| advice.lines()) {
            let _ = writeln!(text, "      {:width$}  -> {line}", "");
        }
    }
    let count = |status| {
        report
            .checks
            .iter()
            .filter(|check| check.status == status)
            .count()
    };
    let verdict = match report.worst() {
        Status::Ok => "is ready",
        Status::Warn => "will work; see the warnings",
        Status::Fail => "is not ready",
    };
    let _ = writeln!(
        text,
        "{} {verdict}: {} ok, {} warn, {} fail",
        report.interface,
        count(Status::Ok),
        count(Status::Warn),
        count(Status::Fail)
    );
    text
}
