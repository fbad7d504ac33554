//! `cargo xtask bench`: builds for speed, runs the bench program of the tests package as root, and keeps what it found:
//! in a JSON document, and if asked in docs/performance.md and its charts.

mod charts;
#[path = "../../tests/src/bench/document.rs"]
mod document;
mod pages;

// What the bench program itself is told: one definition for both.
#[path = "../../tests/src/bench/arguments.rs"]
mod arguments;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context as _, Result, bail};

use crate::object::{self, Build};
use crate::setup::{self, Purpose};
use crate::test::program_as_root;
use crate::{toolchain, workspace};

use arguments::{Asked, Bench};
use document::Document;

/// What is measured, and what becomes of the figures.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench --quick\n  cargo xtask bench packets sizes --check\n  \
                  cargo xtask bench --json today.json\n  cargo xtask bench --write-docs --from today.json"
)]
pub struct Arguments {
    #[command(flatten)]
    asked: Asked,

    /// Writes the figures into docs/performance.md and the charts beside it
    #[arg(long)]
    write_docs: bool,

    /// Measures nothing, and takes the figures of an earlier `--json`
    #[arg(long, value_name = "FILE", requires = "write_docs", conflicts_with_all = ["names", "quick", "json", "check"])]
    from: Option<PathBuf>,
}

/// Sets up, builds, measures. True if nothing failed, and with `--check` no limit was passed.
pub fn run(arguments: &Arguments) -> Result<bool> {
    if let Some(file) = &arguments.from {
        pages::write(workspace::root(), &read(file)?)?;
        return Ok(true);
    }
    setup::ensure(&[Purpose::Build, Purpose::Run])?;
    let asked = &arguments.asked;
    let found = workspace::target_folder().join("bench.json");
    // Made here, so that it belongs to the user although root writes it.
    fs::create_dir_all(workspace::target_folder())?;
    fs::write(&found, "").with_context(|| format!("cannot write {}", found.display()))?;

    // in one call: what one of them asks of a crate that both use would have it built again for the other
    let mut build = workspace::cargo_command("build");
    build.args([
        "--quiet",
        "--release",
        "--package",
        "filter-user",
        "--package",
        "tests",
    ]);
    workspace::run(build.args(["--bin", "edgefilter", "--bin", "bench"]))?;
    let built = workspace::target_folder().join("release");
    let mut command = program_as_root(&built.join("bench"))?;
    command
        .args(asked.names.iter().map(|bench| bench.name()))
        .arg("--json")
        .arg(&found)
        .env("EDGEFILTER_COMMIT", commit()?)
        .env("EDGEFILTER_BIN", built.join("edgefilter"))
        .current_dir(workspace::root());
    for (wanted, flag) in [(asked.quick, "--quick"), (asked.check, "--check")] {
        if wanted {
            command.arg(flag);
        }
    }
    if asked.chosen().contains(&Bench::Sizes) {
        command.env("EDGEFILTER_LOOKUP", look_ups()?);
    }
    let to_standard_output = asked.json.as_deref() == Some(Path::new("-"));
    if to_standard_output {
        command.stdout(Stdio::null());
    }
    let done = command.status()?.success();
    keep(&found, asked.json.as_deref())?;
    if arguments.write_docs {
        pages::write(workspace::root(), &read(&found)?)?;
    }
    Ok(done)
}

/// Builds the look-ups that are measured alone; where the object is.
fn look_ups() -> Result<PathBuf> {
    let target = setup::target();
    let compiler = toolchain::find(target).map_err(anyhow::Error::msg)?;
    let linker = toolchain::find_linker(workspace::root()).map_err(anyhow::Error::msg)?;
    let target_folder = workspace::target_folder().join("bench-bpf");
    let build = Build {
        toolchain: &compiler,
        linker: &linker,
        fallback_cargo: &workspace::cargo(),
        workspace: workspace::root(),
        target,
        architecture: env::consts::ARCH,
        target_folder: &target_folder,
        features: &["bench"],
    };
    workspace::run(build.command("build").args(["--quiet", "--bin", "lookup"]))
        .with_context(|| format!("the look-ups of {} were not built", object::PACKAGE))?;
    Ok(target_folder.join(target).join("bpf/lookup"))
}

/// The source code's commit, which git tells its owner only.
fn commit() -> Result<String> {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        workspace::output(command.args(arguments).current_dir(workspace::root()))
    };
    let Ok(commit) = git(&["rev-parse", "--short", "HEAD"]) else {
        return Ok("unknown".to_owned());
    };
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    let changed = if changed { "-dirty" } else { "" };
    Ok(format!("{}{changed}", commit.trim()))
}

/// Puts the document where it was asked for.
fn keep(found: &Path, wanted: Option<&Path>) -> Result<()> {
    let text = fs::read_to_string(found)?;
    match wanted {
        None => {}
        Some(file) if file == Path::new("-") => print!("{text}"),
        Some(file) => {
            fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Document> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    if text.is_empty() {
        bail!("nothing was measured: see the error above");
    }
    serde_json::from_str(&text)
        .with_context(|| format!("{} is no result of this bench", file.display()))
}
