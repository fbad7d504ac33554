//! The table `containers` of a profile, and what sets such a profile apart from others: keys it
//! cannot have and keys only it has. Bindings that could let a container use a source nobody
//! may have are errors, never narrowed in silence.

use std::ops::Range;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use toml::Spanned;

use super::antispoof::LOOPBACK;
use super::cidr;
use super::diagnostic::clean;
use super::interface;
use super::model::{Containers, Hook, MAX_BOUND_ADDRESSES, Rule, StaticBinding};
use super::raw::{RawBinding, RawContainers, RawProfile, Texts};
use super::source::Report;
use super::validate::choice;

/// Addresses no packet on a link may have as source, so no binding may hold them.
const NEVER_BOUND: &[(&str, &str)] = &[
    ("0.0.0.0/32", "the unspecified address"),
    ("127.0.0.0/8", "loopback addresses"),
    ("224.0.0.0/4", "multicast addresses"),
    ("255.255.255.255/32", "the broadcast address"),
    ("::/128", "the unspecified address"),
    ("::1/128", "the loopback address"),
    ("ff00::/8", "multicast addresses"),
];

/// Reports the keys that do not go with the kind of the profile.
pub(super) fn check_kind(raw: &RawProfile, report: &mut Report) {
    // Whether a profile is for containers may stand further down than a syntax error: see `load`.
    const CODE: &str = "container-profile";
    let name = clean(raw.name.get_ref());
    if raw.containers.is_none() {
        let only = [
            ("bridges", raw.bridges.as_ref().map(Spanned::span)),
            ("send", raw.send.as_ref().map(|send| send.span.clone())),
        ];
        for (key, span) in only {
            let Some(span) = span else { continue };
            report.error(
                CODE,
                span,
                format!("only a container profile has `{key}`, and `{name}` is none"),
                format!("add a header `[profiles.{name}.containers]`, or take `{key}` out"),
            );
        }
        return;
    }
    let mut refuse = |span: Option<Range<usize>>, key: &str, cure: &str| {
        if let Some(span) = span {
            let message = format!("container profile `{name}` cannot have {key}");
            report.error(CODE, span, message, cure);
        }
    };
    refuse(
        raw.vlans.as_ref().map(Spanned::span),
        "`vlans`",
        "take it out: all frames of a container link are judged, tagged or not",
    );
    let generic = raw.generic_xdp.as_ref().filter(|flag| *flag.get_ref());
    refuse(
        generic.map(Spanned::span),
        "`generic_xdp = true`",
        "take it out: there is no XDP on container links",
    );
    refuse(
        raw.antispoof.as_ref().map(|table| table.span.clone()),
        "`antispoof`",
        "take it out: bindings decide about the sources of containers; put `antispoof` into the profile of the outer interface",
    );
    for item in raw.interfaces.iter().flat_map(Spanned::get_ref) {
        if item.get_ref() == LOOPBACK {
            let message =
                format!("`{LOOPBACK}` is no container link, and `{name}` is a container profile");
            let cure = "take it out, or give it a profile without `containers`";
            report.error(CODE, item.span(), message, cure);
        }
    }
}

/// Where the interfaces of the bindings stand.
pub(super) fn marks(raw: &RawContainers) -> Vec<Range<usize>> {
    let place = |binding: &RawBinding| {
        let interface = binding.interface.as_ref();
        interface.map_or(binding.span.clone(), Spanned::span)
    };
    raw.binding.iter().map(place).collect()
}

/// The table of a container profile; `send` are the profile's send rules.
pub(super) fn validate(
    raw: &RawContainers,
    send: Option<Vec<Rule>>,
    report: &mut Report,
) -> Containers {
    let only_static = choice(
        raw.bindings.as_ref(),
        "bindings",
        &[("auto", false), ("static", true)],
        report,
    );
    Containers {
        auto: !only_static,
        unbound_open: choice(
            raw.unbound.as_ref(),
            "unbound",
            &[("closed", false), ("open", true)],
            report,
        ),
        hook: choice(
            raw.hook.as_ref(),
            "hook",
            &[("tc", Hook::Tc), ("xdp", Hook::Xdp)],
            report,
        ),
        bindings: raw.binding.iter().map(|raw| binding(raw, report)).collect(),
        send,
    }
}

fn binding(raw: &RawBinding, report: &mut Report) -> StaticBinding {
    let interface = raw.interface.as_ref();
    if let Some(name) = interface {
        if interface::is_glob(name.get_ref()) {
            report.error(
                "binding-interface",
                name.span(),
                format!("a binding is for one interface, and `{}` is a glob", clean(name.get_ref())),
                "write a name as `ip link` shows it, such as `veth-web`, and a binding for each interface",
            );
        } else if let Err(error) = interface::check(name.get_ref()) {
            report.error("interface", name.span(), error.to_string(), error.cure());
        }
    }
    let (v4, v6) = raw
        .addresses
        .as_ref()
        .map(|list| addresses(list, report))
        .unwrap_or_default();
    StaticBinding {
        interface: interface.map(|i| i.get_ref().clone()).unwrap_or_default(),
        mac: raw.mac.as_ref().and_then(|mac| parse_mac(mac, report)),
        v4,
        v6,
        line: report.place(raw.span.start).1,
    }
}

