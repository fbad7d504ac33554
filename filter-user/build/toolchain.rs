//! Finds a compiler and a linker for BPF on this machine. It looks and never
//! installs: `cargo xtask setup` does that, and includes this file, so that
//! setup and the build agree on what counts as present.
//!
//! Two kinds of installation serve:
//!
//! - a compiler whose sysroot holds a ready-made `core` for the BPF target
//!   (Debian's `rustc-web` with `libstd-rust-web-dev-bpf`);
//! - a compiler whose sysroot holds the source of `core`, which cargo then
//!   builds along (a rustup nightly with the component `rust-src`).

use std::{
    env,
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The nightly that rustup users install. Its LLVM must not be newer than the
/// one bpf-linker is built with: Rust 1.99 moves to LLVM 23.
pub(crate) const NIGHTLY: &str = "nightly-2026-05-20";

/// The bpf-linker release that is known to link the object.
pub(crate) const BPF_LINKER_VERSION: &str = "0.13.0";

/// The LLVM major version bpf-linker is built with. It reads the bitcode of
/// compilers up to this one.
pub(crate) const LLVM_MAJOR: u32 = 22;

/// Debian's packages for the first kind of installation. The last three are
/// for building bpf-linker.
pub(crate) const DEBIAN_PACKAGES: &[&str] = &[
    "rustc-web",
    "cargo-web",
    "libstd-rust-web-dev-bpf",
    "llvm-22-dev",
    "libpolly-22-dev",
    "g++",
];

/// Names the compiler to use and stops the search for others.
pub(crate) const RUSTC_VARIABLE: &str = "EDGEFILTER_BPF_RUSTC";

/// Names the bpf-linker to use and stops the search for others.
pub(crate) const LINKER_VARIABLE: &str = "EDGEFILTER_BPF_LINKER";

/// Where `core` for the BPF target comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Core {
    /// The sysroot has it compiled.
    Packaged,
    /// The sysroot has its source, and cargo compiles it (`-Z build-std`).
    Source,
}

/// A compiler that can produce BPF, and the cargo to drive it with.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    pub rustc: PathBuf,
    /// The cargo of the same installation. `None`: use the cargo at hand.
    pub cargo: Option<PathBuf>,
    pub sysroot: PathBuf,
    pub core: Core,
    pub llvm_major: Option<u32>,
    /// As `rustc --version` says it.
    pub version: String,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = match self.core {
            Core::Packaged => "with a ready-made `core`",
            Core::Source => "with the source of `core`",
        };
        write!(f, "{} ({}, ", self.rustc.display(), self.version)?;
        if let Some(llvm) = self.llvm_major {
            write!(f, "LLVM {llvm}, ")?;
        }
        write!(f, "{core} in {})", self.sysroot.display())
    }
}

/// What is missing, and the lines that install it.
#[derive(Debug)]
pub(crate) enum Missing {
    Compiler {
        target: String,
        looked_at: Vec<String>,
    },
    Linker {
        looked_at: Vec<PathBuf>,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler { target, looked_at } => {
                writeln!(f, "no Rust compiler for {target} found.")?;
                for line in looked_at {
                    writeln!(f, "  looked at {line}")?;
                }
                writeln!(
                    f,
                    "Run `cargo xtask setup`, or install one of these by hand:"
                )?;
                writeln!(
                    f,
                    "  Debian:    apt-get install {}",
                    DEBIAN_PACKAGES.join(" ")
                )?;
                writeln!(
                    f,
                    "  elsewhere: rustup toolchain install {NIGHTLY} --profile minimal --component rust-src"
                )?;
                write!(
                    f,
                    "A compiler in another place is named with {RUSTC_VARIABLE}=/path/to/rustc."
                )
            }
            Self::Linker { looked_at } => {
                writeln!(f, "bpf-linker not found.")?;
                for path in looked_at {
                    writeln!(f, "  looked for {}", path.display())?;
                }
                writeln!(f, "Run `cargo xtask setup`, or install it by hand:")?;
                writeln!(
                    f,
                    "  Debian:    apt-get install llvm-{LLVM_MAJOR}-dev libpolly-{LLVM_MAJOR}-dev g++, then LLVM_PREFIX=/usr/lib/llvm-{LLVM_MAJOR} cargo install bpf-linker --version {BPF_LINKER_VERSION} --locked --no-default-features --features llvm-{LLVM_MAJOR}"
                )?;
                writeln!(
                    f,
                    "  elsewhere: cargo binstall bpf-linker@{BPF_LINKER_VERSION}"
                )?;
                write!(
                    f,
                    "A linker in another place is named with {LINKER_VARIABLE}=/path/to/bpf-linker."
                )
            }
        }
    }
}

/// The compiler to use for `target` (`bpfel-unknown-none` or its big-endian
/// twin). One with a ready-made `core` wins over one that has to build it.
pub(crate) fn find(target: &str) -> Result<Toolchain, Missing> {
    let mut looked_at = Vec::new();
    let mut best: Option<Toolchain> = None;
    for rustc in compilers() {
        match inspect(&rustc, target) {
            Ok(found) => {
                if best.as_ref().is_none_or(|best| found.core < best.core) {
                    best = Some(found);
                }
            }
            Err(why) => looked_at.push(format!("{}: {why}", rustc.display())),
        }
        if best
            .as_ref()
            .is_some_and(|best| best.core == Core::Packaged)
        {
            break;
        }
    }
    best.ok_or_else(|| Missing::Compiler {
        target: target.to_owned(),
        looked_at,
    })
}

