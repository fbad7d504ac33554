//! Developer commands, run as `cargo xtask COMMAND`. This file owns the
//! command line and the exit codes, and nothing else.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 4 something is missing that
//! cannot be installed here (it is named).

mod bench;
mod build;
mod demo;
mod licences;
mod old_kernel;
mod setup;
mod step;
mod test;
mod traffic;
mod vm;
mod workspace;

// filter-user's build step owns these: what setup installs and what the build
// looks for must be the same thing.
#[path = "../../filter-user/build/object.rs"]
mod object;
#[path = "../../filter-user/build/toolchain.rs"]
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Developer commands of edgefilter"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what building and testing need, or say what is missing
    Setup(setup::Arguments),
    /// Build the edgefilter binary with the BPF program inside
    Build(build::Arguments),
    /// Run every check and every test
    Test(test::Arguments),
    /// Show the filter at work on real traffic in throw-away network namespaces
    Demo(demo::Arguments),
    /// Measure the cost of a packet, beside other filters
    Bench(bench::Arguments),
    /// Send packets by description, or a capture again
    Traffic(traffic::Arguments),
    /// Run a program under Linux 6.1 in an emulated machine
    Vm(vm::VmArgs),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Setup(arguments) => setup::run(&arguments),
        Command::Build(arguments) => build::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Traffic(arguments) => traffic::run(&arguments),
        Command::Vm(arguments) => return run_in_vm(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        // The command has shown what failed.
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<setup::Unsupported>() {
                4
            } else {
                1
            })
        }
    }
}

/// The guest command's exit code is ours.
fn run_in_vm(arguments: &vm::VmArgs) -> ExitCode {
    let done = setup::ensure(&[setup::Purpose::Vm]).and_then(|()| vm::run(arguments));
    match done {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Arguments::command().debug_assert();
    }
}
