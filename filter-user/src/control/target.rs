//! Which daemon a command talks to: that of this host, or one over the network.

use std::path::{Path, PathBuf};

use super::remote::Remote;
use super::socket;

/// A daemon.
#[derive(Clone, Debug)]
pub enum Target {
    /// On this host: its control socket.
    Socket(PathBuf),
    /// Over the network.
    Remote(Remote),
}

/// The daemon of a run directory.
impl From<&Path> for Target {
    fn from(run_dir: &Path) -> Self {
        Self::Socket(socket::path(run_dir))
    }
}

impl From<&PathBuf> for Target {
    fn from(run_dir: &PathBuf) -> Self {
        Self::from(run_dir.as_path())
    }
}

impl From<&Target> for Target {
    fn from(target: &Target) -> Self {
        target.clone()
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Remote(remote) => write!(f, "{remote}"),
        }
    }
}
