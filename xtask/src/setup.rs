//! `cargo xtask setup`: installs what is missing and says what it does. The
//! other commands call [`ensure`] first. It changes nothing but packages and
//! the tools folder under `target/`.

mod apt;
mod packages;

use std::{fmt, fs};

use anyhow::{Context as _, Result, bail};

use crate::{
    toolchain::{self, BPF_LINKER_VERSION, DEBIAN_PACKAGES, LLVM_MAJOR},
    workspace,
};

/// What a package is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Building the binary.
    Build,
    /// Real programs in namespaces: the demo, the benchmark, most tests.
    Run,
    /// Tests on an older kernel.
    Vm,
}

/// Everything there is.
pub const ALL: &[Purpose] = &[Purpose::Build, Purpose::Run, Purpose::Vm];

/// How to set up.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Only say what is missing; exit with 1 if anything is
    #[arg(long)]
    pub check: bool,
}

/// This system lacks something that setup cannot install here. Exit code 4.
#[derive(Debug)]
pub struct Unsupported(pub String);

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unsupported {}

/// What setup found missing.
#[derive(Debug, Default)]
struct Missing {
    /// Why there is no BPF compiler, in words.
    compiler: Option<String>,
    /// Why there is no bpf-linker, in words.
    linker: Option<String>,
    /// Names of Debian packages.
    packages: Vec<&'static str>,
}

impl Missing {
    fn is_nothing(&self) -> bool {
        self.compiler.is_none() && self.linker.is_none() && self.packages.is_empty()
    }
}

/// The command itself.
pub fn run(arguments: &Arguments) -> Result<bool> {
    if arguments.check {
        let missing = look(ALL)?;
        report(&missing);
        return Ok(missing.is_nothing());
    }
    ensure(ALL)?;
    if let Ok(compiler) = toolchain::find(target()) {
        println!("setup: BPF compiler {compiler}");
    }
    if let Ok(linker) = toolchain::find_linker(workspace::root()) {
        println!("setup: BPF linker {}", linker.display());
    }
    println!("setup: nothing is missing");
    Ok(true)
}

/// Installs what `purposes` need and lack. Quick and silent when that is
/// nothing.
pub fn ensure(purposes: &[Purpose]) -> Result<()> {
    let missing = look(purposes)?;
    if !missing.is_nothing() {
        report(&missing);
        install(&missing)?;
        let still = look(purposes)?;
        if !still.is_nothing() {
            report(&still);
            bail!("something is missing still, although its installation reported no error");
        }
    }
    // The kernel for the virtual machine is looked up in apt's lists.
    if purposes.contains(&Purpose::Vm) && apt::is_here() && !apt::has_lists() {
        apt::update()?;
    }
    Ok(())
}

/// The BPF target of this machine.
pub fn target() -> &'static str {
    toolchain::bpf_target(cfg!(target_endian = "little"))
}

fn look(purposes: &[Purpose]) -> Result<Missing> {
    let mut missing = Missing::default();
    if purposes.contains(&Purpose::Build) {
        missing.compiler = toolchain::find(target())
            .err()
            .map(|error| error.to_string());
        missing.linker = toolchain::find_linker(workspace::root())
            .err()
            .map(|error| error.to_string());
    }
    // Elsewhere the packages have other names: each test says which program
    // it misses.
    if apt::is_here() {
        let mut wanted: Vec<&str> = packages::PACKAGES
            .iter()
            .filter(|package| purposes.contains(&package.purpose))
            .map(|package| package.name)
            .collect();
        // One package may serve two purposes.
        wanted.sort_unstable();
        wanted.dedup();
        missing.packages = apt::missing(&wanted)?;
    }
    Ok(missing)
}

/// On standard error: other commands print their own results.
fn report(missing: &Missing) {
    if missing.is_nothing() {
        eprintln!("setup: nothing is missing");
    }
    if missing.compiler.is_some() {
        eprintln!("setup: missing a Rust compiler for BPF");
    }
    if missing.linker.is_some() {
        eprintln!("setup: missing bpf-linker");
    }
    for name in &missing.packages {
        let why = packages::PACKAGES
            .iter()
            .find(|package| package.name == *name)
            .map_or("", |package| package.why);
        eprintln!("setup: missing {name} ({why})");
    }
}

fn install(missing: &Missing) -> Result<()> {
    if !apt::is_here() {
        let mut text =
            "this system has no apt, so set-up cannot install anything here.\n".to_owned();
        for part in [&missing.compiler, &missing.linker].into_iter().flatten() {
            text.push_str(part);
            text.push('\n');
        }
        text.push_str("The tests also use these programs, by their Debian package names:");
        for package in packages::PACKAGES {
            text.push(' ');
            text.push_str(package.name);
        }
        bail!(Unsupported(text));
    }

    let mut wanted = missing.packages.clone();
    if missing.compiler.is_some() || missing.linker.is_some() {
        if !apt::has_lists() {
            apt::update()?;
        }
        if let Some(unknown) = DEBIAN_PACKAGES.iter().find(|name| !apt::knows(name)) {
            let parts = [&missing.compiler, &missing.linker];
            let text: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
            bail!(Unsupported(format!(
                "apt knows no package {unknown} (Debian 12 and later have it; `apt-get update` may be due).\n{}",
                text.join("\n")
            )));
        }
        wanted.extend(apt::missing(DEBIAN_PACKAGES)?);
    }
    if !wanted.is_empty() {
        apt::install(&wanted)?;
    }
    if missing.linker.is_some() {
        install_linker()?;
    }
    Ok(())
}

/// Builds bpf-linker into `target/tools`, against Debian's LLVM.
fn install_linker() -> Result<()> {
    let folder = toolchain::tools_folder(workspace::root());
    let build = folder.join("build");
    eprintln!(
        "setup: building bpf-linker {BPF_LINKER_VERSION} into {} (about a minute)",
        folder.display()
    );
    let mut command = workspace::cargo_command("install");
    command
        .arg("bpf-linker")
        .arg(format!("--version={BPF_LINKER_VERSION}"))
        .args(["--locked", "--no-default-features", "--force", "--quiet"])
        .arg(format!("--features=llvm-{LLVM_MAJOR}"))
        .arg("--root")
        .arg(&folder)
        // Otherwise the first llvm-config on PATH decides, which is the one
        // of Debian's default LLVM: too old.
        .env("LLVM_PREFIX", format!("/usr/lib/llvm-{LLVM_MAJOR}"))
        .env("CARGO_TARGET_DIR", &build)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    workspace::run(&mut command).context("bpf-linker was not built")?;
    fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))
}
