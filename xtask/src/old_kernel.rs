//! The test step that runs the packet tables and a namespace test under Linux 6.1: the oldest kernel we promise, with
//! clsact in place of TCX and an older verifier.

use std::io::BufReader;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::Message;

use crate::setup::{self, Purpose};
use crate::step::Done;
use crate::{vm, workspace};

/// Test programs and the arguments they are run with in the guest. The emulated machine is some thirty times slower
/// than this one, so it runs fewer packets.
const PROGRAMS: &[(&str, &[&str])] = &[
    (
        "kernel",
        &[
            "bypass",
            "oracle",
            "outgoing",
            "pins",
            "program",
            "rates",
            "table",
            "time::fragments",
            "--test-threads=2",
        ],
    ),
    (
        "namespaces",
        &[
            "access::closed",
            "access::a_rule",
            "bypass",
            "continuity::detach",
            "--test-threads=1",
        ],
    ),
];

/// Programs of this machine that the tests talk through.
const TOOLS: &[&str] = &["nft", "nginx", "curl", "ping"];

/// What the guest gets in its environment.
const ENVIRONMENT: &[&str] = &[
    "CI=true",
    "RUST_BACKTRACE=1",
    "EDGEFILTER_PACKETS=5000",
    // loading five programs takes ten of them
    "EDGEFILTER_READY_SECONDS=60",
];

/// Seconds an emulated run may take.
const TIMEOUT: u64 = 900;

/// Builds the test programs and runs them in the guest.
pub fn check() -> Result<Done> {
    setup::ensure(&[Purpose::Vm])?;
    let root = workspace::root();
    for (name, arguments) in PROGRAMS {
        let program = test_program(name)?;
        let guest = format!("/tests/{name}");
        let mut command = vec![guest.clone()];
        command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let mut run = vm::VmArgs::new(command);
        run.files = vec![
            // nginx asks for the user it gives its rights up to
            "/etc/passwd".to_owned(),
            "/etc/group".to_owned(),
            format!("{}:{guest}", program.display()),
            format!(
                "{}:/tests/edgefilter",
                workspace::target_folder()
                    .join("debug/edgefilter")
                    .display()
            ),
        ];
        run.dirs = ["tests/fixtures", "configs"]
            .iter()
            .filter(|folder| root.join(folder).is_dir())
            .map(|folder| root.join(folder).display().to_string())
            .collect();
        run.tools = TOOLS.iter().map(|tool| (*tool).to_owned()).collect();
        run.env = ENVIRONMENT.iter().map(|pair| (*pair).to_owned()).collect();
        run.env.push("EDGEFILTER_BIN=/tests/edgefilter".to_owned());
        run.timeout = TIMEOUT;
        let code = vm::run(&run)?;
        if code != 0 {
            bail!("the {name} tests ended with exit code {code} under Linux 6.1");
        }
    }
    Ok(Done::Passed)
}

/// Builds a test program of the tests package and says where it is.
fn test_program(name: &str) -> Result<PathBuf> {
    let mut command = workspace::cargo_command("test");
    command.args([
        "--package",
        "tests",
        "--test",
        name,
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut found = None;
    for message in Message::parse_stream(BufReader::new(output)) {
        if let Message::CompilerArtifact(artifact) =
            message.context("cannot read cargo's messages")?
            && artifact.target.name == name
            && let Some(executable) = artifact.executable
        {
            found = Some(executable.into_std_path_buf());
        }
    }
    if !child.wait()?.success() {
        bail!("the {name} tests do not build");
    }
    found.with_context(|| format!("cargo built no test program called {name}"))
}
