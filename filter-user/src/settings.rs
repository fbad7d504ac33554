//! The daemon's own settings: who may do what, which approvals a policy needs, and how much is kept. They stand in a
//! file of their own, because a policy must not change who may change it.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// All settings; what a file leaves out has the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Different people who must have signed a policy before it is loaded; 0: nobody.
    pub require_signatures: u32,
    /// Who they are: a file as `ssh-keygen -Y verify -f` reads it.
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
    /// User names.
    pub users: Vec<String>,
    /// Group names.
    pub groups: Vec<String>,
    /// Names in client certificates.
    pub certificates: Vec<String>,
}

/// Bounds of the audit record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSettings {
    /// Bytes of one file before the next is begun.
    pub file_bytes: u64,
    /// Files that are kept.
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
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Who signs the certificates of clients, PEM.
    pub client_ca: PathBuf,
}
