//! The policy as it is written: the keys each table may have, and their values with their places.
//! Reports wrong shapes (unknown and missing keys, wrong types); never judges whether a value
//! makes sense.

pub(super) mod events;
pub(super) mod scans;

use std::ops::Range;

use toml::Spanned;

use super::document::{Map, Value};
use super::keys::{
    ANTISPOOF_KEYS, BINDING_KEYS, CONTAINERS_KEYS, CONTROL_KEYS, FAILSAFE_KEYS, GROUP_KEYS,
    ICMP_KEYS, POLICY_KEYS, PROFILE_KEYS, RATE_KEYS, RULE_KEYS, WINDOW_KEYS,
};
use super::source::Report;
use super::table::{Scalar, Table};
use events::RawEvents;
use scans::{RawReport, RawScans};

pub(super) type Texts = Spanned<Vec<Spanned<String>>>;
pub(super) type Scalars = Spanned<Vec<Spanned<Scalar>>>;

pub(super) struct RawPolicy {
    pub(super) version: Option<Spanned<i64>>,
    pub(super) zone: Option<Spanned<String>>,
    pub(super) failsafe: Option<RawRules>,
    pub(super) groups: Vec<RawGroup>,
    pub(super) profiles: Vec<RawProfile>,
    pub(super) scans: RawScans,
    pub(super) report: RawReport,
    pub(super) events: RawEvents,
}

pub(super) struct RawGroup {
    pub(super) name: Spanned<String>,
    pub(super) cidrs: Option<Texts>,
    pub(super) files: Option<Texts>,
}

pub(super) struct RawProfile {
    pub(super) name: Spanned<String>,
    pub(super) interfaces: Option<Texts>,
    pub(super) bridges: Option<Texts>,
    pub(super) vlans: Option<Scalars>,
    pub(super) default: Option<Spanned<String>>,
    pub(super) enforce: Option<bool>,
    pub(super) generic_xdp: Option<Spanned<bool>>,
    pub(super) fragments: Option<Spanned<String>>,
    pub(super) zone: Option<Spanned<String>>,
    pub(super) ethertypes: Option<Scalars>,
    pub(super) control: RawControl,
    pub(super) icmp_v4: Option<Scalars>,
    pub(super) icmp_v6: Option<Scalars>,
    pub(super) antispoof: Option<RawAntiSpoof>,
    pub(super) containers: Option<RawContainers>,
    pub(super) allow: Vec<RawRule>,
    pub(super) deny: Vec<RawRule>,
    pub(super) send: Option<RawRules>,
}

/// A list of rules where there is a difference between an empty one and no such key.
pub(super) struct RawRules {
    pub(super) span: Range<usize>,
    pub(super) rules: Vec<RawRule>,
}

#[derive(Default)]
pub(super) struct RawAntiSpoof {
    pub(super) span: Range<usize>,
    pub(super) martians: Option<bool>,
    pub(super) internet: Option<Spanned<bool>>,
    pub(super) legitimate: Option<Texts>,
    pub(super) own_addresses: Option<bool>,
    pub(super) reverse_path: Option<Spanned<String>>,
    pub(super) egress: Option<bool>,
    pub(super) egress_sources: Option<Texts>,
}

#[derive(Default)]
pub(super) struct RawContainers {
    pub(super) bindings: Option<Spanned<String>>,
    pub(super) unbound: Option<Spanned<String>>,
    pub(super) hook: Option<Spanned<String>>,
    pub(super) binding: Vec<RawBinding>,
}

pub(super) struct RawBinding {
    /// The header or inline table.
    pub(super) span: Range<usize>,
    pub(super) interface: Option<Spanned<String>>,
    pub(super) mac: Option<Spanned<String>>,
    pub(super) addresses: Option<Texts>,
}

#[derive(Default)]
pub(super) struct RawControl {
    pub(super) arp: Option<bool>,
    pub(super) nd: Option<bool>,
    pub(super) ra: Option<bool>,
    pub(super) dhcp: Option<bool>,
    pub(super) pmtu: Option<bool>,
}

