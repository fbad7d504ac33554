//! Owns the oracle's reading of what the policy says of senders: `antispoof`, `containers`, MAC addresses.
//! Must never decide anything; an absent key stays absent here.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Address, Cidr, RawProfile};

/// `[profiles.NAME.antispoof]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawAntiSpoof {
    /// Whether sources that cannot be are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub martians: Option<bool>,
    /// Whether private ranges are martians too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internet: Option<bool>,
    /// Prefixes and groups that are no martians here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub legitimate: Vec<Address>,
    /// Whether the host's own addresses, and its containers', are dropped as source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_addresses: Option<bool>,
    /// What the routes must say of a source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reverse_path: Option<ReversePath>,
    /// Whether what leaves must carry a MAC and an address of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<bool>,
    /// Further sources that may leave.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress_sources: Vec<Address>,
}

/// `reverse_path = ...`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReversePath {
    /// Routes are not asked.
    #[default]
    Off,
    /// Some route must lead to the source.
    Loose,
    /// A route must lead to the source by the interface the packet came in on.
    Strict,
}

/// `[profiles.NAME.containers]`: it makes the profile one for container links.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawContainers {
    /// Where bindings come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bindings: Option<Bindings>,
    /// What a link without a known binding may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unbound: Option<Unbound>,
    /// Static bindings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub binding: Vec<RawBinding>,
}

/// `bindings = ...`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bindings {
    /// What the host finds out, and static ones.
    #[default]
    Auto,
    /// Static ones only.
    Static,
}

/// `unbound = ...`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unbound {
    /// Nothing either way.
    #[default]
    Closed,
    /// Senders are not checked.
    Open,
}

/// `[[profiles.NAME.containers.binding]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawBinding {
    /// The link's end on the host.
    pub interface: String,
    /// The container's MAC; absent: that of the link's other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Addresses and prefixes the container may send from.
    pub addresses: Vec<Cidr>,
}

impl RawProfile {
    /// Whether its interfaces are container links.
    #[must_use]
    pub fn for_containers(&self) -> bool {
        self.containers.is_some()
    }
}

/// A MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl TryFrom<String> for Mac {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no MAC address");
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        parts
            .next()
            .is_none()
            .then_some(Self(bytes))
            .ok_or_else(wrong)
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.map(|byte| format!("{byte:02x}"));
        f.write_str(&digits.join(":"))
    }
}
