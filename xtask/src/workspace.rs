//! Where the workspace is, which cargo runs it, and how commands are run so
//! that a reader sees which one failed. It knows nothing of what they do.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// The folder with the workspace's Cargo.toml.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The folder cargo builds the host crates in.
pub fn target_folder() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |folder| root().join(folder))
}

/// The cargo that runs this program.
pub fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

/// `cargo SUBCOMMAND` in the workspace.
pub fn cargo_command(subcommand: &str) -> Command {
    let mut command = Command::new(cargo());
    command.arg(subcommand).current_dir(root());
    command
}

/// Runs a command with its output shown. An error names the command.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command
        .status()
        .with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Runs a command and returns what it printed. An error holds what it said.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let answer = command
        .output()
        .with_context(|| format!("cannot run `{shown}`"))?;
    if !answer.status.success() {
        bail!(
            "`{shown}` ended with {}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.stderr).trim()
        );
    }
    String::from_utf8(answer.stdout)
        .with_context(|| format!("`{shown}` printed something other than UTF-8"))
}

/// The command as a person would type it, without its environment.
pub fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut shown = program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy()
        .into_owned();
    for argument in command.get_args() {
        shown.push(' ');
        shown.push_str(&argument.to_string_lossy());
    }
    shown
}

/// Whether this process may do everything.
pub fn is_root() -> bool {
    // The owner of this process's entry in /proc is its effective user.
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Whether an automatic run must take every omission for a failure.
pub fn is_ci() -> bool {
    env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

/// Finds a program on PATH.
pub fn find_program(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}