#[derive(Default)]
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
    pub(super) valid_from: Option<Spanned<String>>,
    pub(super) valid_until: Option<Spanned<String>>,
    pub(super) windows: Option<(Vec<RawWindow>, Range<usize>)>,
    pub(super) zone: Option<Spanned<String>>,
}

impl RawRule {
    /// Where a warning about the whole rule points.
    pub(super) fn place(&self) -> Range<usize> {
        self.id.as_ref().map_or(self.span.clone(), Spanned::span)
    }
}

pub(super) struct RawWindow {
    pub(super) span: Range<usize>,
    pub(super) days: Option<Texts>,
    pub(super) from: Option<Spanned<String>>,
    pub(super) to: Option<Spanned<String>>,
}

pub(super) struct RawRate {
    pub(super) span: Range<usize>,
    pub(super) packets: Option<Spanned<i64>>,
    pub(super) burst: Option<Spanned<i64>>,
}

/// Reads the whole document.
pub(super) fn read(document: &Map, report: &mut Report) -> RawPolicy {
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
        for entry in &list.entries {
            let Value::Table(body) = &entry.node.value else {
                let message = format!(
                    "`{}` under `{kind}` must be a table",
                    super::diagnostic::clean(entry.name.get_ref())
                );
                let cure = format!("write a header `[{kind}.NAME]` and the keys under it");
                report.error("wrong-type", entry.name.span(), message, cure);
                continue;
            };
            if is_group {
                groups.push(group(entry.name.clone(), body, report));
            } else {
                profiles.push(profile(entry.name.clone(), body, report));
            }
        }
    }
    let failsafe = table.get("failsafe").map(|value| RawRules {
        span: value.span.clone(),
        rules: table
            .tables("failsafe", report)
            .into_iter()
            .map(|(body, span)| failsafe(body, span, report))
            .collect(),
    });
    RawPolicy {
        version,
        zone: table.text("zone", report),
        failsafe,
        groups,
        profiles,
        scans: scans::scans(&table, report),
        report: scans::report(&table, report),
        events: events::events(&table, report),
    }
}

/// The text under a key, for messages.
fn name_of<'t>(body: &'t Map, key: &str) -> Option<&'t str> {
    match &body.get(key)?.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn group(name: Spanned<String>, body: &Map, report: &mut Report) -> RawGroup {
    let what = format!("group `{}`", super::diagnostic::clean(name.get_ref()));
    let table = Table::new(body, name.span(), what, GROUP_KEYS, report);
    RawGroup {
        cidrs: table.texts("cidrs", report),
        files: table.texts("files", report),
        name,
    }
}

fn profile(name: Spanned<String>, body: &Map, report: &mut Report) -> RawProfile {
    let what = format!("profile `{}`", super::diagnostic::clean(name.get_ref()));
    let table = Table::new(body, name.span(), what.clone(), PROFILE_KEYS, report);
    let is_container = table.get("containers").is_some();
    if !is_container {
        table.require("interfaces", report);
    } else if table.get("interfaces").is_none() && table.get("bridges").is_none() {
        let message = format!("container {what} has neither `interfaces` nor `bridges`");
        let cure = "add `interfaces = [\"veth*\"]`, or `bridges = [\"cni0\"]`, or both";
        report.error("missing-key", table.span.clone(), message, cure);
    }
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
    let mut rules = |kind: &str| -> Vec<RawRule> {
        let list = table.tables(kind, report);
        list.into_iter()
            .map(|(body, span)| rule(kind, body, span, report))
            .collect()
    };
    let (allow, deny) = (rules("allow"), rules("deny"));
    let send = table.get("send").map(|value| RawRules {
        span: value.span.clone(),
        rules: rules("send"),
    });
    let antispoof = table
        .table("antispoof", report)
        .map(|(body, span)| antispoof(body, span, &what, report));
    // Whatever stands there, the profile means to be one for containers: one error is enough.
    let containers = is_container.then(|| match table.table("containers", report) {
        Some((body, span)) => containers(body, span, &what, report),
        None => RawContainers::default(),
    });
    RawProfile {
        interfaces: table.texts("interfaces", report),
        bridges: table.texts("bridges", report),
        vlans: table.list("vlans", report),
        default: table.text("default", report),
        enforce: table.flag("enforce", report),
        generic_xdp: table.spanned_flag("generic_xdp", report),
        fragments: table.text("fragments", report),
        zone: table.text("zone", report),
        ethertypes: table.list("ethertypes", report),
        control,
        icmp_v4,
        icmp_v6,
        antispoof,
        containers,
        allow,
        deny,
        send,
        name,
    }
}

