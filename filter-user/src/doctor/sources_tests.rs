//! The kernel's settings about sources beside those of a policy: which pairs contradict each other.

use std::sync::Arc;

use super::reading::{Read, Setting, Sysctls};
use super::tests::{assert_check, judged_for};
use super::{Check, PolicyNeeds, Report, Status};
use crate::policy::{AntiSpoof, PrefixSet, ReversePath};

const NAMES: [&str; 5] = [
    "rp-filter",
    "accept-local",
    "route-localnet",
    "proxy-arp",
    "proxy-ndp",
];

/// What the policy says where it says nothing.
fn defaults() -> AntiSpoof {
    AntiSpoof {
        martians: true,
        own_addresses: true,
        egress: true,
        ..AntiSpoof::default()
    }
}

fn judged(antispoof: AntiSpoof, change: impl FnOnce(&mut Sysctls)) -> Report {
    let needs = PolicyNeeds {
        antispoof: Some(antispoof),
        ..PolicyNeeds::default()
    };
    judged_for("ice", Some(needs), |interface, _| {
        change(&mut interface.sysctls);
    })
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the form in which a reading holds it"
)]
fn set(all: u32, own: u32) -> Read<Option<Setting>> {
    Ok(Some(Setting { all, own }))
}

fn prefixes(texts: &[&str]) -> Arc<PrefixSet> {
    let parsed = || texts.iter();
    Arc::new(PrefixSet {
        name: "list".to_owned(),
        v4: parsed().filter_map(|text| text.parse().ok()).collect(),
        v6: parsed().filter_map(|text| text.parse().ok()).collect(),
    })
}

fn found(report: &Report) -> Vec<&Check> {
    report
        .checks
        .iter()
        .filter(|check| NAMES.contains(&check.id))
        .collect()
}

#[test]
fn without_a_policy_there_is_nothing_to_compare() {
    for needs in [None, Some(PolicyNeeds::default())] {
        let report = judged_for("ice", needs, |interface, _| {
            interface.sysctls.rp_filter = set(1, 1);
        });
        assert!(found(&report).is_empty());
    }
}

#[test]
fn what_the_policy_does_not_ask_is_not_compared() {
    let report = judged(AntiSpoof::default(), |sysctls| {
        sysctls.accept_local = set(1, 1);
        sysctls.route_localnet = set(1, 1);
        sysctls.proxy_arp = set(1, 1);
        sysctls.proxy_ndp = set(1, 1);
    });
    let ids: Vec<&str> = found(&report).iter().map(|check| check.id).collect();
    assert_eq!(ids, ["rp-filter"]);
}

#[test]
fn settings_that_agree_are_shown() {
    let report = judged(defaults(), |_| {});
    for id in NAMES {
        assert_check(&report, id, Status::Ok, &["{all,eth0}", "= 0, 0"]);
    }
    assert_eq!(found(&report).len(), NAMES.len());
}

#[test]
fn reverse_path_against_rp_filter() {
    use ReversePath::{Loose, Off, Strict};
    // the larger counts, so a loose `all` makes a strict interface loose
    for (policy, all, own, status, word) in [
        (Off, 0, 0, Status::Ok, "counts, off"),
        (Off, 0, 1, Status::Warn, "conf/eth0/rp_filter=0"),
        (Off, 1, 0, Status::Warn, "conf/all/rp_filter=0"),
        (
            Off,
            1,
            1,
            Status::Warn,
            "all/rp_filter=0 net/ipv4/conf/eth0/rp_filter=0",
        ),
        (Off, 2, 1, Status::Ok, "no route leads to"),
        (Off, 0, 2, Status::Ok, "no route leads to"),
        (Loose, 0, 0, Status::Ok, "\"loose\""),
        (Loose, 0, 1, Status::Warn, "reverse_path = \"strict\""),
        (Loose, 2, 0, Status::Ok, "counts, loose"),
        (Strict, 0, 0, Status::Ok, "counts, off"),
        (Strict, 1, 0, Status::Ok, "counts, strict"),
        (Strict, 2, 2, Status::Ok, "counts, loose"),
    ] {
        let antispoof = AntiSpoof {
            reverse_path: policy,
            ..defaults()
        };
        let report = judged(antispoof, |sysctls| sysctls.rp_filter = set(all, own));
        assert_check(&report, "rp-filter", status, &[word]);
    }
}

#[test]
fn own_addresses_against_accept_local() {
    for (all, own) in [(0, 1), (1, 0)] {
        let report = judged(defaults(), |sysctls| sysctls.accept_local = set(all, own));
        assert_check(
            &report,
            "accept-local",
            Status::Warn,
            &["own_addresses = false", "accept_local=0"],
        );
    }
}

#[test]
fn martians_against_route_localnet() {
    let on = |legitimate| {
        let antispoof = AntiSpoof {
            legitimate,
            ..defaults()
        };
        judged(antispoof, |sysctls| sysctls.route_localnet = set(1, 0))
    };
    assert_check(
        &on(None),
        "route-localnet",
        Status::Warn,
        &["127.0.0.0/8", "kube-proxy", "conf/all/route_localnet=0"],
    );
    assert_check(
        &on(Some(prefixes(&["10.0.0.0/8", "127.0.0.1/32"]))),
        "route-localnet",
        Status::Warn,
        &[],
    );
    assert_check(
        &on(Some(prefixes(&["127.0.0.0/8"]))),
        "route-localnet",
        Status::Ok,
        &["legitimate"],
    );
}

#[test]
fn egress_against_proxies() {
    let on = |egress_sources| {
        let antispoof = AntiSpoof {
            egress_sources,
            ..defaults()
        };
        judged(antispoof, |sysctls| {
            sysctls.proxy_arp = set(0, 1);
            sysctls.proxy_ndp = set(1, 0);
        })
    };
    let none = on(None);
    assert_check(
        &none,
        "proxy-arp",
        Status::Warn,
        &["egress_sources", "net/ipv4/conf/eth0/proxy_arp=0"],
    );
    assert_check(
        &none,
        "proxy-ndp",
        Status::Warn,
        &["neigh show proxy", "net/ipv6/conf/all/proxy_ndp=0"],
    );
    let v4 = on(Some(prefixes(&["10.1.0.0/16"])));
    assert_check(&v4, "proxy-arp", Status::Ok, &["egress_sources"]);
    assert_check(&v4, "proxy-ndp", Status::Warn, &[]);
    let both = on(Some(prefixes(&["10.1.0.0/16", "fd00:1::/64"])));
    assert_check(&both, "proxy-ndp", Status::Ok, &["egress_sources"]);
}

#[test]
fn what_cannot_be_read_is_said_and_what_is_not_there_is_not() {
    let report = judged(defaults(), |sysctls| {
        sysctls.rp_filter = Err("permission denied".to_owned());
        sysctls.proxy_ndp = Ok(None);
    });
    assert_check(
        &report,
        "rp-filter",
        Status::Warn,
        &["permission denied", "sysctl net/ipv4/conf/eth0/rp_filter"],
    );
    assert!(report.checks.iter().all(|check| check.id != "proxy-ndp"));
}

#[test]
fn the_device_where_ip_begins_is_named() {
    let report = judged(defaults(), |sysctls| {
        "bond0".clone_into(&mut sysctls.interface);
        sysctls.rp_filter = set(0, 1);
    });
    assert_check(
        &report,
        "rp-filter",
        Status::Warn,
        &["{all,bond0}", "net/ipv4/conf/bond0/rp_filter=0"],
    );
}
