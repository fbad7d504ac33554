//! `cargo xtask test`: every check and every test, as one table of steps. What
//! a step tests is decided where the test is; this file only starts it.

use std::path::{Path, PathBuf};
use std::{env, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    demo, licences,
    object::{self, Build},
    old_kernel, setup,
    step::{self, Done, Step},
    toolchain, workspace,
};

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Run this step only (may be given several times)
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,

    /// List the steps and do nothing
    #[arg(long)]
    pub list: bool,
}

/// The steps, the quick ones first. The closing line counts these.
const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        what: "the code is formatted",
        run: format,
    },
    Step {
        name: "licences",
        what: "every dependency is allowed by deny.toml",
        run: licences::check,
    },
    Step {
        name: "clippy",
        what: "no warning in the host crates",
        run: clippy,
    },
    Step {
        name: "clippy-bpf",
        what: "no warning in the BPF programs, with logging and without",
        run: clippy_bpf,
    },
    Step {
        name: "docs",
        what: "the documentation builds without a warning",
        run: docs,
    },
    Step {
        name: "unit",
        what: "tests of filter-common, filter-user and xtask",
        run: unit,
    },
    Step {
        name: "kernel",
        what: "tests of the real program in the kernel and in network namespaces (root)",
        run: kernel,
    },
    Step {
        name: "demo",
        what: "the demo ends as it should",
        run: demo,
    },
    Step {
        name: "linux-6.1",
        what: "packet tables and namespace tests under the oldest kernel, emulated",
        run: old_kernel::check,
    },
];

/// Sets up, then runs the steps.
pub fn run(arguments: &Arguments) -> Result<bool> {
    if arguments.list {
        step::list(STEPS);
        return Ok(true);
    }
    setup::ensure(setup::ALL)?;
    step::run_all(STEPS, &arguments.only)
}

fn format() -> Result<Done> {
    workspace::run(workspace::cargo_command("fmt").args(["--all", "--check"]))
        .context("run `cargo fmt --all` (rustfmt itself: `rustup component add rustfmt`)")?;
    Ok(Done::Passed)
}

fn clippy() -> Result<Done> {
    workspace::run(workspace::cargo_command("clippy").args([
        "--all-targets",
        "--quiet",
        "--",
        "--deny",
        "warnings",
    ]))
    .context("see the warnings above (clippy itself: `rustup component add clippy`)")?;
    Ok(Done::Passed)
}

/// The clippy of the very compiler that builds the program: another one has no
/// `core` for the BPF target.
fn clippy_bpf() -> Result<Done> {
    let target = setup::target();
    let compiler = toolchain::find(target).map_err(anyhow::Error::msg)?;
    let folder = compiler.sysroot.join("bin");
    let (clippy, driver) = (folder.join("cargo-clippy"), folder.join("clippy-driver"));
    if !clippy.is_file() || !driver.is_file() {
        return Ok(Done::Skipped(format!(
            "{} has no clippy beside it (Debian: rust-web-clippy; rustup: `rustup component add clippy --toolchain {}`)",
            compiler.rustc.display(),
            toolchain::NIGHTLY
        )));
    }
    let linker = toolchain::find_linker(workspace::root()).map_err(anyhow::Error::msg)?;
    let target_folder = workspace::target_folder().join("clippy-bpf");
    for features in [&[][..], &["log"], &["bench"]] {
        let mut command = Build {
            toolchain: &compiler,
            linker: &linker,
            fallback_cargo: &workspace::cargo(),
            workspace: workspace::root(),
            target,
            architecture: env::consts::ARCH,
            target_folder: &target_folder,
            features,
        }
        // What `cargo clippy` does, without its search for a driver on PATH,
        // where it would find the one of another compiler.
        .command("check");
        command
            .arg("--quiet")
            .env("RUSTC_WORKSPACE_WRAPPER", &driver)
            .env(
                "CLIPPY_ARGS",
                "--deny__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__",
            )
            // clippy.toml is looked for from here.
            .env("CLIPPY_CONF_DIR", workspace::root());
        workspace::run(&mut command)
            .with_context(|| format!("{} has something to say, see above", object::PACKAGE))?;
    }
    Ok(Done::Passed)
}