fn antispoof(body: &Map, span: Range<usize>, profile: &str, report: &mut Report) -> RawAntiSpoof {
    let what = format!("`antispoof` of {profile}");
    let table = Table::new(body, span, what, ANTISPOOF_KEYS, report);
    RawAntiSpoof {
        martians: table.flag("martians", report),
        internet: table.spanned_flag("internet", report),
        legitimate: table.texts("legitimate", report),
        own_addresses: table.flag("own_addresses", report),
        reverse_path: table.text("reverse_path", report),
        egress: table.flag("egress", report),
        egress_sources: table.texts("egress_sources", report),
        span: table.span,
    }
}

fn containers(body: &Map, span: Range<usize>, profile: &str, report: &mut Report) -> RawContainers {
    let what = format!("`containers` of {profile}");
    let table = Table::new(body, span, what, CONTAINERS_KEYS, report);
    RawContainers {
        bindings: table.text("bindings", report),
        unbound: table.text("unbound", report),
        hook: table.text("hook", report),
        binding: table
            .tables("binding", report)
            .into_iter()
            .map(|(body, span)| binding(body, span, report))
            .collect(),
    }
}

fn binding(body: &Map, span: Range<usize>, report: &mut Report) -> RawBinding {
    let what = match name_of(body, "interface") {
        Some(name) => format!("the binding of `{}`", super::diagnostic::clean(name)),
        None => "this binding".to_owned(),
    };
    let table = Table::new(body, span, what, BINDING_KEYS, report);
    table.require("interface", report);
    table.require("addresses", report);
    RawBinding {
        interface: table.text("interface", report),
        mac: table.text("mac", report),
        addresses: table.texts("addresses", report),
        span: table.span,
    }
}

fn rule(kind: &str, body: &Map, span: Range<usize>, report: &mut Report) -> RawRule {
    let what = match name_of(body, "id") {
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
    let windows = table.get("windows").map(|value| {
        let list = table.tables("windows", report).into_iter();
        let windows = list.map(|(body, span)| window(body, span, &what, report));
        (windows.collect(), value.span.clone())
    });
    RawRule {
        id: table.text("id", report),
        comment: table.text("comment", report),
        protocol: table.list("protocol", report),
        ports: table.list("ports", report),
        from: table.texts("from", report),
        to: table.texts("to", report),
        rate,
        rate_per_source,
        valid_from: table.time("valid_from", report),
        valid_until: table.time("valid_until", report),
        windows,
        zone: table.text("zone", report),
        span: table.span,
    }
}

fn window(body: &Map, span: Range<usize>, rule: &str, report: &mut Report) -> RawWindow {
    let what = format!("a window of {rule}");
    let table = Table::new(body, span, what, WINDOW_KEYS, report);
    RawWindow {
        days: table.texts("days", report),
        from: table.text("from", report),
        to: table.text("to", report),
        span: table.span,
    }
}

fn failsafe(body: &Map, span: Range<usize>, report: &mut Report) -> RawRule {
    let what = match name_of(body, "id") {
        Some(id) => format!("failsafe rule `{}`", super::diagnostic::clean(id)),
        None => "this failsafe rule".to_owned(),
    };
    let table = Table::new(body, span, what, FAILSAFE_KEYS, report);
    table.require("id", report);
    table.require("from", report);
    RawRule {
        id: table.text("id", report),
        comment: table.text("comment", report),
        protocol: table.list("protocol", report),
        ports: table.list("ports", report),
        from: table.texts("from", report),
        span: table.span,
        ..RawRule::default()
    }
}
