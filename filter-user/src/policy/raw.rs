//! The policy as it is written: the keys each table may have, and their values with their places.
//! Reports wrong shapes (unknown and missing keys, wrong types); never judges whether a value
//! makes sense.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;

use super::source::Report;
use super::table::{Key, Scalar, Table, entries, key};

/// Keys of the file itself.
pub(super) const POLICY_KEYS: &[Key] = &[
    key("version", "version = 1"),
    key("groups", "[groups.admins]"),
    key("profiles", "[profiles.edge]"),
];
/// Keys of `[groups.NAME]`.
pub(super) const GROUP_KEYS: &[Key] = &[
    key("cidrs", "cidrs = [\"192.0.2.0/24\"]"),
    key("files", "files = [\"office.txt\"]"),
];
/// Keys of `[profiles.NAME]`.
pub(super) const PROFILE_KEYS: &[Key] = &[
    key("interfaces", "interfaces = [\"eth0\"]"),
    key("vlans", "vlans = [100, 200]"),
    key("default", "default = \"drop\""),
    key("enforce", "enforce = false"),
    key("generic_xdp", "generic_xdp = true"),
    key("fragments", "fragments = \"drop\""),
    key("ethertypes", "ethertypes = [\"lldp\", 0x8863]"),
    key("control", "[profiles.NAME.control]"),
    key("icmp", "[profiles.NAME.icmp]"),
    key("allow", "[[profiles.NAME.allow]]"),
    key("deny", "[[profiles.NAME.deny]]"),
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
/// Keys of `[[profiles.NAME.allow]]` and `[[profiles.NAME.deny]]`.
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
];
/// Keys of `rate` and `rate_per_source`.
pub(super) const RATE_KEYS: &[Key] = &[
    key("packets", "packets = 1000"),
    key("burst", "burst = 2000"),
];

pub(super) type Texts = Spanned<Vec<Spanned<String>>>;
pub(super) type Scalars = Spanned<Vec<Spanned<Scalar>>>;

pub(super) struct RawPolicy {
    pub(super) version: Option<Spanned<i64>>,
    pub(super) groups: Vec<RawGroup>,
    pub(super) profiles: Vec<RawProfile>,
}

pub(super) struct RawGroup {
    pub(super) name: Spanned<String>,
    pub(super) cidrs: Option<Texts>,
    pub(super) files: Option<Texts>,
}

pub(super) struct RawProfile {
    pub(super) name: Spanned<String>,
    pub(super) interfaces: Option<Texts>,
    pub(super) vlans: Option<Scalars>,
    pub(super) default: Option<Spanned<String>>,
    pub(super) enforce: Option<bool>,
    pub(super) generic_xdp: Option<bool>,
    pub(super) fragments: Option<Spanned<String>>,
    pub(super) ethertypes: Option<Scalars>,
    pub(super) control: RawControl,
    pub(super) icmp_v4: Option<Scalars>,
    pub(super) icmp_v6: Option<Scalars>,
    pub(super) allow: Vec<RawRule>,
    pub(super) deny: Vec<RawRule>,
}

#[derive(Default)]
pub(super) struct RawControl {
    pub(super) arp: Option<bool>,
    pub(super) nd: Option<bool>,
    pub(super) ra: Option<bool>,
    pub(super) dhcp: Option<bool>,
    pub(super) pmtu: Option<bool>,
}

pub(super) struct RawRule {
    /// The header or inline table.
    pub(super) span: Range<usize>,
    pub(super) id: Option<Spanned<String>>,
    pub(super) comment: Option<Spanned<String>>,
    pub(super) protocol: Option<Scalars>,
    pub(super) ports: Option<Scalars>,
    pub(super) from: Option<Texts>,
    pub(super) to: Option<Texts>,
    pub(super) rate: Option<RawRate>,
    pub(super) rate_per_source: Option<RawRate>,
}

pub(super) struct RawRate {
    pub(super) span: Range<usize>,
    pub(super) packets: Option<Spanned<i64>>,
    pub(super) burst: Option<Spanned<i64>>,
}

