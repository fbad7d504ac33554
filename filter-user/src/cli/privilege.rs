//! Telling a missing privilege or kernel feature from other failures.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Error, Result};
use aya::sys::SyscallError;
use nix::errno::Errno;
use nix::unistd::geteuid;

use crate::control::ClientError;
use crate::daemon::Unsupported;

/// A directory that only root may look into.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} cannot be read by this user; run as root (CAP_SYS_ADMIN, or CAP_BPF and access to that directory)"
)]
struct Unreadable {
    path: String,
}

/// Whether an error is about a privilege or kernel feature that is missing: `EPERM` anywhere among its causes,
/// `EACCES` for users other than root (the verifier says `EACCES` as well).
#[must_use]
pub fn is_missing(error: &Error) -> bool {
    error.chain().any(|cause| {
        let code = if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            error.raw_os_error()
        } else if let Some(error) = cause.downcast_ref::<SyscallError>() {
            error.io_error.raw_os_error()
        } else {
            cause.downcast_ref::<Errno>().map(|errno| *errno as i32)
        };
        match code {
            Some(libc::EPERM) => true,
            Some(libc::EACCES) => !geteuid().is_root(),
            _ => {
                cause.is::<Unsupported>()
                    || cause.is::<Unreadable>()
                    || matches!(
                        cause.downcast_ref(),
                        Some(ClientError::Denied { .. } | ClientError::Forbidden(_))
                    )
            }
        }
    })
}

/// Fails when pins could be there without being seen.
pub(super) fn require_readable(bpffs: &Path) -> Result<()> {
    match fs::read_dir(bpffs) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(Unreadable {
            path: bpffs.display().to_string(),
        }
        .into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use std::io;

    use super::*;

    #[test]
    fn what_counts_as_missing() {
        let io = |code| Error::new(io::Error::from_raw_os_error(code)).context("cannot load");
        assert!(is_missing(&io(libc::EPERM)));
        assert!(!is_missing(&io(libc::ENOENT)));
        assert_eq!(is_missing(&io(libc::EACCES)), !geteuid().is_root());
        assert!(is_missing(&Error::new(Unsupported("Linux 5.9".to_owned()))));
        assert!(is_missing(
            &Error::new(Errno::EPERM).context("cannot mount")
        ));
        let call = SyscallError {
            call: "bpf",
            io_error: io::Error::from_raw_os_error(libc::EPERM),
        };
        assert!(is_missing(&Error::new(call)));
        assert!(!is_missing(&anyhow!("the policy does not fit")));
    }
}
