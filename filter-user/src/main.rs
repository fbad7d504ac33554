//! The `edgefilter` binary: calls the command that was typed and decides the exit code. Everything else is in the
//! library.

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use filter_user::cli::{self, Cli, Command, Outcome, Output};
use filter_user::entries::Kind;

/// Refused or failed.
const FAILED: u8 = 1;
/// The daemon cannot be reached.
const UNREACHABLE: u8 = 3;
/// A privilege or a kernel feature is missing.
const MISSING: u8 = 4;

fn main() -> ExitCode {
    let arguments = match Cli::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // a closed pipe; there is nobody left to tell
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    match dispatch(&arguments) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Refused) => ExitCode::from(FAILED),
        Ok(Outcome::Unreachable) => ExitCode::from(UNREACHABLE),
        // whoever read our output has what it wanted
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            cli::report_error(&error, &arguments.globals);
            ExitCode::from(if cli::is_privilege_missing(&error) {
                MISSING
            } else {
                FAILED
            })
        }
    }
}

fn dispatch(cli: &Cli) -> Result<Outcome> {
    let globals = &cli.globals;
    let mut stdout = io::stdout();
    let out = &mut Output::standard(&mut stdout, globals);
    match &cli.command {
        Command::Run(arguments) => cli::run::run(globals, arguments),
        Command::Check(arguments) => cli::check::check(globals, arguments, out),
        Command::Plan(arguments) => cli::policy::plan(globals, arguments, out),
        Command::Apply(arguments) => cli::policy::apply(globals, arguments, out),
        Command::Confirm => cli::policy::confirm(globals, out),
        Command::Rollback(arguments) => cli::policy::rollback(globals, arguments, out),
        Command::Generations(arguments) => cli::policy::show_generations(globals, arguments, out),
        Command::Status => cli::status::status(globals, out),
        Command::Counters(arguments) => cli::counters::counters(globals, arguments, out),
        Command::Events(arguments) => cli::events::events(globals, arguments, out),
        Command::Replay(arguments) => cli::replay::replay(globals, arguments, out),
        Command::Explain(arguments) => cli::explain::explain(globals, arguments, out),
        Command::Scans(arguments) => cli::scans::scans(globals, arguments, out),
        Command::Block(action) => cli::block::block(globals, action, out),
        Command::Audit(action) => cli::audit::audit(globals, action, out),
        Command::Manifest(arguments) => cli::manifest::manifest(arguments, out),
        Command::Learn(arguments) => cli::exposure::learn(globals, arguments, out),
        Command::Metrics => cli::metrics::metrics(globals, out),
        Command::Allow(action) => cli::entries::entries(globals, Kind::Allow, action, out),
        Command::Deny(action) => cli::entries::entries(globals, Kind::Deny, action, out),
        Command::Doctor(arguments) => cli::doctor::doctor(globals, arguments, out),
        Command::Detach => cli::detach::detach(globals, out),
        Command::Fmt(arguments) => cli::fmt::fmt(arguments, out),
        Command::Schema => cli::documents::schema(out),
        Command::Completions(arguments) => cli::documents::completions(arguments, out),
        Command::Man(arguments) => cli::documents::man(arguments, out),
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    })
}