/// Reads the whole document.
pub(super) fn read(document: &DeTable<'_>, report: &mut Report<'_>) -> RawPolicy {
    // What is missing from the file as a whole is shown at its first character.
    let table = Table::new(document, 0..1, "the policy".into(), POLICY_KEYS, report);
    table.require("version", report);
    table.require("profiles", report);
    let version = table.integer("version", report);
    let mut groups = Vec::new();
    let mut profiles = Vec::new();
    for (kind, is_group) in [("groups", true), ("profiles", false)] {
        let Some((list, _)) = table.table(kind, report) else {
            continue;
        };
        for entry in entries(list) {
            let Some(body) = entry.value.get_ref().as_table() else {
                let message = format!(
                    "`{}` under `{kind}` must be a table",
                    super::diagnostic::clean(entry.name.get_ref())
                );
                let cure = format!("write a header `[{kind}.NAME]` and the keys under it");
                report.error("wrong-type", entry.name.span(), message, cure);
                continue;
            };
            if is_group {
                groups.push(group(entry.name, body, report));
            } else {
                profiles.push(profile(entry.name, body, report));
            }
        }
    }
    RawPolicy {
        version,
        groups,
        profiles,
    }
}

fn group(name: Spanned<String>, body: &DeTable<'_>, report: &mut Report<'_>) -> RawGroup {
    let what = format!("group `{}`", super::diagnostic::clean(name.get_ref()));
    let table = Table::new(body, name.span(), what, GROUP_KEYS, report);
    RawGroup {
        cidrs: table.texts("cidrs", report),
        files: table.texts("files", report),
        name,
    }
}

fn profile(name: Spanned<String>, body: &DeTable<'_>, report: &mut Report<'_>) -> RawProfile {
    let what = format!("profile `{}`", super::diagnostic::clean(name.get_ref()));
    let table = Table::new(body, name.span(), what.clone(), PROFILE_KEYS, report);
    table.require("interfaces", report);
    let mut control = RawControl::default();
    if let Some((body, span)) = table.table("control", report) {
        let table = Table::new(
            body,
            span,
            format!("`control` of {what}"),
            CONTROL_KEYS,
            report,
        );
        control = RawControl {
            arp: table.flag("arp", report),
            nd: table.flag("nd", report),
            ra: table.flag("ra", report),
            dhcp: table.flag("dhcp", report),
            pmtu: table.flag("pmtu", report),
        };
    }
    let (mut icmp_v4, mut icmp_v6) = (None, None);
    if let Some((body, span)) = table.table("icmp", report) {
        let table = Table::new(body, span, format!("`icmp` of {what}"), ICMP_KEYS, report);
        icmp_v4 = table.list("v4", report);
        icmp_v6 = table.list("v6", report);
    }
    let mut rules = |kind: &str| {
        let list = table.tables(kind, report);
        list.into_iter()
            .map(|(body, span)| rule(kind, body, span, report))
            .collect()
    };
    let (allow, deny) = (rules("allow"), rules("deny"));
    RawProfile {
        interfaces: table.texts("interfaces", report),
        vlans: table.list("vlans", report),
        default: table.text("default", report),
        enforce: table.flag("enforce", report),
        generic_xdp: table.flag("generic_xdp", report),
        fragments: table.text("fragments", report),
        ethertypes: table.list("ethertypes", report),
        control,
        icmp_v4,
        icmp_v6,
        allow,
        deny,
        name,
    }
}

fn rule(kind: &str, body: &DeTable<'_>, span: Range<usize>, report: &mut Report<'_>) -> RawRule {
    let what = match body.get("id").and_then(|id| id.get_ref().as_str()) {
        Some(id) => format!("rule `{}`", super::diagnostic::clean(id)),
        None => format!("this {kind} rule"),
    };
    let table = Table::new(body, span, what.clone(), RULE_KEYS, report);
    table.require("id", report);
    let mut rate = |key: &'static str| {
        let (body, span) = table.table(key, report)?;
        let table = Table::new(
            body,
            span.clone(),
            format!("`{key}` of {what}"),
            RATE_KEYS,
            report,
        );
        table.require("packets", report);
        let (packets, burst) = (
            table.integer("packets", report),
            table.integer("burst", report),
        );
        Some(RawRate {
            span,
            packets,
            burst,
        })
    };
    let (rate, rate_per_source) = (rate("rate"), rate("rate_per_source"));
    RawRule {
        id: table.text("id", report),
        comment: table.text("comment", report),
        protocol: table.list("protocol", report),
        ports: table.list("ports", report),
        from: table.texts("from", report),
        to: table.texts("to", report),
        rate,
        rate_per_source,
        span: table.span,
    }
}
