//! Builds the BPF object that the library embeds, as
//! `$OUT_DIR/edgefilter.bpf.o`. It never falls back to an older object or to
//! none: a program without its filter must not build.

#[path = "build/object.rs"]
mod object;
#[path = "build/toolchain.rs"]
mod toolchain;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use object::Build;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: the BPF program was not built: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")?)
        .parent()
        .map(Path::to_owned)
        .ok_or("filter-user has no parent folder")?;
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target = toolchain::bpf_target(variable("CARGO_CFG_TARGET_ENDIAN")? == "little");

    watch(&workspace);
    let toolchain = toolchain::find(target).map_err(|missing| missing.to_string())?;
    let linker = toolchain::find_linker(&workspace).map_err(|missing| missing.to_string())?;
    // A new compiler or linker under the same name is a reason to rebuild.
    println!("cargo::rerun-if-changed={}", toolchain.rustc.display());
    println!("cargo::rerun-if-changed={}", linker.display());

    let cargo = PathBuf::from(variable("CARGO")?);
    let build = Build {
        toolchain: &toolchain,
        linker: &linker,
        fallback_cargo: &cargo,
        workspace: &workspace,
        target,
        architecture: &variable("CARGO_CFG_TARGET_ARCH")?,
        target_folder: &out.join("bpf-target"),
        features: if env::var_os("CARGO_FEATURE_BPF_LOG").is_some() {
            &["log"]
        } else {
            &[]
        },
    };
    let mut command = build.command("build");
    // Shown by the cargo above when this step fails.
    eprintln!("{command:?}");
    let status = command
        .status()
        .map_err(|error| format!("{} cannot be run: {error}", command.get_program().display()))?;
    if !status.success() {
        return Err(explain(&toolchain, &linker));
    }

    let object = build
        .target_folder
        .join(target)
        .join("bpf")
        .join(object::PACKAGE);
    let embedded = out.join("edgefilter.bpf.o");
    fs::copy(&object, &embedded).map(drop).map_err(|error| {
        format!(
            "{} cannot be copied to {}: {error}",
            object.display(),
            embedded.display()
        )
    })
}

/// Says what was used, because a compiler newer than the linker fails in ways
/// that do not name the cause.
fn explain(toolchain: &toolchain::Toolchain, linker: &Path) -> String {
    let used = format!(
        "see cargo's messages above.\n  compiler: {toolchain}\n  linker:   {}",
        linker.display(),
    );
    match toolchain.llvm_major {
        Some(llvm) if llvm > toolchain::LLVM_MAJOR => format!(
            "{used}\nThe compiler uses LLVM {llvm}, and a bpf-linker built with LLVM {} reads what that one and older write. Use {}, or name another compiler with {}.",
            toolchain::LLVM_MAJOR,
            toolchain::NIGHTLY,
            toolchain::RUSTC_VARIABLE,
        ),
        _ => used,
    }
}

/// Everything the object is made from.
fn watch(workspace: &Path) {
    for path in [
        "Cargo.toml",
        "Cargo.lock",
        "filter-common/Cargo.toml",
        "filter-common/src",
        "filter-ebpf/Cargo.toml",
        "filter-ebpf/src",
        "filter-user/build.rs",
        "filter-user/build",
    ] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    for name in [toolchain::RUSTC_VARIABLE, toolchain::LINKER_VARIABLE] {
        println!("cargo::rerun-if-env-changed={name}");
    }
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}; run this through cargo"))
}
