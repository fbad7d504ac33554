//! One rule: protocols and ports to services, lists to address sets, rates. Reports what makes no
//! sense, each at its value; never lets a rule match more than was written.

use std::collections::HashMap;
use std::ops::Range;

use jiff::tz::TimeZone;
use toml::Spanned;

use super::diagnostic::clean;
use super::group::{Addresses, Groups, Role};
use super::model::{
    AddressSet, Destination, MAX_RATE, PortProtocol, RESERVED_RULE_IDS, Rate, Rule, Service,
};
use super::names::{self, PROTOCOLS};
use super::raw::{RawRate, RawRule, Scalars};
use super::source::Report;
use super::table::Scalar;
use super::{schedule, suggest};

/// Longest comment, in bytes.
const MAX_COMMENT: usize = 1024;
/// Ports people name instead of numbering, for cures.
const PORT_NAMES: &[(&str, u16)] = &[
    ("ssh", 22),
    ("smtp", 25),
    ("domain", 53),
    ("dns", 53),
    ("http", 80),
    ("ntp", 123),
    ("imaps", 993),
    ("https", 443),
    ("rdp", 3389),
    ("mysql", 3306),
    ("postgresql", 5432),
];

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Allow,
    Deny,
    /// What containers may send: its `to` is the remote side, and there is no `from`.
    Send,
    /// Who always gets in: no `to`, no rates and no times.
    Failsafe,
}

/// Checks one rule; `zone` is that of its profile. `ids` holds the ids seen so far with their places.
pub(super) fn validate(
    kind: Kind,
    raw: &RawRule,
    zone: Option<&TimeZone>,
    groups: &mut Groups,
    ids: &mut HashMap<String, Range<usize>>,
    report: &mut Report,
) -> Rule {
    let id = raw
        .id
        .as_ref()
        .map(|id| id.get_ref().clone())
        .unwrap_or_default();
    if let Some(id) = &raw.id {
        check_id(id, ids, report);
    }
    let comment = raw
        .comment
        .as_ref()
        .map(|c| c.get_ref().clone())
        .unwrap_or_default();
    if let Some(raw) = &raw.comment
        && (comment.len() > MAX_COMMENT || comment.contains(char::is_control))
    {
        let message = format!(
            "a comment has at most {MAX_COMMENT} bytes and no control characters or line breaks"
        );
        report.error(
            "comment",
            raw.span(),
            message,
            "shorten it to one plain line",
        );
    }
    let mut resolve = |list, role| match list {
        None => Some(Addresses::Any),
        Some(list) => {
            let addresses = groups.resolve(list, role, &format!("rule {id}"), report);
            if let Some(Addresses::Set(set)) = &addresses
                && set.is_empty()
                && !report.list.has_errors()
            {
                let role = role.key();
                let message = format!(
                    "`{role}` holds no address, so rule `{}` never matches",
                    clean(&id)
                );
                let cure =
                    format!("add addresses, leave `{role}` out for any, or take the rule out");
                report.warning("empty-rule", list.span(), message, cure);
            }
            addresses
        }
    };
    // What could not be resolved was reported, so the policy is refused whatever stands here.
    let set = |addresses| match addresses {
        Some(Addresses::Set(set)) => AddressSet::Prefixes(set),
        _ => AddressSet::Any,
    };
    let (from, to) = if kind == Kind::Send {
        (
            set(resolve(raw.to.as_ref(), Role::SendTo)),
            Destination::Any,
        )
    } else {
        let to = match resolve(raw.to.as_ref(), Role::To) {
            Some(Addresses::Set(set)) => Destination::Prefixes(set),
            Some(Addresses::Local) => Destination::SelfAddresses,
            Some(Addresses::Forwarded) => Destination::Forwarded,
            Some(Addresses::Any) | None => Destination::Any,
        };
        (set(resolve(raw.from.as_ref(), Role::From)), to)
    };
    if let (Kind::Send, Some(list)) = (kind, &raw.from) {
        report.error(
            "from-in-send",
            list.span(),
            "a send rule has no `from`: what a container may use as source is its binding",
            "take `from` out; `to` names where containers may send",
        );
    }
    if kind == Kind::Deny {
        for (name, rate) in [
            ("rate", &raw.rate),
            ("rate_per_source", &raw.rate_per_source),
        ] {
            if let Some(rate) = rate {
                let message =
                    format!("a deny rule has no `{name}`: it drops everything it matches");
                let cure = format!("take `{name}` out, or write an allow rule with it");
                report.error("rate-in-deny", rate.span.clone(), message, cure);
            }
        }
    }
    let (file, line) = report.place(raw.span.start);
    Rule {
        services: services(kind, raw, report),
        from,
        to,
        rate: raw.rate.as_ref().and_then(|r| rate(r, report)),
        rate_per_source: raw.rate_per_source.as_ref().and_then(|r| rate(r, report)),
        schedule: schedule::validate(raw, zone, report),
        file,
        line,
        id,
        comment,
    }
}

