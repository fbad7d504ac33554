//! Raw policy to validated policy: profiles, names, limits, who claims which interface. Reports
//! everything that is wrong and always comes to an end; what it returns counts only if no error
//! was reported.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;

use super::diagnostic::clean;
use super::group::Groups;
use super::model::{
    Control, DefaultVerdict, FragmentPolicy, MAX_INTERFACES, MAX_PROFILES, MAX_RULES, Policy,
    Profile, Rule, VERSION,
};
use super::names::{self, ETHERTYPES, ICMP_V4, ICMP_V6};
use super::raw::{RawPolicy, RawProfile, RawRule, Scalars, Texts};
use super::rule::{self, Kind};
use super::source::Report;
use super::suggest;
use super::table::Scalar;
use super::{
    antispoof, claims, containers, events, failsafe, interface, reporting, scans, schedule,
};

/// Places in the file, for warnings about the finished policy.
pub(super) struct Marks {
    pub(super) failsafe: Vec<Range<usize>>,
    /// In the order of the policy's profiles.
    pub(super) profiles: Vec<ProfileMarks>,
    pub(super) scans: scans::Marks,
    pub(super) report: reporting::Marks,
}

/// Places of one profile.
pub(super) struct ProfileMarks {
    pub(super) interfaces: Vec<Range<usize>>,
    pub(super) bridges: Vec<Range<usize>>,
    pub(super) default: Range<usize>,
    pub(super) allow: Vec<Range<usize>>,
    pub(super) deny: Vec<Range<usize>>,
    pub(super) send: Vec<Range<usize>>,
    pub(super) antispoof: antispoof::Marks,
    /// `bindings`, or the profile's name.
    pub(super) bindings: Range<usize>,
    /// The interfaces of the static bindings.
    pub(super) bound: Vec<Range<usize>>,
}

/// Checks the whole policy.
pub(super) fn validate(
    raw: &RawPolicy,
    path: PathBuf,
    groups: &mut Groups,
    report: &mut Report,
) -> (Policy, Marks) {
    if let Some(version) = raw.version.as_ref().filter(|v| *v.get_ref() != VERSION) {
        let message = format!("policy version {} is not supported", version.get_ref());
        report.error(
            "version",
            version.span(),
            message,
            format!("write `version = {VERSION}`, or use the edgefilter that knows it"),
        );
    }
    if let Some(extra) = raw.profiles.get(MAX_PROFILES) {
        let message = format!(
            "there are {} profiles; at most {MAX_PROFILES} are possible",
            raw.profiles.len()
        );
        report.error(
            "too-many-profiles",
            extra.name.span(),
            message,
            "give several interfaces one profile, with a list or a glob",
        );
    }
    let of_profiles = raw.profiles.iter().flat_map(|p| {
        let send = p.send.iter().flat_map(|send| &send.rules);
        p.allow.iter().chain(&p.deny).chain(send)
    });
    let failsafe = raw.failsafe.iter().flat_map(|list| &list.rules);
    let rules: Vec<&RawRule> = failsafe.chain(of_profiles).collect();
    if let Some(extra) = rules.get(MAX_RULES) {
        let message = format!(
            "there are {} rules; at most {MAX_RULES} are possible",
            rules.len()
        );
        report.error(
            "too-many-rules",
            extra.span.clone(),
            message,
            "join rules with lists of ports and groups of addresses",
        );
    }
    let mut ids = HashMap::new();
    let zone = schedule::zone(raw.zone.as_ref(), report);
    let failsafe = failsafe::validate(
        raw.failsafe.as_ref(),
        groups,
        &mut ids,
        zone.as_ref(),
        report,
    );
    let mut profiles = Vec::new();
    let mut marks = Vec::new();
    for raw in &raw.profiles {
        check_name("profile", &raw.name, report);
        let own = schedule::zone(raw.zone.as_ref(), report);
        let zone = own.as_ref().or(zone.as_ref());
        let mut rules = |kind, list: &[RawRule], report: &mut Report| -> Vec<Rule> {
            list.iter()
                .map(|raw| rule::validate(kind, raw, zone, groups, &mut ids, report))
                .collect()
        };
        let lists = Rules {
            allow: rules(Kind::Allow, &raw.allow, report),
            deny: rules(Kind::Deny, &raw.deny, report),
            send: raw
                .send
                .as_ref()
                .map(|send| rules(Kind::Send, &send.rules, report)),
        };
        profiles.push(profile(raw, lists, groups, report));
        marks.push(places(raw));
    }
    claims::check(&profiles, &marks, report);
    let policy = Policy {
        failsafe,
        profiles,
        path,
        scans: scans::validate(&raw.scans, groups, report),
        report: reporting::validate(&raw.report, report),
        events: events::validate(&raw.events, report),
    };
    let marks = Marks {
        failsafe: failsafe::marks(raw.failsafe.as_ref()),
        profiles: marks,
        scans: scans::marks(&raw.scans),
        report: reporting::marks(&raw.report),
    };
    (policy, marks)
}

