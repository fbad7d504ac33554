//! The validated policy: what the rest of the program works with. Every value here has passed all
//! checks; nothing here reads files or knows TOML, and it must never be built from unchecked input.

mod events;
mod scans;
mod schedule;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};

pub use events::*;
pub use scans::*;
pub use schedule::{Active, Schedule, Window};

/// The only policy format version there is.
pub const VERSION: i64 = 1;
/// Most profiles a policy may hold.
pub const MAX_PROFILES: usize = 32;
/// Most rules a policy may hold, allow, deny and send of all profiles together. Fewer than there
/// are rule slots: the rows that refuse sources, each a martian prefix say, need slots too.
pub const MAX_RULES: usize = 10_000;
/// Most interfaces that can be managed at once, and most static bindings.
pub const MAX_INTERFACES: usize = 255;
/// Most addresses and prefixes of each IP version that one container link may be bound to.
pub const MAX_BOUND_ADDRESSES: usize = 16;
/// Most windows of one rule.
pub const MAX_WINDOWS: usize = 32;
/// Ids no rule may have: under them is counted what no rule decides.
pub const RESERVED_RULE_IDS: &[&str] = &["default", "own-address", "own-container", "reverse-path"];
/// Most prefixes that may be written in a policy and its prefix files together, and most that all
/// its address lists may hold together (a group counts once for each list that mixes it with others).
pub const MAX_PREFIXES: usize = 16_000_000;
/// Largest rate and burst, in packets (a second): above what any port delivers, and small enough
/// that token arithmetic in nanoseconds stays inside 64 bits.
pub const MAX_RATE: u64 = 1_000_000_000;
/// Largest policy file, and most bytes of a policy file and all it includes together.
pub const MAX_POLICY_BYTES: u64 = 4 << 20;
/// Most files of a policy: policy files, what they include, and prefix files.
pub const MAX_FILES: usize = 1024;
/// Most bytes of all files of a policy together.
pub const MAX_BUNDLE_BYTES: u64 = 96 << 20;
/// Most values of a policy file and all it includes: a value takes far more memory than text.
pub const MAX_VALUES: usize = 250_000;
/// How deep files may include others.
pub const MAX_INCLUDE_DEPTH: usize = 8;
/// Largest prefix file, in bytes.
pub const MAX_CIDR_FILE_BYTES: u64 = 64 << 20;
/// Ethertype number that stands for 802.3 length frames (LLC) in [`Profile::ethertypes`].
pub const ETHERTYPE_LLC: u16 = 0;

/// A whole policy file.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Who always gets in.
    pub failsafe: Failsafe,
    /// In the order of the file; an index into this list names a profile elsewhere.
    pub profiles: Vec<Profile>,
    /// The file it came from.
    pub path: PathBuf,
    /// What becomes of scans.
    pub scans: Scans,
    /// Where they are reported to.
    pub report: Reporting,
    /// Which sampled drops are told.
    pub events: Events,
}

/// Sources that always get in, whatever else the policy says. Their rules come before the deny rules of every profile
/// but container profiles; no rate and no block holds them up, only checks of whether a source can be.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Failsafe {
    /// The policy says nothing: nobody always gets in, and a push that closes every way in is refused.
    #[default]
    Absent,
    /// The policy says that there is nobody: a push may close every way in.
    None,
    /// These: their `to` is [`Destination::Any`], and they have neither rates nor a schedule. Never empty.
    Rules(Vec<Rule>),
}

impl Failsafe {
    /// The rules, in the order of the file.
    pub fn rules(&self) -> &[Rule] {
        match self {
            Self::Absent | Self::None => &[],
            Self::Rules(rules) => rules,
        }
    }
}

impl Policy {
    /// All rules: the failsafe list, then those of the profiles.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        let profiles = self.profiles.iter().flat_map(Profile::rules);
        self.failsafe.rules().iter().chain(profiles)
    }
}

/// How the frames of some interfaces are judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// `[a-z0-9][a-z0-9_-]*`, at most 64 bytes, unique.
    pub name: String,
    /// Interface names or globs (`*`, `?`, `[..]`); empty only if there are `bridges`.
    pub interfaces: Vec<String>,
    /// Names or globs of bridges whose ports belong to this profile too. Only in a container profile.
    pub bridges: Vec<String>,
    /// Outer VLAN ids (1-4094, ascending) this profile judges; empty: all frames that no other
    /// profile of the interface claims by VLAN id. Always empty in a container profile.
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
    /// Which sources are refused. All off in a container profile, where bindings decide.
    pub antispoof: AntiSpoof,
    /// Set: the interfaces are the host-side ends of container links.
    pub containers: Option<Containers>,
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

