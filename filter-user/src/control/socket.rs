//! The socket's place, its making, and who may open it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::net::UnixListener;

/// Where the socket of a run directory is.
#[must_use]
pub fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("control.sock")
}

/// Listens in `run_dir`, which must exist. A socket that a dead daemon left behind is replaced; one that somebody
/// answers on is not. Call it inside a tokio runtime.
pub fn bind(run_dir: &Path) -> Result<UnixListener> {
    let path = path(run_dir);
    match UnixStream::connect(&path) {
        Ok(_) => bail!(
            "another daemon answers on {}; stop it first, or choose another --run-dir",
            path.display()
        ),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) => {}
        Err(error) => {
            return Err(error).with_context(|| {
                format!("cannot tell whether a daemon answers on {}", path.display())
            });
        }
    }
    // made under another name and moved: nobody finds it before its mode is right, and the old one gives way at once
    let fresh = run_dir.join(format!("control.{}", std::process::id()));
    let making = || format!("cannot make the control socket {}", path.display());
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(making);
        }
        _ => {}
    }
    let listener = UnixListener::bind(&fresh).with_context(making)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).with_context(making)?;
    fs::rename(&fresh, &path).with_context(making)?;
    Ok(listener)
}

/// Who may open the socket. With roles for others than root everybody may: which user it is, the kernel says with every
/// connection (`SO_PEERCRED`, which no client can forge), and who has no role is told so and nothing else. File modes
/// could not tell several users and groups apart. Without such roles nobody else comes as far as that.
pub fn open_to(run_dir: &Path, everybody: bool) -> Result<()> {
    let path = path(run_dir);
    let mode = if everybody { 0o666 } else { 0o600 };
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}