/// The bpf-linker to use. The one `cargo xtask setup` installed under
/// `workspace` comes first, because its LLVM is known to fit.
pub(crate) fn find_linker(workspace: &Path) -> Result<PathBuf, Missing> {
    if let Some(named) = env::var_os(LINKER_VARIABLE) {
        let named = PathBuf::from(named);
        return if named.is_file() {
            Ok(named)
        } else {
            Err(Missing::Linker {
                looked_at: vec![named],
            })
        };
    }
    let mut folders = vec![tools_folder(workspace).join("bin")];
    folders.extend(path_folders());
    folders.extend(cargo_home().map(|home| home.join("bin")));
    let looked_at: Vec<PathBuf> = folders
        .into_iter()
        .map(|folder| folder.join("bpf-linker"))
        .collect();
    match looked_at.iter().find(|path| path.is_file()) {
        Some(found) => Ok(found.clone()),
        None => Err(Missing::Linker { looked_at }),
    }
}

/// Where `cargo xtask setup` puts the tools it builds.
pub(crate) fn tools_folder(workspace: &Path) -> PathBuf {
    workspace.join("target").join("tools")
}

/// The BPF target with the byte order of the machine the programs run on.
pub(crate) fn bpf_target(little_endian: bool) -> &'static str {
    if little_endian {
        "bpfel-unknown-none"
    } else {
        "bpfeb-unknown-none"
    }
}

/// Every compiler worth asking, best guess first, each once.
fn compilers() -> Vec<PathBuf> {
    if let Some(named) = env::var_os(RUSTC_VARIABLE) {
        return vec![PathBuf::from(named)];
    }
    let mut found: Vec<PathBuf> = path_folders().map(|folder| folder.join("rustc")).collect();
    // cron, sudo and some editors run with a PATH that lacks these.
    found.push(PathBuf::from("/usr/bin/rustc"));
    found.extend(rustup_compilers());

    let mut seen = Vec::new();
    found.retain(|path| {
        let Ok(real) = fs::canonicalize(path) else {
            return false;
        };
        let new = !seen.contains(&real);
        seen.push(real);
        new
    });
    found
}

/// The compilers of rustup's nightlies: the pinned one, then whatever is
/// called plain `nightly`. Read from rustup's folder and not through
/// `rustup run`, which may start a download.
fn rustup_compilers() -> Vec<PathBuf> {
    let home = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".rustup")));
    let Some(folder) = home.map(|home| home.join("toolchains")) else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut nightlies: Vec<(bool, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let pinned = name.starts_with(NIGHTLY);
            // `nightly-x86_64-...`, not `nightly-2024-01-01-x86_64-...`.
            let plain = name
                .strip_prefix("nightly-")
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()));
            (pinned || plain).then(|| (!pinned, entry.path().join("bin/rustc")))
        })
        .collect();
    nightlies.sort();
    nightlies.into_iter().map(|(_, rustc)| rustc).collect()
}

/// Asks a compiler for its sysroot and looks for `core` there.
fn inspect(rustc: &Path, target: &str) -> Result<Toolchain, String> {
    let sysroot = PathBuf::from(ask(rustc, &["--print", "sysroot"])?.trim());
    let verbose = ask(rustc, &["--version", "--verbose"])?;
    let version = verbose.lines().next().unwrap_or_default().to_owned();
    let llvm_major = verbose
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version:"))
        .and_then(|rest| rest.trim().split('.').next()?.parse().ok());

    let rustlib = sysroot.join("lib/rustlib");
    let core = if has_core(&rustlib.join(target).join("lib")) {
        Core::Packaged
    } else if rustlib.join("src/rust/library/core/Cargo.toml").is_file() {
        Core::Source
    } else {
        return Err(format!(
            "{version}, without `core` for {target} and without its source"
        ));
    };
    // rustup's proxies choose a toolchain from the environment and the folder;
    // the sysroot's own binary is always itself.
    let own = sysroot.join("bin/rustc");
    let cargo = sysroot.join("bin/cargo");
    Ok(Toolchain {
        rustc: if own.is_file() { own } else { rustc.to_owned() },
        cargo: cargo.is_file().then_some(cargo),
        sysroot,
        core,
        llvm_major,
        version,
    })
}

fn has_core(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|entries| {
        entries.filter_map(Result::ok).any(|entry| {
            let name = entry.file_name();
            Path::new(&name).extension() == Some(OsStr::new("rlib"))
                && name.to_string_lossy().starts_with("libcore-")
        })
    })
}

fn ask(rustc: &Path, arguments: &[&str]) -> Result<String, String> {
    let answer = Command::new(rustc)
        .args(arguments)
        // Set by rustup's cargo for the toolchain that builds the host crates.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("RUSTUP_AUTO_INSTALL", "0")
        .output()
        .map_err(|error| format!("cannot be run: {error}"))?;
    if !answer.status.success() {
        let said = String::from_utf8_lossy(&answer.stderr);
        return Err(said.lines().next().unwrap_or("fails").to_owned());
    }
    String::from_utf8(answer.stdout).map_err(|_| "answers in something other than UTF-8".to_owned())
}

fn path_folders() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

/// `~/.cargo`, or where `CARGO_HOME` says.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
}