impl Profile {
    /// All rules: deny, allow, then send, each in the order of the file.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        let send = self.containers.iter().flat_map(|c| c.send.iter().flatten());
        self.deny.iter().chain(&self.allow).chain(send)
    }
}

/// Which sources are refused, in both directions. The default is nothing: what a policy that says
/// nothing means depends on the profile and is filled in when it is read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AntiSpoof {
    /// Refuse sources that cannot be.
    pub martians: bool,
    /// The interface faces the internet: private ranges are martians too.
    pub internet: bool,
    /// Prefixes that are never martians here; `None`: no exceptions.
    pub legitimate: Option<Arc<PrefixSet>>,
    /// Refuse the host's own addresses, and its containers' subnets, from outside.
    pub own_addresses: bool,
    /// Whether the routes back to a source must agree with where it came from.
    pub reverse_path: ReversePath,
    /// What leaves must carry the host's MAC and one of its addresses.
    pub egress: bool,
    /// Further sources that may leave; `None`: no others.
    pub egress_sources: Option<Arc<PrefixSet>>,
}

/// The check of a source against the routes (RFC 3704).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReversePath {
    /// No check.
    #[default]
    Off,
    /// There is a route to the source, whichever interface it leads out of.
    Loose,
    /// A route to the source leads out of the interface it came in by.
    Strict,
}

/// The hook at which what a container sends is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hook {
    /// Traffic control: costs next to nothing. A container that may set up its own links (CAP_NET_ADMIN) can send
    /// packets that the kernel does not show there.
    #[default]
    Tc,
    /// XDP: sees everything, and copies every large segment.
    Xdp,
}

/// What sets container links apart from other interfaces.
#[derive(Debug, Clone, PartialEq)]
pub struct Containers {
    /// Learn the bindings of links without a static one.
    pub auto: bool,
    /// A link without a known binding is not checked; false: nothing passes it.
    pub unbound_open: bool,
    /// Where what containers send is judged.
    pub hook: Hook,
    /// In the order of the file; no interface stands in two of the whole policy.
    pub bindings: Vec<StaticBinding>,
    /// What containers may send, first match wins; `None`: anything, empty: nothing but replies.
    /// Here a rule's `from` holds the destinations it covers (the remote side), and its `to` is
    /// [`Destination::Any`].
    pub send: Option<Vec<Rule>>,
}

/// What the container behind one interface may use as source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticBinding {
    /// The host-side end, an exact name.
    pub interface: String,
    /// `None`: the MAC of the peer.
    pub mac: Option<[u8; 6]>,
    /// IPv4 prefixes as written, host bits zero, each once; at most [`MAX_BOUND_ADDRESSES`].
    pub v4: Vec<Ipv4Net>,
    /// IPv6 prefixes, likewise. Never empty together with `v4`.
    pub v6: Vec<Ipv6Net>,
    /// Line of the binding's header in the policy file, from 1.
    pub line: usize,
}

/// One allow, deny, send or failsafe rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`, unique in the policy.
    pub id: String,
    /// Free text for people, without control characters; may be empty.
    pub comment: String,
    /// What the rule covers; sorted, port ranges of one protocol do not touch. Never empty.
    pub services: Vec<Service>,
    /// Sources the rule covers; in a send rule, destinations.
    pub from: AddressSet,
    /// Destinations the rule covers.
    pub to: Destination,
    /// Limit over all sources together.
    pub rate: Option<Rate>,
    /// Limit for each source address.
    pub rate_per_source: Option<Rate>,
    /// When the rule counts; `None`: always.
    pub schedule: Option<Schedule>,
    /// The file the rule stands in. Rules of one file share it.
    pub file: Arc<Path>,
    /// Line of the rule's header in its file, from 1.
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

/// Addresses of the remote side.
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
    /// Where it is written: `@admins` for a group, `rule https` or `legitimate of profile edge` for
    /// a list (the first place that has it).
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