fn check_id(id: &Spanned<String>, ids: &mut HashMap<String, Range<usize>>, report: &mut Report) {
    let text = id.get_ref();
    let shape = text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !shape {
        let cure = "use 1 to 64 letters, digits, `.`, `_` and `-`, the first a letter or digit, such as `https`";
        report.error(
            "rule-id",
            id.span(),
            format!("`{}` is no rule id", clean(text)),
            cure,
        );
    } else if RESERVED_RULE_IDS.contains(&text.as_str()) {
        let message =
            format!("the rule id `{text}` is reserved: what no rule decides is counted under it");
        report.error("rule-id", id.span(), message, "choose another id");
    } else if let Some(first) = ids.get(text) {
        let message = format!(
            "rule id `{text}` is used twice; the first is in {}",
            report.line(first, &id.span())
        );
        report.error(
            "duplicate-id",
            id.span(),
            message,
            "choose another id: ids are unique over all profiles",
        );
    } else {
        ids.insert(text.clone(), id.span());
    }
}

fn rate(raw: &RawRate, report: &mut Report) -> Option<Rate> {
    let mut check = |name: &str, value: &Spanned<i64>| {
        let number = u64::try_from(*value.get_ref())
            .ok()
            .filter(|n| (1..=MAX_RATE).contains(n));
        if number.is_none() {
            let message = format!("`{name}` must be from 1 to {MAX_RATE}");
            let cure = match *value.get_ref() {
                0 => "to let nothing through, take the rule out; for no limit, take the rate out",
                _ => "write a whole number of packets",
            };
            report.error("rate", value.span(), message, cure);
        }
        number
    };
    let packets = raw
        .packets
        .as_ref()
        .and_then(|value| check("packets", value));
    let burst = match &raw.burst {
        Some(value) => check("burst", value),
        None => packets,
    };
    Some(Rate {
        packets: packets?,
        burst: burst?,
    })
}

/// The services of a rule; empty only after an error.
fn services(kind: Kind, raw: &RawRule, report: &mut Report) -> Vec<Service> {
    let ports = raw.ports.as_ref().map(|list| port_ranges(list, report));
    let Some(protocols) = &raw.protocol else {
        if let Some(list) = &raw.ports {
            let cure = "add `protocol = \"tcp\"` (or udp, sctp, or a list of them)";
            report.error(
                "ports-without-protocol",
                list.span(),
                "`ports` need a `protocol`",
                cure,
            );
        } else if kind == Kind::Allow || kind == Kind::Send {
            let article = if kind == Kind::Allow {
                "an allow"
            } else {
                "a send"
            };
            let message =
                format!("{article} rule needs a `protocol`; only deny rules may leave it out");
            report.error(
                "missing-key",
                raw.span.clone(),
                message,
                "add `protocol = \"tcp\"`, or what you mean to let through",
            );
        }
        return vec![Service::Any];
    };
    if protocols.get_ref().is_empty() {
        let cure = "name a protocol; a deny rule for every protocol leaves `protocol` out";
        report.error(
            "empty-list",
            protocols.span(),
            "the list of protocols is empty",
            cure,
        );
    }
    let mut services = Vec::new();
    let mut seen = Vec::new();
    for item in protocols.get_ref() {
        let Some(number) = protocol(kind, item, report) else {
            continue;
        };
        if seen.contains(&number) {
            report.warning(
                "repeated",
                item.span(),
                "this protocol is listed twice",
                "take one out",
            );
            continue;
        }
        seen.push(number);
        match (&ports, PortProtocol::from_number(number)) {
            (None, _) => services.push(Service::Protocol(number)),
            (Some(ranges), Some(protocol)) => {
                services.extend(ranges.iter().map(|&(first, last)| {
                    if (first, last) == (0, u16::MAX) {
                        Service::Protocol(number)
                    } else {
                        Service::Ports {
                            protocol,
                            first,
                            last,
                        }
                    }
                }));
            }
            (Some(_), None) => {
                let message = format!("protocol {} has no ports", shown(item.get_ref()));
                let cure = "leave `ports` out, or give this protocol a rule of its own; tcp, udp and sctp have ports";
                report.error("no-ports", item.span(), message, cure);
            }
        }
    }
    services.sort_unstable();
    services
}