fn docs() -> Result<Done> {
    workspace::run(
        workspace::cargo_command("doc")
            .args(["--no-deps", "--quiet"])
            .env("RUSTDOCFLAGS", "--deny warnings"),
    )?;
    Ok(Done::Passed)
}

fn unit() -> Result<Done> {
    let mut command = workspace::cargo_command("test");
    command.args([
        "--package",
        "filter-common",
        "--package",
        "filter-user",
        "--package",
        "xtask",
    ]);
    workspace::run(&mut command)?;
    Ok(Done::Passed)
}

fn kernel() -> Result<Done> {
    // The namespace tests start the binary itself, and upgrade it to another one: that with logging in the program.
    let build = |more: &[&str]| {
        let mut command = workspace::cargo_command("build");
        workspace::run(command.args(["--package", "filter-user"]).args(more))
    };
    let folder = workspace::target_folder().join("debug");
    let next = folder.join("edgefilter-next");
    build(&["--features", "bpf-log"])?;
    std::fs::copy(folder.join("edgefilter"), &next).context("cannot keep the second binary")?;
    build(&[])?;
    let mut command = workspace::cargo_command("test");
    command
        .args(["--package", "tests"])
        .env("EDGEFILTER_BIN_NEXT", next);
    if let Err(error) = as_root(&mut command) {
        return Ok(Done::Skipped(format!("{error:#}")));
    }
    workspace::run(&mut command)?;
    Ok(Done::Passed)
}

fn demo() -> Result<Done> {
    if demo::run(&demo::Arguments { json: false })? {
        return Ok(Done::Passed);
    }
    bail!("see the table above")
}

/// Lets cargo run what it built as root. Only the programs get root; the build keeps the user's files the user's.
pub fn as_root(command: &mut Command) -> Result<()> {
    if !workspace::is_root() {
        let mut runner = sudo()?.into_os_string();
        runner.push(format!(" {}", SUDO_FLAGS.join(" ")));
        command.env(runner_variable()?, runner);
    }
    Ok(())
}

/// Has a program that is built run as root.
pub fn program_as_root(program: &Path) -> Result<Command> {
    if workspace::is_root() {
        return Ok(Command::new(program));
    }
    let mut command = Command::new(sudo()?);
    command.args(SUDO_FLAGS).arg(program);
    Ok(command)
}

const SUDO_FLAGS: [&str; 2] = ["--preserve-env", "--"];

/// `sudo`, if it may be used without a password or someone is there to type it.
fn sudo() -> Result<PathBuf> {
    workspace::find_program("sudo")
        .filter(|sudo| {
            let validated = Command::new(sudo).arg("--validate").status();
            validated.is_ok_and(|status| status.success())
        })
        .context(
            "loading BPF programs and making network namespaces needs root: run as root, or allow sudo",
        )
}

/// `CARGO_TARGET_<TRIPLE>_RUNNER` for the machine this was compiled for.
fn runner_variable() -> Result<String> {
    let rustc = env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
    let version = workspace::output(Command::new(rustc).arg("-vV"))?;
    let Some(host) = version.lines().find_map(|line| line.strip_prefix("host: ")) else {
        bail!("`rustc -vV` names no host");
    };
    Ok(format!(
        "CARGO_TARGET_{}_RUNNER",
        host.to_uppercase().replace('-', "_")
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn step_names_are_unique() {
        let names: HashSet<&str> = STEPS.iter().map(|step| step.name).collect();
        assert_eq!(names.len(), STEPS.len());
    }

    #[test]
    fn the_runner_variable_is_one_cargo_reads() {
        let variable = runner_variable().unwrap();
        assert!(
            variable.starts_with("CARGO_TARGET_") && variable.ends_with("_RUNNER"),
            "{variable}"
        );
    }
}
