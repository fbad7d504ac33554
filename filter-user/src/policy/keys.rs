//! The keys each table of a policy may have, with an example of each for cures. The reference is
//! tested against them. Never more than names: what a key means is decided elsewhere.

use super::table::{Key, key};

/// Keys of the file itself.
pub(super) const POLICY_KEYS: &[Key] = &[
    key("version", "version = 1"),
    key("include", "include = [\"groups.toml\", \"conf.d/*.toml\"]"),
    key("zone", "zone = \"Europe/Berlin\""),
    key("failsafe", "[[failsafe]]"),
    key("groups", "[groups.admins]"),
    key("profiles", "[profiles.edge]"),
    key("scans", "[scans]"),
    key("report", "[report.syslog]"),
];
/// Keys of `[groups.NAME]`.
pub(super) const GROUP_KEYS: &[Key] = &[
    key("cidrs", "cidrs = [\"192.0.2.0/24\"]"),
    key("files", "files = [\"office.txt\"]"),
];
/// Keys of `[profiles.NAME]`.
pub(super) const PROFILE_KEYS: &[Key] = &[
    key("interfaces", "interfaces = [\"eth0\"]"),
    key("bridges", "bridges = [\"cni0\"]"),
    key("vlans", "vlans = [100, 200]"),
    key("default", "default = \"drop\""),
    key("enforce", "enforce = false"),
    key("generic_xdp", "generic_xdp = true"),
    key("zone", "zone = \"Europe/Berlin\""),
    key("fragments", "fragments = \"drop\""),
    key("ethertypes", "ethertypes = [\"lldp\", 0x8863]"),
    key("control", "[profiles.NAME.control]"),
    key("icmp", "[profiles.NAME.icmp]"),
    key("allow", "[[profiles.NAME.allow]]"),
    key("deny", "[[profiles.NAME.deny]]"),
    key("send", "[[profiles.NAME.send]]"),
    key("antispoof", "[profiles.NAME.antispoof]"),
    key("containers", "[profiles.NAME.containers]"),
];
/// Keys of `[[failsafe]]`.
pub(super) const FAILSAFE_KEYS: &[Key] = &[
    key("id", "id = \"admins\""),
    key("comment", "comment = \"never locked out\""),
    key("from", "from = [\"@admins\"]"),
    key("protocol", "protocol = \"tcp\""),
    key("ports", "ports = [22]"),
];
/// Keys of `[profiles.NAME.control]`.
pub(super) const CONTROL_KEYS: &[Key] = &[
    key("arp", "arp = true"),
    key("nd", "nd = true"),
    key("ra", "ra = false"),
    key("dhcp", "dhcp = false"),
    key("pmtu", "pmtu = true"),
];
/// Keys of `[profiles.NAME.icmp]`.
pub(super) const ICMP_KEYS: &[Key] = &[
    key("v4", "v4 = [\"echo-request\"]"),
    key("v6", "v6 = [\"echo-request\"]"),
];
/// Keys of `[profiles.NAME.antispoof]`.
pub(super) const ANTISPOOF_KEYS: &[Key] = &[
    key("martians", "martians = false"),
    key("internet", "internet = true"),
    key("legitimate", "legitimate = [\"10.0.0.0/16\", \"@vpc\"]"),
    key("own_addresses", "own_addresses = false"),
    key("reverse_path", "reverse_path = \"strict\""),
    key("egress", "egress = false"),
    key("egress_sources", "egress_sources = [\"10.1.0.0/16\"]"),
];
/// Keys of `[profiles.NAME.containers]`.
pub(super) const CONTAINERS_KEYS: &[Key] = &[
    key("bindings", "bindings = \"static\""),
    key("unbound", "unbound = \"open\""),
    key("hook", "hook = \"xdp\""),
    key("binding", "[[profiles.NAME.containers.binding]]"),
];
/// Keys of `[[profiles.NAME.containers.binding]]`.
pub(super) const BINDING_KEYS: &[Key] = &[
    key("interface", "interface = \"veth-web\""),
    key("mac", "mac = \"02:00:00:00:00:05\""),
    key("addresses", "addresses = [\"10.22.0.5\", \"fd00::5\"]"),
];
/// Keys of `[[profiles.NAME.allow]]`, `[[profiles.NAME.deny]]` and `[[profiles.NAME.send]]`.
pub(super) const RULE_KEYS: &[Key] = &[
    key("id", "id = \"https\""),
    key("comment", "comment = \"public web\""),
    key("protocol", "protocol = \"tcp\""),
    key("ports", "ports = [443, \"8000-8100\"]"),
    key("from", "from = [\"192.0.2.0/24\", \"@admins\"]"),
    key("to", "to = \"self\""),
    key("rate", "rate = { packets = 1000, burst = 2000 }"),
    key(
        "rate_per_source",
        "rate_per_source = { packets = 10, burst = 20 }",
    ),
    key("valid_from", "valid_from = \"2026-12-24\""),
    key("valid_until", "valid_until = \"2026-12-31T18:00:00+01:00\""),
    key(
        "windows",
        "windows = [{ days = \"weekdays\", from = \"09:00\", to = \"18:00\" }]",
    ),
    key("zone", "zone = \"Europe/Berlin\""),
];
/// Keys of each window of `windows`.
pub(super) const WINDOW_KEYS: &[Key] = &[
    key("days", "days = [\"mon-fri\"]"),
    key("from", "from = \"09:00\""),
    key("to", "to = \"18:00\""),
];
/// Keys of `rate` and `rate_per_source`.
pub(super) const RATE_KEYS: &[Key] = &[
    key("packets", "packets = 1000"),
    key("burst", "burst = 2000"),
];
/// Keys of `[scans]`.
pub(super) const SCANS_KEYS: &[Key] = &[
    key("sensitivity", "sensitivity = \"medium\""),
    key("action", "action = \"block\""),
    key("block_for", "block_for = \"10m\""),
    key("block_at_most", "block_at_most = \"24h\""),
    key("blocks_per_minute", "blocks_per_minute = 60"),
    key("verified", "verified = \"block\""),
    key("exempt", "exempt = [\"@monitoring\"]"),
    key("never_block", "never_block = [\"192.0.2.7\"]"),
    key("thresholds", "[scans.thresholds]"),
];
/// Keys of `[scans.thresholds]`, the shortest window first.
pub(super) const THRESHOLDS_KEYS: &[Key] = &[
    key(
        "fast",
        "fast = { within = \"10s\", ports = 10, hosts = 10 }",
    ),
    key(
        "medium",
        "medium = { within = \"5m\", ports = 15, hosts = 25 }",
    ),
    key("slow", "slow = { within = \"3h\", ports = 30, hosts = 40 }"),
];
/// Keys of `fast`, `medium` and `slow`.
pub(super) const THRESHOLD_KEYS: &[Key] = &[
    key("within", "within = \"10s\""),
    key("ports", "ports = 10"),
    key("hosts", "hosts = 10"),
];
/// Keys of `[report]`.
pub(super) const REPORT_KEYS: &[Key] = &[
    key("nftables", "[report.nftables]"),
    key("file", "[report.file]"),
    key("syslog", "[report.syslog]"),
    key("webhook", "[report.webhook]"),
    key("alerts", "[report.alerts]"),
];
/// Keys of `[report.nftables]`.
pub(super) const NFTABLES_KEYS: &[Key] = &[key("drop", "drop = true")];
/// Keys of `[report.file]`.
pub(super) const FILE_KEYS: &[Key] = &[
    key("path", "path = \"/var/log/edgefilter/scans.jsonl\""),
    key("max_mib", "max_mib = 10"),
    key("keep", "keep = 5"),
];
/// Keys of `[report.syslog]`: that it is there says everything.
pub(super) const SYSLOG_KEYS: &[Key] = &[];
/// Keys of `[report.webhook]`.
pub(super) const WEBHOOK_KEYS: &[Key] = &[
    key("url", "url = \"https://soc.example/scans\""),
    key(
        "secret_file",
        "secret_file = \"/etc/edgefilter/webhook.key\"",
    ),
    key("queue", "queue = 1000"),
];
/// Keys of `[report.alerts]`.
pub(super) const ALERTS_KEYS: &[Key] = &[
    key("factor", "factor = 5.0"),
    key("drops_per_second", "drops_per_second = 1000"),
    key("scans_per_minute", "scans_per_minute = 10"),
    key("source_per_second", "source_per_second = 100"),
    key("quiet", "quiet = \"10m\""),
];
