//! The command line as typed, and the commands that need no kernel.

mod audit;
mod fmt;
mod scans;

use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use serde_json::Value;

use super::*;

fn parse(words: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(words.split_whitespace())
}

fn globals(directory: &Path) -> Globals {
    let mut globals = parse("edgefilter status").unwrap().globals;
    globals.run_dir = directory.to_owned();
    globals.bpffs = directory.to_owned();
    globals
}

/// Runs a command; what it wrote and how it ended.
fn output(
    json: bool,
    command: impl FnOnce(&mut Output<'_>) -> anyhow::Result<Outcome>,
) -> (Outcome, String) {
    let mut written = Vec::new();
    let outcome = command(&mut Output::plain(&mut written, json)).unwrap();
    (outcome, String::from_utf8(written).unwrap())
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_examples_that_parse() {
    let command = Cli::command();
    let nested = command
        .get_subcommands()
        .flat_map(clap::Command::get_subcommands);
    for command in command.get_subcommands().chain(nested) {
        let help = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let examples: Vec<&str> = help
            .lines()
            .filter_map(|line| {
                line.trim()
                    .split(['|', '>', ';'])
                    .find(|part| part.trim().starts_with("edgefilter"))
            })
            .collect();
        assert!(
            !examples.is_empty(),
            "{} has no example",
            command.get_name()
        );
        for example in examples {
            assert!(parse(example).is_ok(), "{example}");
        }
    }
}

#[test]
fn watch_takes_seconds() {
    let watch = |words: &str| match parse(words).map(|cli| cli.command) {
        Ok(Command::Counters(counters)) => Ok(counters.watch.map(|every| every.as_secs_f64())),
        Ok(_) => panic!("not counters"),
        Err(error) => Err(error.kind()),
    };
    assert_eq!(watch("edgefilter counters"), Ok(None));
    assert_eq!(watch("edgefilter counters --watch"), Ok(Some(1.0)));
    assert_eq!(
        watch("edgefilter counters --watch=2.5 --json"),
        Ok(Some(2.5))
    );
    for wrong in ["0", "-1", "NaN", "inf", "x"] {
        assert_eq!(
            watch(&format!("edgefilter counters --watch={wrong}")),
            Err(ErrorKind::ValueValidation),
            "{wrong}"
        );
    }
}

#[test]
fn wrong_usage_is_refused() {
    for wrong in [
        "edgefilter",
        "edgefilter run",
        "edgefilter check",
        "edgefilter doctor",
        "edgefilter fly",
    ] {
        assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
    }
    for wrong in [
        "run --policy p --flows 1",
        "run --policy p --log =",
        "status --color blue",
    ] {
        assert_eq!(
            parse(&format!("edgefilter {wrong}"))
                .unwrap_err()
                .exit_code(),
            2,
            "{wrong}"
        );
    }
    assert_eq!(parse("edgefilter --version").unwrap_err().exit_code(), 0);
}

const GOOD: &str = r#"
version = 1
[groups.admins]
cidrs = ["192.0.2.0/24", "2001:db8::/32"]
[profiles.edge]
interfaces = ["eth*"]
[[profiles.edge.allow]]
id = "ssh"
protocol = "tcp"
ports = [22]
from = ["@admins"]
"#;

#[test]
fn check_tells_good_from_bad() {
    let directory = tempfile::tempdir().unwrap();
    let globals = globals(directory.path());
    let file = directory.path().join("edge.toml");
    std::fs::write(&file, GOOD).unwrap();
    let arguments = Check {
        file: file.clone(),
        settings: false,
    };
    let (outcome, text) = output(false, |out| check::check(&globals, &arguments, out));
    assert_eq!(outcome, Outcome::Done);
    assert!(
        text.contains("ok: 1 profile, 1 rule, 2 prefixes, "),
        "{text}"
    );
    let (_, text) = output(true, |out| check::check(&globals, &arguments, out));
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&document["ok"], &document["rules"]),
        (&true.into(), &1.into())
    );

    std::fs::write(&file, GOOD.replace("ssh", "s s").replace("22", "99999")).unwrap();
    let (outcome, text) = output(true, |out| check::check(&globals, &arguments, out));
    assert_eq!(outcome, Outcome::Refused);
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["ok"], false);
    let errors = document["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 2, "{text}");
    assert!(
        errors
            .iter()
            .all(|error| error["line"].is_number() && error["cure"].is_string())
    );
    let (outcome, text) = output(false, |out| check::check(&globals, &arguments, out));
    assert_eq!(
        (outcome, text.as_str()),
        (Outcome::Refused, ""),
        "diagnostics are on standard error"
    );
}

#[test]
fn without_a_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let globals = globals(directory.path());
    let (outcome, text) = output(true, |out| status::status(&globals, out));
    assert_eq!(outcome, Outcome::Unreachable);
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["daemon"], "not running");
    let (_, text) = output(false, |out| status::status(&globals, out));
    assert!(
        text.starts_with("daemon not running; no filter is in force"),
        "{text}"
    );

    let arguments = Events {
        follow: false,
        last: None,
    };
    let (outcome, text) = output(false, |out| events::events(&globals, &arguments, out));
    assert_eq!((outcome, text.as_str()), (Outcome::Unreachable, ""));

    let mut nowhere = Vec::new();
    let arguments = Counters {
        watch: None,
        all: false,
    };
    let error = counters::counters(
        &globals,
        &arguments,
        &mut Output::plain(&mut nowhere, false),
    )
    .unwrap_err();
    assert!(
        error.to_string().starts_with("nothing is counted"),
        "{error}"
    );
    assert!(!is_privilege_missing(&error));

    let (outcome, text) = output(false, |out| detach::detach(&globals, out));
    assert_eq!(
        (outcome, text.as_str()),
        (
            Outcome::Done,
            "not attached: there is nothing to take off\n"
        )
    );
}

#[test]
fn manual_pages_and_completions() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = Man {
        dir: Some(directory.path().to_owned()),
    };
    output(false, |out| documents::man(&arguments, out));
    for command in Cli::command().get_subcommands() {
        let page = directory
            .path()
            .join(format!("edgefilter-{}.1", command.get_name()));
        assert!(page.is_file(), "{}", page.display());
    }
    let (_, page) = output(false, |out| documents::man(&Man { dir: None }, out));
    assert!(page.contains("edgefilter"));
    for shell in [
        clap_complete::Shell::Bash,
        clap_complete::Shell::Zsh,
        clap_complete::Shell::Fish,
    ] {
        let (_, script) = output(false, |out| {
            documents::completions(&Completions { shell }, out)
        });
        assert!(script.contains("counters"), "{shell}");
    }
}

/// A reader that went away.
struct Closed;

impl std::io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_is_an_error_value() {
    let error =
        documents::man(&Man { dir: None }, &mut Output::plain(&mut Closed, false)).unwrap_err();
    let cause = error.root_cause().downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(cause.kind(), std::io::ErrorKind::BrokenPipe);
}