fn shown(scalar: &Scalar) -> String {
    match scalar {
        Scalar::Integer(number) => number.to_string(),
        Scalar::Text(text) if text.is_empty() => "an empty text".to_owned(),
        Scalar::Text(text) => format!("`{}`", clean(text)),
    }
}

fn protocol(kind: Kind, item: &Spanned<Scalar>, report: &mut Report) -> Option<u8> {
    let text = match item.get_ref() {
        Scalar::Integer(number) => {
            let valid = u8::try_from(*number).ok();
            if valid.is_none() {
                report.error(
                    "protocol",
                    item.span(),
                    "a protocol number is from 0 to 255",
                    "write its IANA number, or its name",
                );
            }
            return valid;
        }
        Scalar::Text(text) => text,
    };
    let known = names::number(PROTOCOLS, text);
    if known.is_none() {
        let cure = if text.parse::<u8>().is_ok() {
            format!("write the number without quotes: `{text}`")
        } else if ["any", "all", "*", "ip"].contains(&text.as_str()) {
            match kind {
                Kind::Deny | Kind::Failsafe => {
                    "leave `protocol` out: such a rule without it covers every protocol".to_owned()
                }
                Kind::Allow | Kind::Send => {
                    "name the protocols to let through, such as `[\"tcp\", \"udp\"]`".to_owned()
                }
            }
        } else {
            suggest::cure(
                text,
                names::names(PROTOCOLS).chain(["or a number from 0 to 255"]),
            )
        };
        report.error(
            "protocol",
            item.span(),
            format!("unknown protocol {}", shown(item.get_ref())),
            cure,
        );
    }
    known
}

/// The ports as ranges: sorted, and none touching another.
fn port_ranges(list: &Scalars, report: &mut Report) -> Vec<(u16, u16)> {
    if list.get_ref().is_empty() {
        report.error(
            "empty-list",
            list.span(),
            "the list of ports is empty",
            "name ports, or leave `ports` out for all ports",
        );
    }
    let mut ranges = Vec::new();
    for item in list.get_ref() {
        match port_range(item.get_ref()) {
            Ok((first, last)) => ranges.push((first, last, item.span())),
            Err((message, cure)) => report.error("ports", item.span(), message, cure),
        }
    }
    ranges.sort_by_key(|(first, last, span)| (*first, *last, span.start));
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last, span) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => {
                if first <= *end {
                    report.warning(
                        "repeated",
                        span,
                        "these ports are listed twice",
                        "take one of the two out",
                    );
                }
                *end = last.max(*end);
            }
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn port_range(item: &Scalar) -> Result<(u16, u16), (String, String)> {
    let text = match item {
        Scalar::Integer(number) => number.to_string(),
        Scalar::Text(text) => text.trim().to_owned(),
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits)
    };
    if let Some(port) = number(&text) {
        return Ok((port, port));
    }
    let parts = ["-", "..=", "..", ":"]
        .iter()
        .find_map(|separator| Some((*separator, text.split_once(separator)?)));
    if let (Scalar::Text(_), Some((separator, (first, last)))) = (item, parts)
        && let (Some(first), Some(last)) = (number(first.trim()), number(last.trim()))
    {
        return match (separator, first <= last) {
            ("-", true) => Ok((first, last)),
            ("-", false) => Err((
                "this port range is reversed".into(),
                format!("write `\"{last}-{first}\"`"),
            )),
            _ => Err((
                "a port range is written with `-`".into(),
                format!("write `\"{first}-{last}\"`"),
            )),
        };
    }
    let known = PORT_NAMES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(&text));
    let cure = match known {
        Some((name, port)) => format!("write the number: {name} is {port}"),
        None => "write a number from 0 to 65535 or a range such as `\"8000-8100\"`".to_owned(),
    };
    Err((format!("{} is no port or port range", shown(item)), cure))
}
