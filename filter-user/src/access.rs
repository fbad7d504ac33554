//! Who asks for something, and what they may ask for.

mod directory;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use directory::{Credentials, Directory};

/// What somebody may ask for; each includes those before it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Makes and takes back entries that end by themselves.
    Operator,
    /// Changes the policy.
    Admin,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// As settings, documents and answers name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// Who does something to the filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Actor {
    /// User name, name of a certificate, or `edgefilter` for the daemon itself.
    pub name: String,
    /// `null`: none.
    pub role: Option<Role>,
    /// Where it came from.
    pub via: Via,
}

/// Where a request came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// The control socket; the kernel says who it is (`SO_PEERCRED`, unix(7)).
    Socket {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// Process; 0 if it lives in another PID namespace.
        pid: i32,
    },
    /// A network connection with a client certificate.
    Remote {
        /// Its other end.
        address: SocketAddr,
    },
    /// The daemon itself.
    Daemon {
        /// `start`, `reload`, `watch` or `timer`.
        cause: String,
    },
}

impl Actor {
    /// The daemon itself.
    #[must_use]
    pub fn daemon(cause: &str) -> Self {
        Self {
            name: "edgefilter".to_owned(),
            role: Some(Role::Admin),
            via: Via::Daemon {
                cause: cause.to_owned(),
            },
        }
    }
}
