//! `cargo xtask demo`: builds, then runs the demo program of the tests package as root.

use anyhow::Result;

use crate::setup::{self, Purpose};
use crate::test::as_root;
use crate::workspace;

/// What the demo prints.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask demo --json | jq .agrees")]
pub struct Arguments {
    /// Print one JSON document instead of the table
    #[arg(long)]
    pub json: bool,
}

/// Sets up, builds, runs. True if every check came out as expected.
pub fn run(arguments: &Arguments) -> Result<bool> {
    setup::ensure(&[Purpose::Build, Purpose::Run])?;
    workspace::run(workspace::cargo_command("build").args(["--package", "filter-user"]))?;
    let mut command = workspace::cargo_command("run");
    command.args(["--quiet", "--package", "tests", "--bin", "demo", "--"]);
    if arguments.json {
        command.arg("--json");
    }
    as_root(&mut command)?;
    Ok(command.status()?.success())
}
