//! The one way filter-ebpf is compiled: which cargo, which flags, which
//! environment. It never decides where the result goes; its callers do.

use std::{ffi::OsString, path::Path, process::Command};

use crate::toolchain::{Core, Toolchain};

/// The package, and the name of the binary that is the filter. `cargo build`
/// leaves the object as `TARGET_FOLDER/TARGET/bpf/filter-ebpf`.
pub(crate) const PACKAGE: &str = "filter-ebpf";

/// The crates that use unstable features of the compiler: aya-ebpf for the
/// calling conventions of helpers, ours for atomic intrinsics.
const UNSTABLE: &str = "aya_ebpf,filter_ebpf";

/// One run of cargo on filter-ebpf.
#[derive(Clone, Debug)]
pub(crate) struct Build<'a> {
    pub toolchain: &'a Toolchain,
    pub linker: &'a Path,
    /// Used when the toolchain brings no cargo of its own.
    pub fallback_cargo: &'a Path,
    /// The folder with the workspace's Cargo.toml.
    pub workspace: &'a Path,
    /// `bpfel-unknown-none` or `bpfeb-unknown-none`.
    pub target: &'a str,
    /// The machine's architecture in Rust's spelling: register layouts differ.
    pub architecture: &'a str,
    /// Never shared with the build of the host crates, which holds the lock of
    /// its own target folder while build scripts run.
    pub target_folder: &'a Path,
    /// Features of the package: `log` for logging from the datapath, `bench` for what only the benchmark runs.
    pub features: &'a [&'a str],
}

impl Build<'_> {
    /// `cargo SUBCOMMAND` with everything set, and room for more arguments.
    pub(crate) fn command(&self, subcommand: &str) -> Command {
        let cargo = self
            .toolchain
            .cargo
            .as_deref()
            .unwrap_or(self.fallback_cargo);
        let mut command = Command::new(cargo);
        command
            .arg(subcommand)
            .args([
                "--package",
                PACKAGE,
                "--profile",
                "bpf",
                "--target",
                self.target,
            ])
            .arg("--manifest-path")
            .arg(self.workspace.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(self.target_folder)
            .current_dir(self.workspace);
        if self.workspace.join("Cargo.lock").is_file() {
            // This cargo may be of another version than the one that wrote
            // the lock file, and has no business to change it.
            command.arg("--locked");
        }
        for feature in self.features {
            command.args(["--features", feature]);
        }

        // What the cargo above us set for the host build, or the user for it.
        for variable in [
            "CARGO_BUILD_RUSTC",
            "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
            "CARGO_BUILD_TARGET",
            "CARGO_BUILD_TARGET_DIR",
            "CARGO_TARGET_DIR",
            "CLIPPY_ARGS",
            "RUSTC_LINKER",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTDOC",
            "RUSTDOCFLAGS",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
        ] {
            command.env_remove(variable);
        }
        command
            .env("RUSTC", &self.toolchain.rustc)
            // Empty and not absent: also undoes `build.rustc-wrapper` of a
            // configuration file.
            .env("RUSTC_WRAPPER", "")
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags());
        match self.toolchain.core {
            Core::Packaged => {
                command.env("RUSTC_BOOTSTRAP", UNSTABLE);
            }
            Core::Source => {
                command.args(["-Z", "build-std=core"]);
                // Lets a stable compiler take -Z too; a nightly needs no leave.
                command.env("RUSTC_BOOTSTRAP", "1");
            }
        }
        command
    }

    /// Compiler flags, joined as `CARGO_ENCODED_RUSTFLAGS` wants them.
    fn flags(&self) -> OsString {
        let mut linker = OsString::from("linker=");
        linker.push(self.linker);
        let architecture = format!(
            "bpf_target_arch=\"{}\"",
            bpf_architecture(self.architecture)
        );
        let flags = [
            OsString::from("-C"),
            linker,
            // In every crate, `core` included where it is built along: the
            // kernel refuses an object in which some functions have function
            // information and some have none.
            "-C".into(),
            "debuginfo=2".into(),
            "-C".into(),
            "link-arg=--btf".into(),
            // v3 has atomic read-modify-write instructions (Linux 5.12) and
            // 32-bit registers.
            "-C".into(),
            "target-cpu=v3".into(),
            // One load instead of four for a field of a packet. The kernel takes unaligned loads where the CPU does
            // (x86-64, arm64).
            "-C".into(),
            "target-feature=+allows-misaligned-mem-access".into(),
            "--cfg".into(),
            architecture.into(),
        ];
        flags.join(&OsString::from("\u{1f}"))
    }
}

/// aya's name of an architecture: as Rust's, but for the variants of RISC-V.
fn bpf_architecture(architecture: &str) -> &str {
    if architecture.starts_with("riscv64") {
        "riscv64"
    } else {
        architecture
    }
}
