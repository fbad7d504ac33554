//! `cargo xtask build`: one self-contained edgefilter binary. How the BPF
//! program inside is compiled is the business of filter-user's build step.

use anyhow::Result;

use crate::{
    setup::{self, Purpose},
    workspace,
};

/// What to build.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Arguments {
    /// Optimised, as it is installed on a host
    #[arg(long)]
    pub release: bool,

    /// With the BPF program's log statements (for debugging that program)
    #[arg(long)]
    pub bpf_log: bool,
}

/// Builds, and says where the binary is.
pub fn run(arguments: &Arguments) -> Result<bool> {
    setup::ensure(&[Purpose::Build])?;
    let mut command = workspace::cargo_command("build");
    command.args(["--package", "filter-user", "--bin", "edgefilter"]);
    if arguments.release {
        command.arg("--release");
    }
    if arguments.bpf_log {
        command.args(["--features", "bpf-log"]);
    }
    workspace::run(&mut command)?;
    println!("{}", binary(arguments.release).display());
    Ok(true)
}

/// Where `cargo build` leaves the binary.
pub fn binary(release: bool) -> std::path::PathBuf {
    workspace::target_folder()
        .join(if release { "release" } else { "debug" })
        .join("edgefilter")
}
