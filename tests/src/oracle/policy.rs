//! Owns the oracle's own reading of the policy file: plain serde types, kept close to the text.
//! Must never use filter-user's policy types: the point is a second reading of the same format.

mod antispoof;
mod scans;

use std::net::IpAddr;

pub use antispoof::{Bindings, Mac, RawAntiSpoof, RawBinding, RawContainers, ReversePath, Unbound};
use indexmap::IndexMap;
use ipnet::IpNet;
pub use scans::{RawReport, RawScans};
use serde::{Deserialize, Serialize};

/// A policy as written. Profiles and groups keep the order of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPolicy {
    /// Format version, always 1.
    pub version: u32,
    /// Who always gets in; absent and empty are the same to the oracle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failsafe: Vec<RawRule>,
    /// Named lists of prefixes.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub groups: IndexMap<String, RawGroup>,
    /// Profiles by name.
    #[serde(default)]
    pub profiles: IndexMap<String, RawProfile>,
    /// What becomes of scans; of no meaning to the oracle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scans: Option<RawScans>,
    /// Where they are reported to; of no meaning to the oracle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<RawReport>,
}

impl RawPolicy {
    /// Reads policy text.
    ///
    /// # Errors
    /// What the TOML reader says: bad syntax, an unknown key, a value of the wrong shape.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Writes the policy back as TOML that reads the same.
    ///
    /// # Errors
    /// What the TOML writer says; it does not happen for a policy that was read from text.
    pub fn to_text(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

/// A named list of prefixes; the oracle reads no files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawGroup {
    /// The prefixes of the group.
    #[serde(default)]
    pub cidrs: Vec<Cidr>,
}

/// One profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawProfile {
    /// Interface names or globs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,
    /// Names or globs of bridges whose ports belong to this profile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bridges: Vec<String>,
    /// Outer VLAN ids this profile judges; empty: everything else on the interface.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<u16>,
    /// Verdict where nothing matches.
    #[serde(default)]
    pub default: Default_,
    /// `false` is monitor mode.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub enforce: bool,
    /// Whether skb mode may be used; of no meaning to the oracle.
    #[serde(default, skip_serializing_if = "is_false")]
    pub generic_xdp: bool,
    /// What happens to fragments.
    #[serde(default)]
    pub fragments: Fragments,
    /// Further ethertypes let in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ethertypes: Vec<String>,
    /// Which senders are believed; absent: as by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub antispoof: Option<RawAntiSpoof>,
    /// Present in a profile for container links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers: Option<RawContainers>,
    /// What keeps working under the strictest policy.
    #[serde(default)]
    pub control: Control,
    /// Unsolicited ICMP let in.
    #[serde(default)]
    pub icmp: IcmpLists,
    /// Rules that let in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<RawRule>,
    /// Rules that refuse.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<RawRule>,
    /// What containers may send; absent: anything; empty: nothing but answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<Vec<RawRule>>,
}

/// `default = ...`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Default_ {
    /// Closed.
    #[default]
    Drop,
    /// Open.
    Pass,
}

/// `fragments = ...`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fragments {
    /// Later fragments follow their first one.
    #[default]
    Track,
    /// No fragment passes.
    Drop,
}

/// `[profiles.NAME.control]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// ARP.
    pub arp: bool,
    /// Neighbour discovery and the MLD query.
    pub nd: bool,
    /// Router solicitation and advertisement.
    pub ra: bool,
    /// DHCP answers.
    pub dhcp: bool,
    /// Path-MTU messages.
    pub pmtu: bool,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            arp: true,
            nd: true,
            ra: true,
            dhcp: true,
            pmtu: true,
        }
    }
}

/// `[profiles.NAME.icmp]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IcmpLists {
    /// ICMP types on IPv4.
    pub v4: Vec<NameOrNumber>,
    /// `ICMPv6` types.
    pub v6: Vec<NameOrNumber>,
}

/// An allow, deny or send rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRule {
    /// Unique name.
    pub id: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Protocols; absent in a deny rule: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<OneOrMany<NameOrNumber>>,
    /// Destination ports and ranges; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<Port>>,
    /// Sources; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<Address>>,
    /// Destination; absent: any. In a send rule the remote side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<OneOrMany<Address>>,
    /// Packets a second, all sources together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Packets a second of one source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_source: Option<Rate>,
}

/// One value or a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// `key = value`
    One(T),
    /// `key = [value, ...]`
    Many(Vec<T>),
}

impl<T: Clone> OneOrMany<T> {
    /// The values as a list.
    #[must_use]
    pub fn list(&self) -> Vec<T> {
        match self {
            Self::One(value) => vec![value.clone()],
            Self::Many(values) => values.clone(),
        }
    }
}

/// A protocol or ICMP type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NameOrNumber {
    /// By number.
    Number(u8),
    /// By name.
    Name(String),
}

/// A destination port or a range `"first-last"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Port {
    /// One port.
    One(u16),
    /// A range, both ends included.
    Range(String),
}

impl Port {
    /// First and last port; `None` for text that is no range.
    #[must_use]
    pub fn bounds(&self) -> Option<(u16, u16)> {
        match self {
            Self::One(port) => Some((*port, *port)),
            Self::Range(text) => match text.split_once('-') {
                Some((first, last)) => {
                    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
                }
                None => text.trim().parse().ok().map(|port| (port, port)),
            },
        }
    }
}

/// Packets a second with a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Packets a second.
    pub packets: u64,
    /// Packets let through at once; absent: as `packets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
}

/// A prefix; a bare address is a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(pub IpNet);

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(IpNet::from(address)));
        }
        text.parse()
            .map(Self)
            .map_err(|_| format!("{text:?} is neither an address nor a prefix"))
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.0.to_string()
    }
}

/// An element of `from` or `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// `"any"`
    Any,
    /// `"self"`: the host's own addresses (`to` only).
    SelfHost,
    /// `"forwarded"`: what is routed on (`to` only).
    Forwarded,
    /// `"@name"`
    Group(String),
    /// A prefix.
    Net(Cidr),
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Ok(match text.as_str() {
            "any" => Self::Any,
            "self" => Self::SelfHost,
            "forwarded" => Self::Forwarded,
            _ => match text.strip_prefix('@') {
                Some(name) => Self::Group(name.to_owned()),
                None => Self::Net(Cidr::try_from(text)?),
            },
        })
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        match address {
            Address::Any => "any".into(),
            Address::SelfHost => "self".into(),
            Address::Forwarded => "forwarded".into(),
            Address::Group(name) => format!("@{name}"),
            Address::Net(cidr) => cidr.into(),
        }
    }
}

fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape serde asks for"
)]
fn is_true(value: &bool) -> bool {
    *value
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape serde asks for"
)]
fn is_false(value: &bool) -> bool {
    !*value
}
