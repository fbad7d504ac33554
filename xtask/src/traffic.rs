//! `cargo xtask traffic`: builds for speed, then runs the traffic program of the tests package as root. Its flags are that
//! program's.

use std::ffi::OsString;

use anyhow::Result;

use crate::setup::{self, Purpose};
use crate::test::as_root;
use crate::workspace;

/// What is sent.
#[derive(Clone, Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    flags: Vec<OsString>,
}

/// Sets up, builds, sends.
pub fn run(arguments: &Arguments) -> Result<bool> {
    setup::ensure(&[Purpose::Build, Purpose::Run])?;
    let mut command = workspace::cargo_command("run");
    command.args([
        "--quiet",
        "--release",
        "--package",
        "tests",
        "--bin",
        "traffic",
        "--",
    ]);
    command.args(&arguments.flags);
    as_root(&mut command)?;
    Ok(command.status()?.success())
}
