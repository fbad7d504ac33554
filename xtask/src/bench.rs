//! `cargo xtask bench`: builds for speed, then runs the bench program of the tests package as root.

use anyhow::Result;

use crate::setup::{self, Purpose};
use crate::test::as_root;
use crate::workspace;

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench --quick\n  cargo xtask bench containers --json"
)]
pub struct Arguments {
    /// Instead of the cost of a packet
    pub subject: Option<Subject>,

    /// Print one JSON document instead of tables
    #[arg(long)]
    pub json: bool,

    /// Fewer rounds: figures good to some 10 %
    #[arg(long)]
    pub quick: bool,
}

/// What else can be measured.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Subject {
    /// The throughput of containers, by iperf3
    Containers,
}

/// Sets up, builds, measures.
pub fn run(arguments: &Arguments) -> Result<bool> {
    setup::ensure(&[Purpose::Build, Purpose::Run])?;
    let mut command = workspace::cargo_command("run");
    command.args([
        "--quiet",
        "--release",
        "--package",
        "tests",
        "--bin",
        "bench",
        "--",
    ]);
    for (wanted, flag) in [(arguments.json, "--json"), (arguments.quick, "--quick")] {
        if wanted {
            command.arg(flag);
        }
    }
    if let Some(Subject::Containers) = arguments.subject {
        command.arg("containers");
        let mut build = workspace::cargo_command("build");
        build.args(["--quiet", "--release", "--package", "filter-user"]);
        if !build.status()?.success() {
            return Ok(false);
        }
        let binary = workspace::target_folder().join("release/edgefilter");
        command.env("EDGEFILTER_BIN", binary);
    }
    as_root(&mut command)?;
    Ok(command.status()?.success())
}