/// The checked rules of one profile.
struct Rules {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
    send: Option<Vec<Rule>>,
}

fn places(raw: &RawProfile) -> ProfileMarks {
    let items = |list: &Option<Texts>| {
        let items = list.iter().flat_map(Spanned::get_ref);
        items.map(Spanned::span).collect()
    };
    let rules = |rules: &[RawRule]| rules.iter().map(RawRule::place).collect();
    let text = |key: Option<&Spanned<String>>| key.map_or(raw.name.span(), Spanned::span);
    let containers = raw.containers.as_ref();
    ProfileMarks {
        interfaces: items(&raw.interfaces),
        bridges: items(&raw.bridges),
        default: text(raw.default.as_ref()),
        allow: rules(&raw.allow),
        deny: rules(&raw.deny),
        send: raw
            .send
            .as_ref()
            .map(|send| rules(&send.rules))
            .unwrap_or_default(),
        antispoof: antispoof::marks(raw),
        bindings: text(containers.and_then(|c| c.bindings.as_ref())),
        bound: containers.map(containers::marks).unwrap_or_default(),
    }
}

/// Names of groups and profiles.
pub(super) fn check_name(kind: &str, name: &Spanned<String>, report: &mut Report) {
    let text = name.get_ref();
    let first = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let rest = text
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-');
    if !first || !rest || text.len() > 64 {
        let message = format!("`{}` is no {kind} name", clean(text));
        let cure = "use 1 to 64 small letters, digits, `_` and `-`, the first a letter or digit, such as `edge`";
        report.error("name", name.span(), message, cure);
    }
}

fn profile(raw: &RawProfile, rules: Rules, groups: &mut Groups, report: &mut Report) -> Profile {
    let interfaces = patterns("interface", "eth0", raw.interfaces.as_ref(), report);
    let bridges = patterns("bridge", "cni0", raw.bridges.as_ref(), report);
    containers::check_kind(raw, report);
    let default_verdict = choice(
        raw.default.as_ref(),
        "default",
        &[
            ("drop", DefaultVerdict::Drop),
            ("pass", DefaultVerdict::Pass),
        ],
        report,
    );
    let fragments = choice(
        raw.fragments.as_ref(),
        "fragments",
        &[
            ("track", FragmentPolicy::Track),
            ("drop", FragmentPolicy::Drop),
        ],
        report,
    );
    let antispoof = antispoof::validate(raw, groups, report);
    let containers = raw
        .containers
        .as_ref()
        .map(|raw| containers::validate(raw, rules.send, report));
    let flag = |value: Option<bool>| value.unwrap_or(true);
    Profile {
        name: raw.name.get_ref().clone(),
        interfaces,
        bridges,
        vlans: vlans(raw.vlans.as_ref(), report),
        default_verdict,
        enforce: flag(raw.enforce),
        generic_xdp: raw.generic_xdp.as_ref().is_some_and(|flag| *flag.get_ref()),
        fragments,
        control: Control {
            arp: flag(raw.control.arp),
            nd: flag(raw.control.nd),
            ra: flag(raw.control.ra),
            dhcp: flag(raw.control.dhcp),
            pmtu: flag(raw.control.pmtu),
        },
        icmp_v4: numbers(
            raw.icmp_v4.as_ref(),
            |item, report| icmp_type(item, ICMP_V4, "ICMP", report),
            report,
        ),
        icmp_v6: numbers(
            raw.icmp_v6.as_ref(),
            |item, report| icmp_type(item, ICMP_V6, "ICMPv6", report),
            report,
        ),
        ethertypes: numbers(raw.ethertypes.as_ref(), ethertype, report),
        antispoof,
        containers,
        allow: rules.allow,
        deny: rules.deny,
    }
}

/// The names and globs of `interfaces` or `bridges`.
fn patterns(what: &str, example: &str, raw: Option<&Texts>, report: &mut Report) -> Vec<String> {
    if let Some(list) = raw.filter(|list| list.get_ref().is_empty()) {
        report.error(
            "empty-list",
            list.span(),
            format!("the list of {what}s is empty"),
            format!("name one, such as `[\"{example}\"]`, or take the profile out"),
        );
    }
    let mut names: Vec<String> = Vec::new();
    for item in raw.into_iter().flat_map(Spanned::get_ref) {
        if names.len() == MAX_INTERFACES {
            report.error(
                "too-many-interfaces",
                item.span(),
                format!("a profile names at most {MAX_INTERFACES} {what}s"),
                "name several at once by a glob such as `eth*`",
            );
            break;
        }
        if let Err(error) = interface::check(item.get_ref()) {
            report.error("interface", item.span(), error.to_string(), error.cure());
        } else if names.contains(item.get_ref()) {
            report.warning(
                "repeated",
                item.span(),
                format!("this {what} is listed twice"),
                "take one out",
            );
        }
        // Kept even if repeated, so that places and names stay in step.
        names.push(item.get_ref().clone());
    }
    names
}

