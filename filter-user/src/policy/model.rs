//! The validated policy: what the rest of the program works with. Every value here has passed all
//! checks; nothing here reads files or knows TOML, and it must never be built from unchecked input.

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};

/// The only policy format version there is.
pub const VERSION: i64 = 1;
/// Most profiles a policy may hold.
pub const MAX_PROFILES: usize = 32;
/// Most rules a policy may hold, allow and deny of all profiles together.
pub const MAX_RULES: usize = 4094;
/// Most interfaces that can be managed at once.
pub const MAX_INTERFACES: usize = 255;
/// Most prefixes that may be written in a policy and its prefix files together, and most that all
/// its address lists may hold together (a group counts once for each list that mixes it with others).
pub const MAX_PREFIXES: usize = 16_000_000;
/// Largest rate and burst, in packets (a second): above what any port delivers, and small enough
/// that token arithmetic in nanoseconds stays inside 64 bits.
pub const MAX_RATE: u64 = 1_000_000_000;
/// Largest policy file, in bytes.
pub const MAX_POLICY_BYTES: u64 = 4 << 20;
/// Largest prefix file, in bytes.
pub const MAX_CIDR_FILE_BYTES: u64 = 64 << 20;
/// Ethertype number that stands for 802.3 length frames (LLC) in [`Profile::ethertypes`].
pub const ETHERTYPE_LLC: u16 = 0;

/// A whole policy file.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// In the order of the file; an index into this list names a profile elsewhere.
    pub profiles: Vec<Profile>,
    /// The file it came from.
    pub path: PathBuf,
}

/// How the frames of some interfaces are judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// `[a-z0-9][a-z0-9_-]*`, at most 64 bytes, unique.
    pub name: String,
    /// Interface names or globs (`*`, `?`, `[..]`); never empty.
    pub interfaces: Vec<String>,
    /// Outer VLAN ids (1-4094, ascending) this profile judges; empty: all frames that no other
    /// profile of the interface claims by VLAN id.
    pub vlans: Vec<u16>,
    /// What happens to packets nothing else decided about.
    pub default_verdict: DefaultVerdict,
    /// False: monitor mode; decide and count, but pass everything.
    pub enforce: bool,
    /// Whether generic (skb) XDP may be used where the driver has no native XDP.
    pub generic_xdp: bool,
    /// What happens to IP fragments.
    pub fragments: FragmentPolicy,
    /// Control traffic let in without a rule.
    pub control: Control,
    /// ICMP types let in from anyone, ascending.
    pub icmp_v4: Vec<u8>,
    /// ICMPv6 types let in from anyone, ascending.
    pub icmp_v6: Vec<u8>,
    /// Further ethertypes let in (host byte order), ascending; [`ETHERTYPE_LLC`] is LLC.
    pub ethertypes: Vec<u16>,
    /// First match wins; looked at after `deny`.
    pub allow: Vec<Rule>,
    /// First match wins; looked at before everything else.
    pub deny: Vec<Rule>,
}

/// The verdict on packets that no rule, flow or control setting covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DefaultVerdict {
    /// Drop.
    #[default]
    Drop,
    /// Pass, as rule `default`.
    Pass,
}

/// The handling of IP fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FragmentPolicy {
    /// Judge the first, let later ones follow its verdict.
    #[default]
    Track,
    /// Drop all.
    Drop,
}

/// Control traffic that is let in without a rule. The default is everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// ARP.
    pub arp: bool,
    /// ICMPv6 neighbour discovery (135, 136, 137) and the MLD query (130).
    pub nd: bool,
    /// ICMPv6 router solicitation and advertisement (133, 134).
    pub ra: bool,
    /// Answers to the host's DHCPv4 and DHCPv6 clients.
    pub dhcp: bool,
    /// Path-MTU messages (ICMP 3/4, ICMPv6 2) about known flows.
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

/// One allow or deny rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`, unique in the policy.
    pub id: String,
    /// Free text for people, without control characters; may be empty.
    pub comment: String,
    /// What the rule covers; sorted, port ranges of one protocol do not touch. Never empty.
    pub services: Vec<Service>,
    /// Sources the rule covers.
    pub from: AddressSet,
    /// Destinations the rule covers.
    pub to: Destination,
    /// Limit over all sources together.
    pub rate: Option<Rate>,
    /// Limit for each source address.
    pub rate_per_source: Option<Rate>,
    /// Line of the rule's header in the policy file, from 1.
    pub line: usize,
}

/// Something a rule can cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Every protocol (deny rules only).
    Any,
    /// A whole IP protocol by number: all ports, all types.
    Protocol(u8),
    /// Destination ports of a protocol that has them.
    Ports {
        /// The protocol.
        protocol: PortProtocol,
        /// First port (host byte order).
        first: u16,
        /// Last port, included; never below `first`.
        last: u16,
    },
}

/// Protocols with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortProtocol {
    /// TCP, 6.
    Tcp,
    /// UDP, 17.
    Udp,
    /// SCTP, 132.
    Sctp,
}

impl PortProtocol {
    /// The protocol with this IP protocol number, if it has ports.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }

    /// The IP protocol number (IANA).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// Source addresses.
#[derive(Debug, Clone, PartialEq)]
pub enum AddressSet {
    /// Every address.
    Any,
    /// These prefixes. Rules with the identical list or group share one `Arc`.
    Prefixes(Arc<PrefixSet>),
}

/// Prefixes, aggregated: sorted, disjoint, and no two that could be written as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixSet {
    /// Where it is written: `@admins` for a group, `rule https` for a list (the first rule that
    /// has it).
    pub name: String,
    /// IPv4 prefixes, host bits zero.
    pub v4: Vec<Ipv4Net>,
    /// IPv6 prefixes, host bits zero.
    pub v6: Vec<Ipv6Net>,
}

/// Destination addresses.
#[derive(Debug, Clone, PartialEq)]
pub enum Destination {
    /// Every address.
    Any,
    /// The host's own addresses.
    SelfAddresses,
    /// What the host forwards, for instance to containers.
    Forwarded,
    /// These prefixes. Rules with the identical list or group share one `Arc`.
    Prefixes(Arc<PrefixSet>),
}

/// A token bucket; both values 1 to [`MAX_RATE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Packets a second.
    pub packets: u64,
    /// Packets that may come at once.
    pub burst: u64,
}
