//! The keys each table of a policy may have: their types, an example of each for cures, and what they are about. From
//! here come what the reader accepts, the JSON Schema and the order in which `fmt` writes. The reference is tested
//! against them. Whether a value makes sense is decided elsewhere.

mod rules;
mod scans;

pub(super) use rules::*;
pub(super) use scans::*;

use Kind::{Flag, Named, Scalars, Table, Tables, Text, Texts, Whole, Word};

use super::model::VERSION;

/// One key of a table.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// A line of TOML, for cures.
    pub(super) example: &'static str,
    /// For editors.
    pub(super) about: &'static str,
    /// The table has no meaning without it.
    pub(super) required: bool,
}

/// What may stand under a key.
pub(super) enum Kind {
    /// A whole number, from and to.
    Whole(i64, i64),
    /// A number.
    Number,
    Flag,
    Text,
    /// One of these texts.
    Word(&'static [&'static str]),
    /// A date or time, with quotes or without.
    Time,
    /// Texts; one alone does as well.
    Texts,
    /// Numbers and texts; one alone does as well.
    Scalars,
    /// A table with these keys.
    Table(&'static [Key]),
    /// Tables with these keys, under names of the writer's choice.
    Named(&'static [Key]),
    /// A list of tables with these keys.
    Tables(&'static [Key]),
}

/// Shorthand for tables of keys.
const fn key(name: &'static str, kind: Kind, example: &'static str, about: &'static str) -> Key {
    Key {
        name,
        kind,
        example,
        about,
        required: false,
    }
}

impl Key {
    const fn required(mut self) -> Self {
        self.required = true;
        self
    }
}

/// Keys of the file itself.
pub(super) const POLICY_KEYS: &[Key] = &[
    key(
        "version",
        Whole(VERSION, VERSION),
        "version = 1",
        "Format of this file; always 1.",
    ),
    key(
        "include",
        Texts,
        "include = [\"groups.toml\", \"conf.d/*.toml\"]",
        "Further files of this policy, relative to this one; patterns in the name of the file.",
    ),
    key(
        "zone",
        Text,
        "zone = \"Europe/Berlin\"",
        "Time zone of the times of rules; UTC if left out.",
    ),
    key(
        "failsafe",
        Tables(FAILSAFE_KEYS),
        "[[failsafe]]",
        "Who always gets in. An empty list says that there is nobody.",
    ),
    key(
        "groups",
        Named(GROUP_KEYS),
        "[groups.admins]",
        "Named sets of prefixes; rules name them as \"@NAME\".",
    ),
    key(
        "profiles",
        Named(PROFILE_KEYS),
        "[profiles.edge]",
        "How interfaces are filtered.",
    ),
    key(
        "scans",
        Table(SCANS_KEYS),
        "[scans]",
        "What becomes of scans.",
    ),
    key(
        "report",
        Table(REPORT_KEYS),
        "[report.syslog]",
        "Where scans, blocks and alerts are reported to.",
    ),
    key(
        "events",
        Table(EVENTS_KEYS),
        "[events]",
        "Which sampled drops are told, and a file for them.",
    ),
];
/// Keys of `[events]`.
pub(super) const EVENTS_KEYS: &[Key] = &[
    key(
        "enabled",
        Flag,
        "enabled = false",
        "Whether sampled drops are told and kept.",
    ),
    key(
        "reasons",
        Texts,
        "reasons = [\"drop_denied\", \"drop_martian\"]",
        "Only drops counted under these reasons.",
    ),
    key(
        "interfaces",
        Texts,
        "interfaces = [\"eth*\"]",
        "Only drops on these interfaces: names or globs.",
    ),
    key(
        "file",
        Table(FILE_KEYS),
        "[events.file]",
        "Sampled drops, to a file of JSON lines.",
    ),
];
/// Keys of `[groups.NAME]`.
pub(super) const GROUP_KEYS: &[Key] = &[
    key(
        "cidrs",
        Texts,
        "cidrs = [\"192.0.2.0/24\"]",
        "IPv4 and IPv6 prefixes; a bare address is one host.",
    ),
    key(
        "files",
        Texts,
        "files = [\"office.txt\"]",
        "Files of CIDRs, one a line, relative to this file.",
    ),
];
/// Keys of `[profiles.NAME]`.
pub(super) const PROFILE_KEYS: &[Key] = &[
    key(
        "interfaces",
        Texts,
        "interfaces = [\"eth0\"]",
        "Names and globs of the interfaces that this profile judges.",
    ),
    key(
        "bridges",
        Texts,
        "bridges = [\"cni0\"]",
        "Container profiles: bridges whose ports belong to this profile, too.",
    ),
    key(
        "vlans",
        Scalars,
        "vlans = [100, 200]",
        "Judge only frames with these VLAN ids (1 to 4094).",
    ),
    key(
        "default",
        Word(&["drop", "pass"]),
        "default = \"drop\"",
        "Verdict on packets that nothing else decides.",
    ),
    key(
        "enforce",
        Flag,
        "enforce = false",
        "false: monitor mode, which counts what would be dropped and lets it pass.",
    ),
    key(
        "generic_xdp",
        Flag,
        "generic_xdp = true",
        "Allow generic XDP where the driver has no native XDP.",
    ),
    key(
        "fragments",
        Word(&["track", "drop"]),
        "fragments = \"drop\"",
        "Later fragments follow the verdict on the first, or all are dropped.",
    ),
    key(
        "ethertypes",
        Scalars,
        "ethertypes = [\"lldp\", 0x8863]",
        "Further ethertypes that are let in.",
    ),
    key(
        "zone",
        Text,
        "zone = \"Europe/Berlin\"",
        "Time zone of the times of this profile's rules.",
    ),
    key(
        "antispoof",
        Table(ANTISPOOF_KEYS),
        "[profiles.NAME.antispoof]",
        "Which sources are refused.",
    ),
    key(
        "containers",
        Table(CONTAINERS_KEYS),
        "[profiles.NAME.containers]",
        "Makes this a profile for the links of containers.",
    ),
    key(
        "control",
        Table(CONTROL_KEYS),
        "[profiles.NAME.control]",
        "Control traffic that is let in without a rule.",
    ),
    key(
        "icmp",
        Table(ICMP_KEYS),
        "[profiles.NAME.icmp]",
        "Unsolicited ICMP that is let in from anyone.",
    ),
    key(
        "deny",
        Tables(RULE_KEYS),
        "[[profiles.NAME.deny]]",
        "What is dropped, before any allow rule.",
    ),
    key(
        "allow",
        Tables(RULE_KEYS),
        "[[profiles.NAME.allow]]",
        "What is let in; the first rule that matches counts.",
    ),
    key(
        "send",
        Tables(RULE_KEYS),
        "[[profiles.NAME.send]]",
        "Container profiles: what containers may send.",
    ),
];
/// Keys of `[profiles.NAME.control]`.
pub(super) const CONTROL_KEYS: &[Key] = &[
    key("arp", Flag, "arp = true", "ARP."),
    key(
        "nd",
        Flag,
        "nd = true",
        "IPv6 neighbour discovery and the multicast listener query.",
    ),
    key(
        "ra",
        Flag,
        "ra = false",
        "IPv6 router solicitation and advertisement.",
    ),
    key(
        "dhcp",
        Flag,
        "dhcp = false",
        "Answers to the DHCP clients of this host.",
    ),
    key(
        "pmtu",
        Flag,
        "pmtu = true",
        "Path-MTU messages about known flows.",
    ),
];
/// Keys of `[profiles.NAME.icmp]`.
pub(super) const ICMP_KEYS: &[Key] = &[
    key("v4", Scalars, "v4 = [\"echo-request\"]", "ICMP types."),
    key("v6", Scalars, "v6 = [\"echo-request\"]", "ICMPv6 types."),
];
/// Keys of `[profiles.NAME.antispoof]`.
pub(super) const ANTISPOOF_KEYS: &[Key] = &[
    key(
        "martians",
        Flag,
        "martians = false",
        "Drop sources that cannot be.",
    ),
    key(
        "internet",
        Flag,
        "internet = true",
        "The interface faces the internet: private ranges cannot be sources here.",
    ),
    key(
        "legitimate",
        Texts,
        "legitimate = [\"10.0.0.0/16\", \"@vpc\"]",
        "Prefixes that are never martians here.",
    ),
    key(
        "own_addresses",
        Flag,
        "own_addresses = false",
        "Drop this host's own addresses as sources from outside.",
    ),
    key(
        "reverse_path",
        Word(&["off", "loose", "strict"]),
        "reverse_path = \"strict\"",
        "Whether there must be a route back to a source, or one that leads out of this interface.",
    ),
    key(
        "egress",
        Flag,
        "egress = false",
        "What leaves must carry the host's MAC and one of its addresses.",
    ),
    key(
        "egress_sources",
        Texts,
        "egress_sources = [\"10.1.0.0/16\"]",
        "Further sources that may leave here.",
    ),
];
/// Keys of `[profiles.NAME.containers]`.
pub(super) const CONTAINERS_KEYS: &[Key] = &[
    key(
        "bindings",
        Word(&["auto", "static"]),
        "bindings = \"static\"",
        "Where the addresses come from that a container may use.",
    ),
    key(
        "unbound",
        Word(&["closed", "open"]),
        "unbound = \"open\"",
        "What becomes of a link without a known binding.",
    ),
    key(
        "hook",
        Word(&["tc", "xdp"]),
        "hook = \"xdp\"",
        "Where what containers send is judged.",
    ),
    key(
        "binding",
        Tables(BINDING_KEYS),
        "[[profiles.NAME.containers.binding]]",
        "Static bindings.",
    ),
];
/// Keys of `[[profiles.NAME.containers.binding]]`.
pub(super) const BINDING_KEYS: &[Key] = &[
    key(
        "interface",
        Text,
        "interface = \"veth-web\"",
        "The host-side end of the link.",
    )
    .required(),
    key("mac", Text, "mac = \"02:00:00:00:00:05\"", "Source MAC."),
    key(
        "addresses",
        Texts,
        "addresses = [\"10.22.0.5\", \"fd00::5\"]",
        "Addresses and prefixes that the container may send from.",
    )
    .required(),
];
