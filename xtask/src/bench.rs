//! `cargo xtask bench`: builds for speed, then runs the bench program of the tests package as root.

use anyhow::Result;

use crate::setup::{self, Purpose};
use crate::test::as_root;
use crate::workspace;

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask bench --quick")]
pub struct Arguments {
    /// Print one JSON document instead of tables
    #[arg(long)]
    pub json: bool,

    /// Fewer rounds: figures good to some 10 %
    #[arg(long)]
    pub quick: bool,
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
    as_root(&mut command)?;
    Ok(command.status()?.success())
}
