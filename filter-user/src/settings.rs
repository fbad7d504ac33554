//! The daemon's own settings: who may do what, which approvals a policy needs, and how much is kept. They stand in a
//! file of their own, because a policy must not change who may change it.

mod bounds;
mod file;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

pub use file::read;

/// Where the settings are unless the command line says otherwise.
pub const DEFAULT_FILE: &str = "/etc/edgefilter/daemon.toml";

/// All settings; what a file leaves out has the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Different people who must have signed a policy before it is loaded; 0: nobody.
    #[serde(deserialize_with = "bounds::require_signatures")]
    pub require_signatures: u32,
    /// Who they are: a file as `ssh-keygen -Y verify -f` reads it.
    #[serde(deserialize_with = "bounds::some_path")]
    pub allowed_signers: Option<PathBuf>,
    /// Who may do what, beside root, who is an admin.
    pub roles: Roles,
    /// The record of control actions.
    pub audit: AuditSettings,
    /// Policies that are kept.
    pub generations: GenerationSettings,
    /// Control over the network; `None`: there is none.
    pub remote: Option<Remote>,
}

/// Members of every role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Roles {
    /// May look.
    pub viewer: Members,
    /// May make timed entries as well.
    pub operator: Members,
    /// May change the policy as well.
    pub admin: Members,
}

/// Members of one role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Members {
    /// User names, or numbers as `#1001`.
    pub users: Vec<String>,
    /// Group names, or numbers as `#1001`.
    pub groups: Vec<String>,
    /// Names in client certificates: the subject's common name, or a DNS name, mail address or URI among its alternative
    /// names.
    pub certificates: Vec<String>,
}

/// Bounds of the audit record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSettings {
    /// Bytes of one file before the next is begun.
    #[serde(deserialize_with = "bounds::file_bytes")]
    pub file_bytes: u64,
    /// Files that are kept.
    #[serde(deserialize_with = "bounds::files")]
    pub files: u32,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            file_bytes: 16 << 20,
            files: 8,
        }
    }
}

/// Bounds of what is kept to go back to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerationSettings {
    /// Policies that are kept, the one in force included.
    #[serde(deserialize_with = "bounds::keep")]
    pub keep: u32,
}

impl Default for GenerationSettings {
    fn default() -> Self {
        Self { keep: 20 }
    }
}

/// Control over the network: mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remote {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Our certificate chain, PEM.
    #[serde(deserialize_with = "bounds::path")]
    pub certificate: PathBuf,
    /// Its key, PEM.
    #[serde(deserialize_with = "bounds::path")]
    pub key: PathBuf,
    /// Who signs the certificates of clients, PEM.
    #[serde(deserialize_with = "bounds::path")]
    pub client_ca: PathBuf,
}