fn addresses(list: &Texts, report: &mut Report) -> (Vec<Ipv4Net>, Vec<Ipv6Net>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    if list.get_ref().is_empty() {
        report.error(
            "empty-list",
            list.span(),
            "the list of addresses is empty, so the container could send nothing",
            "name the container's addresses, or take the binding out",
        );
    }
    for item in list.get_ref() {
        let text = item.get_ref();
        let net = match cidr::parse(text) {
            Ok(net) => net,
            Err(_) if text.starts_with('@') => {
                let message = "a binding names addresses, not groups";
                let cure = "write the container's own addresses";
                report.error("binding-address", item.span(), message, cure);
                continue;
            }
            Err(error) => {
                report.error("cidr", item.span(), error.to_string(), error.cure());
                continue;
            }
        };
        if let Some(what) = never_bound(net) {
            let message = format!("{what} cannot be bound: no packet may have such a source");
            let cure = "name only addresses the container has";
            report.error("binding-address", item.span(), message, cure);
            continue;
        }
        let (full, repeated) = match net {
            IpNet::V4(net) => add(&mut v4, net),
            IpNet::V6(net) => add(&mut v6, net),
        };
        if repeated {
            report.warning(
                "repeated",
                item.span(),
                "this address is listed twice",
                "take one out",
            );
        } else if full {
            report.error(
                "too-many-addresses",
                item.span(),
                format!(
                    "a link is bound to at most {MAX_BOUND_ADDRESSES} prefixes of each IP version"
                ),
                "join addresses to prefixes, such as `10.22.0.16/28`",
            );
            break;
        }
    }
    (v4, v6)
}

/// Whether there was no room, and whether it was there already.
fn add<T: PartialEq>(list: &mut Vec<T>, net: T) -> (bool, bool) {
    let repeated = list.contains(&net);
    let full = list.len() >= MAX_BOUND_ADDRESSES;
    if !repeated && !full {
        list.push(net);
    }
    (full, repeated)
}

/// What the prefix holds that no binding may hold.
fn never_bound(net: IpNet) -> Option<String> {
    NEVER_BOUND.iter().find_map(|(never, what)| {
        let never: IpNet = never.parse().ok()?;
        if never.contains(&net) {
            Some((*what).to_owned())
        } else if net.contains(&never) {
            Some(format!("a prefix that holds {what}"))
        } else {
            None
        }
    })
}

fn parse_mac(raw: &Spanned<String>, report: &mut Report) -> Option<[u8; 6]> {
    let text = raw.get_ref();
    let Some(mac) = read_mac(text, ':') else {
        let cure = match read_mac(text, '-') {
            Some(_) => format!("write `{}`", text.replace('-', ":")),
            None => "write six pairs of hexadecimal digits, such as `02:00:00:00:00:05`".to_owned(),
        };
        report.error(
            "mac",
            raw.span(),
            format!("`{}` is no MAC address", clean(text)),
            cure,
        );
        return None;
    };
    let what = match mac {
        [0, 0, 0, 0, 0, 0] => "the all-zero address",
        [255, 255, 255, 255, 255, 255] => "the broadcast address",
        [first, ..] if first & 1 == 1 => "a multicast address",
        _ => return Some(mac),
    };
    report.error(
        "mac",
        raw.span(),
        format!("{what} is never a source, so it cannot be bound"),
        "write the MAC of the container's interface, or leave `mac` out to take the peer's",
    );
    None
}

fn read_mac(text: &str, separator: char) -> Option<[u8; 6]> {
    let mut parts = text.split(separator);
    let mut mac = [0; 6];
    for byte in &mut mac {
        let digits = parts.next()?;
        // `from_str_radix` alone would take "+5".
        if digits.len() != 2 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_six_pairs() {
        assert_eq!(
            read_mac("02:00:0A:00:ff:05", ':'),
            Some([2, 0, 10, 0, 255, 5])
        );
        for bad in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:05:06",
            "2:0:0:0:0:5",
            "02:00:00:00:00:+5",
            "02:00:00:00:00:0g",
            "02-00-00-00-00-05",
        ] {
            assert_eq!(read_mac(bad, ':'), None, "{bad}");
        }
    }

    #[test]
    fn prefixes_that_touch_what_no_source_can_be_are_not_bound() {
        for bad in [
            "0.0.0.0",
            "0.0.0.0/0",
            "127.0.0.1",
            "126.0.0.0/7",
            "224.0.0.1",
            "192.0.0.0/2",
            "255.255.255.255",
            "::",
            "::/0",
            "::1",
            "ff02::1",
            "fe00::/7",
        ] {
            assert!(
                never_bound(
                    bad.parse::<IpNet>()
                        .unwrap_or_else(|_| cidr::parse(bad).unwrap())
                )
                .is_some(),
                "{bad}"
            );
        }
        for good in ["10.0.0.0/8", "240.0.0.1", "fe80::1", "fd00::/8", "2000::/3"] {
            assert!(never_bound(cidr::parse(good).unwrap()).is_none(), "{good}");
        }
        assert!(
            NEVER_BOUND
                .iter()
                .all(|(net, _)| net.parse::<IpNet>().is_ok())
        );
    }
}