pub(super) fn choice<T: Copy + Default>(
    raw: Option<&Spanned<String>>,
    key: &str,
    choices: &[(&'static str, T)],
    report: &mut Report,
) -> T {
    let Some(text) = raw else { return T::default() };
    names::number(choices, text.get_ref()).unwrap_or_else(|| {
        let cure = suggest::cure(text.get_ref(), choices.iter().map(|(name, _)| *name));
        report.error(
            "value",
            text.span(),
            format!("`{key}` cannot be `{}`", clean(text.get_ref())),
            cure,
        );
        T::default()
    })
}

/// A list of numbers: checked, ascending, each once.
fn numbers<T: Ord + Copy>(
    raw: Option<&Scalars>,
    mut read: impl FnMut(&Spanned<Scalar>, &mut Report) -> Option<T>,
    report: &mut Report,
) -> Vec<T> {
    let mut list = std::collections::BTreeSet::new();
    for item in raw.into_iter().flat_map(Spanned::get_ref) {
        if let Some(number) = read(item, report)
            && !list.insert(number)
        {
            report.warning(
                "repeated",
                item.span(),
                "this is listed twice",
                "take one out",
            );
        }
    }
    list.into_iter().collect()
}

fn vlans(raw: Option<&Scalars>, report: &mut Report) -> Vec<u16> {
    if let Some(list) = raw.filter(|list| list.get_ref().is_empty()) {
        let cure = "name VLAN ids, or leave `vlans` out to judge all frames";
        report.error(
            "empty-list",
            list.span(),
            "the list of VLANs is empty",
            cure,
        );
    }
    let read = |item: &Spanned<Scalar>, report: &mut Report| {
        let id = match item.get_ref() {
            Scalar::Integer(number) => u16::try_from(*number)
                .ok()
                .filter(|id| (1..=4094).contains(id)),
            Scalar::Text(_) => None,
        };
        if id.is_none() {
            let cure = match item.get_ref() {
                Scalar::Integer(0) => {
                    "id 0 marks frames that belong to no VLAN: a profile without `vlans` judges them"
                }
                Scalar::Integer(4095) => "id 4095 is reserved (IEEE 802.1Q): take it out",
                _ => "write each id as a plain number, such as `vlans = [100, 200]`",
            };
            report.error(
                "vlan",
                item.span(),
                "a VLAN id is a number from 1 to 4094",
                cure,
            );
        }
        id
    };
    numbers(raw, read, report)
}

fn icmp_type(
    item: &Spanned<Scalar>,
    table: &'static [(&'static str, u8)],
    family: &str,
    report: &mut Report,
) -> Option<u8> {
    let (number, cure) = match item.get_ref() {
        Scalar::Integer(number) => (
            u8::try_from(*number).ok(),
            "write a number from 0 to 255, or a name".to_owned(),
        ),
        Scalar::Text(text) => (
            names::number(table, text),
            suggest::cure(text, names::names(table)),
        ),
    };
    if number.is_none() {
        report.error(
            "icmp-type",
            item.span(),
            format!("this is no {family} type"),
            cure,
        );
    }
    number
}

fn ethertype(item: &Spanned<Scalar>, report: &mut Report) -> Option<u16> {
    let number = match item.get_ref() {
        Scalar::Integer(number) => u16::try_from(*number).ok(),
        Scalar::Text(text) => match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
            Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
                u16::from_str_radix(hex, 16).ok()
            }
            Some(_) => None,
            None => names::number(ETHERTYPES, text),
        },
    };
    let named_llc = matches!(item.get_ref(), Scalar::Text(text) if text == "llc");
    let refusal = match number {
        Some(_) if named_llc => None,
        Some(0x0800 | 0x86dd) => Some((
            "IP is judged by rules, not let in as an ethertype",
            "take it out and write allow rules".to_owned(),
        )),
        Some(0x0806) => Some((
            "ARP is let in by `control`",
            "take it out; `control.arp` decides about ARP".to_owned(),
        )),
        Some(0x8100 | 0x88a8) => Some((
            "VLAN tags are parsed, not let in as an ethertype",
            "take it out; `vlans` selects frames by VLAN".to_owned(),
        )),
        Some(0..0x600) => Some((
            "an ethertype is at least 0x0600",
            "write `\"llc\"` for 802.3 length frames".to_owned(),
        )),
        Some(_) => None,
        None => {
            let cure = match item.get_ref() {
                Scalar::Text(text) if !text.starts_with("0x") => {
                    suggest::cure(text, names::names(ETHERTYPES))
                }
                _ => "write it as `\"0x88cc\"`, from 0x0600 to 0xffff".to_owned(),
            };
            Some(("this is no ethertype", cure))
        }
    };
    match refusal {
        Some((message, cure)) => {
            report.error("ethertype", item.span(), message, cure);
            None
        }
        None => number,
    }
}
